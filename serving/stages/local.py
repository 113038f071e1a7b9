"""A stage in the gateway's process, on a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import threading
import time
from collections.abc import Sequence

from serving.stages.lone_calls import LoneCalls
from serving.stages.stage import BatchedStage, Item, Result, StagePlan

# Stages run at a lower priority than the event loop, which has to read the calls of the next batch and to refuse those that are too many.
# At equal priority the loop waits behind the stages' threads, and calls grow old unread.
COMPUTE_NICENESS = 2
LONE_COMPUTE_S = 0.005  # the longest that a computation may hold up the event loop


class LocalStage(BatchedStage[Item, Result]):
    """Computes in this process. `lone_calls` says when the event loop itself may compute."""

    def __init__(self, plan: StagePlan[Item, Result], lone_calls: LoneCalls) -> None:
        super().__init__(plan, lambda: 1)
        self._thread = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix=f"aisle-{plan.name}", initializer=_yield_to_the_event_loop
        )
        # On its own thread, so that the threads that it starts inherit its niceness.
        self._work = self._thread.submit(plan.load).result()
        self.backend = self._work.backend
        self._lone_calls = lone_calls
        self._lone_s = math.inf if plan.is_long else 0.0

    @classmethod
    async def start(cls, plan: StagePlan[Item, Result], lone_calls: LoneCalls) -> LocalStage[Item, Result]:
        stage = await asyncio.to_thread(cls, plan, lone_calls)
        await asyncio.get_running_loop().run_in_executor(stage._thread, stage._work.warm_up)
        return stage

    def replicas(self) -> int:
        return 1

    async def close(self) -> None:
        await super().close()
        self._thread.shutdown(wait=False)

    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]:
        if len(items) == 1 and self._lone_s <= LONE_COMPUTE_S and self._lone_calls.is_lone():
            # On the event loop, which saves two wake-ups of sleeping threads. Only while calls come one at a time: the loop reads nothing
            # meanwhile, and with 32 clients that are all answered like this the mean batch is 1.1 in place of 13.
            return self._compute_lone(items)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work.compute, items)

    def _compute_lone(self, items: list[Item]) -> Sequence[Result | Exception]:
        started = time.monotonic()
        results = self._work.compute(items)
        # The estimate rises by a tenth at most: it is measured on the loop alone, and one slow computation must not keep all later ones off
        # the loop.
        self._lone_s = min(1.1 * self._lone_s + 1e-6, time.monotonic() - started)
        return results


def _yield_to_the_event_loop() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), COMPUTE_NICENESS)
