"""A shopper store whose operations are timed and traced, and counted where they fail."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from models.events.event import Event
from serving.metrics import table
from serving.shoppers.store import History, Recorded, ShopperStore
from serving.traces.trace import TRACE

OPERATIONS = ("record", "history", "version", "forget")
Answer = TypeVar("Answer")


class CountedStore:
    """`store` with the same contract. Belongs to one event loop."""

    def __init__(self, store: ShopperStore) -> None:
        self._store = store
        self._seconds = {op: table.STORE_SECONDS.labels(op) for op in OPERATIONS}
        self._failed = {op: table.STORE_FAILED.labels(op) for op in OPERATIONS}

    async def record(self, events: Sequence[Event]) -> Recorded:
        return await self._counted("record", self._store.record(events))

    async def history(self, shopper_id: str, max_events: int) -> History:
        return await self._counted("history", self._store.history(shopper_id, max_events))

    async def version(self, shopper_id: str) -> int:
        return await self._counted("version", self._store.version(shopper_id))

    def stamp(self) -> int | None:
        return self._store.stamp()

    def believed_ms(self) -> int:
        return self._store.believed_ms()

    def page_tag(self, shopper_id: str, time_ms: int) -> bytes:
        return self._store.page_tag(shopper_id, time_ms)

    async def forget(self, shopper_id: str) -> int:
        return await self._counted("forget", self._store.forget(shopper_id))

    async def close(self) -> None:
        await self._store.close()

    async def _counted(self, op: str, operation: Awaitable[Answer]) -> Answer:
        """An operation that its caller gives up is no failure, but it did take its time."""
        started = time.monotonic()
        try:
            return await operation
        except Exception:
            self._failed[op].inc()
            raise
        finally:
            ended = time.monotonic()
            self._seconds[op].observe(ended - started)
            if trace := TRACE.get():
                trace.phase(f"store {op}", started, ended)
