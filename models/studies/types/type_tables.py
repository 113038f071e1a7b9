"""Answers of several models to the same queries as tables with intervals, by bucket and against one another."""

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

STATISTIC_RESAMPLES = 200  # of the metrics by type: each costs a pass over all answers

ByMetric = Mapping[str, Interval]


@dataclass(frozen=True, slots=True, eq=False)
class TypeAnswers:
    """What each model answered to the same queries."""

    by_model: Mapping[str, RankedTypes]
    units: Ints  # (queries,) what intervals draw: strings, as one string may be asked in several locales
    buckets: Mapping[str, Bucket]

    def __post_init__(self) -> None:
        sizes = {len(one) for one in self.by_model.values()} | {len(self.units)}
        if len(sizes) > 1:
            raise ValueError(f"the models answered different numbers of queries: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.units)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.by_model)

    def take(self, rows: Ints) -> TypeAnswers:
        buckets = {name: bucket.take(rows) for name, bucket in self.buckets.items()}
        return TypeAnswers({name: one.take(rows) for name, one in self.by_model.items()}, self.units[rows], buckets)

    def joined(self, other: TypeAnswers) -> TypeAnswers:
        """Both models' answers to the same queries."""
        if not np.array_equal(self.units, other.units):
            raise ValueError("the answers are to other queries")
        return TypeAnswers({**self.by_model, **other.by_model}, self.units, self.buckets)

    def rows_of(self, dimension: str) -> dict[str, Ints]:
        """Rows of each value of a bucket that has enough of them."""
        return {value: rows for value, rows in self.buckets[dimension].rows().items() if len(rows) >= MIN_CASES}


def measure(answers: TypeAnswers, *, seed: int = 0) -> dict[str, ByMetric]:
    """model -> metric, all METRICS."""
    means = _query_columns(answers)
    found = mean_intervals(means, answers.units, seed=seed)
    by_type = _statistics(answers, answers.models, (), seed)
    width = len(QUERY_METRICS)
    return {
        model: {
            **dict(zip(QUERY_METRICS, found[at * width : (at + 1) * width], strict=True)),
            **dict(zip(TYPE_METRICS, by_type[at * 3 : (at + 1) * 3], strict=True)),
        }
        for at, model in enumerate(answers.models)
    }


def compare(answers: TypeAnswers, reference: str, others: Sequence[str], *, seed: int = 0) -> dict[str, ByMetric]:
    """Each of `others` minus `reference`, query by query; other -> metric. What one abstained from is compared for neither's precision."""
    theirs = query_metrics(answers.by_model[reference])
    ours = np.concatenate([query_metrics(answers.by_model[one]) - theirs for one in others], axis=1)
    found = mean_intervals(ours, answers.units, seed=seed)
    by_type = _statistics(answers, (reference, *others), [(at + 1, 0) for at in range(len(others))], seed)
    by_type = by_type[len(TYPE_METRICS) * (1 + len(others)) :]
    width = len(QUERY_METRICS)
    return {
        other: {
            **dict(zip(QUERY_METRICS, found[at * width : (at + 1) * width], strict=True)),
            **dict(zip(TYPE_METRICS, by_type[at * 3 : (at + 1) * 3], strict=True)),
        }
        for at, other in enumerate(others)
    }


def metrics_table(answers: TypeAnswers, caption: str, *, seed: int = 0) -> Table:
    figures = measure(answers, seed=seed)
    first = next(iter(answers.by_model.values()))
    num_types = RecallAtPrecision.from_ranked(first).num_types
    said = f"{caption}; {len(answers):,} queries, {num_types} types with enough of them for their recall; 95 % intervals over query strings"
    return Table(said, "model", METRICS, [(model, [one[name] for name in METRICS]) for model, one in figures.items()])


def differences_table(
    answers: TypeAnswers, reference: str, others: Sequence[str], caption: str = "", *, seed: int = 0
) -> Table:
    figures = compare(answers, reference, others, seed=seed)
    rows = [(model, [one[name] for name in METRICS]) for model, one in figures.items()]
    said = f"{caption or 'Minus ' + reference}, on the same queries; bold where the 95 % interval does not hold 0"
    return Table(said, "model", METRICS, rows, signed=True)


def accuracy_by(answers: TypeAnswers, dimension: str, k: int = 1, *, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """value -> model -> accuracy@k, of the values with enough queries."""
    columns = np.stack([accuracy_at(one, k) for one in answers.by_model.values()], axis=1)
    return {
        value: dict(zip(answers.models, mean_intervals(columns[rows], answers.units[rows], seed=seed), strict=True))
        for value, rows in answers.rows_of(dimension).items()
    }


def bucket_plots(answers: TypeAnswers, dimension: str, unit: str, k: int = 1, *, seed: int = 0) -> list[str]:
    """One plot of accuracy@k by value, none where no value has enough queries."""
    found = accuracy_by(answers, dimension, k, seed=seed)
    return [groups_plot(found, unit)] if found else []


def bucket_table(answers: TypeAnswers, dimension: str, k: int = 1, *, seed: int = 0) -> Table:
    """A row for each value, most queries first as the bucket has them."""
    rows: list[tuple[str, Sequence[Cell]]] = [
        (value, [by_model[answers.models[0]].num_cases, *by_model.values()])
        for value, by_model in accuracy_by(answers, dimension, k, seed=seed).items()
    ]
    return Table(f"accuracy@{k}", dimension, ("queries", *answers.models), rows)


def bucket_differences(
    answers: TypeAnswers, dimension: str, subject: str, others: Sequence[str], k: int = 1, *, seed: int = 0
) -> Table:
    """`subject` minus each of `others`, by value."""
    ours = accuracy_at(answers.by_model[subject], k)
    columns = np.stack([ours - accuracy_at(answers.by_model[one], k) for one in others], axis=1)
    rows = [
        (value, mean_intervals(columns[chosen], answers.units[chosen], seed=seed))
        for value, chosen in answers.rows_of(dimension).items()
    ]
    names = [f"minus {one}" for one in others]
    return Table(f"accuracy@{k} of {subject}, on the same queries", dimension, names, rows, signed=True)


def string_units(queries: Sequence[str]) -> Ints:
    """(queries,) the same number for the same string."""
    return np.unique(np.array(queries, np.str_), return_inverse=True)[1].astype(np.int64)


def _query_columns(answers: TypeAnswers) -> Doubles:
    return np.concatenate([query_metrics(one) for one in answers.by_model.values()], axis=1)


def _statistics(
    answers: TypeAnswers, models: Sequence[str], pairs: Sequence[tuple[int, int]], seed: int
) -> list[Interval]:
    """TYPE_METRICS of each of `models`, then of each pair (model, model) their difference."""
    parts = [type_statistics(answers.by_model[model]) for model in models]

    def statistic(weights: Doubles) -> Doubles:
        found = [part(weights) for part in parts]
        return np.concatenate([*found, *(found[ours] - found[theirs] for ours, theirs in pairs)])

    return statistic_intervals(statistic, answers.units, num_resamples=STATISTIC_RESAMPLES, seed=seed)
