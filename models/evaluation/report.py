"""The report of an evaluation: one JSON file for programs, one HTML file for people, which needs nothing beside itself."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.plots import buckets_plot, differences_plot, overall_plot
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Differences, Summary

JSON_FILE, HTML_FILE = "report.json", "report.html"

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
        _head(summary, facts),
        _section(
            f"All cases{simulated}",
            f"<figure>{overall_plot(summary, unit)}</figure>" + _overall_table(summary, simulated),
        ),
        *(_comparison(one, summary, simulated, unit) for one in summary.differences),
        *(
            _section(
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
    return _PAGE.format(title=html.escape(facts.title), style=_STYLE, body="\n".join(parts))


def metric_name(metric: str) -> str:
    """ "recall@10" -> "Recall@10", "ndcg@10" -> "NDCG@10"."""
    name, _, at = metric.partition("@")
    full = {"recall": "Recall", "ndcg": "NDCG"}.get(name, _NAMES.get(name, name))
    return f"{full}@{at}" if at else full


def _head(summary: Summary, facts: RunFacts) -> str:
    simulated = " (simulated)" if facts.simulated else ""
    finding = _finding(summary, simulated)
    warning = (
        '<p class="warning">Simulated engagement: shoppers, clicks and purchases were made up by a program. No figure here says how '
        "well search works for real shoppers.</p>"
        if facts.simulated
        else ""
    )
    pairs = {
        **{name: _shown(value) for name, value in facts.data.items()},
        "seeds": ", ".join(f"{name} {seed}" for name, seed in facts.seeds.items()) or "none",
        "command": facts.command,
        "made": f"{facts.created}, {facts.machine}",
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
    }
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in pairs.items())
    recipe = (
        f"<details><summary>Recipe</summary><pre>{html.escape(json.dumps(facts.recipe, indent=1))}</pre></details>"
        if facts.recipe
        else ""
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in facts.notes)
    return (
        f"<header><h1>{html.escape(facts.title)}</h1>{warning}<p>{finding}</p>{notes}<dl>{rows}</dl>{recipe}</header>"
    )


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
        cells = [_cell(summary.overall[ranker][metric]) for metric in summary.metrics]
        if has_oracle:
            cells.append(_cell(summary.share_of_oracle.get(ranker), percent=True))
        rows.append((ranker, [*cells, f"<td>{summary.rank_ms[ranker]:.1f}</td>"]))
    caption = f"Means over all cases{simulated}, with 95 % intervals over shoppers"
    return _table("ranker", columns, rows, caption)


def _comparison(differences: Differences, summary: Summary, simulated: str, unit: str) -> str:
    comparison = differences.comparison
    rows = [
        (ranker, [_cell(differences.overall[ranker][metric], signed=True) for metric in summary.metrics])
        for ranker in comparison.rankers
    ]
    caption = (
        f"Minus {comparison.reference}, on the same cases{simulated}; bold where the 95 % interval does not hold 0"
    )
    body = f"<p>{html.escape(comparison.note)}</p>" if comparison.note else ""
    body += f"<figure>{differences_plot(differences, summary.main_metric, unit)}</figure>"
    body += _table("ranker", [*map(metric_name, summary.metrics)], rows, caption)
    for dimension in ("shopper", "query"):
        if values := differences.by_bucket.get(dimension):
            rows = [
                (ranker, [_cell(by_ranker[ranker], signed=True) for by_ranker in values.values()])
                for ranker in comparison.rankers
            ]
            body += _table("ranker", list(values), rows, f"{unit}, difference by {dimension}")
    return _section(f"{comparison.title}{simulated}", body)


def _bucket_table(dimension: str, summary: Summary, unit: str) -> str:
    values = summary.by_bucket[dimension]
    sizes = [max(one.num_cases for one in by_ranker.values()) for by_ranker in values.values()]
    columns = [f"{value} ({size:,})" for value, size in zip(values, sizes, strict=True)]
    rows = [(ranker, [_cell(by_ranker[ranker]) for by_ranker in values.values()]) for ranker in summary.ranked]
    return _table("ranker", columns, rows, f"{unit}; number of cases in brackets")


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
    return _section("How to read this", f"<p>{text}</p>")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _table(corner: str, columns: Sequence[str], rows: Iterable[tuple[str, list[str]]], caption: str) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>" for name, cells in rows)
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr><th>{corner}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(interval: Interval | None, *, signed: bool = False, percent: bool = False) -> str:
    if interval is None or not np.isfinite(interval.value):
        return '<td class="muted">-</td>'
    form = ".0%" if percent else "+.3f" if signed else ".3f"
    value = format(interval.value, form)
    if signed and interval.excludes_zero:
        value = f"<strong>{value}</strong>"
    if not np.isfinite(interval.low):
        return f"<td>{value}</td>"
    return f"<td>{value}<small>{format(interval.low, form)} to {format(interval.high, form)}</small></td>"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #fff; max-width: 60rem; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .8rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
header p { font-size: 1.05rem; }
.warning { background: #fdf3dc; border-left: 4px solid #d1a31f; padding: .5rem .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .85rem; color: #445160; margin: 1.2rem 0; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .8rem 0 1.4rem; }
caption { text-align: left; color: #5c6b77; padding-bottom: .4rem; }
th { font-weight: 600; text-align: left; white-space: nowrap; }
th, td { padding: .35rem 1rem .35rem 0; border-bottom: 1px solid #e3e7eb; vertical-align: top; }
thead th { border-bottom: 1px solid #8a949e; }
td, thead th:not(:first-child) { text-align: right; }
td small { display: block; color: #7b8794; font-size: .72rem; white-space: nowrap; }
.muted { color: #7b8794; }
figure { margin: .6rem 0; }
figure svg { max-width: 100%; height: auto; }
pre { font-size: .75rem; overflow-x: auto; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""
