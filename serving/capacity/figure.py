"""A number of a plan, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Origin = Literal["measured", "extrapolated", "assumed", "stated"]


@dataclass(frozen=True, slots=True)
class Figure:
    """measured: by a run that `source` names, with its machine. extrapolated: from such a figure, in the way that `source` says. assumed:
    chosen without a measurement. stated: by an option."""

    name: str
    value: float
    unit: str
    origin: Origin
    source: str


class Figures:
    """What a plan reads, each figure once, in the order in which it was needed."""

    def __init__(self, known: Iterable[Figure]) -> None:
        self._known = {figure.name: figure for figure in known}
        self._read: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> float:
        return self._note(self._known[name])

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._read.values())

    def derive(self, name: str, value: float, unit: str, source: str) -> float:
        """Notes what follows from figures beyond what was measured, and returns it."""
        return self._note(Figure(name, value, unit, "extrapolated", source))

    def _note(self, figure: Figure) -> float:
        self._read[figure.name] = figure
        return figure.value
