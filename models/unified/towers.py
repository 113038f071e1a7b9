"""The networks: a heavy product tower, a light search tower, and the table of tokens that they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.unified.features import ID_SLOTS
from models.unified.query_generation import TextReader
from models.unified.recipe import ProductBlocks, QueryGeneration, TowerSizes


class TokenTable(nn.Module):
    """Texts as means of words; a word is its own row of the table plus the mean of its n-grams' rows."""

    def __init__(self, bits: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2**bits, dim) * 0.1)

    def forward(
        self, own: Tensor, ngrams: Tensor, ngram_offsets: Tensor, texts: Tensor, text_offsets: Tensor
    ) -> Tensor:
        """A `WordBatch` -> (texts, dim); a text without words is 0."""
        words = F.embedding(own, self.weight)
        words = words + F.embedding_bag(ngrams, self.weight, ngram_offsets, mode="mean")  # (words, dim)
        return F.embedding_bag(texts, words, text_offsets, mode="mean")


class QueryTower(nn.Module):
    """A query's words and locale -> the unit vector q, which is searched with where no shopper is known."""

    def __init__(self, sizes: TowerSizes, num_locales: int) -> None:
        super().__init__()
        self.locale = nn.Embedding(num_locales + 1, sizes.locale_dim)  # the last is any other locale
        self.hidden = nn.Linear(sizes.token_dim + sizes.locale_dim, sizes.query_hidden)
        self.out = nn.Linear(sizes.query_hidden, sizes.dim)

    def forward(self, bag: Tensor, locale: Tensor) -> Tensor:
        """bag (batch, token_dim), locale (batch,) -> (batch, dim)."""
        known = torch.cat([bag, self.locale(locale)], dim=1)
        return F.normalize(self.out(F.relu(self.hidden(known))), dim=1)


class ShopperTower(nn.Module):
    """A shopper's history -> s: one transformer layer, of which only a few learned read-out tokens are computed.

    The read-outs ask and the history's tokens answer; nothing else of the layer is read, so nothing else is computed.
    Keys and values belong to an item alone, its slot (block and rank) is added after: an item that is in many
    histories is projected once. s does not depend on the query and can be kept until the shopper's next event.
    """

    def __init__(self, sizes: TowerSizes, num_slots: int) -> None:
        super().__init__()
        dim = sizes.token_dim
        self.heads = sizes.heads
        self.norm = nn.LayerNorm(dim)
        self.keys_values = nn.Linear(dim, 2 * dim)
        self.slots = nn.Parameter(torch.randn(num_slots, 2 * dim) * 0.1)
        self.readouts = nn.Parameter(torch.randn(sizes.readouts, dim) * 0.2)
        self.joined = nn.Linear(dim, dim)
        self.read_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)
        self.out = nn.Linear(sizes.readouts * dim, sizes.dim)

    def forward(self, items: Tensor, slots: Tensor) -> Tensor:
        """items (items, token_dim) distinct ones; slots (batch, slots) positions among them, -1 where empty -> (batch, dim)."""
        batch, length = slots.shape
        if not len(items):
            return items.new_zeros(batch, self.out.out_features)
        present = slots >= 0
        projected = self.keys_values(self.norm(items))
        rows = F.embedding(slots.clamp(min=0), projected) + self.slots  # (batch, slots, 2 * token_dim)
        keys, values = rows.view(batch, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        asked = self.readouts.view(1, -1, self.heads, keys.shape[-1]).transpose(1, 2)
        # The empty history attends evenly to nothing of sense; `personalise` ignores its s.
        allowed = present | ~present.any(dim=1, keepdim=True)
        scores = (asked @ keys.transpose(2, 3)) / keys.shape[-1] ** 0.5  # (batch, heads, readouts, slots)
        shares = scores.masked_fill(~allowed[:, None, None, :], float("-inf")).softmax(dim=-1)
        read = (shares @ values).transpose(1, 2).flatten(2)  # (batch, readouts, token_dim)
        read = self.read_norm(self.readouts + self.joined(read))
        read = read + self.narrow(F.silu(self.widen(read)))
        return F.normalize(self.out(read.flatten(1)), dim=1)


class SearchTower(nn.Module):
    """Query and shopper -> the vector that is searched with."""

    def __init__(self, sizes: TowerSizes, num_locales: int, num_slots: int) -> None:
        super().__init__()
        self.query = QueryTower(sizes, num_locales)
        self.shopper = ShopperTower(sizes, num_slots) if num_slots else None
        self.mix_hidden = nn.Linear(2 * sizes.dim, sizes.mix_hidden)
        self.mix_out = nn.Linear(sizes.mix_hidden, sizes.dim)

    def personalise(self, q: Tensor, s: Tensor, strength: Tensor) -> Tensor:
        """unit(q + strength * mix(q, s)) (batch, dim); strength (batch,) is 0 for who has no history: exactly q."""
        joined = torch.cat([q, s], dim=1) * q.shape[1] ** 0.5  # entries of about 1, as dense layers want them
        mixed = self.mix_out(F.silu(self.mix_hidden(joined)))
        return F.normalize(q + strength[:, None] * mixed, dim=1)

    def forward(self, bag: Tensor, locale: Tensor, items: Tensor, slots: Tensor, strength: Tensor) -> Tensor:
        q = self.query(bag, locale)
        if self.shopper is None:
            return q
        has_history = (slots >= 0).any(dim=1)
        return self.personalise(q, self.shopper(items, slots), strength * has_history)


@dataclass(frozen=True, slots=True)
class ProductInputs:
    """What the product tower reads, products first. `meets` is 0 where the product is to be taken as new."""

    bag: Tensor  # (products, token_dim) of its words
    text: Tensor  # (products, text_dim) frozen vectors, or (products, words) tokens of the text to be read
    ids: Tensor  # (products, ID_SLOTS) buckets from 1, 0 where none
    scalars: Tensor  # (products, scalars) of the catalogue
    signals: Tensor  # (products, scalars) of the training window
    graph: Tensor  # (products, graph_dim)
    locales: Tensor  # (products, locales)
    meets: Tensor  # (products,) 1 or 0


class ProductTower(nn.Module):
    """Blocks of a product, concatenated, through two dense layers to a unit vector. It knows no shopper."""

    def __init__(
        self,
        blocks: ProductBlocks,
        sizes: TowerSizes,
        text: QueryGeneration,
        *,
        num_scalars: int,
        num_signals: int,
        graph_dim: int,
        num_locales: int,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.reader = TextReader(text) if blocks.text == "tuned" else None
        self.ids = nn.Embedding(2**sizes.id_bits + 1, sizes.id_dim, padding_idx=0) if blocks.ids else None
        widths = {
            "text": text.dim if blocks.text != "none" else 0,
            "graph": graph_dim if blocks.graph else 0,
            "ngrams": sizes.token_dim if blocks.ngrams else 0,
            "ids": ID_SLOTS * sizes.id_dim if blocks.ids else 0,
            "scalars": num_scalars + num_signals if blocks.scalars else 0,
            "locale": num_locales if blocks.locale else 0,
        }
        # Blocks come in lengths from 0.1 to 10; without this the dense layer hears only the loudest.
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items() if width > 1})
        self.hidden = nn.Linear(sum(widths.values()), sizes.product_hidden)
        self.out = nn.Linear(sizes.product_hidden, sizes.dim)

    def forward(self, inputs: ProductInputs) -> Tensor:
        """-> unit vectors (products, dim)."""
        meets = inputs.meets[:, None]
        parts: dict[str, Tensor] = {}
        if self.blocks.text != "none":
            parts["text"] = inputs.text if self.reader is None else self.reader(inputs.text)
        if self.blocks.graph:
            parts["graph"] = inputs.graph * meets
        if self.blocks.ngrams:
            parts["ngrams"] = inputs.bag
        if self.ids is not None:
            own = torch.cat([inputs.ids[:, :1] * meets.long(), inputs.ids[:, 1:]], dim=1)
            parts["ids"] = self.ids(own).flatten(1)
        if self.blocks.scalars:
            parts["scalars"] = torch.cat([inputs.scalars, inputs.signals * meets], dim=1)
        if self.blocks.locale:
            parts["locale"] = inputs.locales * meets
        normed = [self.norms[name](part) if name in self.norms else part for name, part in parts.items()]
        return F.normalize(self.out(F.relu(self.hidden(torch.cat(normed, dim=1)))), dim=1)
