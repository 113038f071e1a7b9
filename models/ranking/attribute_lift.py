"""What the marks of candidates are worth to a search: by what the shopper likes, and by what the query's words ask for.

Both are lifts: the logarithm of how often a mark was met over how often by chance, so that what a product's marks say adds up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints
from models.query_types.type_model import TypePrediction
from models.ranking.baseline_shares import BaselineShares
from models.ranking.product_columns import ProductColumns, places_of
from models.ranking.query_attributes import QueryAttributes
from models.ranking.taste import Marks, Taste, type_mark

MAX_TYPES = 3  # of a query, as a search asks the classifier
# Engagements, as usual, that are added to those of a taste: a single click says little.
_PRIOR = np.float32(1.0)
_KEPT_TASTES = 512  # lifts of as many are kept: a page follows a page, and a search a search


@dataclass(frozen=True, slots=True, eq=False)
class _Lifts:
    """Of a taste, by place in the vocabulary; 0 elsewhere."""

    usual: Floats  # of `BaselineShares.places`: below 0, as of what was never engaged with
    places: Ints  # of what was
    values: Floats


class AttributeLift:
    """Safe to call from several threads."""

    def __init__(self, columns: ProductColumns, asked: QueryAttributes) -> None:
        self._vocabulary = columns.vocabulary
        self._usual: BaselineShares = columns.usual
        self._asked_places = places_of(columns.vocabulary, asked.marks).astype(np.int64)
        self._asked_lifts = asked.lifts.astype(np.float32)
        self._scratch = _Table(len(columns.vocabulary) + 1)
        self._lifts = lru_cache(maxsize=_KEPT_TASTES)(self._lifts_of)  # tastes are told apart by identity
        self._types = lru_cache(maxsize=4_096)(self._type_places)
        self._parts = lru_cache(maxsize=4_096)(asked.parts)

    def liked(
        self,
        who: Sequence[tuple[Taste | None, TypePrediction | None]],
        counts: Sequence[int],
        marks: npt.NDArray[np.unsignedinteger],
    ) -> Floats:
        """(candidates, NUM_MARKS) of `marks` of that shape: `counts` of them for each shopper and what their query asks for. Types are
        worth their chance where the classifier did not abstain."""
        worth, table = np.zeros(marks.shape, np.float32), self._scratch.table
        start = 0
        for (taste, types), count in zip(who, counts, strict=True):
            stop = start + count
            known: list[
                tuple[Ints, Floats]
            ] = []  # all made before any is written: what fails leaves nothing in the table
            if taste is not None:
                lifts = self._lifts(taste)
                known += [(self._usual.places, lifts.usual), (lifts.places, lifts.values)]
            if types is not None and not types.abstained:
                likely = types.types[:MAX_TYPES]
                chances = np.array([chance for _, chance in likely], np.float32)
                known.append((self._types(tuple(name for name, _ in likely)), chances))
            for places, values in known:
                table[places] = values
            if known:
                table[0] = 0
                table.take(marks[start:stop], out=worth[start:stop], mode="clip")
            for places, _ in known:
                table[places] = 0
            start = stop
        return worth

    def asked(
        self,
        words: Sequence[tuple[tuple[str, ...], str]],
        counts: Sequence[int],
        marks: npt.NDArray[np.unsignedinteger],
    ) -> Floats:
        """(candidates, NUM_MARKS) of `marks` of that shape: `counts` of them for the words of each query, and its locale."""
        worth, table = np.zeros(marks.shape, np.float32), self._scratch.table
        start = 0
        for (some, locale), count in zip(words, counts, strict=True):
            stop = start + count
            parts = self._parts(some, locale)
            for part in parts:
                table[self._asked_places[part]] += self._asked_lifts[part]
            if parts:
                table[0] = 0
                table.take(marks[start:stop], out=worth[start:stop], mode="clip")
            for part in parts:
                table[self._asked_places[part]] = 0
            start = stop
        return worth

    def _lifts_of(self, taste: Taste) -> _Lifts:
        expected = self._usual.expected(taste.marks, taste.weights)
        places = places_of(self._vocabulary, taste.marks)
        known = np.flatnonzero(places)
        by_chance = np.zeros(len(self._vocabulary) + 1, np.float32)
        by_chance[self._usual.places] = expected
        values = np.log((taste.weights[known] + _PRIOR) / (by_chance[places[known]] + _PRIOR))
        return _Lifts(-np.log1p(expected / _PRIOR), places[known].astype(np.int64), values)

    def _type_places(self, names: tuple[str, ...]) -> Ints:
        marks: Marks = np.fromiter((type_mark(name) for name in names), np.uint64)
        return places_of(self._vocabulary, marks).astype(np.int64)


class _Table(threading.local):
    """What each mark is worth, 0 between calls; every thread has one, as fresh memory for each call would cost more than its use."""

    def __init__(self, size: int) -> None:
        self.table = np.zeros(size, np.float32)
