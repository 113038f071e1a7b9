"""Metrics of judged pairs, by bucket: how well an encoder's scores separate relevant pairs from others.

- `AUC` and `AP` pool the pairs of all queries, as for a pair classifier: one threshold must serve every query.
- `WITHIN` is the mean over queries of the AUC among the query's own pairs: whether its relevant products score higher than its others.
- `CLEAR` is `AUC` against irrelevant pairs only, without the partially relevant ones.

An encoder can improve within queries and get worse pooled: tuning with a softmax over each query's products does not calibrate the scores
of different queries. Intervals resample queries with all of their pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.evaluation.bootstrap import Interval, statistic_intervals
from models.evaluation.buckets import MIN_CASES, MIN_UNITS, Bucket

AUC, AP, WITHIN, CLEAR = "auc", "ap", "auc within queries", "auc against irrelevant"
METRICS = (AUC, AP, WITHIN, CLEAR)
NUM_RESAMPLES = 500  # 1,000 would change no bound by more than 0.002 and take twice as long


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPairs:
    """Pairs with the score of each scorer. Every array has one entry per pair."""

    scores: Mapping[str, Doubles]  # scorer -> (pairs,)
    is_relevant: Bools
    is_partial: Bools  # neither relevant nor irrelevant
    units: Ints  # query rows
    buckets: Mapping[str, Bucket]


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Each metric of each scorer on one set of pairs, and the paired differences from a reference."""

    num_pairs: int
    num_relevant: int
    num_queries: int
    by_scorer: Mapping[str, Mapping[str, Interval]]  # metric -> scorer
    differences: Mapping[str, Mapping[str, Interval]]  # metric -> scorer, minus the reference


ByBucket = Mapping[str, Mapping[str, PairFigures]]  # dimension -> value


class Ordered:
    """Pairs sorted by one scorer's scores, so that weighted metrics need one pass.

    In AUC, equal scores count half as above and half as below; in AP they are retrieved together.
    """

    def __init__(self, scores: Doubles, is_relevant: Bools) -> None:
        self._order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[self._order]
        self._relevant = is_relevant[self._order]
        is_end = np.append(np.diff(sorted_scores) != 0, True) if len(scores) else np.empty(0, np.bool_)
        self._ends = np.flatnonzero(is_end)  # last positions of runs of equal scores

    def auc_and_ap(self, weights: Doubles) -> tuple[float, float]:
        """Returns the area under the ROC curve and the average precision with `weights` (pairs,); NaN without both kinds."""
        counts = weights[self._order]
        above = np.cumsum(np.where(self._relevant, counts, 0.0))[
            self._ends
        ]  # relevant pairs down to the end of each run
        below = np.cumsum(counts)[self._ends] - above
        if not len(above) or not above[-1] or not below[-1]:
            return np.nan, np.nan
        total, others = above[-1], below[-1]
        relevant = np.diff(above, prepend=0.0)
        # A relevant pair wins against the irrelevant pairs below its run, and against half of those within it.
        wins = relevant * (others - below + np.diff(below, prepend=0.0) / 2)
        seen = above + below
        precision = np.divide(above, seen, out=np.zeros_like(above), where=seen > 0)
        return float(wins.sum() / (total * others)), float((relevant * precision).sum() / total)


def auc_and_ap(scores: Doubles, is_relevant: Bools) -> tuple[float, float]:
    """Returns both metrics for pairs (pairs,) of weight 1."""
    return Ordered(scores, is_relevant).auc_and_ap(np.ones(len(scores)))


def figures(
    pairs: JudgedPairs, rows: Ints, reference: str, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PairFigures:
    """Computes the metrics of the pairs `rows` (n,)."""
    names = list(pairs.scores)
    units = pairs.units[rows]
    each = [
        _WeightedPairs(pairs.scores[name][rows], pairs.is_relevant[rows], pairs.is_partial[rows], units)
        for name in names
    ]
    at = names.index(reference)

    def statistic(weights: Doubles) -> Doubles:
        values = np.array([scorer.metrics(weights) for scorer in each]).T  # (metrics, scorers)
        return np.concatenate([values, values - values[:, [at]]]).ravel()

    intervals = statistic_intervals(statistic, units, num_resamples=num_resamples, seed=seed)
    parts = [intervals[start : start + len(names)] for start in range(0, len(intervals), len(names))]
    by_metric = [dict(zip(names, part, strict=True)) for part in parts]
    others = [{name: by_name[name] for name in names if name != reference} for by_name in by_metric[len(METRICS) :]]
    return PairFigures(
        num_pairs=len(rows),
        num_relevant=int(pairs.is_relevant[rows].sum()),
        num_queries=len(np.unique(units)),
        by_scorer=dict(zip(METRICS, by_metric[: len(METRICS)], strict=True)),
        differences=dict(zip(METRICS, others, strict=True)),
    )


class _WeightedPairs:
    """One scorer's pairs, prepared for metrics with any weights."""

    def __init__(self, scores: Doubles, is_relevant: Bools, is_partial: Bools, units: Ints) -> None:
        self._all = Ordered(scores, is_relevant)
        self._clear = np.flatnonzero(~is_partial)
        self._against_irrelevant = Ordered(scores[self._clear], is_relevant[self._clear])
        order = np.argsort(units, kind="stable")
        _, starts = np.unique(units[order], return_index=True)
        self._first = order[starts]  # one pair of each query
        by_query = np.split(order, starts[1:])
        self._within = np.array([auc_and_ap(scores[rows], is_relevant[rows])[0] for rows in by_query])  # (queries,)

    def metrics(self, weights: Doubles) -> tuple[float, float, float, float]:
        """Returns METRICS with `weights` (pairs,), which are equal within a query."""
        auc, ap = self._all.auc_and_ap(weights)
        clear, _ = self._against_irrelevant.auc_and_ap(weights[self._clear])
        times = np.where(np.isnan(self._within), 0.0, weights[self._first])
        within = float(times @ np.nan_to_num(self._within) / times.sum()) if times.any() else np.nan
        return auc, ap, within, clear


def figures_by_bucket(
    pairs: JudgedPairs, dimensions: Sequence[str], reference: str, *, seed: int = 0, on_part: Callable[[str], Any] = str
) -> ByBucket:
    """Computes the metrics of each value of the dimensions that has enough pairs of both kinds and enough queries."""
    by_bucket: dict[str, dict[str, PairFigures]] = {}
    for dimension in dimensions:
        bucket = pairs.buckets[dimension]
        by_bucket[dimension] = {}
        for value, rows in bucket.rows().items():
            kinds = np.bincount(pairs.is_relevant[rows], minlength=2)
            if kinds.min() < MIN_CASES or len(np.unique(pairs.units[rows])) < MIN_UNITS:
                continue
            on_part(f"{dimension}: {value}")
            by_bucket[dimension][value] = figures(pairs, rows, reference, seed=seed)
    return by_bucket
