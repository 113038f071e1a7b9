"""Lifts of the candidates' attributes for one search: from the shopper's taste, and from the words of the query.

A lift is the logarithm of how often an attribute occurred over how often it would occur by chance, so that the lifts of
a product's attributes add up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints, UInt64s
from models.query_types.type_model import TypePrediction
from models.ranking.baseline_shares import BaselineShares
from models.ranking.product_columns import ProductColumns, vocabulary_ids
from models.ranking.query_attributes import QueryAttributes
from models.ranking.taste import Taste, type_key

MAX_TYPES = 3  # types of a query that a search requests from the classifier
# Engagements at the baseline rate that are added to those of a taste: a single click says little.
_PRIOR = np.float32(1.0)
_CACHED_TASTES = 512  # a shopper pages through results and searches again


@dataclass(frozen=True, slots=True, eq=False)
class _TasteLifts:
    """Lifts of one taste by attribute id; 0 for other attributes."""

    baseline: Floats  # of `BaselineShares.ids`: below 0, for attributes that the shopper never engaged with
    ids: Ints  # of the attributes that the shopper engaged with
    values: Floats


class AttributeLift:
    """Computes lifts. Safe to call from several threads."""

    def __init__(self, columns: ProductColumns, query_attributes: QueryAttributes) -> None:
        self._vocabulary = columns.vocabulary
        self._baseline: BaselineShares = columns.baseline
        self._word_ids = vocabulary_ids(columns.vocabulary, query_attributes.keys).astype(np.int64)
        self._word_lifts = query_attributes.lifts.astype(np.float32)
        self._scratch = _LiftTable(len(columns.vocabulary) + 1)
        self._taste_lifts = lru_cache(maxsize=_CACHED_TASTES)(self._lifts_of_taste)  # keyed by the taste's identity
        self._type_ids = lru_cache(maxsize=4_096)(self._ids_of_types)
        self._parts = lru_cache(maxsize=4_096)(query_attributes.parts)

    def by_taste(
        self,
        searches: Sequence[tuple[Taste | None, TypePrediction | None]],
        counts: Sequence[int],
        attribute_ids: npt.NDArray[np.unsignedinteger],
    ) -> Floats:
        """Returns lifts (candidates, NUM_ATTRIBUTES) of `attribute_ids`, of which `counts[i]` rows belong to search i.

        A type's lift is its probability where the classifier did not abstain.
        """
        lifts, table = np.zeros(attribute_ids.shape, np.float32), self._scratch.table
        start = 0
        for (taste, types), count in zip(searches, counts, strict=True):
            stop = start + count
            # All entries are made before any is written: a failing search leaves nothing in the table.
            entries: list[tuple[Ints, Floats]] = []
            if taste is not None:
                known = self._taste_lifts(taste)
                entries += [(self._baseline.ids, known.baseline), (known.ids, known.values)]
            if types is not None and not types.abstained:
                likely = types.types[:MAX_TYPES]
                probabilities = np.array([probability for _, probability in likely], np.float32)
                entries.append((self._type_ids(tuple(name for name, _ in likely)), probabilities))
            for ids, values in entries:
                table[ids] = values
            if entries:
                table[0] = 0
                table.take(attribute_ids[start:stop], out=lifts[start:stop], mode="clip")
            for ids, _ in entries:
                table[ids] = 0
            start = stop
        return lifts

    def by_words(
        self,
        queries: Sequence[tuple[tuple[str, ...], str]],
        counts: Sequence[int],
        attribute_ids: npt.NDArray[np.unsignedinteger],
    ) -> Floats:
        """Returns lifts (candidates, NUM_ATTRIBUTES) of `attribute_ids`, of which `counts[i]` rows belong to query i: (words, locale)."""
        lifts, table = np.zeros(attribute_ids.shape, np.float32), self._scratch.table
        start = 0
        for (words, locale), count in zip(queries, counts, strict=True):
            stop = start + count
            parts = self._parts(words, locale)
            for part in parts:
                table[self._word_ids[part]] += self._word_lifts[part]
            if parts:
                table[0] = 0
                table.take(attribute_ids[start:stop], out=lifts[start:stop], mode="clip")
            for part in parts:
                table[self._word_ids[part]] = 0
            start = stop
        return lifts

    def _lifts_of_taste(self, taste: Taste) -> _TasteLifts:
        expected = self._baseline.expected(taste.keys, taste.weights)
        ids = vocabulary_ids(self._vocabulary, taste.keys)
        known = np.flatnonzero(ids)
        by_chance = np.zeros(len(self._vocabulary) + 1, np.float32)
        by_chance[self._baseline.ids] = expected
        values = np.log((taste.weights[known] + _PRIOR) / (by_chance[ids[known]] + _PRIOR))
        return _TasteLifts(-np.log1p(expected / _PRIOR), ids[known].astype(np.int64), values)

    def _ids_of_types(self, names: tuple[str, ...]) -> Ints:
        keys: UInt64s = np.fromiter((type_key(name) for name in names), np.uint64)
        return vocabulary_ids(self._vocabulary, keys).astype(np.int64)


class _LiftTable(threading.local):
    """One table of lifts by attribute id for each thread, all 0 between calls: allocating it for each call costs more than using it."""

    def __init__(self, size: int) -> None:
        self.table = np.zeros(size, np.float32)
