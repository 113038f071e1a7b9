"""The batcher's promises, as its docstring states them."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DeadlineExceeded, Overloaded, Unavailable
from serving.stages.batcher import BURST_BATCHES, SHORT_QUEUE_ITEMS, STALE_S, Batcher, Outcome
from tests.fake_clock import FakeClock


@dataclass
class FakeStage:
    """Answers each number with its double. A batch takes `seconds` of `clock`, whatever its size, and no real time."""

    seconds: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)
    gate: asyncio.Event | None = None  # set: no batch ends before it opens
    poison: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    batches: list[list[int]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.batches.append(list(items))
        try:
            await asyncio.sleep(0)
            if self.gate:
                await self.gate.wait()
            self.clock.now += self.seconds
            if self.poison & set(items):
                raise ValueError("this batch cannot be computed")
            return [KeyError(item) if item in self.broken else 2 * item for item in items]
        finally:
            self.in_flight -= 1


def batcher_of(stage: FakeStage, **options: Any) -> Batcher[int, int]:
    return Batcher(stage, clock=stage.clock, **options)


def queue(batcher: Batcher[int, int], numbers: Iterable[int], **options: Any) -> list[asyncio.Future[Outcome[int]]]:
    return [asyncio.ensure_future(batcher.submit(n, **options)) for n in numbers]


async def until(condition: Callable[[], object]) -> None:
    """Lets the event loop turn until the condition holds."""
    while not condition():  # noqa: ASYNC110 - no event says that something is queued
        await asyncio.sleep(0)


async def keep_busy(batcher: Batcher[int, int], stage: FakeStage) -> asyncio.Future[Outcome[int]]:
    """Returns an item whose batch the stage computes until its gate opens."""
    stage.gate = asyncio.Event()
    busy = asyncio.ensure_future(batcher.submit(-1))
    await until(lambda: stage.in_flight)
    return busy


async def test_an_idle_stage_gets_an_item_at_once_and_alone() -> None:
    stage = FakeStage()
    outcome = await Batcher(stage, max_batch_cost=8).submit(21)
    assert (outcome.value, outcome.batch_size, stage.batches) == (42, 1, [[21]])


async def test_what_queues_while_the_stage_is_busy_leaves_in_one_batch() -> None:
    stage = FakeStage()
    batcher = batcher_of(stage, max_batch_cost=100)
    first = await keep_busy(batcher, stage)
    rest = queue(batcher, range(1, 21))
    await until(lambda: batcher.stats().queued_items == 20)
    stage.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in stage.batches] == [1, 20]


async def test_what_arrives_in_one_turn_of_the_loop_shares_a_batch() -> None:
    stage = FakeStage()
    batcher = Batcher(stage, max_batch_cost=100)
    await asyncio.gather(*(batcher.submit(n) for n in range(10)))
    assert [len(batch) for batch in stage.batches] == [10]


@settings(max_examples=60)
@given(
    costs=st.lists(st.integers(1, 16), min_size=1, max_size=60),
    budget=st.integers(15, 64),
    slots=st.integers(1, 4),
    poison=st.sets(st.integers(0, 59), max_size=4),
    broken=st.sets(st.integers(0, 59), max_size=4),
)
def test_every_item_is_answered_once_with_its_own_outcome_within_the_budget(
    costs: list[int], budget: int, slots: int, poison: set[int], broken: set[int]
) -> None:
    stage = FakeStage(poison=frozenset(poison), broken=frozenset(broken))

    async def run() -> list[object]:
        batcher = Batcher(stage, max_batch_cost=budget, slots=lambda: slots, max_wait_s=math.inf)
        calls = [batcher.submit(n, cost=cost) for n, cost in enumerate(costs)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(run())
    for n, answer in enumerate(answers):
        if n in poison:
            assert isinstance(answer, ValueError)
        elif n in broken:
            assert isinstance(answer, KeyError)
        else:
            assert getattr(answer, "value", answer) == 2 * n
    computed = [n for batch in stage.batches for n in batch]
    healthy = [n for batch in stage.batches if not poison & set(batch) for n in batch]
    assert sorted(healthy) == [n for n in range(len(costs)) if n not in poison]
    assert set(computed) == set(range(len(costs)))
    for batch in stage.batches:
        assert len(batch) == 1 or len(batch) * max(costs[n] for n in batch) <= budget
    assert stage.most_in_flight <= slots


@settings(max_examples=60)
@given(deadlines=st.lists(st.integers(1, 1000), min_size=1, max_size=40), budget=st.integers(1, 10))
def test_items_leave_in_order_of_their_deadlines_and_then_of_arrival(deadlines: list[int], budget: int) -> None:
    stage = FakeStage()

    async def run() -> None:
        batcher = batcher_of(stage, max_batch_cost=budget, max_wait_s=math.inf)
        first = await keep_busy(batcher, stage)
        calls = [asyncio.ensure_future(batcher.submit(n, deadline=1000.0 + d)) for n, d in enumerate(deadlines)]
        await until(lambda: batcher.stats().queued_items == len(calls))
        stage.gate.set()
        await asyncio.gather(first, *calls)

    asyncio.run(run())
    order = [n for batch in stage.batches[1:] for n in batch]
    assert order == sorted(range(len(deadlines)), key=lambda n: (deadlines[n], n))


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), num=st.integers(2, 40))
def test_work_whose_caller_left_is_never_computed_and_its_place_is_free(seed: int, num: int) -> None:
    rng = random.Random(seed)
    leaving = {n for n in range(num) if rng.random() < 0.5}
    stage = FakeStage()

    async def run() -> tuple[list[object], dict[str, int], int]:
        batcher = batcher_of(stage, max_batch_cost=4, max_wait_s=math.inf)
        busy = await keep_busy(batcher, stage)
        calls = queue(batcher, range(num))
        await until(lambda: batcher.stats().queued_items == num)
        for n in leaving:
            calls[n].cancel()
        await until(lambda: all(calls[n].done() for n in leaving))
        queued = batcher.stats().queued_items
        stage.gate.set()
        answers = await asyncio.gather(busy, *calls, return_exceptions=True)
        return answers[1:], batcher.stats().refused, queued

    answers, refused, queued = asyncio.run(run())
    computed = {n for batch in stage.batches for n in batch}
    assert computed == set(range(-1, num)) - leaving
    assert queued == num - len(leaving)
    assert refused.get("cancelled", 0) == len(leaving)
    assert all(isinstance(answers[n], asyncio.CancelledError) == (n in leaving) for n in range(num))


async def test_an_item_whose_deadline_passes_in_the_queue_is_not_computed() -> None:
    stage = FakeStage(seconds=0.2)
    batcher = batcher_of(stage, max_batch_cost=4)
    busy = await keep_busy(batcher, stage)
    (late,) = queue(batcher, [1], deadline=stage.clock.now + 0.1)
    await until(lambda: batcher.stats().queued_items)
    stage.gate.set()
    await busy
    with pytest.raises(DeadlineExceeded):
        await late
    assert stage.batches == [[-1]]
    assert batcher.stats().refused == {"expired": 1}


async def test_a_deadline_already_passed_is_refused_before_the_queue() -> None:
    stage = FakeStage()
    batcher = batcher_of(stage, max_batch_cost=4)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=stage.clock.now - 1)
    assert batcher.stats().queued_items == 0


async def test_a_full_queue_refuses_with_a_wait_that_is_about_right() -> None:
    stage = FakeStage(seconds=0.02)
    batcher = batcher_of(stage, max_batch_cost=10, max_wait_s=0.2)
    await asyncio.gather(*queue(batcher, range(10)))  # shows the speed: 10 items in 20 ms
    answers = await asyncio.gather(*queue(batcher, range(200)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(answers) - len(refused) == 101  # the last of them found 200 ms of work
    assert all(error.retry_after_s == pytest.approx(0.1, abs=0.01) for error in refused)
    assert batcher.stats().refused == {"full": len(refused)}
    assert (await batcher.submit(1)).value == 2  # and it serves on


async def test_a_burst_that_finds_a_slow_stage_free_is_admitted_and_a_second_must_wait_for_that() -> None:
    stage, burst = FakeStage(seconds=1.0), BURST_BATCHES * 10
    batcher = batcher_of(stage, max_batch_cost=10, max_wait_s=0.1)
    await asyncio.gather(*queue(batcher, range(10)))  # shows the speed: one item in the longest wait
    for _ in range(2):
        calls = queue(batcher, range(burst))
        await until(lambda: stage.in_flight)
        with pytest.raises(Overloaded):  # the stage was not free since
            await batcher.submit(-1)
        assert [outcome.value for outcome in await asyncio.gather(*calls)] == [2 * n for n in range(burst)]
    assert batcher.stats().refused == {"full": 2}


async def test_a_few_items_never_make_a_queue_full() -> None:
    stage = FakeStage(seconds=1.0)
    batcher = batcher_of(stage, max_batch_cost=1, max_wait_s=0.1)
    await batcher.submit(0)  # shows the speed: one item a second
    busy = await keep_busy(batcher, stage)
    calls = queue(batcher, range(20), admitted=True)  # more than a burst
    await until(lambda: batcher.stats().queued_items == 20)
    for call in calls[SHORT_QUEUE_ITEMS - 1 :]:
        call.cancel()
    await until(lambda: batcher.stats().queued_items == SHORT_QUEUE_ITEMS - 1)
    (last,) = queue(batcher, [99])
    await until(lambda: batcher.stats().queued_items == SHORT_QUEUE_ITEMS)
    with pytest.raises(Overloaded):
        await batcher.submit(100)
    stage.gate.set()
    await asyncio.gather(busy, *calls[: SHORT_QUEUE_ITEMS - 1], last)


async def test_the_items_of_a_burst_are_refused_for_their_deadlines() -> None:
    stage = FakeStage(seconds=1.0)
    batcher = batcher_of(stage, max_batch_cost=10, max_wait_s=0.1)
    await asyncio.gather(*queue(batcher, range(10)))
    calls = queue(batcher, range(30), deadline=stage.clock.now + 5)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, Overloaded) for answer in answers] == [False] * 16 + [True] * 14  # half of 5 s
    assert batcher.stats().refused == {"hopeless": 14}


async def test_one_slow_batch_at_the_start_does_not_decide_the_speed() -> None:
    stage = FakeStage(seconds=1.0)
    batcher = batcher_of(stage, max_batch_cost=10)
    await asyncio.gather(*queue(batcher, range(10)))
    assert batcher.expected_s(100) == pytest.approx(10)
    stage.seconds = 0.1
    for _ in range(3):
        await asyncio.gather(*queue(batcher, range(10)))
    assert batcher.expected_s(100) < 1.5


async def test_a_batch_that_the_stage_lost_says_nothing_of_its_speed() -> None:
    clock = FakeClock()

    async def lost(items: list[int]) -> Sequence[int | Exception]:
        clock.now += 60
        raise Unavailable("lost")

    batcher: Batcher[int, int] = Batcher(lost, max_batch_cost=1, clock=clock)
    with pytest.raises(Unavailable):
        await batcher.submit(1)
    assert batcher.stats().batches == 1
    assert batcher.expected_s() == 0  # otherwise who asks for it first would never ask again


async def test_a_speed_once_measured_too_low_is_not_believed_for_ever() -> None:
    stage = FakeStage(seconds=0.2)
    batcher = batcher_of(stage, max_batch_cost=64)
    await asyncio.gather(batcher.submit(0), batcher.submit(1, cost=64))  # two batches: 5 and then 320 a second
    stage.seconds = 0.001
    refused: list[int] = []

    async def caller() -> None:
        for turn in range(100):
            try:
                await batcher.submit(turn)
            except Overloaded:
                refused.append(turn)
                await asyncio.sleep(0)

    await asyncio.gather(*(caller() for _ in range(60)))
    refused.clear()
    await asyncio.gather(*(caller() for _ in range(60)))
    assert not refused


async def test_a_call_that_cannot_be_answered_in_its_time_is_refused_at_once() -> None:
    stage = FakeStage(seconds=0.05)
    batcher = batcher_of(stage, max_batch_cost=1, max_wait_s=10)
    await asyncio.gather(*queue(batcher, range(3)))
    calls = queue(batcher, range(10))
    await until(lambda: stage.in_flight)
    with pytest.raises(Overloaded):
        await batcher.submit(99, deadline=stage.clock.now + 0.1)
    assert batcher.stats().refused == {"hopeless": 1}
    await asyncio.gather(*calls)


async def test_work_of_several_batches_is_expected_to_take_as_long_as_these() -> None:
    batcher = batcher_of(FakeStage(seconds=0.02), max_batch_cost=10)
    assert batcher.expected_s(1000) == 0  # of a stage whose speed is not known
    await batcher.submit(1, cost=10)
    assert batcher.expected_s(80) == pytest.approx(2 * batcher.expected_s(40))
    assert batcher.expected_s(40) > batcher.expected_s(1) == batcher.expected_s() > 0


async def test_what_was_admitted_before_is_not_refused_for_a_full_queue() -> None:
    stage, burst = FakeStage(seconds=0.05), BURST_BATCHES + 2
    batcher = batcher_of(stage, max_batch_cost=1, max_wait_s=0.1)
    await asyncio.gather(*queue(batcher, range(3)))
    calls = queue(batcher, range(burst), admitted=True)
    await until(lambda: stage.in_flight)
    with pytest.raises(Overloaded):
        await batcher.submit(99)
    with pytest.raises(Overloaded):
        await batcher.submit(99, deadline=stage.clock.now + 0.1, admitted=True)
    assert batcher.stats().refused == {"full": 1, "hopeless": 1}
    assert [outcome.value for outcome in await asyncio.gather(*calls)] == [2 * n for n in range(burst)]


async def test_a_lost_stage_fails_its_batch_without_bisecting_it() -> None:
    calls = 0

    async def lost(items: list[int]) -> Sequence[int | Exception]:
        nonlocal calls
        calls += 1
        raise Unavailable("lost")

    batcher: Batcher[int, int] = Batcher(lost, max_batch_cost=8)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(8)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert calls == 1


async def test_a_stage_that_returns_too_few_results_fails_its_items_and_does_not_hang() -> None:
    async def short(items: list[int]) -> Sequence[int | Exception]:
        return items[1:]

    batcher: Batcher[int, int] = Batcher(short, max_batch_cost=8)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await batcher.submit(1)


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    stage = FakeStage()
    batcher = batcher_of(stage, max_batch_cost=2)
    calls = queue(batcher, range(6))
    await until(lambda: stage.in_flight)
    await batcher.close()
    assert [call.result().value for call in calls] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(Unavailable):
        await batcher.submit(7)


async def test_more_slots_put_more_batches_in_flight() -> None:
    stage, slots = FakeStage(gate=asyncio.Event()), 0
    batcher = batcher_of(stage, max_batch_cost=1, slots=lambda: slots)
    calls = queue(batcher, range(6))
    await until(lambda: batcher.stats().queued_items == 6)
    assert stage.batches == []  # no live replica yet
    slots = 3
    batcher.wake()
    await until(lambda: stage.in_flight == 3)
    stage.gate.set()
    await asyncio.gather(*calls)
    assert stage.most_in_flight == 3


async def test_the_counters_add_up() -> None:
    batcher = batcher_of(FakeStage(seconds=0.001, broken=frozenset({3})), max_batch_cost=40)
    await asyncio.gather(*queue(batcher, range(10), cost=4), return_exceptions=True)
    stats = batcher.stats()
    assert (stats.items, stats.batches, stats.failed, stats.queued_items, stats.queued_cost) == (10, 1, 1, 0, 0)
    assert (stats.mean_batch_items, stats.mean_batch_cost) == (10, 40)
    assert stats.compute_ms_p50 == pytest.approx(1)


@pytest.mark.parametrize("waits_s", [0.1, 3 * STALE_S])
async def test_a_stage_that_stalled_once_is_tried_again(waits_s: float) -> None:
    """A batch of a minute leaves an estimate by which nobody could be answered in time; without a batch it would stay."""
    stage = FakeStage(seconds=60.0)
    batcher = batcher_of(stage, max_batch_cost=2)
    await asyncio.gather(*queue(batcher, range(2)))
    stage.seconds = 0.01
    assert batcher.expected_s(1) > 1
    stage.clock.now += waits_s
    asked = batcher.submit(3, deadline=stage.clock.now + 1)
    if waits_s < STALE_S:
        with pytest.raises(DeadlineExceeded):
            await asked
        return
    assert (await asked).value == 6
    assert batcher.expected_s(1) < 0.1  # one batch mends it
    assert (await batcher.submit(4, deadline=stage.clock.now + 1)).value == 8
