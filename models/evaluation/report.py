"""The report of an evaluation: one JSON file for programs, one HTML file for people, which needs nothing beside itself."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path

from models.evaluation.page import HTML_FILE, JSON_FILE, cell, head, html_page, section, table
from models.evaluation.plots import buckets_plot, differences_plot, overall_plot
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Differences, Summary

_BUCKET_TITLES = {
    "query": "By how often the query was asked in training",
    "shopper": "By what is known of the shopper",
    "product": "By whether the bought product was seen in training",
    "locale": "By locale",
}
_NAMES = {"mrr": "MRR", "map": "MAP"}


def write_report(folder: Path, summary: Summary, facts: RunFacts) -> Path:
    """Writes both files into `folder`, made if need be, and returns the path of the HTML one. Needs matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"facts": facts.to_json(), "summary": summary.to_json()}
    (folder / JSON_FILE).write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    page = folder / HTML_FILE
    page.write_text(html_report(summary, facts), encoding="utf-8")
    return page


def html_report(summary: Summary, facts: RunFacts) -> str:
    simulated = " (simulated)" if facts.simulated else ""
    unit = f"{metric_name(summary.main_metric)}{simulated}"
    parts = [
        head(facts, _finding(summary, simulated)),
        section(
            f"All cases{simulated}",
            f"<figure>{overall_plot(summary, unit)}</figure>" + _overall_table(summary, simulated),
        ),
        *(_comparison(one, summary, simulated, unit) for one in summary.differences),
        *(
            section(
                f"{_BUCKET_TITLES.get(dimension, f'By {dimension}')}{simulated}",
                f"<figure>{buckets_plot(by_value, summary, unit)}</figure>"
                + _bucket_table(dimension, summary, unit)
                + _too_small(summary.too_small.get(dimension, {})),
            )
            for dimension, by_value in summary.by_bucket.items()
            if by_value
        ),
        _method(summary, facts),
    ]
    return html_page(facts.title, parts)


def metric_name(metric: str) -> str:
    """ "recall@10" -> "Recall@10", "ndcg@10" -> "NDCG@10"."""
    name, _, at = metric.partition("@")
    full = {"recall": "Recall", "ndcg": "NDCG"}.get(name, _NAMES.get(name, name))
    return f"{full}@{at}" if at else full


def _finding(summary: Summary, simulated: str) -> str:
    """The report in two sentences."""
    text = f"{_named(summary, summary.subject)}{simulated}, over {summary.num_cases:,} cases of {summary.num_shoppers:,} shoppers. "
    if summary.others:
        text += f"The highest of {len(summary.others)} others: {_named(summary, summary.others[0])}{simulated}. "
    if summary.oracles:
        share = summary.share_of_oracle[summary.subject]
        text += f"{html.escape(summary.subject)} reaches {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of the oracle{simulated}."
    return text


def _named(summary: Summary, ranker: str) -> str:
    main = summary.main(ranker)
    name = f"<strong>{html.escape(ranker)}</strong>"
    return f"{name} has {metric_name(summary.main_metric)} {main.value:.3f} [{main.low:.3f}, {main.high:.3f}]"


def _overall_table(summary: Summary, simulated: str) -> str:
    has_oracle = bool(summary.oracles)
    columns = [*map(metric_name, summary.metrics), *(["share of oracle"] if has_oracle else []), "ms a case"]
    rows = []
    for ranker in summary.ranked:
        cells = [cell(summary.overall[ranker][metric]) for metric in summary.metrics]
        if has_oracle:
            cells.append(cell(summary.share_of_oracle.get(ranker), percent=True))
        rows.append((ranker, [*cells, f"<td>{summary.rank_ms[ranker]:.1f}</td>"]))
    caption = f"Means over all cases{simulated}, with 95 % intervals over shoppers"
    return table("ranker", columns, rows, caption)


def _comparison(differences: Differences, summary: Summary, simulated: str, unit: str) -> str:
    comparison = differences.comparison
    rows = [
        (ranker, [cell(differences.overall[ranker][metric], signed=True) for metric in summary.metrics])
        for ranker in comparison.rankers
    ]
    caption = (
        f"Minus {comparison.reference}, on the same cases{simulated}; bold where the 95 % interval does not hold 0"
    )
    body = f"<p>{html.escape(comparison.note)}</p>" if comparison.note else ""
    body += f"<figure>{differences_plot(differences, summary.main_metric, unit)}</figure>"
    body += table("ranker", [*map(metric_name, summary.metrics)], rows, caption)
    for dimension in ("shopper", "query"):
        if values := differences.by_bucket.get(dimension):
            rows = [
                (ranker, [cell(by_ranker[ranker], signed=True) for by_ranker in values.values()])
                for ranker in comparison.rankers
            ]
            body += table("ranker", list(values), rows, f"{unit}, difference by {dimension}")
    return section(f"{comparison.title}{simulated}", body)


def _bucket_table(dimension: str, summary: Summary, unit: str) -> str:
    values = summary.by_bucket[dimension]
    sizes = [max(one.num_cases for one in by_ranker.values()) for by_ranker in values.values()]
    columns = [f"{value} ({size:,})" for value, size in zip(values, sizes, strict=True)]
    rows = [(ranker, [cell(by_ranker[ranker]) for by_ranker in values.values()]) for ranker in summary.ranked]
    return table("ranker", columns, rows, f"{unit}; number of cases in brackets")


def _too_small(values: Mapping[str, int]) -> str:
    if not values:
        return ""
    named = ", ".join(f"{value} ({size})" for value, size in values.items())
    return f'<p class="muted">Too few cases or shoppers for a mean: {html.escape(named)}.</p>'


def _method(summary: Summary, facts: RunFacts) -> str:
    simulated = " All engagement is simulated." if facts.simulated else ""
    text = (
        "A case is a search after the training window with what it led to; the events before it are all that a ranker may know. Recall, "
        "MRR and MAP count the products of the case's target, NDCG@10 all that was clicked (1), put into the cart (2) or bought (3). "
        f"Intervals are percentiles of {summary.num_resamples:,} bootstrap resamples of shoppers (seed {summary.seed}); differences are "
        f"paired by case. Differences are many, so one of twenty would leave 0 by chance.{simulated}"
    )
    return section("How to read this", f"<p>{text}</p>")
