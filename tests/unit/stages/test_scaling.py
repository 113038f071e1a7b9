"""What decides how many replicas a stage has: the rates of a gateway, how loads of several add up, and the policy, tick by tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from serving.errors import Overloaded
from serving.stages.batcher import Batcher
from serving.stages.scaling import (
    CONFIRM_S,
    HOLD_S,
    MAX_GROWTH,
    SETTLE_S,
    DemandPolicy,
    GatewayLoad,
    HeardLoads,
    LoadMeter,
    TotalLoad,
    total_load,
)
from tests.fake_clock import FakeClock

TARGET_MS, COOL_DOWN_S, TICK_S = 20.0, 30.0, 0.1
SPEED = 100.0  # of one simulated replica


@dataclass
class Deployment:
    """A simulated deployment whose replicas start in `start_s`. Below its capacity queues are fresh, above it they are old."""

    policy: DemandPolicy = field(default_factory=lambda: DemandPolicy(TARGET_MS, COOL_DOWN_S))
    most: int = 8
    start_s: float = 4.0
    now: float = 1000.0
    target: int = 1
    live: int = 1
    due: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def run(self, seconds: float, offered: float, *, speed: float = SPEED, age_ms: float | None = None) -> list[int]:
        """Returns the changes of the target in a time of constant load. `age_ms` replaces the age that follows from the load."""
        changes = []
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            self.live += sum(at <= self.now for at in self.due)
            self.due = [at for at in self.due if at > self.now]
            capacity = speed * self.live
            age = (200.0 if offered > capacity else 0.0) if age_ms is None else age_ms
            target = self.decide(TotalLoad(age, offered, min(offered, capacity)))
            target = min(max(target, 1), self.most)
            if target != self.target:
                changes.append(target)
                self.due += [self.now + self.start_s] * (target - self.target)
                self.live -= max(0, self.target - target)
                self.target = target
        return changes

    def decide(self, load: TotalLoad) -> int:
        context: Any = SimpleNamespace(
            target_num_replicas=self.target,
            current_num_replicas=self.live,
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=self.most,
        )
        return self.policy.decide(context, load, self.now)


def test_a_step_of_the_load_asks_at_once_for_all_that_it_needs() -> None:
    stage = Deployment()
    assert stage.run(10, 0.85 * SPEED) == []
    before = stage.now
    changes: list[int] = []
    while not changes:
        changes = stage.run(TICK_S, 3 * 0.85 * SPEED)
    assert changes == [4]  # 2.55 / UTILISATION
    assert stage.now - before <= CONFIRM_S + 2 * TICK_S
    assert stage.run(60, 3 * 0.85 * SPEED) == []


def test_a_short_stall_adds_no_replica() -> None:
    stage = Deployment()
    assert stage.run(CONFIRM_S - 2 * TICK_S, 0.5 * SPEED, age_ms=500) == []
    assert stage.run(5, 0.5 * SPEED) == []


def test_bounds_hold() -> None:
    stage = Deployment(most=3)
    assert stage.run(30, 50 * SPEED) == [3]
    assert stage.run(2 * COOL_DOWN_S + 1, 0) == [1]
    assert stage.run(2 * COOL_DOWN_S, 0) == []


def test_refused_callers_who_come_again_do_not_fill_the_cluster_at_once() -> None:
    stage = Deployment(most=64)
    stage.run(10, 0.5 * SPEED)
    assert stage.run(3, 1000 * SPEED) == [MAX_GROWTH]


def test_a_queue_that_stands_although_the_rates_say_enough_adds_one_at_a_time() -> None:
    stage = Deployment()
    changes = stage.run(2 * (stage.start_s + SETTLE_S) + 1, 0.1 * SPEED, age_ms=200)
    assert changes == [2, 3]


@pytest.mark.parametrize("part", [0.3, 0.85, 0.99, 1.4, 2.2, 2.9, 3.3, 5.5])
def test_no_constant_load_makes_the_number_turn_around(part: float) -> None:
    stage = Deployment()
    stage.run(20, 3 * SPEED)
    changes = stage.run(20 * COOL_DOWN_S, part * SPEED)
    assert changes == sorted(changes) or changes == sorted(changes, reverse=True)
    assert len(changes) <= 2
    assert part <= stage.target


def test_the_cool_down_is_kept_and_leaves_what_was_needed_in_it() -> None:
    stage = Deployment()
    stage.run(20, 5 * SPEED)
    assert (stage.target, stage.live) == (7, 7)
    assert stage.run(COOL_DOWN_S - 5, 0.2 * SPEED) == []
    assert stage.run(2, 2 * SPEED) == []  # a last wave
    assert stage.run(4, 0.2 * SPEED) == [3]
    assert stage.run(COOL_DOWN_S + 1, 0.2 * SPEED) == [1]


def test_without_a_known_need_one_replica_at_a_time_is_given_up() -> None:
    """As after a restart of the controller, which knows nothing of the stage's speed."""
    stage = Deployment(target=4, live=4)
    assert stage.run(2 * COOL_DOWN_S + 2, 0.5 * SPEED) == [3, 2]


def test_a_lost_replica_is_no_reason_to_ask_for_more_or_fewer() -> None:
    stage = Deployment()
    stage.run(20, 2 * SPEED)
    assert stage.target == 3
    stage.live, stage.due = 1, [stage.now + 4, stage.now + 4]  # Serve replaces them
    assert stage.run(10, 2 * SPEED) == []
    assert stage.run(3 * COOL_DOWN_S, 2 * SPEED) == []


def test_slower_replicas_are_noticed() -> None:
    stage = Deployment()
    stage.run(20, 2 * SPEED)
    stage.run(20, 2 * SPEED, speed=SPEED / 2)
    assert stage.target == 6


def series(value: float, at: float = 1000.0) -> list[SimpleNamespace]:
    return [SimpleNamespace(timestamp=at - 1, value=-1.0), SimpleNamespace(timestamp=at, value=value)]


def reported(by_replica: dict[str, Sequence[GatewayLoad]], at: float = 1000.0) -> dict[str, dict[str, Any]]:
    metrics: dict[str, dict[str, Any]] = {}
    for replica, loads in by_replica.items():
        heard = HeardLoads(FakeClock())
        for load in loads:
            heard.hear(load)
        for key, value in heard.stats().items():
            metrics.setdefault(key, {})[replica] = series(value, at)
    return metrics


def test_loads_of_gateways_add_up_and_the_newest_of_each_counts() -> None:
    metrics = reported(
        {
            "a": [GatewayLoad("east", 7, 90, 500, 80), GatewayLoad("west", 3, 5, 40, 40)],
            "b": [GatewayLoad("east", 8, 30, 400, 60)],
        }
    )
    assert total_load(metrics, 1001.0) == TotalLoad(30, 440, 100)
    assert total_load(metrics, 1000.0 + 2 * HOLD_S) == TotalLoad(0, 0, 0)  # of a replica that reports no more
    assert total_load({}, 1000.0) == TotalLoad(0, 0, 0)


def test_a_replica_forgets_older_batches_and_gateways_that_are_gone() -> None:
    clock = FakeClock()
    heard = HeardLoads(clock)
    heard.hear(GatewayLoad("east", 2, 10, 20, 30))
    heard.hear(GatewayLoad("east", 1, 99, 99, 99))  # came over a slower way
    assert heard.stats() == {
        "east:number": 2,
        "east:queue_age_ms": 10,
        "east:offered_per_s": 20,
        "east:answered_per_s": 30,
    }
    clock.now += HOLD_S + 0.1
    assert heard.stats() == {}


async def test_a_gateway_counts_what_is_refused_as_offered_and_rates_are_of_the_last_second() -> None:
    clock, gate = FakeClock(), asyncio.Event()

    async def compute(items: list[int]) -> list[int]:
        await gate.wait()
        clock.now += 0.5
        return items

    batcher: Batcher[int, int] = Batcher(compute, max_batch_cost=8, max_wait_s=0.1, clock=clock)
    meter = LoadMeter(batcher, clock)
    calls = submitted(batcher, range(40))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)
    load = meter.of_batch()
    assert (load.offered_per_s, load.answered_per_s) == pytest.approx((40 / 2.5, 40 / 2.5))  # five batches
    gate.clear()
    clock.now += 5
    meter.read()
    clock.now += 1
    calls = submitted(batcher, range(200))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    refused = sum(call.done() and isinstance(call.exception(), Overloaded) for call in calls)
    load = meter.of_batch()
    assert refused > 0
    assert load.offered_per_s == pytest.approx(200)
    assert load.answered_per_s == 0
    gate.set()
    await asyncio.gather(*calls, return_exceptions=True)


def submitted(batcher: Batcher[int, int], numbers: Iterable[int]) -> list[asyncio.Future[Any]]:
    return [asyncio.ensure_future(batcher.submit(number)) for number in numbers]
