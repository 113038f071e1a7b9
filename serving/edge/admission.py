"""Who may call now: a fair share of what the stages can do in time, for each caller.

What is in progress is counted in costs, in which 1 is one ordinary search. A caller is a key, or an address where calls need no key.

How fast a stage is, is measured here, by the calls that end while many are in progress: a gateway knows the speed of its stages, but not
what the way to them costs. What the gateways say counts until then.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

COLD_COST = 512.0  # that a stage takes on before its speed is known
BURST_COST = 256.0  # that an idle stage takes on however long it may take: a frontend sends a hundred calls at once
# A call is admitted if its deadline leaves this many times the expected wait: an answer that comes too late was computed in place of one
# that would have been in time.
DEADLINE_MARGIN = 1.5
MIN_RETRY_S = 0.01
WINDOW_S = 0.1  # of one measurement of the speed
MAX_WINDOW_S = 2.0  # a call that costs much ends all at once: it takes that long to tell a slow stage from one that is at such a call
BUSY_COST = 16.0  # in progress at every moment of a measurement: with less, the callers may be what is slow
NEW_SHARE = 0.4  # of the latest measurement in the speed


@dataclass(slots=True)
class _Stage:
    speed: float = 0.0  # cost a second of all gateways; 0 until it is known
    measured: bool = False
    max_wait_s: float = 0.25
    in_progress: float = 0.0
    since_idle: float = 0.0  # cost that began since nothing was in progress
    window: float = 0.0  # when the measurement began
    ended: float = 0.0  # cost that ended in it
    least: float = 0.0  # cost in progress in it
    largest: float = 0.0  # cost that began at once since nothing was in progress

    def begin(self, cost: float) -> None:
        self.in_progress += cost
        self.since_idle += cost
        self.largest = max(self.largest, cost)

    def end(self, cost: float, now: float) -> None:
        self.in_progress -= cost
        self.ended += cost
        self.least = min(self.least, self.in_progress)
        if self.in_progress < 0.5:
            self.since_idle = self.largest = 0.0
        seconds = now - self.window
        if seconds >= (WINDOW_S if self.ended >= self.largest else MAX_WINDOW_S):
            speed = self.ended / seconds
            # A speed that was once measured too low would keep what is in progress too small to be measured again.
            if self.least >= BUSY_COST or (self.least >= 1 and 0 < self.speed < speed):
                self.speed += (NEW_SHARE if self.measured else 1.0) * (speed - self.speed)
                self.measured = True
            self.window, self.ended, self.least = now, 0.0, self.in_progress


@dataclass(slots=True)
class _Caller:
    calls: int = 0
    costs: dict[int, float] = field(default_factory=lambda: defaultdict(float))  # in progress by stage


class Admission:
    """Counts the cost in progress by stage and caller. Not thread-safe."""

    def __init__(self) -> None:
        self._stages: dict[int, _Stage] = defaultdict(_Stage)
        self._callers: dict[str, _Caller] = {}

    def set_speed(self, number: int, speed: float, max_wait_s: float) -> None:
        """Takes what the gateways say of a stage."""
        stage = self._stages[number]
        stage.max_wait_s = max_wait_s
        if not stage.measured:
            stage.speed = speed

    def wait_s(self, caller: str, stages: Sequence[int], remaining_s: float = math.inf) -> float | None:
        """Returns None if a call of this caller is admitted, else the seconds after which to try again.

        A call is refused if what is in progress would keep it waiting for longer than the stage allows or than its deadline. Callers take
        turns, so what one of them has in progress makes another wait no longer than if all had as much in progress as this one.
        """
        known = self._callers.get(caller)
        num_callers = len(self._callers) + (known is None)
        for number in stages:
            stage = self._stages[number]
            own = (known.costs[number] if known else 0.0) + 1.0
            ahead = min(stage.in_progress, own * num_callers)
            if not stage.speed:
                if ahead > COLD_COST:
                    return stage.max_wait_s
                continue
            wait_s = ahead / stage.speed
            is_long = wait_s > stage.max_wait_s and stage.since_idle > BURST_COST
            if is_long or DEADLINE_MARGIN * wait_s > remaining_s:
                return max(MIN_RETRY_S, wait_s - min(stage.max_wait_s, remaining_s) / 2)
        return None

    def begin(self, caller: str, stages: Sequence[int], cost: float) -> None:
        known = self._callers.setdefault(caller, _Caller())
        known.calls += 1
        for number in stages:
            self._stages[number].begin(cost)
            known.costs[number] += cost

    def change(self, caller: str, stages: Sequence[int], more: float) -> None:
        """Adds to the cost of a call in progress, once it is known."""
        for number in stages:
            self._stages[number].begin(more)
            self._callers[caller].costs[number] += more

    def end(self, caller: str, stages: Sequence[int], cost: float, now: float) -> None:
        known = self._callers[caller]
        known.calls -= 1
        for number in stages:
            self._stages[number].end(cost, now)
            known.costs[number] -= cost
        if not known.calls:
            del self._callers[caller]
