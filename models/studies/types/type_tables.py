"""Tables and plots of several classifiers on the same queries: figures with intervals, by bucket, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import Interval, mean_intervals, statistic_intervals
from models.evaluation.buckets import MIN_CASES, Bucket
from models.evaluation.page import Cell, Table
from models.evaluation.plots import groups_plot
from models.evaluation.ranked_types import RankedTypes
from models.evaluation.type_metrics import (
    METRICS,
    QUERY_METRICS,
    TYPE_METRICS,
    RecallAtPrecision,
    accuracy_at,
    query_metrics,
    type_statistics,
)

STATISTIC_RESAMPLES = 200  # for metrics by type: each resample needs a pass over all predictions

ByMetric = Mapping[str, Interval]


@dataclass(frozen=True, slots=True, eq=False)
class TypeResults:
    """The predictions of each model for the same queries."""

    by_model: Mapping[str, RankedTypes]
    units: Ints  # (queries,) resampling units: strings, because a string may be a query of several locales
    buckets: Mapping[str, Bucket]

    def __post_init__(self) -> None:
        sizes = {len(ranked) for ranked in self.by_model.values()} | {len(self.units)}
        if len(sizes) > 1:
            raise ValueError(f"the models have predictions for different numbers of queries: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.units)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.by_model)

    def take(self, rows: Ints) -> TypeResults:
        buckets = {name: bucket.take(rows) for name, bucket in self.buckets.items()}
        return TypeResults(
            {name: ranked.take(rows) for name, ranked in self.by_model.items()}, self.units[rows], buckets
        )

    def with_models_of(self, other: TypeResults) -> TypeResults:
        """Returns the models of both on the same queries."""
        if not np.array_equal(self.units, other.units):
            raise ValueError("the predictions are for other queries")
        return TypeResults({**self.by_model, **other.by_model}, self.units, self.buckets)

    def rows_of(self, dimension: str) -> dict[str, Ints]:
        """Returns the rows of each value of a bucket, if there are enough for a mean."""
        return {value: rows for value, rows in self.buckets[dimension].rows().items() if len(rows) >= MIN_CASES}


def measure(results: TypeResults, *, seed: int = 0) -> dict[str, ByMetric]:
    """Returns model -> metric -> interval, for all METRICS."""
    means = _query_columns(results)
    per_query = mean_intervals(means, results.units, seed=seed)
    by_type = _statistics(results, results.models, (), seed)
    width = len(QUERY_METRICS)
    return {
        model: {
            **dict(zip(QUERY_METRICS, per_query[at * width : (at + 1) * width], strict=True)),
            **dict(zip(TYPE_METRICS, by_type[at * 3 : (at + 1) * 3], strict=True)),
        }
        for at, model in enumerate(results.models)
    }


def compare(results: TypeResults, reference: str, others: Sequence[str], *, seed: int = 0) -> dict[str, ByMetric]:
    """Returns other -> metric: each of `others` minus `reference`, paired by query.

    Precision when answering only compares queries that both models answer.
    """
    theirs = query_metrics(results.by_model[reference])
    ours = np.concatenate([query_metrics(results.by_model[other]) - theirs for other in others], axis=1)
    per_query = mean_intervals(ours, results.units, seed=seed)
    by_type = _statistics(results, (reference, *others), [(at + 1, 0) for at in range(len(others))], seed)
    by_type = by_type[len(TYPE_METRICS) * (1 + len(others)) :]
    width = len(QUERY_METRICS)
    return {
        other: {
            **dict(zip(QUERY_METRICS, per_query[at * width : (at + 1) * width], strict=True)),
            **dict(zip(TYPE_METRICS, by_type[at * 3 : (at + 1) * 3], strict=True)),
        }
        for at, other in enumerate(others)
    }


def metrics_table(results: TypeResults, caption: str, *, seed: int = 0) -> Table:
    figures = measure(results, seed=seed)
    first = next(iter(results.by_model.values()))
    num_types = RecallAtPrecision.from_ranked(first).num_types
    caption = f"{caption}; {len(results):,} queries, {num_types} types with enough queries for a recall; 95 % intervals over strings"
    return Table(
        caption,
        "model",
        METRICS,
        [(model, [by_metric[name] for name in METRICS]) for model, by_metric in figures.items()],
    )


def differences_table(
    results: TypeResults, reference: str, others: Sequence[str], caption: str = "", *, seed: int = 0
) -> Table:
    figures = compare(results, reference, others, seed=seed)
    rows = [(model, [by_metric[name] for name in METRICS]) for model, by_metric in figures.items()]
    caption = (
        f"{caption or 'Difference from ' + reference}, on the same queries; bold where the 95 % interval excludes 0"
    )
    return Table(caption, "model", METRICS, rows, signed=True)


def accuracy_by(results: TypeResults, dimension: str, k: int = 1, *, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """Returns value -> model -> accuracy@k, for the values with enough queries."""
    columns = np.stack([accuracy_at(ranked, k) for ranked in results.by_model.values()], axis=1)
    return {
        value: dict(zip(results.models, mean_intervals(columns[rows], results.units[rows], seed=seed), strict=True))
        for value, rows in results.rows_of(dimension).items()
    }


def bucket_plots(results: TypeResults, dimension: str, unit: str, k: int = 1, *, seed: int = 0) -> list[str]:
    """Returns one plot of accuracy@k by value, or none if no value has enough queries."""
    by_value = accuracy_by(results, dimension, k, seed=seed)
    return [groups_plot(by_value, unit)] if by_value else []


def bucket_table(results: TypeResults, dimension: str, k: int = 1, *, seed: int = 0) -> Table:
    """Returns a row per value, in the order of the bucket."""
    rows: list[tuple[str, Sequence[Cell]]] = [
        (value, [by_model[results.models[0]].num_cases, *by_model.values()])
        for value, by_model in accuracy_by(results, dimension, k, seed=seed).items()
    ]
    return Table(f"accuracy@{k}", dimension, ("queries", *results.models), rows)


def bucket_differences(
    results: TypeResults, dimension: str, subject: str, others: Sequence[str], k: int = 1, *, seed: int = 0
) -> Table:
    """Returns `subject` minus each of `others`, by value."""
    ours = accuracy_at(results.by_model[subject], k)
    columns = np.stack([ours - accuracy_at(results.by_model[other], k) for other in others], axis=1)
    rows = [
        (value, mean_intervals(columns[chosen], results.units[chosen], seed=seed))
        for value, chosen in results.rows_of(dimension).items()
    ]
    names = [f"minus {other}" for other in others]
    return Table(f"accuracy@{k} of {subject}, on the same queries", dimension, names, rows, signed=True)


def string_units(queries: Sequence[str]) -> Ints:
    """Returns (queries,) integers that are equal for equal strings."""
    return np.unique(np.array(queries, np.str_), return_inverse=True)[1].astype(np.int64)


def _query_columns(results: TypeResults) -> Doubles:
    return np.concatenate([query_metrics(ranked) for ranked in results.by_model.values()], axis=1)


def _statistics(
    results: TypeResults, models: Sequence[str], pairs: Sequence[tuple[int, int]], seed: int
) -> list[Interval]:
    """Returns TYPE_METRICS of each of `models`, then the difference of each pair of models."""
    parts = [type_statistics(results.by_model[model]) for model in models]

    def statistic(weights: Doubles) -> Doubles:
        by_model = [part(weights) for part in parts]
        return np.concatenate([*by_model, *(by_model[ours] - by_model[theirs] for ours, theirs in pairs)])

    return statistic_intervals(statistic, results.units, num_resamples=STATISTIC_RESAMPLES, seed=seed)
