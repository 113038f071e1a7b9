"""A report: one self-contained HTML page for people and the same figures as JSON for programs. `page.html.j2` is the page's template."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.evaluation.bootstrap import Interval
from models.evaluation.run_facts import RunFacts

JSON_FILE, HTML_FILE = "report.json", "report.html"
TEMPLATE = "page.html.j2"

Cell = Interval | float | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCell:
    """A cell as the page shows it."""

    value: str
    interval: str = ""  # "0.1 to 0.2"; "" for a figure without an interval
    css: str = ""
    is_strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of figures. Strings are left-aligned; figures have three decimals unless `formats` says otherwise."""

    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]  # a name and as many cells as columns
    signed: bool = False  # differences: shown with their sign, bold where the interval excludes 0
    formats: Mapping[str, str] = field(default_factory=dict)  # column -> format specification, as ".0%"

    def __post_init__(self) -> None:
        for name, cells in self.rows:
            if len(cells) != len(self.columns):
                raise ValueError(
                    f"row {name!r} of {self.caption!r} has {len(cells)} cells for {len(self.columns)} columns"
                )

    def shown_rows(self) -> Iterator[tuple[str, list[ShownCell]]]:
        """Yields each row's name and cells as text."""
        usual = "+.3f" if self.signed else ".3f"
        formats = [self.formats.get(column, usual) for column in self.columns]
        for name, cells in self.rows:
            yield (
                name,
                [_shown(cell, form, signed=self.signed) for cell, form in zip(cells, formats, strict=True)],
            )

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, without how they are shown."""
        values = asdict(self)
        del values["formats"]
        return values


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a note, plots (inline SVG) and tables, in this order."""

    title: str
    note: str = ""
    plots: Sequence[str] = ()
    tables: Sequence[Table] = ()
    footnote: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "note": self.note, "tables": [table.to_json() for table in self.tables]}


def write_sections(
    folder: Path,
    facts: RunFacts,
    finding: str,
    sections: Sequence[Section],
    method: str,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Writes report.json and report.html into `folder`, which is created if missing, and returns the path of the HTML file.

    `more` are further values of report.json. `finding` is the result in a few sentences, `method` explains how to read the figures; both
    are plain text. If `facts.simulated`, the finding and every title and caption say so.
    """
    values = {"facts": facts.to_json(), "finding": finding, "sections": [section.to_json() for section in sections]}
    values |= more or {}
    if facts.simulated:
        finding = f"{finding} (simulated)"
        sections = [_marked_simulated(section) for section in sections]
    return write_report_files(folder, values, render_page(facts, finding, sections, method))


def write_report_files(folder: Path, values: Mapping[str, Any], page: str) -> Path:
    """Writes `values` as JSON, with null for NaN, and `page` as HTML, and returns the path of the HTML file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(values), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / JSON_FILE).write_text(text, encoding="utf-8")
    path = folder / HTML_FILE
    path.write_text(page, encoding="utf-8")
    return path


def render_page(facts: RunFacts, finding: str, sections: Sequence[Section], method: str) -> str:
    """Returns the HTML page. All text is escaped, except Markup in `finding`; plots are taken as they are."""
    template = _environment().get_template(TEMPLATE)
    return template.render(facts=facts, finding=finding, sections=sections, method=method)


def without_nan(value: Any) -> Any:
    """Returns the same plain values, with None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tojson_indented"] = lambda value: json.dumps(value, indent=1)
    return environment


def _marked_simulated(section: Section) -> Section:
    tables = [dataclasses.replace(table, caption=f"{table.caption} (simulated)") for table in section.tables]
    return dataclasses.replace(section, title=f"{section.title} (simulated)", tables=tables)


def _shown(cell: Cell, form: str, *, signed: bool) -> ShownCell:
    if isinstance(cell, str):
        return ShownCell(value=cell, css="text")
    if isinstance(cell, int):
        return ShownCell(value=f"{cell:,}")
    if isinstance(cell, float):
        cell = Interval(cell, np.nan, np.nan, 0, 0)
    if cell is None or not np.isfinite(cell.value):
        return ShownCell(value="-", css="muted")
    has_interval = np.isfinite(cell.low)
    return ShownCell(
        value=format(cell.value, form),
        interval=f"{cell.low:{form}} to {cell.high:{form}}" if has_interval else "",
        is_strong=signed and cell.excludes_zero,
    )
