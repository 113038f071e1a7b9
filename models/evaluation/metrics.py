"""Ranking metrics of many cases at once, computed from ranked product rows and relevant product rows.

All metrics follow from the *places*: the position of each relevant product in the ranking of its case. `places` compares each relevant
product with its case's ranking once, so 20,000 rankings of depth 1,000 take less than a second.

A case without relevant products has no recall: its value is NaN, and means leave it out. The definitions are those of trec_eval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Ints

_BLOCK = 1 << 24  # comparisons at a time
_NAMES = {"recall": "Recall", "ndcg": "NDCG", "mrr": "MRR", "map": "MAP"}


@dataclass(frozen=True, slots=True, eq=False)
class Relevance:
    """The relevant products of each case with their grades: one row per pair, ordered by case."""

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
            raise ValueError("grades must be above 0: leave irrelevant products out")

    @property
    def counts(self) -> Ints:
        """The number of relevant products of each case (num_cases,)."""
        return np.bincount(self.cases, minlength=self.num_cases)

    def take(self, chosen: Ints) -> Relevance:
        """Returns the cases `chosen` (n,), renumbered in this order."""
        counts = self.counts
        starts = np.cumsum(counts) - counts
        lengths = counts[chosen]
        ends = np.cumsum(lengths)
        pairs = np.arange(int(lengths.sum())) + np.repeat(starts[chosen] - (ends - lengths), lengths)
        return Relevance(np.repeat(np.arange(len(chosen)), lengths), self.rows[pairs], self.grades[pairs], len(chosen))


def places(ranked: Ints, relevance: Relevance) -> Ints:
    """Returns (pairs,) the place, from 0, of each relevant product in its case's row of `ranked` (num_cases, k); -1 if it is absent.

    -1 in `ranked` is no product. If a product is repeated, its first place counts. Raises ValueError for another number of cases.
    """
    if ranked.ndim != 2 or len(ranked) != relevance.num_cases:
        raise ValueError(f"the ranking has shape {ranked.shape}, there are {relevance.num_cases} cases")
    positions = np.full(len(relevance.rows), -1, np.int64)
    step = max(1, _BLOCK // max(1, ranked.shape[1]))
    for start in range(0, len(positions) if ranked.shape[1] else 0, step):
        pairs = slice(start, start + step)
        same = ranked[relevance.cases[pairs]] == relevance.rows[pairs, None]  # (block, k)
        first = same.argmax(axis=1)
        positions[pairs] = np.where(same[np.arange(len(first)), first], first, -1)
    return positions


def places_by_score(scores: npt.NDArray[np.floating], groups: Ints) -> Ints:
    """Returns (rows,) the place, from 0, of each row in its group by falling `scores` (rows,). `groups` (rows,) ascend.

    Equal scores are ordered at random, always alike: rows lie in the order that shoppers saw, and a ranker that scores everything alike
    must not profit from it.
    """
    order = np.lexsort((tie_breakers(len(scores)), -np.asarray(scores), groups))
    places = np.empty(len(order), np.int64)
    places[order] = _rank_in_case(groups)
    return places


def tie_breakers(count: int) -> Doubles:
    """Returns (count,) numbers that order equal scores: random, and the same in every call."""
    return np.random.default_rng(0).random(count)


def recall_at(places: Ints, relevance: Relevance, k: int) -> Doubles:
    """Returns (num_cases,) the share of the relevant products that are among the first `k`."""
    hits = _sums(relevance.cases, (places >= 0) & (places < _checked(k)), relevance)
    return _where_relevant(hits, relevance.counts, relevance)


def ndcg_at(places: Ints, relevance: Relevance, k: int) -> Doubles:
    """Returns (num_cases,) the discounted cumulative gain of the first `k` divided by that of the ideal ranking.

    The gain is the grade; the discount is log2(place + 1) for places from 1 (Järvelin and Kekäläinen, 2002).
    """
    is_in = (places >= 0) & (places < _checked(k))
    gains = np.where(is_in, relevance.grades / np.log2(np.maximum(places, 0) + 2.0), 0.0)
    order = np.lexsort((-relevance.grades, relevance.cases))
    best = _rank_in_case(relevance.cases[order])  # place in the ideal ranking
    ideal = np.where(best < k, relevance.grades[order] / np.log2(best + 2.0), 0.0)
    best_gains = _sums(relevance.cases, ideal, relevance)
    return _where_relevant(_sums(relevance.cases, gains, relevance), best_gains, relevance)


def reciprocal_rank(places: Ints, relevance: Relevance, k: int | None = None) -> Doubles:
    """Returns (num_cases,) 1 / place, from 1, of the first relevant product. Its mean is MRR.

    The value is 0 if no relevant product is among the first `k` (None: all).
    """
    is_in = _within(places, k)
    inverse = np.zeros(relevance.num_cases)
    np.maximum.at(inverse, relevance.cases[is_in], 1.0 / (places[is_in] + 1.0))
    return _where_relevant(inverse, 1.0, relevance)


def average_precision(places: Ints, relevance: Relevance, k: int | None = None) -> Doubles:
    """Returns (num_cases,) the mean over the relevant products of the precision at their places. Its mean is MAP.

    A relevant product that is not among the first `k` (None: all) has precision 0.
    """
    is_in = _within(places, k)
    cases, positions = relevance.cases[is_in], places[is_in]
    order = np.lexsort((positions, cases))
    cases, positions = cases[order], positions[order]
    precisions = (_rank_in_case(cases) + 1.0) / (positions + 1.0)
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
    """Returns (pairs,) 0, 1, 2 ... within each run of equal `cases`, which ascend."""
    return np.arange(len(cases)) - np.searchsorted(cases, cases, "left")


def _sums(cases: Ints, values: npt.NDArray[Any], relevance: Relevance) -> Doubles:
    """Sums the values (n,) of pairs by their cases (n,), and returns (num_cases,)."""
    return np.asarray(np.bincount(cases, values, relevance.num_cases), np.float64)


def _where_relevant(values: Doubles, over: Doubles | Ints | float, relevance: Relevance) -> Doubles:
    result = np.full(relevance.num_cases, np.nan)
    np.divide(values, over, out=result, where=relevance.counts > 0)
    return result
