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
        words = F.embedding(own, self.weight, sparse=True)
        words = words + F.embedding_bag(ngrams, self.weight, ngram_offsets, mode="mean", sparse=True)  # (words, dim)
        return F.embedding_bag(texts, words, text_offsets, mode="mean")


class QueryTower(nn.Module):
    """A query's words and locale -> the unit vector q, which is searched with where no shopper is known."""

    def __init__(self, sizes: TowerSizes, num_locales: int) -> None:
        super().__init__()
        width = sizes.token_dim + sizes.locale_dim
        self.locale = nn.Embedding(num_locales + 1, sizes.locale_dim)  # the last is any other locale
        self.dense = SkipDense(width, sizes.query_hidden, sizes.dim)

    def forward(self, bag: Tensor, locale: Tensor) -> Tensor:
        """bag (batch, token_dim), locale (batch,) -> (batch, dim)."""
        return F.normalize(self.dense(torch.cat([bag, self.locale(locale)], dim=1)), dim=1)


class ShopperTower(nn.Module):
    """A shopper's history -> s: one transformer layer, of which only a few learned read-out tokens are computed.

    The read-outs ask and the history's tokens answer; nothing else of the layer is read, so nothing else is computed.
    Keys and values belong to an item alone, its slot (block and rank) is added after: what is in many histories is
    projected, and asked, once. s does not depend on the query and can be kept until the shopper's next event.
    """

    def __init__(self, sizes: TowerSizes, num_slots: int) -> None:
        super().__init__()
        dim = sizes.token_dim
        self.heads = sizes.heads
        self.norm = nn.LayerNorm(dim)
        self.keys = nn.Linear(dim, dim)
        self.values = nn.Linear(dim, dim)
        self.slot_keys = nn.Parameter(torch.randn(num_slots, dim) * 0.1)
        self.slot_values = nn.Parameter(torch.randn(num_slots, dim) * 0.1)
        self.readouts = nn.Parameter(torch.randn(sizes.readouts, dim) * 0.2)
        self.joined = nn.Linear(dim, dim)
        self.read_norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)
        self.out = nn.Linear(sizes.readouts * dim, sizes.dim)

    def forward(self, items: Tensor, slots: Tensor) -> Tensor:
        """items (items, token_dim) distinct ones; slots (batch, slots) positions among them, -1 where empty -> (batch, dim)."""
        if not len(items):
            return items.new_zeros(len(slots), self.out.out_features)
        present = slots >= 0
        at = slots.clamp(min=0)
        normed = self.norm(items)
        # The empty history attends evenly to nothing of sense; `personalise` ignores its s.
        allowed = (present | ~present.any(dim=1, keepdim=True))[:, :, None, None]
        asked = F.embedding(at, self._asked(self.keys(normed))) + self._asked(self.slot_keys)
        asked = asked.unflatten(2, (self.heads, -1))  # (batch, slots, heads, readouts)
        shares = asked.masked_fill(~allowed, float("-inf")).softmax(dim=1).permute(0, 2, 3, 1)
        values = F.embedding(at, self.values(normed)) + self.slot_values  # (batch, slots, token_dim)
        read = shares @ values.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, readouts, head_dim)
        states = self.readouts + self.joined(read.transpose(1, 2).flatten(2))
        states = states + self.narrow(F.silu(self.widen(self.read_norm(states))))
        return self.out(states.flatten(1))

    def _asked(self, keys: Tensor) -> Tensor:
        """Keys (n, token_dim) -> how much each head of each read-out wants them (n, heads * readouts)."""
        by_head = keys.unflatten(1, (self.heads, -1))
        readouts = self.readouts.unflatten(1, (self.heads, -1))
        return torch.einsum("nhd,rhd->nhr", by_head, readouts).flatten(1) / by_head.shape[-1] ** 0.5


class SkipDense(nn.Module):
    """Two dense layers, and one beside them: what is linear need not be learned through the bend."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, out)
        self.skip = nn.Linear(width, out, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(F.silu(self.hidden(inputs))) + self.skip(inputs)


class SearchTower(nn.Module):
    """Query and shopper -> the vector that is searched with."""

    def __init__(self, sizes: TowerSizes, num_locales: int, num_slots: int) -> None:
        super().__init__()
        self.query = QueryTower(sizes, num_locales)
        self.shopper = ShopperTower(sizes, num_slots) if num_slots else None
        self.mix = SkipDense(2 * sizes.dim, sizes.mix_hidden, sizes.dim)
        self.most_taste = sizes.most_taste

    def personalise(self, q: Tensor, s: Tensor, strength: Tensor) -> Tensor:
        """unit(q + strength * taste) (batch, dim); strength (batch,) is 0 for who has no history: exactly q.

        Taste is what mix(q, s) holds beside q, `most_taste` long at most: what is asked for must outweigh what is liked. Without the
        bound mix was twice as long as q on a short log, and on a long one Recall@10 was 0.099 instead of 0.107 (simulated).
        """
        mixed = self.mix(torch.cat([q, s], dim=1))
        taste = mixed - (mixed * q).sum(dim=1, keepdim=True) * q
        taste = taste * (self.most_taste / taste.norm(dim=1, keepdim=True).clamp(min=self.most_taste))
        return F.normalize(q + strength[:, None] * taste, dim=1)

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
    """Blocks of a product, concatenated, through dense layers to a unit vector. It knows no shopper."""

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
        self.ids = nn.Embedding(2**sizes.id_bits + 1, sizes.id_dim, padding_idx=0, sparse=True) if blocks.ids else None
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
        self.dense = SkipDense(sum(widths.values()), sizes.product_hidden, sizes.dim)
        self.ngrams_at = widths["text"] + widths["graph"] if blocks.ngrams else None  # where their columns begin

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
        return F.normalize(self.dense(torch.cat(normed, dim=1)), dim=1)
