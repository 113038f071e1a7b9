"""A page of figures that needs nothing beside itself, and the same figures as JSON: what every report here is made of."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.bootstrap import Interval
from models.evaluation.run_facts import RunFacts

JSON_FILE, HTML_FILE = "report.json", "report.html"

Cell = Interval | float | int | str | None


@dataclass(frozen=True, slots=True)
class Table:
    """Figures in rows. Strings are shown to the left, numbers with three decimals."""

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]  # a name and as many cells as columns
    signed: bool = False  # differences: with their sign, bold where the interval does not hold 0

    def __post_init__(self) -> None:
        for name, cells in self.rows:
            if len(cells) != len(self.columns):
                raise ValueError(
                    f"row {name!r} of {self.caption!r} has {len(cells)} cells for {len(self.columns)} columns"
                )


@dataclass(frozen=True, slots=True)
class Section:
    """A title with what is to be known, plots (inline SVG) and tables under it."""

    title: str
    note: str = ""
    plots: Sequence[str] = ()
    tables: Sequence[Table] = ()


def write_sections(folder: Path, facts: RunFacts, finding: str, sections: Sequence[Section], method: str) -> Path:
    """Writes report.json and report.html into `folder`, made if need be, and returns the path of the latter.

    `finding` is the report in a few sentences, `method` how to read it; both are text, not markup. Where `facts.simulated`, every title,
    caption and the finding say so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "facts": facts.to_json(),
        "finding": finding,
        "sections": [
            {"title": one.title, "note": one.note, "tables": [asdict(each) for each in one.tables]} for one in sections
        ],
    }
    text = json.dumps(without_nan(values), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / JSON_FILE).write_text(text, encoding="utf-8")
    page = folder / HTML_FILE
    simulated = " (simulated)" if facts.simulated else ""
    parts = [
        head(facts, html.escape(finding + simulated)),
        *(section(one.title + simulated, _section_body(one, simulated)) for one in sections),
        section("How to read this", f"<p>{html.escape(method)}</p>"),
    ]
    page.write_text(html_page(facts.title, parts), encoding="utf-8")
    return page


def without_nan(value: Any) -> Any:
    """The same plain values; what cannot be told is None."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _section_body(one: Section, simulated: str) -> str:
    note = f"<p>{html.escape(one.note)}</p>" if one.note else ""
    plots = "".join(f"<figure>{plot}</figure>" for plot in one.plots)
    tables = "".join(
        table(
            html.escape(each.corner),
            each.columns,
            [(name, [cell(value, signed=each.signed) for value in cells]) for name, cells in each.rows],
            each.caption + simulated,
        )
        for each in one.tables
    )
    return note + plots + tables


def head(facts: RunFacts, finding: str) -> str:
    """What the report is about, what it found (markup) and how it came to be."""
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


def section(title: str, body: str) -> str:
    """`body` is markup."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def table(corner: str, columns: Sequence[str], rows: Iterable[tuple[str, list[str]]], caption: str) -> str:
    """Rows of a name and `<td>`s."""
    heads = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>" for name, cells in rows)
    return (
        f'<div class="wide"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr><th>{corner}</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def cell(value: Cell, *, signed: bool = False, percent: bool = False) -> str:
    """A `<td>`; what is not known is a dash."""
    if isinstance(value, str):
        return f'<td class="text">{html.escape(value)}</td>'
    if isinstance(value, int):
        return f"<td>{value:,}</td>"
    if isinstance(value, float):
        value = Interval(value, np.nan, np.nan, 0, 0)
    if value is None or not np.isfinite(value.value):
        return '<td class="muted">-</td>'
    form = ".0%" if percent else "+.3f" if signed else ".3f"
    shown = format(value.value, form)
    if signed and value.excludes_zero:
        shown = f"<strong>{shown}</strong>"
    if not np.isfinite(value.low):
        return f"<td>{shown}</td>"
    return f"<td>{shown}<small>{format(value.low, form)} to {format(value.high, form)}</small></td>"


def html_page(title: str, parts: Sequence[str]) -> str:
    return _PAGE.format(title=html.escape(title), style=_STYLE, body="\n".join(parts))


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
td.text { text-align: left; }
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
