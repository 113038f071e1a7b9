"""The n-gram network in serving, on NumPy alone: scores the types of queries.

Its scores equal those of the trained network up to the rounding to float16. Safe to call from several threads: its only state is the
cache of tokens, whose entries are the same whichever thread computes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats
from models.query_types.head import AGNOSTIC, Head, HeadSpec
from models.query_types.recipe import LocaleInput
from models.query_types.tokens import LocaleRows, QueryHashing, language_of, locale_row

_MAX_CACHED_TOKENS = 100_000  # each a vector of `dim` float32, and its key


@dataclass(frozen=True, slots=True)
class NetSpec(HeadSpec):
    """The settings of a network."""

    hashing: QueryHashing
    languages: tuple[str, ...]  # those whose words have rows of their own
    rows: tuple[
        LocaleRows, ...
    ]  # (locales,) block of each locale's words; the words of languages follow the queries' block
    num_rows: int  # the first 2**bits are those of queries

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the names and shapes of the weights."""
        return {"tokens.weight": (self.num_rows, self.dim), **self.head_shapes()}

    def rows_of(self, tokens: Sequence[str], locale: int) -> list[list[int]]:
        """Returns the rows that a locale adds to a query: of the locale itself, then of each word in it and in its language."""
        if locale == AGNOSTIC or self.locale_input != LocaleInput.PREFIX:
            return []
        name, block = self.locales[locale], self.rows[locale]
        tokens = [token for token in tokens if " " not in token]
        rows = [[locale_row(name, token, block)] for token in ("", *tokens)]
        language = language_of(name)
        if language in self.languages:
            shared = LocaleRows(2**self.hashing.bits, self.hashing.bits)
            rows += [[locale_row(language, token, shared)] for token in tokens]
        return rows


class TypeNet:
    """`weights` have the names and shapes of `spec.shapes()`; float16 is read as float32."""

    backend = "numpy cpu fp32"

    def __init__(self, spec: NetSpec, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.spec = spec
        self.weights: dict[str, Floats] = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        self._tokens = self.weights["tokens.weight"]
        self._head = Head(self.weights)
        self._cache: dict[tuple[int, str], Floats] = {}

    def scores(self, queries: Sequence[str], locales: Sequence[int]) -> tuple[Floats, Bools]:
        """Returns scores (queries, types), and (queries,) whether a query has any token; locales are numbers or AGNOSTIC."""
        bags, filled = self._bags(queries, locales)
        return self._head.read(bags, np.asarray(locales, np.int64)), filled

    def _bags(self, queries: Sequence[str], locales: Sequence[int]) -> tuple[Floats, Bools]:
        """Returns (queries, dim) the sum of the tokens' vectors over the root of their number; 0 for a query without tokens."""
        tokens = [self.spec.hashing.tokens(query) for query in queries]
        lengths = np.array([len(row) for row in tokens], np.int64)
        bags = np.zeros((len(queries), self.spec.dim), np.float32)
        filled = lengths > 0
        if filled.any():
            vectors = np.concatenate(
                [self._token(token, locale) for row, locale in zip(tokens, locales, strict=True) for token in row]
            ).reshape(-1, self.spec.dim)
            starts = (np.cumsum(lengths) - lengths)[filled]
            bags[filled] = np.add.reduceat(vectors, starts, axis=0)
            if self.spec.locale_input == LocaleInput.PREFIX:
                bags[filled] += self._prefixes()[np.asarray(locales)[filled]]
            bags[filled] /= np.sqrt(lengths[filled, None]).astype(np.float32)
        return bags, filled

    def _prefixes(self) -> Floats:
        """Returns (locales + 1, dim) the vector of each locale itself; the last is no locale."""
        rows = [locale_row(name, "", block) for name, block in zip(self.spec.locales, self.spec.rows, strict=True)]
        return np.concatenate([self._tokens[rows], np.zeros((1, self.spec.dim), np.float32)])

    def _token(self, token: str, locale: int) -> Floats:
        """Returns (dim,) the sum of a token's own row, the mean of its n-grams' rows, and its rows in the locale."""
        if self.spec.locale_input != LocaleInput.PREFIX:
            locale = AGNOSTIC
        vector = self._cache.get((locale, token))
        if vector is None:
            own, *ngrams = self.spec.hashing.buckets(token)
            vector = self._tokens[own]
            if ngrams:
                vector = vector + self._tokens[ngrams].mean(axis=0)
            for (row,) in self.spec.rows_of([token], locale)[1:]:
                vector = vector + self._tokens[row]
            if len(self._cache) < _MAX_CACHED_TOKENS:
                self._cache[locale, token] = vector
        return vector
