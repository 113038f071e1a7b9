"""The result of a load test: latencies, errors by code, goodput."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

PERCENTILES = (50, 90, 95, 99, 99.9, 100)


@dataclass(slots=True)
class LoadReport:
    """Latencies are in milliseconds; in an open loop they count from the planned time."""

    seconds: float
    latencies_ms: list[float] = field(default_factory=list)  # of answered calls
    codes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)  # "CODE: message"
    late: int = 0  # answered, but after the deadline of a planned call
    refusals_ms: list[float] = field(default_factory=list)  # of calls that ended with RESOURCE_EXHAUSTED

    @property
    def calls(self) -> int:
        return sum(self.codes.values())

    @property
    def goodput(self) -> float:
        """Calls answered in time, a second."""
        return (self.codes["OK"] - self.late) / self.seconds if self.seconds else 0.0

    def percentile(self, q: float) -> float:
        """The q-th percentile of answered calls; not a number if there are none."""
        return float(np.percentile(self.latencies_ms, q)) if self.latencies_ms else float("nan")

    def refusal_percentile(self, q: float) -> float:
        """As `percentile`, of calls that ended with RESOURCE_EXHAUSTED."""
        return float(np.percentile(self.refusals_ms, q)) if self.refusals_ms else float("nan")

    def as_json(self) -> str:
        values = {
            "seconds": self.seconds,
            "codes": self.codes,
            "errors": self.errors,
            "late": self.late,
            "goodput": self.goodput,
            "percentiles": {str(q): self.percentile(q) if self.latencies_ms else None for q in PERCENTILES},
        }
        return json.dumps(values)

    def print(self, console: Console, title: str) -> None:
        table = Table(title=title, title_justify="left", box=None)
        for heading in ("calls", "answered/s", *(f"p{q:g} ms" if q < 100 else "max ms" for q in PERCENTILES), "codes"):
            table.add_column(heading, justify="right")
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.most_common())
        table.add_row(
            f"{self.calls:,}", f"{self.goodput:,.0f}", *(f"{self.percentile(q):.2f}" for q in PERCENTILES), codes
        )
        console.print(table)
        for error, count in self.errors.most_common(5):
            console.print(f"  {count:,} x {error}", highlight=False, markup=False)
