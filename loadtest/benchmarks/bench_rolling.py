"""What a rolling update costs the callers of two gateways, at two shares of their capacity."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import grpc

from aisle.client import channel_options
from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.benchmarks.setup import QUIET, Setup
from loadtest.open_loop import open_loop
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix

SHARES = (0.6, 0.9)  # of the capacity
CALLERS = 32
TWO_GATEWAYS = f"[server]\nreplicas = 2\n{QUIET}"
BACK_OFF_S = 0.05  # of a caller that was refused
LEAD_S = 1.0  # of load before an update, and after it


def bench_rolling(setup: Setup) -> None:
    """Searches at planned times by the documented client, with an update in each round and without.

    The capacity is that of 32 callers of the same Python client, which shares the cores with the service and with the gateways that
    start.
    """
    queries = bundle_queries(setup.bundle, 2000)
    plain: dict[float, list[LoadReport]] = {share: [] for share in SHARES}
    updated: dict[float, list[LoadReport]] = {share: [] for share in SHARES}
    with served(setup.bundle, TWO_GATEWAYS) as service:
        service.wait_for("gateway ready", 2)
        setup.say("capacity")
        capacity = asyncio.run(_capacity(service.address, queries, 2 * setup.seconds))
        for number in range(setup.rounds):
            for share in SHARES:
                setup.say(f"round {number + 1}, {share:.0%} of {capacity:.0f} searches/s")
                rate = share * capacity
                plain[share].append(asyncio.run(_load(service, queries, rate, 2 * setup.seconds, number)))
                updated[share].append(asyncio.run(_load_and_update(service, queries, rate, number)))
    setup.figures.add("rolling", f"capacity, {CALLERS} callers", "searches/s", [capacity])
    for share in SHARES:
        _add_figures(setup, share, plain[share], updated[share])


async def _capacity(address: str, queries: Sequence[str], seconds: float) -> float:
    """Returns how many searches a second are answered to callers that ask again as soon as they have an answer."""
    mix, answered = QueryMix(queries), 0
    stop = time.perf_counter() + seconds
    options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]

    async def call(stub: search_pb2_grpc.SearchServiceAsyncStub) -> None:
        nonlocal answered
        while time.perf_counter() < stop:
            try:
                await stub.Search(search_pb2.SearchRequest(query=mix.draw()), timeout=10)
                answered += 1
            except grpc.aio.AioRpcError as error:  # a slow machine refuses some of so many callers
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(BACK_OFF_S)

    await asyncio.gather(*(call(search_pb2_grpc.SearchServiceStub(channels[n % 4])) for n in range(CALLERS)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return answered / seconds


async def _load(service: Service, queries: Sequence[str], rate: float, seconds: float, seed: int) -> LoadReport:
    return await open_loop(
        service.address, QueryMix(queries, seed), rate=rate, seconds=seconds, retries=True, seed=seed
    )


async def _load_and_update(service: Service, queries: Sequence[str], rate: float, seed: int) -> LoadReport:
    async def update() -> None:
        await asyncio.sleep(LEAD_S)
        await asyncio.to_thread(service.update)
        await asyncio.sleep(LEAD_S)

    updating = asyncio.ensure_future(update())
    mix = QueryMix(queries, seed)
    report = await open_loop(service.address, mix, rate=rate, seconds=0, retries=True, seed=seed, during=updating)
    await updating
    return report


def _add_figures(setup: Setup, share: float, plain: list[LoadReport], updated: list[LoadReport]) -> None:
    add = setup.figures.add
    for name, reports in ((f"{share:.0%}, no update", plain), (f"{share:.0%}, update", updated)):
        failed = [report.calls - report.codes["OK"] - report.codes["RESOURCE_EXHAUSTED"] for report in reports]
        codes = sum((report.codes for report in reports), Counter[str]())
        note = f"{codes.total():,} calls: " + ", ".join(f"{code} {count:,}" for code, count in codes.most_common())
        add("rolling", f"failed at {name}", "calls", failed, goal="0", note=note)
        refused = [100 * report.codes["RESOURCE_EXHAUSTED"] / report.calls for report in reports]
        add("rolling", f"refused at {name}", "%", refused)
        add("rolling", f"p99 at {name}", "ms", [report.percentile(99) for report in reports])
