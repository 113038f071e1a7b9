"""Summarises results as means with intervals: overall, by bucket, relative to a reference, and as a share of an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import NUM_RESAMPLES, Interval, mean_intervals, ratio_interval
from models.evaluation.page import without_nan
from models.evaluation.results import Results

ByRanker = Mapping[str, Interval]
ByBucket = Mapping[str, Mapping[str, ByRanker]]  # dimension -> value -> ranker


@dataclass(frozen=True, slots=True)
class Comparison:
    """A planned table of paired differences: each ranker minus the reference, on the same cases."""

    title: str
    reference: str
    rankers: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Differences:
    """A comparison with its results."""

    comparison: Comparison
    overall: Mapping[str, Mapping[str, Interval]]  # ranker -> metric
    by_bucket: ByBucket  # differences of the main metric


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures of a report. `by_bucket` and `share_of_oracle` are of the main metric."""

    metrics: tuple[str, ...]
    main_metric: str
    subject: str  # the ranker that the report is about
    oracles: tuple[str, ...]  # rankers that see the simulation's truth, the best informed first; may be empty
    num_cases: int
    num_shoppers: int  # each anonymous session counts as a shopper
    overall: Mapping[str, Mapping[str, Interval]]  # ranker -> metric
    by_bucket: ByBucket
    too_small: Mapping[str, Mapping[str, int]]  # dimension -> value -> number of cases, where too few for a mean
    differences: tuple[Differences, ...]
    share_of_oracle: ByRanker  # relative to the first oracle
    rank_ms: Mapping[str, float]  # ranker -> milliseconds per case, ranked in bulk
    num_resamples: int
    seed: int

    @property
    def others(self) -> list[str]:
        """All rankers except the subject and the oracles, best first by the main metric."""
        return [ranker for ranker in self.ranked if ranker not in (self.subject, *self.oracles)]

    @property
    def ranked(self) -> list[str]:
        """All rankers, best first by the main metric."""
        return sorted(self.overall, key=lambda ranker: -np.nan_to_num(self.main(ranker).value))

    def main(self, ranker: str) -> Interval:
        return self.overall[ranker][self.main_metric]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, with None for NaN."""
        return dict(without_nan(asdict(self)))


def summarise(
    results: Results,
    main_metric: str,
    comparisons: Sequence[Comparison] = (),
    *,
    subject: str = "",
    oracles: Sequence[str] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Summary:
    """Computes every mean with its 95 % interval, resampling shoppers.

    `subject` is the ranker that the report is about ("": the best one that is no oracle). `oracles` are rankers that see the simulation's
    truth, the best informed first. Raises ValueError for a ranker or metric that is not among the results.
    """
    _check_names(results, main_metric, comparisons, [*([subject] if subject else []), *oracles])
    rankers = list(results.scores)
    resampling = _Resampling(num_resamples, seed)
    buckets, too_small = _bucket_cases(results)
    main = np.stack([results.values(ranker, main_metric) for ranker in rankers], axis=1)
    competing = [ranker for ranker in rankers if ranker not in oracles]
    return Summary(
        metrics=results.metrics,
        main_metric=main_metric,
        subject=subject or max(competing, key=lambda ranker: float(np.nanmean(results.values(ranker, main_metric)))),
        oracles=tuple(oracles),
        num_cases=len(results.units),
        num_shoppers=len(np.unique(results.units)),
        overall={
            ranker: resampling.columns(results.metrics, results.scores[ranker], results.units) for ranker in rankers
        },
        by_bucket=resampling.by_bucket(rankers, main, results.units, buckets),
        too_small=too_small,
        differences=tuple(_differences(results, main, comparison, buckets, resampling) for comparison in comparisons),
        share_of_oracle={
            ranker: ratio_interval(
                results.values(ranker, main_metric),
                results.values(oracles[0], main_metric),
                results.units,
                num_resamples=num_resamples,
                seed=seed,
            )
            for ranker in rankers
            if oracles and ranker != oracles[0]
        },
        rank_ms={ranker: 1e3 * seconds / max(1, len(results.units)) for ranker, seconds in results.rank_s.items()},
        num_resamples=num_resamples,
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class _Resampling:
    """How intervals are computed."""

    num_resamples: int
    seed: int

    def columns(self, names: Sequence[str], values: Doubles, units: Ints) -> dict[str, Interval]:
        """Returns the mean of each named column of `values` (cases, names)."""
        intervals = mean_intervals(values, units, num_resamples=self.num_resamples, seed=self.seed)
        return dict(zip(names, intervals, strict=True))

    def by_bucket(
        self, rankers: Sequence[str], main: Doubles, units: Ints, buckets: Mapping[str, Mapping[str, Ints]]
    ) -> dict[str, dict[str, dict[str, Interval]]]:
        return {
            dimension: {value: self.columns(rankers, main[cases], units[cases]) for value, cases in values.items()}
            for dimension, values in buckets.items()
        }


def _differences(
    results: Results,
    main: Doubles,
    comparison: Comparison,
    buckets: Mapping[str, Mapping[str, Ints]],
    resampling: _Resampling,
) -> Differences:
    rankers = list(results.scores)
    reference = results.scores[comparison.reference]
    ours = main[:, [rankers.index(ranker) for ranker in comparison.rankers]]
    return Differences(
        comparison,
        {
            ranker: resampling.columns(results.metrics, results.scores[ranker] - reference, results.units)
            for ranker in comparison.rankers
        },
        resampling.by_bucket(
            comparison.rankers, ours - main[:, [rankers.index(comparison.reference)]], results.units, buckets
        ),
    )


def _bucket_cases(results: Results) -> tuple[dict[str, dict[str, Ints]], dict[str, dict[str, int]]]:
    """Returns dimension -> value -> cases, and the sizes of the parts that are too small. Leaves out a dimension with a single value."""
    large: dict[str, dict[str, Ints]] = {}
    small: dict[str, dict[str, int]] = {}
    for dimension, bucket in results.buckets.items():
        cases = bucket.rows()
        if sum(len(rows) > 0 for rows in cases.values()) < 2:
            continue
        large[dimension] = bucket.large_parts(results.units)
        small[dimension] = {
            value: len(rows) for value, rows in cases.items() if len(rows) and value not in large[dimension]
        }
    return large, small


def _check_names(results: Results, main_metric: str, comparisons: Sequence[Comparison], named: Sequence[str]) -> None:
    if main_metric not in results.metrics:
        raise ValueError(f"metric {main_metric!r} is not among {', '.join(results.metrics)}")
    compared = [ranker for comparison in comparisons for ranker in (comparison.reference, *comparison.rankers)]
    unknown = sorted({*named, *compared} - set(results.scores))
    if unknown:
        raise ValueError(f"rankers {', '.join(unknown)} are not among {', '.join(results.scores)}")
