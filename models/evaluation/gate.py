"""The gate of a release: figures of a report that a new bundle must reach before it replaces the one that stands.

A report names its figures, see METRICS, and keeps them in report.json under "figures". "search" is what a search returns as it is served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.evaluation.bootstrap import Interval
from models.evaluation.page import without_nan
from models.evaluation.whole_catalogue import SEARCH_METRICS
from models.ranking.tasks import TASKS

SEARCH, VECTORS, PAGES, TYPES = "search", "vectors", "ranking", "types"
BEFORE = "before"
METRICS = (
    *(f"{SEARCH}.{metric}" for metric in SEARCH_METRICS),
    *(f"{VECTORS}.{metric}" for metric in SEARCH_METRICS),
    *(f"{PAGES}.{task}.ndcg@10" for task in TASKS),
    f"{TYPES}.accuracy@1",
    f"{TYPES}.accuracy@3",
)


class GateError(InputError):
    """A condition that no report can tell about; the message names the metrics that there are."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the new bundle, and how much it is above that of the bundle before on the same pages; None without one."""

    value: Interval
    difference: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        difference = None if self.difference is None else asdict(self.difference)
        return dict(without_nan({**asdict(self.value), "minus_before": difference}))


@dataclass(frozen=True, slots=True)
class Gate:
    """`least` has the least value of each metric. With `not_worse` no figure of what shoppers get, searches and shown pages, may be below
    that of the bundle before by its whole interval. Vectors alone are a part of a search: a loss that the search does not show is none."""

    least: Mapping[str, float]
    not_worse: bool = False

    @classmethod
    def parse(cls, conditions: Sequence[str]) -> Gate:
        """Reads "METRIC=VALUE" and "before". Raises GateError."""
        least: dict[str, float] = {}
        for condition in conditions:
            if condition == BEFORE:
                continue
            name, _, stated = condition.partition("=")
            if name not in METRICS:
                raise GateError(
                    f"{condition!r} is no condition: give {BEFORE!r}, or METRIC=VALUE with one of {', '.join(METRICS)}"
                )
            try:
                least[name] = float(stated)
            except ValueError:
                least[name] = -1.0
            if not 0 <= least[name] <= 1:
                raise GateError(f"{condition!r}: the value of {name} must be a number from 0 to 1, as in {name}=0.2")
        return cls(least, BEFORE in conditions)

    @property
    def is_open(self) -> bool:
        """Says whether there is no condition."""
        return not self.least and not self.not_worse

    def missed(self, report: Path) -> list[str]:
        """Returns what a report.json misses, in words; nothing where it meets every condition. What was not measured is missed."""
        figures = json.loads(report.read_text(encoding="utf-8"))["figures"]
        missed = []
        for name, least in self.least.items():
            value = figures[name]["value"] if name in figures else None
            if value is None:
                missed.append(f"{name} was not measured, and must be at least {least:g}")
            elif value < least:
                missed.append(f"{name} is {value:.3f}, and must be at least {least:g}")
        for name, figure in figures.items() if self.not_worse else ():
            difference = figure["minus_before"]
            if name.startswith(f"{VECTORS}."):
                continue
            if difference is not None and difference["high"] is not None and difference["high"] < 0:
                by = f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
                missed.append(f"{name} is {figure['value']:.3f}, {by} compared with the bundle before")
        return missed


OPEN = Gate({})
