"""A stage whose data is divided among shards, each a stage in Ray Serve replicas of its own. A batch goes to all shards at once.

A shard that does not answer costs searches one bounded wait. From then on nobody waits for it: it is left out until it answers a probe, and
the results say that they lack its part.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from serving.errors import AisleError, Unavailable
from serving.logs import log
from serving.stages.remote import BATCHES_PER_REPLICA, REPLICA_POLL_S, call_replicas, num_running, stage_app_name
from serving.stages.stage import BatchedStage, Item, Result, StagePlan, Steps

DEADLINE_MARGIN_S = (
    0.015  # before the deadline of the most urgent item of a batch, for what is left to do with its results
)
MIN_WAIT_S = 0.05
LATER_WAIT_S = 0.25  # at least, of every step but the first
PROBE_S = 0.5
PROBE_TIMEOUT_S = 1.0
START_WAIT_S = 60.0  # for a shard that is not up when a gateway starts


@dataclass(slots=True, eq=False)
class _Shard:
    name: str
    handle: DeploymentHandle
    live: int = 1  # replicas
    is_up: bool = True

    def set_up(self, is_up: bool, reason: str = "") -> None:
        if is_up != self.is_up:
            self.is_up = is_up
            fields = {"shard": self.name} | ({"error": reason} if reason else {})
            (log.info if is_up else log.error)("shard is back" if is_up else "shard lost", extra={"fields": fields})


class ShardedStage(BatchedStage[Item, Result]):
    """Asks all shards, and merges what those answer that are up."""

    def __init__(self, plan: StagePlan[Item, Result], shards: Sequence[_Shard], wait_s: float) -> None:
        super().__init__(plan, lambda: BATCHES_PER_REPLICA * self.replicas())
        self._shards = shards
        self._wait_s = wait_s
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=f"aisle-{plan.name}-merge")
        assert plan.load_merge is not None  # noqa: S101 - a plan with shards has one
        self._merge = self._thread.submit(plan.load_merge).result()
        self._following: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, plan: StagePlan[Item, Result], version: str, wait_s: float) -> ShardedStage[Item, Result]:
        """Calls the shards that serve this version of the bundle. One that is not up is waited for, not for ever. Raises Unavailable if
        none is."""
        shards = [
            _Shard(one.name, await asyncio.to_thread(serve.get_app_handle, stage_app_name(one, version)))
            for one in plan.shards
        ]
        stage = await asyncio.to_thread(cls, plan, shards, wait_s)
        backends = await asyncio.gather(*(_describe(shard, START_WAIT_S) for shard in shards))
        if not any(backends):
            raise Unavailable(f"no shard of the {plan.name} stage is up")
        stage.backend = f"{next(filter(None, backends))}, {len(shards)} shards"
        for shard, one in zip(shards, plan.shards, strict=True):
            shard.live = max(1, one.config.min_replicas)
        stage._following = [asyncio.ensure_future(stage._follow_replicas()), asyncio.ensure_future(stage._probe())]
        return stage

    def replicas(self) -> int:
        """Returns how many batches the shards that are up can take side by side; 0 if none is up."""
        return min((max(1, shard.live) for shard in self._shards if shard.is_up), default=0)

    async def close(self) -> None:
        await super().close()
        for task in self._following:
            task.cancel()
        self._thread.shutdown(wait=False)

    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]:
        queue_age_ms = self.batcher.oldest_wait_s() * 1000
        now = time.monotonic()
        urgent = min((getattr(item, "deadline", math.inf) for item in items), default=math.inf) - DEADLINE_MARGIN_S
        give_up = min(now + self._wait_s, max(urgent, now + MIN_WAIT_S))
        is_patient = give_up >= now + self._wait_s  # one that is late then is lost; one that misses a tight deadline is not
        steps = self._merge.steps(items, [shard.is_up for shard in self._shards])
        asked, results = await self._advance(steps, None)
        while asked is not None:
            answers = await self._ask(asked, give_up, queue_age_ms, is_patient=is_patient)
            is_patient = False
            asked, results = await self._advance(steps, answers)
            # If a shard was waited for, the others are asked for what it leaves open: that takes its time too.
            give_up = max(give_up, time.monotonic() + LATER_WAIT_S)
        return results

    async def _advance(self, steps: Steps[Result], answers: Any) -> tuple[Any, Sequence[Result | Exception]]:
        """Returns what to ask next, or None and the results. Off the event loop: to merge a batch takes milliseconds."""

        def advance() -> tuple[Any, Sequence[Result | Exception]]:
            try:
                return steps.send(answers), []
            except StopIteration as end:
                return None, end.value

        return await asyncio.get_running_loop().run_in_executor(self._thread, advance)

    async def _ask(
        self, asked: Sequence[list[Any]], give_up: float, queue_age_ms: float, *, is_patient: bool
    ) -> list[Any]:
        """Returns what each shard answers; None for one that was not asked or does not answer in time. With `is_patient` such a
        one is lost."""
        calls = {
            number: asyncio.ensure_future(
                call_replicas(shard.handle, shard.name, items, queue_age_ms, repeats=shard.live > 1)
            )
            for number, (shard, items) in enumerate(zip(self._shards, asked, strict=True))
            if items and shard.is_up
        }
        answers: list[Any] = [None] * len(self._shards)
        if not calls:
            return answers
        try:
            await asyncio.wait(calls.values(), timeout=max(0.0, give_up - time.monotonic()))
        finally:
            for call in calls.values():
                call.cancel()
        for number, call in calls.items():
            shard = self._shards[number]
            if not call.done() or call.cancelled():
                if is_patient:
                    shard.set_up(False, "it did not answer in time")
            elif error := call.exception():
                if not isinstance(error, AisleError):
                    raise error  # the stage's own code failed: no shard does better
                shard.set_up(False, error.message)
            else:
                answers[number] = call.result()
        return answers

    async def _probe(self) -> None:
        """Asks shards that did not answer whether they do again."""
        while True:
            await asyncio.sleep(PROBE_S)
            down = [shard for shard in self._shards if not shard.is_up]
            if any(await asyncio.gather(*(_describe(shard, PROBE_TIMEOUT_S) for shard in down))):
                self.batcher.wake()

    async def _follow_replicas(self) -> None:
        """Follows the numbers of live replicas, which set the number of batches in flight."""
        while True:
            try:
                status = await asyncio.to_thread(serve.status)
                for shard in self._shards:
                    shard.live = num_running(status, shard.handle)
                    if not shard.live:
                        shard.set_up(False, "it has no replica")
                self.batcher.wake()
            except Exception:  # noqa: S110 - the controller restarts now and then; the last counts hold until it answers
                pass
            await asyncio.sleep(REPLICA_POLL_S)


async def _describe(shard: _Shard, wait_s: float) -> str:
    """Returns what a shard computes with, and marks it as up; nothing for one that does not answer."""
    try:
        backend: str = await asyncio.wait_for(shard.handle.describe.remote(), wait_s)
    except Exception as error:
        shard.set_up(False, str(error) or type(error).__name__)
        return ""
    shard.set_up(True)
    return backend
