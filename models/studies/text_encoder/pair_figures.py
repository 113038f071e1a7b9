"""Figures of judged pairs, by bucket: how well an encoder's scores tell relevant pairs from others.

- `AUC` and `AP` pool the pairs of all queries, as for a classifier of pairs: one threshold must serve every query.
- `WITHIN` is the mean over queries of the AUC among the query's own pairs: whether its relevant products score higher than its others.
- `CLEAR` is `AUC` against the irrelevant alone, without what is partly relevant.

An encoder can be better within queries and worse pooled: tuning with a softmax over each query's products says nothing of how the scores
of two queries compare. Intervals draw queries with all of their pairs.
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
NUM_RESAMPLES = 500  # a thousand moves no bound of these by more than 0.002 and takes twice as long


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPairs:
    """Pairs with what each scorer gave them. Every array has one entry a pair."""

    scores: Mapping[str, Doubles]  # scorer -> (pairs,)
    is_relevant: Bools
    is_partial: Bools  # neither relevant nor irrelevant
    units: Ints  # query rows
    buckets: Mapping[str, Bucket]


@dataclass(frozen=True, slots=True)
class PairFigures:
    """Of one set of pairs: each metric of each scorer, and the paired differences from a reference."""

    num_pairs: int
    num_relevant: int
    num_queries: int
    by_scorer: Mapping[str, Mapping[str, Interval]]  # metric -> scorer
    differences: Mapping[str, Mapping[str, Interval]]  # metric -> scorer, minus the reference


ByBucket = Mapping[str, Mapping[str, PairFigures]]  # dimension -> value


class Ordered:
    """Pairs in the order of one scorer's scores, so that weighted figures cost one pass. Equal scores count as half above, half below
    in AUC; in AP they come at once."""

    def __init__(self, scores: Doubles, is_relevant: Bools) -> None:
        self._order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[self._order]
        self._relevant = is_relevant[self._order]
        is_end = np.append(np.diff(sorted_scores) != 0, True) if len(scores) else np.empty(0, np.bool_)
        self._ends = np.flatnonzero(is_end)  # of runs of equal scores

    def auc_and_ap(self, weights: Doubles) -> tuple[float, float]:
        """Area under the ROC curve and average precision, for pairs that count `weights` (pairs,) times; NaN without both kinds."""
        counts = weights[self._order]
        above = np.cumsum(np.where(self._relevant, counts, 0.0))[
            self._ends
        ]  # relevant pairs down to the end of each run
        below = np.cumsum(counts)[self._ends] - above
        if not len(above) or not above[-1] or not below[-1]:
            return np.nan, np.nan
        total, others = above[-1], below[-1]
        found = np.diff(above, prepend=0.0)
        # A relevant pair wins against the others below its run, and half of those within it.
        wins = found * (others - below + np.diff(below, prepend=0.0) / 2)
        seen = above + below
        precision = np.divide(above, seen, out=np.zeros_like(above), where=seen > 0)
        return float(wins.sum() / (total * others)), float((found * precision).sum() / total)


def auc_and_ap(scores: Doubles, is_relevant: Bools) -> tuple[float, float]:
    """Of pairs (pairs,) that each count once."""
    return Ordered(scores, is_relevant).auc_and_ap(np.ones(len(scores)))


def figures(
    pairs: JudgedPairs, rows: Ints, reference: str, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> PairFigures:
    """Of the pairs `rows` (n,)."""
    names = list(pairs.scores)
    units = pairs.units[rows]
    each = [
        _Figured(pairs.scores[name][rows], pairs.is_relevant[rows], pairs.is_partial[rows], units) for name in names
    ]
    at = names.index(reference)

    def statistic(weights: Doubles) -> Doubles:
        values = np.array([one.metrics(weights) for one in each]).T  # (metrics, scorers)
        return np.concatenate([values, values - values[:, [at]]]).ravel()

    intervals = statistic_intervals(statistic, units, num_resamples=num_resamples, seed=seed)
    parts = [intervals[start : start + len(names)] for start in range(0, len(intervals), len(names))]
    by_metric = [dict(zip(names, part, strict=True)) for part in parts]
    others = [{name: one[name] for name in names if name != reference} for one in by_metric[len(METRICS) :]]
    return PairFigures(
        num_pairs=len(rows),
        num_relevant=int(pairs.is_relevant[rows].sum()),
        num_queries=len(np.unique(units)),
        by_scorer=dict(zip(METRICS, by_metric[: len(METRICS)], strict=True)),
        differences=dict(zip(METRICS, others, strict=True)),
    )


class _Figured:
    """One scorer's pairs, ready to be counted with other weights."""

    def __init__(self, scores: Doubles, is_relevant: Bools, is_partial: Bools, units: Ints) -> None:
        self._all = Ordered(scores, is_relevant)
        self._clear = np.flatnonzero(~is_partial)
        self._against_irrelevant = Ordered(scores[self._clear], is_relevant[self._clear])
        order = np.argsort(units, kind="stable")
        _, starts = np.unique(units[order], return_index=True)
        self._first = order[starts]  # a pair of each query
        of_query = np.split(order, starts[1:])
        self._within = np.array([auc_and_ap(scores[one], is_relevant[one])[0] for one in of_query])  # (queries,)

    def metrics(self, weights: Doubles) -> tuple[float, float, float, float]:
        """METRICS, for pairs that count `weights` (pairs,) times, those of one query alike."""
        auc, ap = self._all.auc_and_ap(weights)
        clear, _ = self._against_irrelevant.auc_and_ap(weights[self._clear])
        times = np.where(np.isnan(self._within), 0.0, weights[self._first])
        within = float(times @ np.nan_to_num(self._within) / times.sum()) if times.any() else np.nan
        return auc, ap, within, clear


def figures_by_bucket(
    pairs: JudgedPairs, dimensions: Sequence[str], reference: str, *, seed: int = 0, tell: Callable[[str], Any] = str
) -> ByBucket:
    """Of each value of the dimensions that has enough pairs of both kinds, and enough queries, for a figure."""
    found: dict[str, dict[str, PairFigures]] = {}
    for dimension in dimensions:
        bucket = pairs.buckets[dimension]
        found[dimension] = {}
        for value, rows in bucket.rows().items():
            kinds = np.bincount(pairs.is_relevant[rows], minlength=2)
            if kinds.min() < MIN_CASES or len(np.unique(pairs.units[rows])) < MIN_UNITS:
                continue
            tell(f"{dimension}: {value}")
            found[dimension][value] = figures(pairs, rows, reference, seed=seed)
    return found
