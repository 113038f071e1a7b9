"""The whole network, and the inputs of its product tower by row of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.arrays import Bools, Floats, Ints
from models.unified.features import CATALOGUE_SCALARS, ProductFeatures
from models.unified.recipe import UnifiedRecipe
from models.unified.signals import SIGNAL_SCALARS, ProductSignals
from models.unified.towers import ProductInputs, ProductTower, SearchTower, TokenTable
from models.unified.words import MOST_LOCALE_WORD_BITS, Ragged, WordBatch, word_batch

FIRST_SCALE = 20.0  # of the softmax's logits, before training
MAX_SCALE = 60.0
FIRST_THRESHOLD = 0.2
FIRST_TASTE = 0.1  # share of the shopper's vector added to the query's unit vector, before training


class UnifiedNetwork(nn.Module):
    """Both towers, their shared table, and the parameters of the losses: the softmax's scale and the pruning threshold."""

    def __init__(self, recipe: UnifiedRecipe, num_locales: int, graph_dim: int, *, locale_words: bool = False) -> None:
        super().__init__()
        self.tokens = TokenTable(recipe.hashing.bits, recipe.sizes.token_dim)
        word_bits = min(recipe.hashing.bits, MOST_LOCALE_WORD_BITS) if locale_words else 0
        self.search = SearchTower(recipe.sizes, num_locales, recipe.history.total, word_bits)
        self.product = ProductTower(
            recipe.products,
            recipe.sizes,
            recipe.query_generation,
            num_scalars=len(CATALOGUE_SCALARS),
            num_signals=len(SIGNAL_SCALARS),
            graph_dim=graph_dim,
            num_locales=num_locales,
        )
        self._align(recipe.sizes.token_dim, recipe.sizes.dim)
        self.log_scale = nn.Parameter(torch.tensor(float(np.log(FIRST_SCALE))))
        self.threshold = nn.Parameter(torch.tensor(FIRST_THRESHOLD))

    @torch.no_grad()
    def _align(self, token_dim: int, dim: int) -> None:
        """Initialises every tower with the same projection of bags of words, so that texts with common words start close together.

        Training then changes each by itself. From independent random projections tastes were hardly learned: a shopper's brand had to
        match the product's through six layers in a few hundred steps.
        """
        shared = torch.empty(dim, token_dim)
        nn.init.orthogonal_(shared)
        self.search.query.dense.skip.weight[:, :token_dim] = shared
        if (at := self.product.ngrams_at) is not None:
            self.product.dense.skip.weight[:, at : at + token_dim] = shared
        if (shopper := self.search.shopper) is not None:
            nn.init.eye_(shopper.values.weight)
            nn.init.eye_(shopper.joined.weight)
            readouts = len(shopper.readouts)
            shopper.out.weight[:] = shared.repeat(1, readouts) / readouts
            self.search.mix.skip.weight[:] = FIRST_TASTE * torch.eye(dim).repeat(1, 2) * torch.arange(2 * dim).ge(dim)

    def tables(self) -> list[nn.Parameter]:
        """Returns the parameters with sparse gradients, of which a batch reads a few rows."""
        others = (self.product.ids, self.search.query.words)
        return [self.tokens.weight, *(table.weight for table in others if table is not None)]

    @property
    def scale(self) -> Tensor:
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def bags(self, batch: WordBatch) -> Tensor:
        device = self.threshold.device
        parts = (batch.own, batch.ngrams, batch.ngram_offsets, batch.texts, batch.text_offsets)
        return self.tokens(*(torch.from_numpy(part).to(device) for part in parts))

    def in_locales(self, bags: Tensor, words: Ragged | None) -> Tensor:
        """Returns the bags of queries (rows, token_dim) with what their `words` (rows, in `LocaleWords`) mean in their locales."""
        table = self.search.query.words
        if table is None or words is None:
            return bags
        parts = (words.values.astype(np.int64), words.offsets[:-1])
        return bags + table(*(torch.from_numpy(part).to(bags.device) for part in parts))


@dataclass(frozen=True, slots=True)
class CatalogueInputs:
    """The inputs of the product tower, by row of the catalogue."""

    features: ProductFeatures
    signals: ProductSignals
    text: npt.NDArray[
        np.generic
    ]  # (products, text_dim) float32, or (products, words) int32; (products, 0) without a text block

    def take(self, rows: Ints, bag: Tensor, meets: Bools) -> ProductInputs:
        """Takes the bags (rows, token_dim) of the products' words; with `meets` False a product counts as new."""
        device = bag.device

        def tensor(values: npt.NDArray[np.generic]) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        text = self.text[rows]
        return ProductInputs(
            bag=bag,
            text=tensor(text if text.dtype == np.float32 else text.astype(np.int64)),
            ids=tensor(self.features.ids[rows].astype(np.int64)),
            scalars=tensor(self.features.scalars[rows]),
            signals=tensor(self.signals.scalars[rows]),
            graph=tensor(self.signals.graph[rows]),
            locales=tensor(self.signals.locales[rows]),
            meets=tensor((meets & self.signals.known[rows]).astype(np.float32)),
        )


@torch.inference_mode()
def product_vectors(network: UnifiedNetwork, inputs: CatalogueInputs, buckets: Ragged, rows: Ints) -> Floats:
    """Returns unit vectors (rows, dim) of products."""
    out = []
    for start in range(0, len(rows), 2048):
        chosen = rows[start : start + 2048]
        bag = network.bags(word_batch([inputs.features.words.take(chosen)], buckets))
        out.append(network.product(inputs.take(chosen, bag, np.ones(len(chosen), np.bool_))).float().cpu().numpy())
    return np.concatenate(out) if out else np.zeros((0, network.product.dense.out.out_features), np.float32)
