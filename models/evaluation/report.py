"""The report of a comparison of rankers: its figures as tables, plots and a few sentences. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from models.evaluation.metrics import metric_name
from models.evaluation.page import Cell, Section, Table, render_page, write_report_files
from models.evaluation.plots import buckets_plot, differences_plot, overall_plot
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import ByRanker, Differences, Summary

_BUCKET_TITLES = {
    "query": "By how often the query was searched for in training",
    "shopper": "By the length of the shopper's history",
    "product": "By whether the bought product had events in training",
    "locale": "By locale",
}
_SHARE, _LATENCY = "share of oracle", "ms per case"


def write_report(folder: Path, summary: Summary, facts: RunFacts) -> Path:
    """Writes report.json and report.html into `folder`, which is created if missing, and returns the path of the HTML file."""
    values = {"facts": facts.to_json(), "summary": summary.to_json()}
    return write_report_files(folder, values, html_report(summary, facts))


def html_report(summary: Summary, facts: RunFacts) -> str:
    """Returns the page. Of simulated data, every heading, caption and axis says so."""
    simulated = " (simulated)" if facts.simulated else ""
    unit = f"{metric_name(summary.main_metric)}{simulated}"
    sections = [
        Section(
            title=f"All cases{simulated}",
            plots=[overall_plot(summary, unit)],
            tables=[_overall_table(summary, simulated)],
        ),
        *(_comparison(differences, summary, simulated, unit) for differences in summary.differences),
        *(
            Section(
                title=f"{_BUCKET_TITLES.get(dimension, f'By {dimension}')}{simulated}",
                plots=[buckets_plot(by_value, summary, unit)],
                tables=[_bucket_table(by_value, summary, unit)],
                footnote=_too_small(summary.too_small.get(dimension, {})),
            )
            for dimension, by_value in summary.by_bucket.items()
            if by_value
        ),
    ]
    return render_page(facts, _finding(summary, simulated), sections, _method(summary, facts))


def _finding(summary: Summary, simulated: str) -> Markup:
    """Returns the result in two sentences."""
    text = _with_metric(summary, summary.subject)
    text += f"{simulated}, over {summary.num_cases:,} cases of {summary.num_shoppers:,} shoppers. "
    if summary.others:
        text += f"The best of {len(summary.others)} others: "
        text += _with_metric(summary, summary.others[0]) + f"{simulated}. "
    if summary.oracles:
        share = summary.share_of_oracle[summary.subject]
        text += (
            f"{summary.subject} reaches {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of the oracle{simulated}."
        )
    return text


def _with_metric(summary: Summary, ranker: str) -> Markup:
    main = summary.main(ranker)
    figure = f"{metric_name(summary.main_metric)} {main.value:.3f} [{main.low:.3f}, {main.high:.3f}]"
    return Markup("<strong>{}</strong> has {}").format(ranker, figure)


def _overall_table(summary: Summary, simulated: str) -> Table:
    rows: list[tuple[str, list[Cell]]] = []
    for ranker in summary.ranked:
        cells: list[Cell] = [summary.overall[ranker][metric] for metric in summary.metrics]
        if summary.oracles:
            cells.append(summary.share_of_oracle.get(ranker))
        rows.append((ranker, [*cells, summary.rank_ms[ranker]]))
    columns = [*map(metric_name, summary.metrics), *([_SHARE] if summary.oracles else []), _LATENCY]
    caption = f"Means over all cases{simulated}, with 95 % intervals over shoppers"
    return Table(caption, "ranker", columns, rows, formats={_SHARE: ".0%", _LATENCY: ".1f"})


def _comparison(differences: Differences, summary: Summary, simulated: str, unit: str) -> Section:
    comparison = differences.comparison
    tables = [
        Table(
            f"Difference from {comparison.reference} on the same cases{simulated}; bold where the 95 % interval excludes 0",
            "ranker",
            [*map(metric_name, summary.metrics)],
            [
                (ranker, [differences.overall[ranker][metric] for metric in summary.metrics])
                for ranker in comparison.rankers
            ],
            signed=True,
        )
    ]
    for dimension in ("shopper", "query"):
        if by_value := differences.by_bucket.get(dimension):
            rows = _by_ranker(by_value, comparison.rankers)
            tables.append(Table(f"{unit}, difference by {dimension}", "ranker", list(by_value), rows, signed=True))
    return Section(
        title=f"{comparison.title}{simulated}",
        note=comparison.note,
        plots=[differences_plot(differences, summary.main_metric, unit)],
        tables=tables,
    )


def _bucket_table(by_value: Mapping[str, ByRanker], summary: Summary, unit: str) -> Table:
    sizes = [max(interval.num_cases for interval in by_ranker.values()) for by_ranker in by_value.values()]
    columns = [f"{value} ({size:,})" for value, size in zip(by_value, sizes, strict=True)]
    return Table(f"{unit}; number of cases in brackets", "ranker", columns, _by_ranker(by_value, summary.ranked))


def _by_ranker(by_value: Mapping[str, ByRanker], rankers: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    """Turns value -> ranker -> figure into a row for each ranker."""
    return [(ranker, [by_ranker[ranker] for by_ranker in by_value.values()]) for ranker in rankers]


def _too_small(sizes: Mapping[str, int]) -> str:
    if not sizes:
        return ""
    named = ", ".join(f"{value} ({size})" for value, size in sizes.items())
    return f"Too few cases or shoppers for a mean: {named}."


def _method(summary: Summary, facts: RunFacts) -> str:
    simulated = " All engagement is simulated." if facts.simulated else ""
    return (
        "A case is a search after the training window, together with the clicks, carts and purchases that followed. A ranker sees only "
        "the events before the case. Recall, MRR and MAP count the products of the case's target event; NDCG@10 counts every product "
        "that was clicked (gain 1), put into the cart (2) or bought (3). Intervals are percentiles of "
        f"{summary.num_resamples:,} bootstrap resamples of shoppers (seed {summary.seed}). Differences are paired by case. There are "
        "many of them: even without any effect, about one in twenty intervals would exclude 0 by chance." + simulated
    )
