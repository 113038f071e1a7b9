"""How a report came to be: what a reader needs to repeat it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

_VERSIONS = ("aisle", "numpy", "faiss-cpu", "torch", "bm25s")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The head of a report. `simulated` says that shoppers were made up: every figure then says so."""

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
        """With the versions, the machine and the time of now."""
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
