"""The pull batcher next to `@serve.batch`, in one Serve replica on one simulated device, so that only the batching differs.

The device is simulated: it takes one batch at a time, 50 ms whatever its size, as an accelerator far from full does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ray import serve

from serving.stages.batcher import Batcher

DEVICE_MS = 50.0
RATE = 1000.0  # calls a second


@dataclass(frozen=True, slots=True)
class BatchingResult:
    mean_batch: float
    p50_ms: float
    p99_ms: float


class Device:
    """Computes one batch at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.batches: list[int] = []

    async def compute(self, items: list[float]) -> Sequence[float]:
        async with self._lock:
            self.batches.append(len(items))
            await asyncio.sleep(DEVICE_MS / 1000)
        return items


class StockBatching:
    def __init__(self, device: Device) -> None:
        self._device = device

    @serve.batch
    async def call(self, items: list[float]) -> list[float]:
        return list(await self._device.compute(items))


async def under_load(call: Callable[[float], Awaitable[object]], device: Device, seconds: float) -> BatchingResult:
    """Poisson arrivals; the quantiles are of the calls that arrived in the second half."""
    rng = random.Random(0)
    latencies: list[tuple[float, float]] = []

    async def one(planned: float) -> None:
        await call(planned)
        latencies.append((planned, time.perf_counter() - planned))

    start = planned = time.perf_counter()
    tasks = []
    while planned < start + seconds:
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.append(asyncio.ensure_future(one(planned)))
        planned += rng.expovariate(RATE)
    await asyncio.gather(*tasks)
    late = [took for at, took in latencies if at > start + seconds / 2]
    half = device.batches[len(device.batches) // 2 :]
    return BatchingResult(
        float(np.mean(half)), float(np.quantile(late, 0.5)) * 1e3, float(np.quantile(late, 0.99)) * 1e3
    )


async def pulled(seconds: float) -> BatchingResult:
    device = Device()
    batcher = Batcher(device.compute, max_batch_cost=10_000, max_wait_s=60)
    return await under_load(batcher.submit, device, seconds)


async def stock(seconds: float) -> BatchingResult:
    device = Device()
    return await under_load(StockBatching(device).call, device, seconds)


async def idle_wait_ms(calls: int) -> float:
    """Median time between giving an item to an idle batcher and the start of its computation."""
    waits: list[float] = []

    async def compute(items: list[float]) -> Sequence[float]:
        waits.extend(time.perf_counter() - given for given in items)
        return items

    batcher: Batcher[float, float] = Batcher(compute, max_batch_cost=100)
    for _ in range(calls):
        await batcher.submit(time.perf_counter())
    return float(np.median(waits)) * 1e3


class BatchingReplica:
    """A deployment to measure in: `@serve.batch` works nowhere else."""

    async def pulled(self, seconds: float) -> BatchingResult:
        return await pulled(seconds)

    async def stock(self, seconds: float) -> BatchingResult:
        return await stock(seconds)

    async def idle_wait_ms(self, calls: int) -> float:
        return await idle_wait_ms(calls)
