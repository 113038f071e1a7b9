"""Ranking metrics of many queries at once, from the rows of the products that each got and of those that were right.

All of them follow from the *places*: where in its case's ranking each relevant product stands. Finding the places costs one comparison
of each relevant product with its case's ranking, so 20,000 rankings of 1,000 take less than a second.

A case without a relevant product has no recall, so its value is NaN; means leave it out. Definitions are those of trec_eval.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Ints

_BLOCK = 1 << 24  # comparisons at a time
_NAMES = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "map": "MAP"}


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """Which products are right for each case, and how much: one row a pair, ordered by case."""

    cases: Ints  # (pairs,) ascending, 0 to num_cases - 1
    rows: Ints  # (pairs,) of products, each once in a case
    grades: Doubles  # (pairs,) above 0
    num_cases: int

    def __post_init__(self) -> None:
        if not len(self.cases) == len(self.rows) == len(self.grades):
            raise ValueError(
                f"{len(self.cases)} cases, {len(self.rows)} rows and {len(self.grades)} grades differ in number"
            )
        if len(self.cases) and (
            (np.diff(self.cases) < 0).any() or self.cases[0] < 0 or self.cases[-1] >= self.num_cases
        ):
            raise ValueError(f"cases must ascend from 0 to at most {self.num_cases - 1}")
        if not (self.grades > 0).all():
            raise ValueError("grades must be above 0: what has none is not relevant")

    @classmethod
    def of(cls, sets: Sequence[Iterable[int] | Mapping[int, float]]) -> Relevance:
        """From a set of rows, or rows with grades, for each case; the grade of a mere set is 1."""
        graded = [dict(one) if isinstance(one, Mapping) else dict.fromkeys(one, 1.0) for one in sets]
        return cls(
            np.repeat(np.arange(len(graded)), [len(one) for one in graded]),
            np.array([row for one in graded for row in one], np.int64),
            np.array([grade for one in graded for grade in one.values()], np.float64),
            len(graded),
        )

    @property
    def counts(self) -> Ints:
        """(num_cases,) relevant products of each case."""
        return np.bincount(self.cases, minlength=self.num_cases)

    def take(self, chosen: Ints) -> Relevance:
        """The cases `chosen` (n,), numbered anew in their order."""
        counts = self.counts
        starts = np.cumsum(counts) - counts
        lengths = counts[chosen]
        ends = np.cumsum(lengths)
        pairs = np.arange(int(lengths.sum())) + np.repeat(starts[chosen] - (ends - lengths), lengths)
        return Relevance(np.repeat(np.arange(len(chosen)), lengths), self.rows[pairs], self.grades[pairs], len(chosen))


def places(ranked: Ints, relevance: Relevance) -> Ints:
    """(pairs,) place of each relevant product in its case's row of `ranked` (num_cases, k), from 0; -1 where it is not there.

    -1 in `ranked` is no product. Of a product that is there twice the first place counts. Raises ValueError for another number of cases.
    """
    if ranked.ndim != 2 or len(ranked) != relevance.num_cases:
        raise ValueError(f"the ranking has shape {ranked.shape}, there are {relevance.num_cases} cases")
    found = np.full(len(relevance.rows), -1, np.int64)
    step = max(1, _BLOCK // max(1, ranked.shape[1]))
    for start in range(0, len(found) if ranked.shape[1] else 0, step):
        pairs = slice(start, start + step)
        same = ranked[relevance.cases[pairs]] == relevance.rows[pairs, None]  # (block, k)
        first = same.argmax(axis=1)
        found[pairs] = np.where(same[np.arange(len(first)), first], first, -1)
    return found


def recall_at(places: Ints, relevance: Relevance, k: int) -> Doubles:
    """(num_cases,) share of the relevant products among the first `k`."""
    found = _sums(relevance.cases, (places >= 0) & (places < _checked(k)), relevance)
    return _where_relevant(found, relevance.counts, relevance)


def ndcg_at(places: Ints, relevance: Relevance, k: int) -> Doubles:
    """(num_cases,) discounted cumulative gain of the first `k` over that of the best ranking: gain the grade, discount log2(place + 1)
    for places from 1 (Järvelin and Kekäläinen, 2002)."""
    is_in = (places >= 0) & (places < _checked(k))
    gains = np.where(is_in, relevance.grades / np.log2(np.maximum(places, 0) + 2.0), 0.0)
    order = np.lexsort((-relevance.grades, relevance.cases))
    best = _rank_in_case(relevance.cases[order])  # place of each in the best ranking
    ideal = np.where(best < k, relevance.grades[order] / np.log2(best + 2.0), 0.0)
    best_gains = _sums(relevance.cases, ideal, relevance)
    return _where_relevant(_sums(relevance.cases, gains, relevance), best_gains, relevance)


def reciprocal_rank(places: Ints, relevance: Relevance, k: int | None = None) -> Doubles:
    """(num_cases,) 1 / place from 1 of the first relevant product, 0 where none is among the first `k` (None: all). Its mean is MRR."""
    is_in = _within(places, k)
    inverse = np.zeros(relevance.num_cases)
    np.maximum.at(inverse, relevance.cases[is_in], 1.0 / (places[is_in] + 1.0))
    return _where_relevant(inverse, 1.0, relevance)


def average_precision(places: Ints, relevance: Relevance, k: int | None = None) -> Doubles:
    """(num_cases,) mean over the relevant products of the precision at their places, 0 for those not among the first `k` (None: all).
    Its mean is MAP."""
    is_in = _within(places, k)
    cases, found = relevance.cases[is_in], places[is_in]
    order = np.lexsort((found, cases))
    cases, found = cases[order], found[order]
    precisions = (_rank_in_case(cases) + 1.0) / (found + 1.0)
    return _where_relevant(_sums(cases, precisions, relevance), relevance.counts, relevance)


def metric_name(metric: str) -> str:
    """Returns a metric as headings name it: "recall@10" -> "Recall@10", "ndcg@10" -> "NDCG@10"."""
    name, _, depth = metric.partition("@")
    shown = _NAMES.get(name, name)
    return f"{shown}@{depth}" if depth else shown


def _checked(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k} and must be 1 or more")
    return k


def _within(places: Ints, k: int | None) -> Bools:
    return (places >= 0) if k is None else (places >= 0) & (places < _checked(k))


def _rank_in_case(cases: Ints) -> Ints:
    """(pairs,) 0, 1, 2 ... within each run of equal `cases`, which ascend."""
    return np.arange(len(cases)) - np.searchsorted(cases, cases, "left")


def _sums(cases: Ints, values: npt.NDArray[Any], relevance: Relevance) -> Doubles:
    """(num_cases,) of the values (n,) of pairs of these cases (n,)."""
    return np.asarray(np.bincount(cases, values, relevance.num_cases), np.float64)


def _where_relevant(values: Doubles, over: Doubles | Ints | float, relevance: Relevance) -> Doubles:
    result = np.full(relevance.num_cases, np.nan)
    np.divide(values, over, out=result, where=relevance.counts > 0)
    return result
