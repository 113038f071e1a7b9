"""A stage without batches: it answers with what `work` makes of each item, once its gate is open, or fails with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from serving.stages.batcher import Batcher, Outcome

Item = TypeVar("Item")
Result = TypeVar("Result")


class FakeStage(Generic[Item, Result]):
    """Fulfils `serving.stages.stage.Stage`. `items` are those that it was called with. With a closed `gate` no item is answered."""

    name = "fake"
    placement = "local"
    backend = "fake"

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self.work = work
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.num_replicas = 1
        self.items: list[Item] = []

        async def compute(items: list[Item]) -> list[Result]:
            return [self.work(item) for item in items]

        self.batcher: Batcher[Item, Result] = Batcher(compute, max_batch_cost=64, max_wait_s=1)

    async def __call__(self, item: Item, **_: object) -> Outcome[Result]:
        self.items.append(item)
        await self.gate.wait()
        if self.error:
            raise self.error
        return Outcome(self.work(item), 0.0, 1.0, 1)

    def replicas(self) -> int:
        return self.num_replicas

    async def close(self) -> None:
        await self.batcher.close()
