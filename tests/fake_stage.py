"""A stage without batches: it answers with what `work` makes of each item, after a delay, or fails with an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from serving.stages.batcher import Batcher, Outcome

Item = TypeVar("Item")
Result = TypeVar("Result")


class FakeStage(Generic[Item, Result]):
    """Fulfils `serving.stages.stage.Stage`. `items` are those that it was called with, `spans` when it worked on each."""

    name = "fake"
    placement = "local"
    backend = "fake"

    def __init__(self, work: Callable[[Item], Result], delay_s: float = 0.0) -> None:
        self.work = work
        self.delay_s = delay_s
        self.error: Exception | None = None
        self.num_replicas = 1
        self.items: list[Item] = []
        self.spans: list[tuple[float, float]] = []

        async def compute(items: list[Item]) -> list[Result]:
            return [self.work(item) for item in items]

        self.batcher: Batcher[Item, Result] = Batcher(compute, max_batch_cost=64, max_wait_s=1)

    async def __call__(self, item: Item, **_: object) -> Outcome[Result]:
        self.items.append(item)
        began = time.monotonic()
        await asyncio.sleep(self.delay_s)
        self.spans.append((began, time.monotonic()))
        if self.error:
            raise self.error
        return Outcome(self.work(item), 0.0, 1.0, 1)

    def replicas(self) -> int:
        return self.num_replicas

    async def close(self) -> None:
        await self.batcher.close()
