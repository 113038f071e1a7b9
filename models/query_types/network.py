"""The n-gram network in training, and the arrays that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.arrays import Bools, Floats, Ints
from models.query_types.head_network import HeadNetwork, Reader, States
from models.query_types.recipe import TypesRecipe
from models.query_types.type_net import NetSpec
from models.unified.words import Ragged, WordBatch, word_batch


@dataclass(frozen=True, slots=True)
class QueryRows:
    """Queries as token numbers, and tokens as rows of the table."""

    tokens: Ragged  # (queries,) tokens of each query
    in_locale: Ragged  # (queries,) tokens that its locale adds
    buckets: Ragged  # (tokens,) table rows of each token, its own first

    @classmethod
    def from_queries(cls, queries: Sequence[str], locales: Sequence[int], spec: NetSpec) -> QueryRows:
        """Takes queries and their locales, numbers or AGNOSTIC."""
        numbers: dict[str | int, int] = {}  # by token, or by the table row of a token in a locale
        buckets: list[list[int]] = []

        def number(key: str | int, rows: list[int] | None = None) -> int:
            known = numbers.get(key)
            if known is None:
                known = numbers[key] = len(buckets)
                buckets.append(rows if rows is not None else spec.hashing.buckets(str(key)))
            return known

        plain: list[list[int]] = []
        added: list[list[int]] = []
        for query, locale in zip(queries, locales, strict=True):
            tokens = spec.hashing.tokens(query)
            plain.append([number(token) for token in tokens])
            added.append([number(rows[0], rows) for rows in spec.rows_of(tokens, locale)] if tokens else [])
        return cls(Ragged.from_rows(plain), Ragged.from_rows(added), Ragged.from_rows(buckets))

    def batch(self, rows: Ints, *, with_locale: Bools) -> TokenBatch:
        """Returns the queries with these numbers; without the tokens of their locale where `with_locale` (rows,) is false."""
        tokens = self.tokens.take(rows)
        added = self.in_locale.take(rows)
        lengths = np.where(with_locale, added.lengths, 0)
        added = Ragged(added.values[np.repeat(with_locale, added.lengths)], np.concatenate(([0], np.cumsum(lengths))))
        scale = 1 / np.sqrt(np.maximum(tokens.lengths, 1))
        weight = np.concatenate([np.repeat(scale, tokens.lengths), np.repeat(scale, added.lengths)])
        return TokenBatch(word_batch([tokens, added], self.buckets), weight.astype(np.float32), len(rows))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    words: WordBatch  # the queries' tokens, then the tokens that their locales add
    weight: Floats  # (tokens,) of each
    num_rows: int


@dataclass(frozen=True, slots=True)
class Bags:
    plain: Tensor  # (rows, dim) from the queries' tokens
    in_locale: Tensor  # (rows, dim) from the tokens of their locales


class TypeNetwork(HeadNetwork):
    """`TypeNet` in training, with the same names of weights."""

    def __init__(self, spec: NetSpec) -> None:
        tokens = nn.Embedding(spec.num_rows, spec.dim, sparse=True)
        nn.init.normal_(tokens.weight, std=0.1)
        # A word that was never seen in a locale adds nothing there; a random start would add noise.
        nn.init.zeros_(tokens.weight[2**spec.hashing.bits :])
        super().__init__(spec)
        self.net = spec
        self.tokens = tokens

    def reader(self, queries: Sequence[str], locales: Sequence[int]) -> Reader:
        queries_by_row = QueryRows.from_queries(queries, locales, self.net)

        def read(rows: Ints, with_locale: Bools, keep: float) -> States:
            bags = self.bags(queries_by_row.batch(rows, with_locale=with_locale), keep)
            return States(bags.plain + bags.in_locale, bags.in_locale)

        return read

    def optimizers(self, recipe: TypesRecipe) -> tuple[torch.optim.Optimizer, ...]:
        """Returns a separate optimizer for the table: a batch reads few of its rows, and only those are updated."""
        return (
            torch.optim.AdamW(self.dense(), lr=recipe.learning_rate, weight_decay=0.0),
            torch.optim.SparseAdam([self.tokens.weight], lr=recipe.learning_rate),
        )

    def dense(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter is not self.tokens.weight]

    def bags(self, batch: TokenBatch, keep: float = 1.0) -> Bags:
        """Sums the tokens' vectors, of which a random share `keep` is kept."""
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
