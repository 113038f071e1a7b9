"""The network as it is trained, and the examples as the arrays that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.query_types.recipe import LocaleInput
from models.query_types.type_net import NetSpec
from models.unified.words import Ragged, WordBatch, word_batch

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class QueryRows:
    """Queries as numbers of tokens, and tokens as rows of the table. Tokens of locales come after those of queries."""

    tokens: Ragged  # (queries,) tokens of each query
    in_locale: Ragged  # (queries,) what its locale adds
    buckets: Ragged  # (tokens,) rows of each token, its own first

    @classmethod
    def of(cls, queries: Sequence[str], locales: Sequence[int], spec: NetSpec) -> QueryRows:
        """`locales` are numbers, or AGNOSTIC."""
        numbers: dict[str | int, int] = {}  # of a token, or of a row that stands for one in a locale
        buckets: list[list[int]] = []

        def number(key: str | int, rows: list[int] | None = None) -> int:
            found = numbers.get(key)
            if found is None:
                found = numbers[key] = len(buckets)
                buckets.append(rows if rows is not None else spec.hashing.buckets(str(key)))
            return found

        plain: list[list[int]] = []
        added: list[list[int]] = []
        for query, locale in zip(queries, locales, strict=True):
            tokens = spec.hashing.tokens(query)
            plain.append([number(token) for token in tokens])
            added.append([number(rows[0], rows) for rows in spec.rows_of(tokens, locale)] if tokens else [])
        return cls(Ragged.of(plain), Ragged.of(added), Ragged.of(buckets))

    def batch(self, rows: Ints, *, with_locale: npt.NDArray[np.bool_]) -> TokenBatch:
        """The queries of these numbers; where `with_locale` (rows,) is false, without what their locale adds."""
        tokens = self.tokens.take(rows)
        added = self.in_locale.take(rows)
        lengths = np.where(with_locale, added.lengths, 0)
        added = Ragged(added.values[np.repeat(with_locale, added.lengths)], np.concatenate(([0], np.cumsum(lengths))))
        scale = 1 / np.sqrt(np.maximum(tokens.lengths, 1))
        weight = np.concatenate([np.repeat(scale, tokens.lengths), np.repeat(scale, added.lengths)])
        return TokenBatch(word_batch([tokens, added], self.buckets), weight.astype(np.float32), len(rows))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    words: WordBatch  # of the queries' tokens, then of what their locales add
    weight: Floats  # (tokens,) of each
    num_rows: int


@dataclass(frozen=True, slots=True)
class Bags:
    plain: Tensor  # (rows, dim) what the queries' tokens say
    in_locale: Tensor  # (rows, dim) what they say beside that in their locales


class TypeNetwork(nn.Module):
    """What `TypeNet` computes, with the same names of weights."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        shapes = spec.shapes()
        self.tokens = nn.Embedding(spec.num_rows, spec.dim, sparse=True)
        nn.init.normal_(self.tokens.weight, std=0.1)
        # A word that was never met in a locale adds nothing there; drawn at random, it would add noise.
        nn.init.zeros_(self.tokens.weight[2**spec.hashing.bits :])
        width = spec.dim
        self.locale: nn.Embedding | None = None
        if "locale.weight" in shapes:
            self.locale = nn.Embedding(*shapes["locale.weight"])
            width += spec.locale_dim
        self.hidden = nn.Linear(width, spec.hidden) if spec.hidden else None
        self.out = nn.Linear(spec.hidden or spec.dim, spec.num_types)
        nn.init.zeros_(self.out.bias)
        self.heads = Heads(spec) if spec.locale_input == LocaleInput.HEADS else None

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None = None) -> Tensor:
        """`states` (rows, dim), `locales` (rows,) with AGNOSTIC -> scores (rows, types), or of the chosen `types` (n,) only."""
        if self.locale is not None:
            at = torch.where(locales < 0, len(self.spec.locales), locales)
            states = torch.cat([states, self.locale(at)], dim=1)
        if self.hidden is not None:
            states = F.relu(self.hidden(states))
        weight, bias = self.out.weight, self.out.bias
        if types is not None:
            weight, bias = weight[types], bias[types]
        scores = F.linear(states, weight, bias)
        return scores if self.heads is None else scores + self.heads(states, locales, types)

    def bags(self, batch: TokenBatch, keep: float = 1.0) -> Bags:
        """`keep` is the share of tokens that are read, the others left out at random."""
        words = batch.words
        table = self.tokens.weight
        vectors = F.embedding(torch.from_numpy(words.own), table, sparse=True)
        if len(words.ngrams):
            offsets = torch.from_numpy(words.ngram_offsets)
            vectors = vectors + F.embedding_bag(
                torch.from_numpy(words.ngrams), table, offsets, mode="mean", sparse=True
            )
        weight = torch.from_numpy(batch.weight)
        if keep < 1:
            weight = F.dropout(weight, 1 - keep)
        both = F.embedding_bag(
            torch.from_numpy(words.texts),
            vectors,
            torch.from_numpy(words.text_offsets),
            mode="sum",
            per_sample_weights=weight,
        )
        return Bags(both[: batch.num_rows], both[batch.num_rows :])

    def arrays(self) -> dict[str, Floats]:
        return {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}

    def load(self, weights: dict[str, Floats]) -> None:
        self.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in weights.items()})


class Heads(nn.Module):
    """What each locale adds to the output layer; nothing at first."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        shapes = spec.shapes()
        self.weight = nn.Parameter(torch.zeros(shapes["heads.weight"]))
        self.bias = nn.Parameter(torch.zeros(shapes["heads.bias"]))

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None) -> Tensor:
        weight, bias = (self.weight, self.bias) if types is None else (self.weight[:, types], self.bias[:, types])
        added = states.new_zeros(len(states), bias.shape[1])
        for locale in locales[locales >= 0].unique().tolist():
            mine = (locales == locale).nonzero()[:, 0]
            added = added.index_put((mine,), F.linear(states[mine], weight[locale], bias[locale]))
        return added
