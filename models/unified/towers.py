"""The towers: a heavy product tower, a light search tower, and the table of tokens that they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.unified.features import ID_SLOTS
from models.unified.query_generation import TextReader
from models.unified.recipe import ProductBlocks, QueryGeneration, TowerSizes


class TokenTable(nn.Module):
    """Embeds a text as the mean of its words; a word is its own row of the table plus the mean of its n-grams' rows."""

    def __init__(self, bits: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2**bits, dim) * 0.1)

    def forward(
        self, own: Tensor, ngrams: Tensor, ngram_offsets: Tensor, texts: Tensor, text_offsets: Tensor
    ) -> Tensor:
        """Maps the arrays of a `WordBatch` to (texts, dim); a text without words is 0."""
        words = F.embedding(own, self.weight, sparse=True)
        words = words + F.embedding_bag(ngrams, self.weight, ngram_offsets, mode="mean", sparse=True)  # (words, dim)
        return F.embedding_bag(texts, words, text_offsets, mode="mean")


class LocaleWords(nn.Module):
    """What words mean in one locale beyond what they mean in all: "pants" are trousers here and underwear there.

    All are 0 at first: a word that a locale's log lacks means there what it means elsewhere.
    """

    def __init__(self, bits: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2**bits, dim))

    def forward(self, words: Tensor, offsets: Tensor) -> Tensor:
        """Maps the buckets of words, text after text, and the first of each text to (texts, dim)."""
        return F.embedding_bag(words, self.weight, offsets, mode="mean", sparse=True)


class QueryTower(nn.Module):
    """Maps a query's words and locale to the unit vector q, with which an anonymous shopper searches. `word_bits` 0 is for a log of one
    locale, where words need no second meaning."""

    def __init__(self, sizes: TowerSizes, num_locales: int, word_bits: int) -> None:
        super().__init__()
        self.words = LocaleWords(word_bits, sizes.token_dim) if word_bits else None
        width = sizes.token_dim + sizes.locale_dim
        self.locale = nn.Embedding(num_locales + 1, sizes.locale_dim)  # the last is any other locale
        self.dense = SkipDense(width, sizes.query_hidden, sizes.dim)

    def forward(self, bag: Tensor, locale: Tensor) -> Tensor:
        """Maps bag (batch, token_dim) and locale (batch,) to (batch, dim)."""
        return F.normalize(self.dense(torch.cat([bag, self.locale(locale)], dim=1)), dim=1)

    @torch.no_grad()
    def average_untrained(self, examples: Tensor) -> None:
        """Gives locales without an example, and "any other", the mean of those that were trained; `examples` (locales,) are their numbers.

        A locale's first values are random: they moved the vector of a query to a cosine of 0.3 with its own, and asked in a locale that
        the log lacked, the same searches had a Recall@100 of 0.558 instead of 0.771 (simulated).
        """
        counts = F.pad(examples, (0, len(self.locale.weight) - len(examples))).to(self.locale.weight)
        mean = counts @ self.locale.weight / counts.sum()
        self.locale.weight[counts == 0] = mean


class ShopperTower(nn.Module):
    """Maps a shopper's history to s: one transformer layer, computed for a few learned read-out tokens only.

    The read-outs are the attention's queries, the history's tokens its keys and values. These depend on the item alone, and the slot
    (block and rank) is added later, so that an item in many histories is projected once. s does not depend on the query and can be
    cached until the shopper's next event.
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
        """Maps distinct items (items, token_dim) and slots (batch, slots), their positions or -1 if empty, to (batch, dim)."""
        if not len(items):
            return items.new_zeros(len(slots), self.out.out_features)
        present = slots >= 0
        at = slots.clamp(min=0)
        normed = self.norm(items)
        # An empty history attends evenly to meaningless slots; `forward` of SearchTower ignores its s.
        allowed = (present | ~present.any(dim=1, keepdim=True))[:, :, None, None]
        scores = F.embedding(at, self._scores(self.keys(normed))) + self._scores(self.slot_keys)
        scores = scores.unflatten(2, (self.heads, -1))  # (batch, slots, heads, readouts)
        shares = scores.masked_fill(~allowed, float("-inf")).softmax(dim=1).permute(0, 2, 3, 1)
        values = F.embedding(at, self.values(normed)) + self.slot_values  # (batch, slots, token_dim)
        read = shares @ values.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (batch, heads, readouts, head_dim)
        states = self.readouts + self.joined(read.transpose(1, 2).flatten(2))
        states = states + self.narrow(F.silu(self.widen(self.read_norm(states))))
        return self.out(states.flatten(1))

    def _scores(self, keys: Tensor) -> Tensor:
        """Maps keys (n, token_dim) to attention scores of each head of each read-out (n, heads * readouts)."""
        by_head = keys.unflatten(1, (self.heads, -1))
        readouts = self.readouts.unflatten(1, (self.heads, -1))
        return torch.einsum("nhd,rhd->nhr", by_head, readouts).flatten(1) / by_head.shape[-1] ** 0.5


class SkipDense(nn.Module):
    """Two dense layers plus a linear skip: the linear part need not be learned through the non-linearity."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, out)
        self.skip = nn.Linear(width, out, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(F.silu(self.hidden(inputs))) + self.skip(inputs)


class SearchTower(nn.Module):
    """Maps query and shopper to the search vector."""

    def __init__(self, sizes: TowerSizes, num_locales: int, num_slots: int, word_bits: int) -> None:
        super().__init__()
        self.query = QueryTower(sizes, num_locales, word_bits)
        self.shopper = ShopperTower(sizes, num_slots) if num_slots else None
        self.mix = SkipDense(2 * sizes.dim, sizes.mix_hidden, sizes.dim)
        self.most_taste = sizes.most_taste

    def personalise(self, q: Tensor, s: Tensor, strength: Tensor) -> Tensor:
        """Returns unit(q + strength * taste) (batch, dim); with strength (batch,) 0, for an empty history, exactly q.

        Taste is the part of mix(q, s) orthogonal to q, at most `most_taste` long: the query must outweigh the taste. Without the bound
        mix became twice as long as q on a short log, and on a long one Recall@10 was 0.099 instead of 0.107 (simulated).
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
    """The inputs of the product tower. `meets` is 0 where the product counts as new, without engagement."""

    bag: Tensor  # (products, token_dim) of its words
    text: Tensor  # (products, text_dim) frozen vectors, or (products, words) tokens
    ids: Tensor  # (products, ID_SLOTS) buckets from 1; 0 is none
    scalars: Tensor  # (products, scalars) of the catalogue
    signals: Tensor  # (products, scalars) of the training window
    graph: Tensor  # (products, graph_dim)
    locales: Tensor  # (products, locales)
    meets: Tensor  # (products,) 1 or 0


class ProductTower(nn.Module):
    """Concatenates the blocks of a product and maps them to a unit vector through dense layers."""

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
        # The norms of blocks range from 0.1 to 10; without this the largest one would dominate.
        self.norms = nn.ModuleDict({name: nn.LayerNorm(width) for name, width in widths.items() if width > 1})
        self.dense = SkipDense(sum(widths.values()), sizes.product_hidden, sizes.dim)
        self.ngrams_at = widths["text"] + widths["graph"] if blocks.ngrams else None  # their first column

    def forward(self, inputs: ProductInputs) -> Tensor:
        """Returns unit vectors (products, dim)."""
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
