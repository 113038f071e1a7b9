"""What a gateway says of itself from time to time: queues, catalogue, bundle, and how late its event loop is."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.bundles.manifest import Manifest
from serving.catalogue.follower import Follower
from serving.errors import AisleError
from serving.logs import log
from serving.metrics import table
from serving.stages.stage import Stage

LAG_EVERY_S = 0.1
SHOW_EVERY = 10  # looks at the loop's lag for each look at the rest


class SelfWatch:
    """Runs from `start` to `close`. Belongs to the gateway's event loop."""

    def __init__(self, stages: Sequence[Stage[Any, Any]], follower: Follower | None, manifest: Manifest) -> None:
        self._stages, self._follower = stages, follower
        self._built = datetime.fromisoformat(manifest.created).timestamp()
        self._lag = table.LOOP_LAG.labels()
        self._collections = {number: table.GC_SECONDS.labels(str(number)) for number in (1, 2)}
        self._collecting = 0.0
        self._age = table.GENERATION_AGE.labels()
        kind = str(manifest.index["spec"]["kind"])
        table.BUNDLE_INFO.labels(manifest.name, manifest.version, kind).set(1)

    def start(self) -> None:
        gc.callbacks.append(self._collected)
        self._watching = asyncio.ensure_future(self._watch())

    def close(self) -> None:
        gc.callbacks.remove(self._collected)
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            try:
                await self._show()
            except AisleError:  # the log has said so
                pass
            except Exception as error:
                log.error("metrics of a gateway are not shown", exc_info=error)
            for _ in range(SHOW_EVERY):
                due = time.monotonic() + LAG_EVERY_S
                await asyncio.sleep(LAG_EVERY_S)
                self._lag.observe(time.monotonic() - due)

    async def _show(self) -> None:
        for stage in self._stages:
            stage.batcher.show(stage.replicas())
        self._age.set(time.time() - self._built)
        if self._follower:
            catalogue, changes = self._follower.catalogue, self._follower.log
            table.CATALOGUE_SEQUENCE.labels().set(catalogue.sequence)
            table.CATALOGUE_PRODUCTS.labels().set(catalogue.table.num_alive)
            table.OVERLAY_ROWS.labels().set(len(catalogue.table) - catalogue.num_base_rows)
            table.TOMBSTONES.labels().set(len(catalogue.table) - catalogue.table.num_alive)
            head = await asyncio.to_thread(changes.head)
            slowest = min((replica.applied for replica in changes.replicas()), default=catalogue.sequence)
            table.CATALOGUE_LAG.labels().set(max(0, head - slowest))

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        """Takes the begin and the end of a garbage collection: there is one at a time. Those of the youngest come with every search, and
        take microseconds."""
        if info["generation"] == 0:
            return
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self._collections[info["generation"]].observe(time.perf_counter() - self._collecting)
