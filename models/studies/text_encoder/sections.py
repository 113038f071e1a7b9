"""The results on a judged set as sections of a report: rankings, buckets and pairs, with differences from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.metrics import metric_name
from models.evaluation.page import Section, Table
from models.evaluation.plots import differences_plot, groups_plot, overall_plot
from models.evaluation.results import Results
from models.evaluation.summary import Comparison, Summary, summarise
from models.studies.text_encoder.judging import OVERLAP, QUADRANT, JudgedResults
from models.studies.text_encoder.pair_figures import (
    AP,
    AUC,
    CLEAR,
    METRICS,
    WITHIN,
    ByBucket,
    JudgedPairs,
    PairFigures,
)

_NAMES = {
    AUC: "AUC, pooled",
    AP: "AP, pooled",
    WITHIN: "AUC within queries",
    CLEAR: "AUC against irrelevant, pooled",
    "ndcg": "NDCG",
}
_MAX_LINES = 8  # scorers side by side in a plot; more are hard to distinguish


def summary_of(results: Results, metric: str, reference: str, *, seed: int = 0) -> Summary:
    """Summarises `results` with `metric` as the main one, and every other scorer minus `reference`."""
    others = tuple(name for name in results.scores if name != reference)
    return summarise(results, metric, [Comparison("", reference, others)], subject=reference, seed=seed)


def ranking_section(title: str, summary: Summary, note: str = "", *, subject: str = "encoder") -> Section:
    """Returns all metrics over all queries, and the differences. `subject` is what each row is of."""
    names = list(summary.overall)
    columns = [shown_name(metric) for metric in summary.metrics]
    tables = [
        Table(
            f"Means over {summary.num_cases:,} queries, with 95 % intervals over queries",
            subject,
            columns,
            [(name, [summary.overall[name][metric] for metric in summary.metrics]) for name in names],
        )
    ]
    plots = [overall_plot(summary, shown_name(summary.main_metric))]
    for difference in summary.differences:
        if not difference.overall:
            continue
        rows = [(name, [values[metric] for metric in summary.metrics]) for name, values in difference.overall.items()]
        caption = f"Difference from {difference.comparison.reference} on the same queries; bold where the 95 % interval excludes 0"
        tables.append(Table(caption, subject, columns, rows, signed=True))
        plots.append(differences_plot(difference, summary.main_metric, shown_name(summary.main_metric)))
    return Section(title, note, plots, tables)


def bucket_section(title: str, summaries: Sequence[Summary], dimension: str, note: str = "") -> Section | None:
    """Returns each summary's main metric by the values of one dimension; None if no value has enough queries."""
    tables: list[Table] = []
    plots: list[str] = []
    for summary in summaries:
        by_value = summary.by_bucket.get(dimension)
        if not by_value:
            continue
        unit = shown_name(summary.main_metric)
        sizes = {value: max(interval.num_cases for interval in by.values()) for value, by in by_value.items()}
        columns = [f"{value} ({size:,})" for value, size in sizes.items()]
        tables.append(_transposed(f"{unit}; number of queries in brackets", columns, list(by_value.values())))
        for difference in summary.differences:
            differences = [difference.by_bucket[dimension][value] for value in by_value]
            caption = (
                f"{unit}, difference from {difference.comparison.reference}; bold where the 95 % interval excludes 0"
            )
            tables.append(_transposed(caption, columns, differences, signed=True))
        if not plots:
            plots.append(groups_plot(_lines(dict(zip(columns, by_value.values(), strict=True))), unit))
        if small := summary.too_small.get(dimension):
            named = ", ".join(f"{value} ({size})" for value, size in small.items())
            note = f"{note} Too few queries for a mean: {named}.".strip() if named not in note else note
    return Section(title, note, plots, tables) if tables else None


def pair_section(title: str, values: Mapping[str, PairFigures], reference: str, note: str = "") -> Section | None:
    """Returns the metrics of pairs by value of a bucket, and the differences."""
    if not values:
        return None
    columns = list(values)
    counts = [(value, [part.num_pairs, part.num_relevant, part.num_queries]) for value, part in values.items()]
    tables = [Table("Judged pairs", "bucket", ["pairs", "relevant", "queries"], counts)]
    for metric in METRICS:
        tables.append(_transposed(shown_name(metric), columns, [part.by_scorer[metric] for part in values.values()]))
        differences = [part.differences[metric] for part in values.values()]
        caption = f"{shown_name(metric)}, difference from {reference}; bold where the 95 % interval excludes 0"
        tables.append(_transposed(caption, columns, differences, signed=True))
    plot = groups_plot(
        _lines({value: part.by_scorer[WITHIN] for value, part in values.items()}), shown_name(WITHIN), from_zero=False
    )
    return Section(title, note, [plot], tables)


def sections_of(
    results: JudgedResults, pairs: ByBucket, reference: str, *, protocol: str, pair_note: str = "", seed: int = 0
) -> list[Section]:
    """Returns all sections of one judged set: rankings over all queries, the four quadrants, further buckets, and pairs."""
    main, second = results.ranking.metrics[:2]
    whole = [summary_of(results.ranking, metric, reference, seed=seed) for metric in (main, second)]
    sections: list[Section | None] = [ranking_section("All queries", whole[0], protocol)]
    if results.quadrants is not None:
        by_side = [summary_of(results.quadrants, metric, reference, seed=seed) for metric in (main, second)]
        sections.append(bucket_section("Seen and unseen: rankings", by_side, QUADRANT, QUADRANT_NOTE))
    if QUADRANT in pairs:
        left_out = _left_out(results.pairs, QUADRANT, pairs[QUADRANT])
        sections.append(pair_section("Seen and unseen: pairs", pairs[QUADRANT], reference, f"{pair_note} {left_out}"))
    sections += [bucket_section(f"By {dimension}: rankings", whole, dimension) for dimension in results.ranking.buckets]
    sections += [
        pair_section(
            f"By {dimension}: pairs",
            values,
            reference,
            " ".join([*([OVERLAP_NOTE] if dimension == OVERLAP else []), _left_out(results.pairs, dimension, values)]),
        )
        for dimension, values in pairs.items()
        if dimension != QUADRANT
    ]
    return [section for section in sections if section is not None]


QUADRANT_NOTE = (
    "For each query, only the relevant products of one side count (seen or unseen: whether they are in the training pairs). Relevant "
    "products of the other side are removed from the ranking, all others stay. The sides therefore differ in difficulty: compare figures "
    "within a column only. A near query differs from a training query only in its form or by one letter."
)
OVERLAP_NOTE = "By the share of the query's word stems that the product's text contains."


def _left_out(pairs: JudgedPairs, dimension: str, shown: Mapping[str, PairFigures]) -> str:
    """Returns a note on values with too few pairs of one kind or too few queries."""
    bucket = pairs.buckets[dimension]
    counts = dict(zip(bucket.values, np.bincount(bucket.codes, minlength=len(bucket.values)).tolist(), strict=True))
    small = [f"{value} ({count})" for value, count in counts.items() if count and value not in shown]
    return f"Too few pairs for a figure: {', '.join(small)}." if small else ""


def _transposed(
    caption: str, columns: Sequence[str], cells: Sequence[Mapping[str, Interval]], *, signed: bool = False
) -> Table:
    """Returns a table with a row per scorer from columns of intervals by scorer."""
    names = list(cells[0])
    return Table(
        caption, "encoder", columns, [(name, [by_scorer[name] for by_scorer in cells]) for name in names], signed=signed
    )


def _lines(groups: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, Interval]]:
    return {group: dict(list(by.items())[:_MAX_LINES]) for group, by in groups.items()}


def shown_name(metric: str) -> str:
    """Returns a metric as headings name it: "mrr@10" -> "MRR@10"."""
    return _NAMES.get(metric) or metric_name(metric)
