"""Open-loop load inside a benchmark or a drill: calls at planned Poisson times beside other work of the same event loop. What judges a
release is `aisle load`, whose generator is a process of its own."""

from __future__ import annotations

import asyncio
import random
import time

import grpc

from aisle.client import channel_options
from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix

CHANNELS = 4


async def open_loop(
    target: str,
    queries: QueryMix,
    *,
    rate: float,
    seconds: float,
    deadline_s: float = 1.0,
    retries: bool = False,
    seed: int = 0,
    during: asyncio.Future[None] | None = None,
) -> LoadReport:
    """Sends `rate` searches a second for `seconds`, and then until `during` is done; returns when the last is answered or late.

    Without `retries` an error is counted as it comes; with them the documented retry policy is at work.
    """
    options = [*channel_options(retries=retries), ("grpc.use_local_subchannel_pool", 1)]
    report = LoadReport(seconds)
    rng = random.Random(seed)
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CHANNELS)]
    stubs = [search_pb2_grpc.SearchServiceStub(channel) for channel in channels]

    async def call(number: int, planned: float) -> None:
        request = search_pb2.SearchRequest(query=queries.draw())
        try:
            await stubs[number % CHANNELS].Search(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                report.refusals_ms.append((time.perf_counter() - planned) * 1000)
            report.codes[error.code().name] += 1
            report.errors[f"{error.code().name}: {(error.details() or '')[:200]}"] += 1
            return
        took = time.perf_counter() - planned
        report.codes["OK"] += 1
        report.late += took > deadline_s
        report.latencies_ms.append(took * 1000)

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    pending: set[asyncio.Task[None]] = set()
    planned = start = time.perf_counter()
    number = 0
    while planned < start + seconds or (during and not during.done()):
        wait = planned - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.ensure_future(call(number, planned))
        pending.add(task)
        task.add_done_callback(pending.discard)
        number += 1
        planned += rng.expovariate(rate)
    report.seconds = planned - start
    if pending:
        await asyncio.wait(pending)
    for channel in channels:
        await channel.close()
    return report
