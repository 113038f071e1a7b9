"""The batcher's promises, as its docstring states them."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DeadlineExceeded, Overloaded, Unavailable
from serving.stages.batcher import Batcher


@dataclass
class FakeStage:
    """Answers each number with its double after `seconds` of a stage that is busy with one batch at a time."""

    seconds: float = 0.0
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
            await asyncio.sleep(self.seconds)
            if self.gate:
                await self.gate.wait()
            if self.poison & set(items):
                raise ValueError("this batch cannot be computed")
            return [KeyError(item) if item in self.broken else 2 * item for item in items]
        finally:
            self.in_flight -= 1


async def test_an_idle_stage_gets_an_item_at_once_and_alone() -> None:
    stage = FakeStage()
    outcome = await Batcher(stage, max_batch_cost=8).submit(21)
    assert (outcome.value, outcome.batch_size, stage.batches) == (42, 1, [[21]])


async def test_what_queues_while_the_stage_is_busy_leaves_in_one_batch() -> None:
    stage = FakeStage(gate=asyncio.Event())
    assert stage.gate
    batcher = Batcher(stage, max_batch_cost=100)
    first = asyncio.ensure_future(batcher.submit(0))
    await asyncio.sleep(0.001)
    rest = [asyncio.ensure_future(batcher.submit(n)) for n in range(1, 21)]
    await asyncio.sleep(0)
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
    stage = FakeStage(seconds=0.0005, poison=frozenset(poison), broken=frozenset(broken))

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
        stage.gate = asyncio.Event()
        batcher = Batcher(stage, max_batch_cost=budget, max_wait_s=math.inf)
        first = asyncio.ensure_future(batcher.submit(-1))
        await asyncio.sleep(0.0005)  # the stage is busy now
        start = asyncio.get_running_loop().time() + 1000
        calls = [asyncio.ensure_future(batcher.submit(n, deadline=start + d)) for n, d in enumerate(deadlines)]
        await asyncio.sleep(0)
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
        stage.gate = asyncio.Event()
        batcher = Batcher(stage, max_batch_cost=4, max_wait_s=math.inf)
        busy = asyncio.ensure_future(batcher.submit(-1))
        await asyncio.sleep(0.0005)
        calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(num)]
        await asyncio.sleep(0)
        for n in leaving:
            calls[n].cancel()
        await asyncio.sleep(0)
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
    batcher = Batcher(stage, max_batch_cost=4)
    loop = asyncio.get_running_loop()
    busy = asyncio.ensure_future(batcher.submit(0))
    await asyncio.sleep(0.001)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=loop.time() + 0.005)
    await busy
    assert stage.batches == [[0]]
    assert batcher.stats().refused == {"expired": 1}


async def test_a_deadline_already_passed_is_refused_before_the_queue() -> None:
    batcher = Batcher(FakeStage(), max_batch_cost=4)
    with pytest.raises(DeadlineExceeded):
        await batcher.submit(1, deadline=asyncio.get_running_loop().time() - 1)
    assert batcher.stats().queued_items == 0


async def test_a_full_queue_refuses_with_a_wait_that_is_about_right() -> None:
    stage = FakeStage(seconds=0.02)
    batcher = Batcher(stage, max_batch_cost=10, max_wait_s=0.1)
    for _ in range(3):  # learn the speed: 10 items in 20 ms
        await asyncio.gather(*(batcher.submit(n) for n in range(10)))
    calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(200)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    accepted = len(answers) - len(refused)
    assert 30 <= accepted <= 80  # 100 ms of work is 50 items
    assert all(0.01 <= (error.retry_after_s or 0) <= 0.2 for error in refused)
    assert batcher.stats().refused == {"full": len(refused)}
    assert (await batcher.submit(1)).value == 2  # and it serves on


async def test_a_speed_once_measured_too_low_is_not_believed_for_ever() -> None:
    stage = FakeStage(seconds=0.2)
    batcher = Batcher(stage, max_batch_cost=64)
    await asyncio.gather(batcher.submit(0), batcher.submit(1, cost=64))  # two batches: 5 and then 320 a second
    stage.seconds = 0.001
    refused: list[int] = []

    async def caller() -> None:
        for turn in range(100):
            try:
                await batcher.submit(turn)
            except Overloaded:
                refused.append(turn)
                await asyncio.sleep(0.001)

    await asyncio.gather(*(caller() for _ in range(60)))
    refused.clear()
    await asyncio.gather(*(caller() for _ in range(60)))
    assert not refused


async def test_a_call_that_cannot_be_answered_in_its_time_is_refused_at_once() -> None:
    stage = FakeStage(seconds=0.05)
    batcher = Batcher(stage, max_batch_cost=1, max_wait_s=10)
    await asyncio.gather(*(batcher.submit(n) for n in range(3)))
    calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(10)]
    await asyncio.sleep(0.001)
    with pytest.raises(Overloaded):
        await batcher.submit(99, deadline=asyncio.get_running_loop().time() + 0.1)
    assert batcher.stats().refused == {"hopeless": 1}
    await asyncio.gather(*calls)


async def test_a_few_callers_are_not_refused_after_one_slow_computation() -> None:
    stage = FakeStage(seconds=0.3)
    batcher = Batcher(stage, max_batch_cost=64, max_wait_s=0.1)
    await asyncio.gather(batcher.submit(0), batcher.submit(1, cost=64))
    calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(8)]
    assert [outcome.value for outcome in await asyncio.gather(*calls)] == [2 * n for n in range(8)]


async def test_work_of_several_batches_is_expected_to_take_as_long_as_these() -> None:
    batcher = Batcher(FakeStage(seconds=0.02), max_batch_cost=10)
    assert batcher.expected_s(1000) == 0  # of a stage whose speed is not known
    await batcher.submit(1, cost=10)
    assert batcher.expected_s(80) == pytest.approx(2 * batcher.expected_s(40))
    assert batcher.expected_s(40) > batcher.expected_s(1) == batcher.expected_s() > 0


async def test_what_was_admitted_before_is_not_refused_for_a_full_queue() -> None:
    batcher = Batcher(FakeStage(seconds=0.05), max_batch_cost=1, max_wait_s=0.1)
    await asyncio.gather(*(batcher.submit(n) for n in range(3)))
    calls = [asyncio.ensure_future(batcher.submit(n, admitted=True)) for n in range(10)]
    await asyncio.sleep(0.001)
    with pytest.raises(Overloaded):
        await batcher.submit(99)
    with pytest.raises(Overloaded):
        await batcher.submit(99, deadline=asyncio.get_running_loop().time() + 0.1, admitted=True)
    assert batcher.stats().refused == {"full": 1, "hopeless": 1}
    assert [outcome.value for outcome in await asyncio.gather(*calls)] == [2 * n for n in range(10)]


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
    batcher = Batcher(FakeStage(seconds=0.01), max_batch_cost=2)
    calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(6)]
    await asyncio.sleep(0.001)
    await batcher.close()
    assert [call.result().value for call in calls] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(Unavailable):
        await batcher.submit(7)


async def test_more_slots_put_more_batches_in_flight() -> None:
    stage, slots = FakeStage(seconds=0.02), 0
    batcher = Batcher(stage, max_batch_cost=1, slots=lambda: slots)
    calls = [asyncio.ensure_future(batcher.submit(n)) for n in range(6)]
    await asyncio.sleep(0.001)
    assert stage.batches == []  # no live replica yet
    slots = 3
    batcher.wake()
    await asyncio.gather(*calls)
    assert stage.most_in_flight == 3


async def test_the_counters_add_up() -> None:
    batcher = Batcher(FakeStage(seconds=0.001, broken=frozenset({3})), max_batch_cost=40)
    await asyncio.gather(*(batcher.submit(n, cost=4) for n in range(10)), return_exceptions=True)
    stats = batcher.stats()
    assert (stats.items, stats.batches, stats.failed, stats.queued_items, stats.queued_cost) == (10, 1, 1, 0, 0)
    assert (stats.mean_batch_items, stats.mean_batch_cost) == (10, 40)
    assert stats.compute_ms_p50 >= 1
