"""When calls are sent: stages of a constant or a changing rate, with Poisson times, or a closed loop."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of load. `rate` is in calls a second; it changes evenly to `to`, where that is stated."""

    name: str
    seconds: float
    rate: float
    to: float | None = None

    @property
    def end_rate(self) -> float:
        return self.rate if self.to is None else self.to

    @property
    def expected_calls(self) -> float:
        return self.seconds * (self.rate + self.end_rate) / 2

    def time_of(self, calls: float) -> float:
        """Returns the second in which `calls` are expected to have been sent; infinity if there are never so many."""
        slope = (self.end_rate - self.rate) / self.seconds
        if calls > self.expected_calls:
            return math.inf
        if abs(slope) < 1e-9:
            return calls / self.rate if self.rate else math.inf
        root = max(0.0, self.rate * self.rate + 2 * slope * calls)
        return (math.sqrt(root) - self.rate) / slope


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages that follow each other. With `concurrency` a closed loop of so many callers for the time of the stages, which says how much
    there is to be had and nothing of latencies."""

    stages: tuple[Stage, ...]
    concurrency: int = 0

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def max_rate(self) -> float:
        return max(max(stage.rate, stage.end_rate) for stage in self.stages)

    def share(self, workers: int) -> Plan:
        """Returns the part of one of so many workers: Poisson streams add up to a Poisson stream."""
        parts = tuple(
            replace(stage, rate=stage.rate / workers, to=None if stage.to is None else stage.to / workers)
            for stage in self.stages
        )
        return Plan(parts, math.ceil(self.concurrency / workers))


def planned_times(stages: Sequence[Stage], seed: int) -> Iterator[tuple[float, int]]:
    """Yields the seconds from the start and the stage of each call: a Poisson process of the stages' rate."""
    rng = random.Random(seed)
    start = 0.0
    for number, stage in enumerate(stages):
        calls = 0.0
        while True:
            calls += rng.expovariate(1.0)
            at = stage.time_of(calls)
            if at > stage.seconds:
                break
            yield start + at, number
        start += stage.seconds
