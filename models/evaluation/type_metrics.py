"""What answers about types are worth. Figures of one query are columns that can be averaged; the others take weights of queries.

A query may have several right types. For the metrics by type it counts as one of the most probable type where that is right, otherwise as
one of the first right type; recall at a precision counts it for every right type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.evaluation.ranked_types import RankedTypes

QUERY_METRICS = ("accuracy@1", "accuracy@3", "coverage", "precision when answering")
TYPE_METRICS = ("macro F1", "recall at 0.8 precision", "calibration error")
METRICS = QUERY_METRICS + TYPE_METRICS

MIN_POSITIVES = 10  # queries that want a type, below which its recall at a precision is left out
PRECISION = 0.8
NUM_BINS = 15  # of equally many queries

Statistic = Callable[[Doubles], float]  # of how often each query counts (queries,)


def accuracy_at(ranked: RankedTypes, k: int) -> Doubles:
    """(queries,) 1 where a right type is among the first `k`."""
    return np.asarray(ranked.is_right[:, :k].any(axis=1), np.float64)


def query_metrics(ranked: RankedTypes) -> Doubles:
    """(queries, QUERY_METRICS). Precision when answering is NaN where the model abstained."""
    first = accuracy_at(ranked, 1)
    answered = ~ranked.abstained
    return np.stack(
        [first, accuracy_at(ranked, 3), answered.astype(np.float64), np.where(answered, first, np.nan)], axis=1
    )


def type_statistics(ranked: RankedTypes) -> Callable[[Doubles], Doubles]:
    """TYPE_METRICS as a function of how often each query counts."""
    parts: tuple[Statistic, ...] = (MacroF1.of(ranked), RecallAtPrecision.of(ranked), CalibrationError.of(ranked))

    def statistic(weights: Doubles) -> Doubles:
        return np.array([part(weights) for part in parts])

    return statistic


@dataclass(frozen=True, slots=True, eq=False)
class MacroF1:
    """The mean, over the types that a query wants, of the harmonic mean of precision and recall of the most probable type.

    As scikit-learn's `f1_score(average="macro", labels=wanted)`, 30 times as fast, which a thousand resamples need.
    """

    wanted: Ints  # (queries,)
    said: Ints  # (queries,)
    types: Ints  # those that count
    num_types: int

    @classmethod
    def of(cls, ranked: RankedTypes) -> MacroF1:
        said = ranked.types[:, 0]
        first = ranked.labels.values[ranked.labels.offsets[:-1]]
        wanted = np.where(ranked.is_right[:, 0], said, first).astype(np.int64)
        return cls(wanted, said, np.unique(wanted), ranked.num_types)

    def __call__(self, weights: Doubles) -> float:
        wanted = np.bincount(self.wanted, weights, self.num_types)
        known = self.said >= 0
        said = np.bincount(self.said[known], weights[known], self.num_types)
        right = self.wanted == self.said
        both = np.bincount(self.wanted[right], weights[right], self.num_types)
        counts = (wanted + said)[self.types]
        present = wanted[self.types] > 0
        f1 = 2 * both[self.types] / np.maximum(counts, 1e-12)
        return float(f1[present].mean()) if present.any() else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class RecallAtPrecision:
    """The mean over types of the highest recall at which the type's own threshold keeps a precision of at least `PRECISION`.

    The threshold of each type is chosen on the evaluated queries themselves (so the figure says what the scores allow, not what a
    threshold chosen elsewhere reaches); a type whose precision never gets there has recall 0. Types that fewer than `MIN_POSITIVES`
    queries want are left out: `num_types` counts the others.
    """

    cases: Ints  # (scores,) query of each score, by type and from the highest score
    groups: Ints  # (scores,) 0 to num_types - 1, ascending
    is_right: Bools  # (scores,)
    is_last: Bools  # (scores,) no further score of the type is as high: a threshold can lie here
    wanted_cases: Ints  # (labels,)
    wanted_groups: Ints  # (labels,)
    num_types: int

    @classmethod
    def of(cls, ranked: RankedTypes, min_positives: int = MIN_POSITIVES) -> RecallAtPrecision:
        labels = ranked.labels
        counts = np.bincount(labels.values, minlength=ranked.num_types)
        chosen = np.flatnonzero(counts >= min_positives)
        group_of = np.full(ranked.num_types + 1, -1)  # the last is "no type"
        group_of[chosen] = np.arange(len(chosen))
        groups = group_of[ranked.types.ravel()]
        kept = groups >= 0
        groups, scores = groups[kept], ranked.probabilities.ravel()[kept]
        cases = np.repeat(np.arange(len(ranked)), ranked.types.shape[1])[kept]
        order = np.lexsort((-scores, groups))
        groups, scores = groups[order], scores[order]
        is_last = np.ones(len(groups), np.bool_)
        is_last[:-1] = (groups[1:] != groups[:-1]) | (scores[1:] != scores[:-1])
        wanted_groups = group_of[labels.values]
        wanted_cases = np.repeat(np.arange(len(ranked)), labels.lengths)
        has_group = wanted_groups >= 0
        return cls(
            cases[order],
            groups,
            ranked.is_right.ravel()[kept][order],
            is_last,
            wanted_cases[has_group],
            wanted_groups[has_group],
            len(chosen),
        )

    def by_type(self, weights: Doubles) -> Doubles:
        """(num_types,) of the types that count, in order of their numbers; NaN where no query is left."""
        counted = weights[self.cases]
        starts = np.searchsorted(self.groups, np.arange(self.num_types))
        found = _sums_within(np.where(self.is_right, counted, 0.0), self.groups, starts)
        said = _sums_within(counted, self.groups, starts)
        allowed = self.is_last & (found >= PRECISION * said - 1e-9) & (said > 0)
        best = np.zeros(self.num_types)
        np.maximum.at(best, self.groups[allowed], found[allowed])
        wanted = np.bincount(self.wanted_groups, weights[self.wanted_cases], self.num_types)
        return np.divide(best, wanted, out=np.full(self.num_types, np.nan), where=wanted > 0)

    def __call__(self, weights: Doubles) -> float:
        recalls = self.by_type(weights)
        return float(np.nanmean(recalls)) if np.isfinite(recalls).any() else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationError:
    """Expected calibration error of the most probable type: over `NUM_BINS` bins of equally many queries by its probability, the mean
    distance of the mean probability from the share that is right, weighted by the bins' queries (Naeini et al., 2015)."""

    probabilities: Doubles  # (queries,)
    is_right: Doubles  # (queries,)
    bins: Ints  # (queries,)

    @classmethod
    def of(cls, ranked: RankedTypes) -> CalibrationError:
        said = ranked.probabilities[:, 0].astype(np.float64)
        places = np.empty(len(said), np.int64)
        places[np.argsort(said, kind="stable")] = np.arange(len(said))
        return cls(said, accuracy_at(ranked, 1), places * NUM_BINS // max(1, len(said)))

    def points(self) -> list[tuple[float, float]]:
        """Mean probability and share that is right of each bin, ascending."""
        size = np.bincount(self.bins, minlength=NUM_BINS)
        said = np.bincount(self.bins, self.probabilities, NUM_BINS)
        right = np.bincount(self.bins, self.is_right, NUM_BINS)
        return [(said[at] / size[at], right[at] / size[at]) for at in np.flatnonzero(size)]

    def __call__(self, weights: Doubles) -> float:
        gaps = np.bincount(self.bins, weights * (self.probabilities - self.is_right), NUM_BINS)
        total = weights.sum()
        return float(np.abs(gaps).sum() / total) if total else np.nan


def _sums_within(values: Doubles, groups: Ints, starts: Ints) -> Doubles:
    """(n,) sums of the values of a group up to each; `groups` ascend, `starts` (groups,) are their first places."""
    sums = np.cumsum(values)
    before = np.concatenate(([0.0], sums))[starts]
    return sums - before[groups]
