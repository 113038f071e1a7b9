"""Metrics of predicted product types. Metrics per query are columns to average; metrics per type take weights of the queries.

A query may have several correct types. For metrics per type it counts for its most probable type if that is correct, otherwise for its
first correct type; recall at a precision counts it for every correct type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.evaluation.metrics import tie_breakers
from models.evaluation.ranked_types import RankedTypes

QUERY_METRICS = ("accuracy@1", "accuracy@3", "coverage", "precision when answering")
TYPE_METRICS = ("macro F1", "recall at 0.8 precision", "calibration error")
METRICS = QUERY_METRICS + TYPE_METRICS

MIN_POSITIVES = 10  # a type with fewer labelled queries has no recall at a precision
PRECISION = 0.8
NUM_BINS = 15  # each holds equally many queries

Statistic = Callable[[Doubles], float]  # takes the weight of each query (queries,)


def accuracy_at(ranked: RankedTypes, k: int) -> Doubles:
    """Returns (queries,) 1 where a correct type is among the first `k`, else 0."""
    return np.asarray(ranked.is_right[:, :k].any(axis=1), np.float64)


def query_metrics(ranked: RankedTypes) -> Doubles:
    """Returns (queries, QUERY_METRICS). Precision when answering is NaN where the model abstained."""
    first = accuracy_at(ranked, 1)
    answered = ~ranked.abstained
    return np.stack(
        [first, accuracy_at(ranked, 3), answered.astype(np.float64), np.where(answered, first, np.nan)], axis=1
    )


def type_statistics(ranked: RankedTypes) -> Callable[[Doubles], Doubles]:
    """Returns a function from the weight of each query (queries,) to TYPE_METRICS."""
    parts: tuple[Statistic, ...] = (
        MacroF1.from_ranked(ranked),
        RecallAtPrecision.from_ranked(ranked),
        CalibrationError.from_ranked(ranked),
    )

    def statistic(weights: Doubles) -> Doubles:
        return np.array([part(weights) for part in parts])

    return statistic


@dataclass(frozen=True, slots=True, eq=False)
class MacroF1:
    """The mean over the correct types of their F1, where each query predicts its most probable type.

    Equals scikit-learn's `f1_score(average="macro", labels=correct)` and is 30 times as fast, which hundreds of resamples need.
    """

    correct: Ints  # (queries,)
    predicted: Ints  # (queries,)
    types: Ints  # the types that are correct for a query
    num_types: int

    @classmethod
    def from_ranked(cls, ranked: RankedTypes) -> MacroF1:
        predicted = ranked.types[:, 0]
        first = ranked.labels.values[ranked.labels.offsets[:-1]]
        correct = np.where(ranked.is_right[:, 0], predicted, first).astype(np.int64)
        return cls(correct, predicted, np.unique(correct), ranked.num_types)

    def __call__(self, weights: Doubles) -> float:
        correct = np.bincount(self.correct, weights, self.num_types)
        has_type = self.predicted >= 0
        predicted = np.bincount(self.predicted[has_type], weights[has_type], self.num_types)
        right = self.correct == self.predicted
        both = np.bincount(self.correct[right], weights[right], self.num_types)
        counts = (correct + predicted)[self.types]
        present = correct[self.types] > 0
        f1 = 2 * both[self.types] / np.maximum(counts, 1e-12)
        return float(f1[present].mean()) if present.any() else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class RecallAtPrecision:
    """The mean over types of the highest recall at which the type's own threshold keeps a precision of at least `PRECISION`.

    The threshold of each type is chosen on the evaluated queries themselves, so the figure is an upper bound for thresholds chosen
    elsewhere. A type that never reaches the precision has recall 0. Types with fewer than `MIN_POSITIVES` labelled queries are left out;
    `num_types` counts the others.
    """

    cases: Ints  # (scores,) query of each score; sorted by type, then by falling score
    groups: Ints  # (scores,) 0 to num_types - 1, ascending
    is_right: Bools  # (scores,)
    is_last: Bools  # (scores,) the next score of the type is lower, so a threshold can lie here
    label_cases: Ints  # (labels,)
    label_groups: Ints  # (labels,)
    num_types: int

    @classmethod
    def from_ranked(cls, ranked: RankedTypes, min_positives: int = MIN_POSITIVES) -> RecallAtPrecision:
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
        label_groups = group_of[labels.values]
        label_cases = np.repeat(np.arange(len(ranked)), labels.lengths)
        has_group = label_groups >= 0
        return cls(
            cases[order],
            groups,
            ranked.is_right.ravel()[kept][order],
            is_last,
            label_cases[has_group],
            label_groups[has_group],
            len(chosen),
        )

    def by_type(self, weights: Doubles) -> Doubles:
        """Returns (num_types,) the recall of each counted type, in order of type number; NaN if no query is left."""
        counted = weights[self.cases]
        starts = np.searchsorted(self.groups, np.arange(self.num_types))
        right = _sums_within(np.where(self.is_right, counted, 0.0), self.groups, starts)
        predicted = _sums_within(counted, self.groups, starts)
        allowed = self.is_last & (right >= PRECISION * predicted - 1e-9) & (predicted > 0)
        best = np.zeros(self.num_types)
        np.maximum.at(best, self.groups[allowed], right[allowed])
        labelled = np.bincount(self.label_groups, weights[self.label_cases], self.num_types)
        return np.divide(best, labelled, out=np.full(self.num_types, np.nan), where=labelled > 0)

    def __call__(self, weights: Doubles) -> float:
        recalls = self.by_type(weights)
        return float(np.nanmean(recalls)) if np.isfinite(recalls).any() else np.nan


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationError:
    """Expected calibration error of the most probable type (Naeini et al., 2015).

    Queries are sorted by probability, equal ones at random, into `NUM_BINS` bins of equal size; the error is the mean over bins, weighted
    by their queries, of the distance between mean probability and share of correct predictions.
    """

    probabilities: Doubles  # (queries,)
    is_right: Doubles  # (queries,)
    bins: Ints  # (queries,)

    @classmethod
    def from_ranked(cls, ranked: RankedTypes) -> CalibrationError:
        probabilities = ranked.probabilities[:, 0].astype(np.float64)
        ranks = np.empty(len(probabilities), np.int64)
        # Queries lie in order of locale: bins of equal probabilities would be bins of locales.
        ranks[np.lexsort((tie_breakers(len(ranks)), probabilities))] = np.arange(len(probabilities))
        return cls(probabilities, accuracy_at(ranked, 1), ranks * NUM_BINS // max(1, len(probabilities)))

    def points(self) -> list[tuple[float, float]]:
        """Returns the mean probability and the share of correct predictions of each bin, by rising probability."""
        size = np.bincount(self.bins, minlength=NUM_BINS)
        predicted = np.bincount(self.bins, self.probabilities, NUM_BINS)
        right = np.bincount(self.bins, self.is_right, NUM_BINS)
        return [(predicted[at] / size[at], right[at] / size[at]) for at in np.flatnonzero(size)]

    def __call__(self, weights: Doubles) -> float:
        gaps = np.bincount(self.bins, weights * (self.probabilities - self.is_right), NUM_BINS)
        total = weights.sum()
        return float(np.abs(gaps).sum() / total) if total else np.nan


def _sums_within(values: Doubles, groups: Ints, starts: Ints) -> Doubles:
    """Returns (n,) cumulative sums within each group; `groups` ascend, `starts` (groups,) are their first positions."""
    sums = np.cumsum(values)
    before = np.concatenate(([0.0], sums))[starts]
    return sums - before[groups]
