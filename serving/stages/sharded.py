"""A stage whose data is divided among shards, each a stage in Ray Serve replicas of its own. A batch goes to all shards at once.

A shard that does not answer while another does costs searches one bounded wait. From then on nobody waits for it: it is left out until it
answers a probe, and the results say that they lack its part.
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
from serving.stages.scaling import GatewayLoad, LoadMeter
from serving.stages.stage import BatchedStage, Item, Result, StagePlan, Steps

DEADLINE_MARGIN_S = (
    0.015  # before the deadline of the most urgent item of a batch, for what is left to do with its results
)
MIN_WAIT_S = 0.25
MAX_WAIT_S = 60.0
PROBE_S = 0.5
PROBE_TIMEOUT_S = 1.0
START_WAIT_S = 60.0  # for a shard that is not up when a gateway starts


@dataclass(slots=True, eq=False)
class Shard:
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

    def __init__(self, plan: StagePlan[Item, Result], shards: Sequence[Shard], wait_s: float) -> None:
        super().__init__(plan, lambda: BATCHES_PER_REPLICA * self.replicas())
        self._load = LoadMeter(self.batcher)
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
            Shard(one.name, await asyncio.to_thread(serve.get_app_handle, stage_app_name(one, version)))
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
        load = self._load.of_batch()
        now = time.monotonic()
        deadline = min(getattr(item, "deadline", math.inf) for item in items) - DEADLINE_MARGIN_S
        give_up = min(max(deadline, now + MIN_WAIT_S), now + MAX_WAIT_S)
        steps = self._merge.steps(items, [shard.is_up for shard in self._shards])
        asked, results = await self._advance(steps, None)
        while asked is not None:
            answers = await self._ask(asked, give_up, load)
            asked, results = await self._advance(steps, answers)
            give_up = max(give_up, time.monotonic() + MIN_WAIT_S)  # what a lost shard leaves open takes its time too
        return results

    async def _advance(self, steps: Steps[Result], answers: Any) -> tuple[Any, Sequence[Result | Exception]]:
        """Returns what to ask next, or None and the results. Off the event loop: to merge a batch takes milliseconds."""

        def advance() -> tuple[Any, Sequence[Result | Exception]]:
            try:
                return steps.send(answers), []
            except StopIteration as end:
                return None, end.value

        return await asyncio.get_running_loop().run_in_executor(self._thread, advance)

    async def _ask(self, asked: Sequence[list[Any]], give_up: float, load: GatewayLoad) -> list[Any]:
        """Returns what each shard answers; None for one that was not asked or does not answer in time."""
        calls = {
            asyncio.ensure_future(call_replicas(shard.handle, shard.name, items, load, repeats=shard.live > 1)): number
            for number, (shard, items) in enumerate(zip(self._shards, asked, strict=True))
            if items and shard.is_up
        }
        answers: list[Any] = [None] * len(self._shards)
        waiting, until = set(calls), give_up
        try:
            while waiting and (left_s := until - time.monotonic()) > 0:
                done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                for call in done:
                    number = calls[call]
                    answers[number] = self._answer(self._shards[number], call)
                    if answers[number] is not None:  # from now on the others are late
                        until = min(until, time.monotonic() + self._wait_s)
        finally:
            for call in waiting:
                call.cancel()
        if until < give_up:  # others had answered: these are lost, and not merely slow or asked too late
            for call in waiting:
                self._shards[calls[call]].set_up(False, "it did not answer in time")
        return answers

    def _answer(self, shard: Shard, call: asyncio.Future[Any]) -> Any:
        """Returns the answer of a shard, None if it was lost. Raises what the stage's own code raised: no other shard does better."""
        error = call.exception()
        if error is None:
            return call.result()
        if not isinstance(error, AisleError):
            raise error
        shard.set_up(False, error.message)
        return None

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
            self._load.read()
            await asyncio.sleep(REPLICA_POLL_S)


async def _describe(shard: Shard, wait_s: float) -> str:
    """Returns what a shard computes with, and marks it as up; nothing for one that does not answer."""
    try:
        backend: str = await asyncio.wait_for(shard.handle.describe.remote(), wait_s)
    except Exception as error:
        shard.set_up(False, str(error) or type(error).__name__)
        return ""
    shard.set_up(True)
    return backend
