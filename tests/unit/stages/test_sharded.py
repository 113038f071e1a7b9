"""A batch waits for the shards that answer, and for none that is known to be lost. The shards are coroutines here; `tests/integration/`
has real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from serving.config import RetrieverConfig
from serving.errors import Unavailable
from serving.stages.sharded import PROBE_S, Shard, ShardedStage
from serving.stages.stage import StagePlan, Steps

WAIT_S = 0.2


class Method:
    """What a Serve handle has for each method of a deployment."""

    def __init__(self, work: Any) -> None:
        self.remote = work


class Handle:
    """A shard that adds its number to each item after `delay_s`, or fails."""

    def __init__(self, number: int) -> None:
        self.number, self.delay_s = number, 0.0
        self.error: Exception | None = None
        self.meets: Any = None
        self.num_calls = 0
        self.compute, self.describe = Method(self._compute), Method(self._describe)

    async def _compute(self, items: list[int], _: float) -> list[int]:
        self.num_calls += 1
        await asyncio.sleep(self.delay_s)
        if self.meets:
            await self.meets()
        if self.error:
            raise self.error
        return [item + self.number for item in items]

    async def _describe(self) -> str:
        await asyncio.sleep(self.delay_s)
        return "shard"


class Sums:
    """Asks every shard for each item; the result has what they answered."""

    def steps(self, items: Sequence[int], up: Sequence[bool]) -> Steps[list[int]]:
        answers = yield [list(items) if is_up else [] for is_up in up]
        told = [answer for answer in answers if answer is not None]
        if not told:
            return [Unavailable("none")] * len(items)
        return [list(of_item) for of_item in zip(*told, strict=True)]


@pytest.fixture
def handles() -> list[Handle]:
    return [Handle(10), Handle(20), Handle(30)]


@pytest.fixture
async def stage(handles: list[Handle]) -> Any:
    config = RetrieverConfig(placement="remote", shards=3)

    def nothing() -> Any:
        raise AssertionError("a gateway loads no shard")

    plan: StagePlan[int, list[int]] = StagePlan(
        name="sums", config=config, load=nothing, max_batch_cost=8, load_merge=Sums
    )
    shards: list[Any] = [Shard(f"sums-{handle.number}", handle) for handle in handles]  # type: ignore[arg-type]
    made = ShardedStage(plan, shards, WAIT_S)
    yield made
    await made.close()


async def ask(stage: Any, deadline_s: float = 30) -> list[int]:
    answer: list[int] = (await stage(1, cost=1, deadline=time.monotonic() + deadline_s)).value
    return answer


async def test_all_shards_are_asked_at_once(stage: Any, handles: list[Handle]) -> None:
    together = asyncio.Barrier(3)
    for handle in handles:
        handle.meets = together.wait  # an answer needs all three calls in progress
    assert await ask(stage) == [11, 21, 31]


async def test_a_late_shard_is_waited_for_once(stage: Any, handles: list[Handle]) -> None:
    handles[1].delay_s = 60
    started = time.monotonic()
    assert await ask(stage) == [11, 31]
    assert time.monotonic() - started >= WAIT_S
    assert [await ask(stage) for _ in range(5)] == [[11, 31]] * 5
    assert handles[1].num_calls == 1


async def test_shards_that_are_all_slow_are_not_lost(stage: Any, handles: list[Handle]) -> None:
    for handle in handles:
        handle.delay_s = 2 * WAIT_S
    assert await ask(stage) == [11, 21, 31]
    assert await ask(stage) == [11, 21, 31]


async def test_a_shard_without_a_replica_costs_no_wait(stage: Any, handles: list[Handle]) -> None:
    handles[0].error = Unavailable("gone")
    assert await ask(stage) == [21, 31]
    assert await ask(stage) == [21, 31]
    assert handles[0].num_calls <= 2
    for handle in handles[1:]:
        handle.error = Unavailable("gone")
    with pytest.raises(Unavailable, match="none"):
        await ask(stage)
    assert stage.replicas() == 0
    with pytest.raises(Unavailable, match="no replica of the sums stage is up"):
        await ask(stage)


async def test_a_shard_that_answers_again_is_asked_again(stage: Any, handles: list[Handle]) -> None:
    handles[2].delay_s = 60
    assert await ask(stage) == [11, 21]
    probing = asyncio.ensure_future(stage._probe())
    handles[2].delay_s = 0.0
    await asyncio.sleep(2.5 * PROBE_S)
    probing.cancel()
    assert await ask(stage) == [11, 21, 31]


async def test_a_bug_in_a_shard_fails_its_item(stage: Any, handles: list[Handle]) -> None:
    handles[0].error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        await ask(stage)
    handles[0].error = None
    assert await ask(stage) == [11, 21, 31]
