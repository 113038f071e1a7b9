"""The figures of a benchmark, and the machine that it ran on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

VERSIONS = ("aisle", "ray", "grpcio", "openvino", "faiss-cpu", "numpy", "protobuf")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number: the median of its rounds, with the least and the greatest of them."""

    benchmark: str
    name: str
    unit: str
    rounds: tuple[float, ...]
    goal: str = ""  # for the reader
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass(slots=True)
class Figures:
    """All figures of a run."""

    command: str = field(default_factory=lambda: " ".join(sys.argv))
    figures: list[Figure] = field(default_factory=list)

    def add(
        self, benchmark: str, name: str, unit: str, rounds: Sequence[float], *, goal: str = "", note: str = ""
    ) -> None:
        self.figures.append(Figure(benchmark, name, unit, tuple(rounds), goal, note))

    def print(self, console: Console, benchmark: str) -> None:
        table = Table(title=benchmark, title_justify="left", box=None, pad_edge=False)
        for heading in ("figure", "median", "unit", "least", "greatest", "goal", "note"):
            table.add_column(heading, justify="right" if heading in ("median", "least", "greatest") else "left")
        for figure in self.figures:
            if figure.benchmark == benchmark:
                low, high = min(figure.rounds), max(figure.rounds)
                table.add_row(
                    figure.name,
                    _short(figure.median),
                    figure.unit,
                    _short(low),
                    _short(high),
                    figure.goal,
                    figure.note,
                )
        console.print(table)
        console.print()

    def write(self, path: Path) -> None:
        values = {
            "command": self.command,
            "machine": machine(),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "figures": [{**asdict(figure), "median": figure.median} for figure in self.figures],
        }
        path.write_text(json.dumps(values, indent=1), encoding="utf-8")


def machine() -> dict[str, str | int]:
    """Processor, cores and system."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
