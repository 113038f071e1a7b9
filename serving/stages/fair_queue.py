"""A queue in which callers take turns by cost, and the items of one caller by their deadlines.

Start-time fair queueing: each caller has a clock that runs on by the cost of what it is given, and whose clock is behind is next. So a
caller that queues thousands of items delays another's by one turn, not by thousands.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What is queued. One that is no longer `queued` was taken or given up."""

    caller: str
    cost: int
    deadline: float
    queued: bool


Entry = TypeVar("Entry", bound=Queued)


@dataclass(slots=True)
class _Line(Generic[Entry]):
    """The items of one caller."""

    clock: float
    cost: int = 0
    items: int = 0
    heap: list[tuple[float, int, Entry]] = field(default_factory=list)  # may hold items that are given up


class FairQueue(Generic[Entry]):
    """`cost` and `items` count what is queued; what a caller has given up counts no more."""

    def __init__(self) -> None:
        self.cost = 0
        self.items = 0
        self._lines: dict[str, _Line[Entry]] = {}
        self._turns: list[tuple[float, int, str]] = []  # by clock; one for each line
        self._clock = 0.0  # of the turn that came last
        self._order = itertools.count()

    def push(self, entry: Entry) -> None:
        line = self._lines.get(entry.caller)
        if line is None:
            line = self._lines[entry.caller] = _Line(self._clock)
            heapq.heappush(self._turns, (line.clock, next(self._order), entry.caller))
        heapq.heappush(line.heap, (entry.deadline, next(self._order), entry))
        line.cost += entry.cost
        line.items += 1
        self.cost += entry.cost
        self.items += 1

    def give_up(self, entry: Entry) -> None:
        """Takes an item out wherever it stands."""
        self._leave(self._lines[entry.caller], entry)
        line = self._lines[entry.caller]
        if len(line.heap) > 2 * line.items + 64:
            line.heap = [row for row in line.heap if row[2].queued]
            heapq.heapify(line.heap)

    def next(self) -> Entry | None:
        """Returns the item whose turn it is, and leaves it queued; None if there is none."""
        while self._turns:
            clock, _, caller = self._turns[0]
            line = self._lines[caller]
            while line.heap and not line.heap[0][2].queued:
                heapq.heappop(line.heap)
            if line.heap:
                self._clock = max(self._clock, clock)
                return line.heap[0][2]
            heapq.heappop(self._turns)
            del self._lines[caller]
        return None

    def pop(self) -> Entry:
        """Takes the item that `next` has returned."""
        clock, _, caller = self._turns[0]
        line = self._lines[caller]
        entry = heapq.heappop(line.heap)[2]
        self._leave(line, entry)
        line.clock = clock + entry.cost
        heapq.heapreplace(self._turns, (line.clock, next(self._order), caller))
        return entry

    def ahead_of(self, caller: str, cost: int) -> int:
        """Returns the queued cost that would be taken before an item of this cost that the caller queued now."""
        line = self._lines.get(caller)
        own = (line.cost if line else 0) + cost
        return min(self.cost, own * (len(self._lines) + (line is None)))

    def __iter__(self) -> Iterator[Entry]:
        return (row[2] for line in self._lines.values() for row in line.heap if row[2].queued)

    def _leave(self, line: _Line[Entry], entry: Entry) -> None:
        entry.queued = False
        line.cost -= entry.cost
        line.items -= 1
        self.cost -= entry.cost
        self.items -= 1
