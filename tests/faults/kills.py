"""Gateways that are killed under load: every acknowledged event must still be there."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from rich.console import Console

from aisle.client import channel_options
from aisle.v1 import shopper_pb2, shopper_pb2_grpc
from loadtest.benchmarks.service import Service
from loadtest.faults import kill_gateway
from loadtest.open_loop import open_loop
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix
from tests.faults.updates import counts, failed

BATCH = 5  # events of one call
EVENTS_PER_SHOPPER = 100  # less than a history keeps
PAUSE_S = 3.0  # from the start of a gateway to the next kill


@dataclass(slots=True)
class Killed:
    """`acknowledged` has the ids of events by shopper, `missing` how many of them GetHistory did not return."""

    kills: int
    searches: LoadReport = field(default_factory=lambda: LoadReport(0))
    records: Counter[str] = field(default_factory=Counter)
    acknowledged: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    missing: int = 0
    recoveries: list[float] = field(default_factory=list)  # seconds from each kill until a gateway has taken its place

    @property
    def lost(self) -> int:
        return self.missing + failed(self.searches.codes) + failed(self.records)

    def print(self, console: Console) -> None:
        self.searches.print(console, f"searches, {self.kills} kills in {self.searches.seconds:.0f} s")
        console.print(f"RecordEvents: {counts(self.records)}")
        events = sum(len(ids) for ids in self.acknowledged.values())
        console.print(f"acknowledged events: {events:,}, of which missing: {self.missing:,}")
        if self.recoveries:
            console.print(
                f"in place again after {statistics.median(self.recoveries):.1f} s (median), {max(self.recoveries):.1f} s at most"
            )
        console.print(f"failed calls: {failed(self.searches.codes) + failed(self.records):,}")


async def kill_gateways(
    service: Service, queries: QueryMix, *, number: int, rate: float, events_rate: float, deadline_s: float
) -> Killed:
    """Sends searches and events while `number` gateways are killed, then reads every history."""
    result = Killed(number)
    killing = asyncio.ensure_future(_kill(service, number, result))
    channel = grpc.aio.insecure_channel(service.address, [*channel_options(), ("grpc.use_local_subchannel_pool", 1)])
    async with channel:
        shoppers = shopper_pb2_grpc.ShopperServiceStub(channel)
        recording = asyncio.ensure_future(_record(shoppers, result, events_rate, deadline_s, killing))
        result.searches = await open_loop(
            service.address, queries, rate=rate, seconds=0, deadline_s=deadline_s, retries=True, during=killing
        )
        await recording
        await killing
        for shopper_id, ids in result.acknowledged.items():
            request = shopper_pb2.GetHistoryRequest(shopper_id=shopper_id)
            history = await shoppers.GetHistory(request, timeout=30)
            result.missing += len(ids - {event.id for event in history.events})
    return result


async def _kill(service: Service, number: int, result: Killed) -> None:
    for _ in range(number):
        await asyncio.sleep(PAUSE_S)
        killed_s = time.time()
        await asyncio.to_thread(kill_gateway, service)
        ready = service.events("gateway ready")
        result.recoveries.append(datetime.fromisoformat(ready[-1]["at"]).timestamp() - killed_s)
    await asyncio.sleep(PAUSE_S)


async def _record(
    shoppers: shopper_pb2_grpc.ShopperServiceStub,
    result: Killed,
    events_rate: float,
    deadline_s: float,
    until: asyncio.Future[None],
) -> None:
    """Records batches at planned times; what an answer acknowledged is kept in `result`."""
    pending: set[asyncio.Task[None]] = set()

    async def record(batch: list[shopper_pb2.Event]) -> None:
        try:
            await shoppers.RecordEvents(shopper_pb2.RecordEventsRequest(events=batch), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            result.records[error.code().name] += 1
            return
        result.records["OK"] += 1
        for event in batch:
            result.acknowledged[event.shopper_id].add(event.id)

    planned, number = time.perf_counter(), 0
    while not until.done():
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        task = asyncio.ensure_future(record([_event(number + n) for n in range(BATCH)]))
        pending.add(task)
        task.add_done_callback(pending.discard)
        number += BATCH
        planned += BATCH / events_rate
    if pending:
        await asyncio.wait(pending)


def _event(number: int) -> shopper_pb2.Event:
    return shopper_pb2.Event(
        id=f"e{number}",
        time_ms=time.time_ns() // 1_000_000,
        shopper_id=f"s{number // EVENTS_PER_SHOPPER}",
        session_id="drill",
        locale="en-US",
        kind=shopper_pb2.EVENT_KIND_CLICK,
        product_id=f"P-{number % 50}",
    )
