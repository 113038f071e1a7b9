"""The facts of an evaluation run that its report states, so that a reader can repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

_VERSIONS = ("aisle", "numpy", "faiss-cpu", "torch", "bm25s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The head of a report. If `simulated`, a program invented the shoppers, and every heading of the report says so."""

    title: str
    simulated: bool
    command: str
    data: Mapping[str, Any]  # sizes and names: products, events, cases ...
    recipe: Mapping[str, Any]
    seeds: Mapping[str, int]
    versions: Mapping[str, str]
    machine: str
    created: str  # ISO 8601, UTC
    notes: Sequence[str] = field(default_factory=tuple)

    @classmethod
    def of_this_run(
        cls,
        title: str,
        *,
        simulated: bool,
        command: str,
        data: Mapping[str, Any],
        recipe: Mapping[str, Any] | None = None,
        seeds: Mapping[str, int] | None = None,
        notes: Sequence[str] = (),
    ) -> RunFacts:
        """Returns the facts with this process's versions, machine and time."""
        return cls(
            title=title,
            simulated=simulated,
            command=command,
            data=data,
            recipe=recipe or {},
            seeds=seeds or {},
            versions={"python": platform.python_version(), **_installed()},
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            notes=notes,
        )

    def shown(self) -> dict[str, str]:
        """Returns what the head of the page lists, by name."""
        return {
            **{name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in self.data.items()},
            "seeds": ", ".join(f"{name} {seed}" for name, seed in self.seeds.items()) or "none",
            "command": self.command,
            "made": f"{self.created}, {self.machine}",
            "versions": ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _installed() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
