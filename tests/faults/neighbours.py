"""One caller's heavy work beside another's light work: what the light one sees of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from rich.console import Console
from rich.table import Table

from aisle.client import channel_options
from aisle.v1 import product_pb2, ranking_pb2, search_pb2, search_pb2_grpc, shopper_pb2
from loadtest.benchmarks.service import Service
from loadtest.traffic import QueryMix
from serving.edge.keys import new_key

LIGHT, HEAVY = "light", "heavy"
RANK_CALLS, RANK_PRODUCTS = 16, 9_000
EXPLAIN_CALLS, EXPLAIN_EVENTS = 64, 200
LIGHT_DEADLINE_S = 1.0
HEAVY_DEADLINE_S = 10.0
REFUSED_S = 0.1  # that the heavy caller waits after a refusal, unless it is told to wait longer
RANK, SEARCH = "/aisle.v1.RankingService/Rank", "/aisle.v1.SearchService/Search"

Metadata = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Phase:
    """What the light caller saw while the heavy one did `name`."""

    name: str
    codes: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    heavy: Counter[str] = field(default_factory=Counter)  # how the heavy caller's calls ended

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies_ms, share)) if self.latencies_ms else float("nan")


@dataclass(frozen=True, slots=True)
class Neighbours:
    phases: tuple[Phase, ...]

    @property
    def lost(self) -> int:
        """Returns how many of the light caller's searches had no answer."""
        return sum(phase.codes.total() - phase.codes["OK"] for phase in self.phases)

    def print(self, console: Console) -> None:
        table = Table("beside", "searches", "p50 ms", "p99 ms", "longest ms", "not answered", "the other's calls")
        for phase in self.phases:
            failed = {code: count for code, count in phase.codes.items() if code != "OK"}
            table.add_row(
                phase.name,
                f"{phase.codes.total():,}",
                *(f"{phase.quantile(share):.0f}" for share in (0.5, 0.99, 1.0)),
                _told(failed),
                _told(phase.heavy),
            )
        console.print(table)


@contextmanager
def two_callers() -> Iterator[tuple[Path, dict[str, Metadata]]]:
    """Makes a keys file with two callers. Yields its path, and the metadata of each."""
    with TemporaryDirectory() as folder:
        path, metadata, lines = Path(folder) / "keys", {}, []
        for name in (LIGHT, HEAVY):
            key, line = new_key(name, ["*"])
            lines.append(line)
            metadata[name] = (("authorization", f"Bearer {key}"),)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o600)
        yield path, metadata


async def search_beside_heavy_work(
    service: Service, queries: QueryMix, callers: dict[str, Metadata], *, rate: float, seconds: float
) -> Neighbours:
    """Sends `rate` searches a second of the light caller: alone, beside Rank calls of thousands of products, and beside explained
    searches with long histories, each for `seconds`."""
    options = [*channel_options(retries=False), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(service.address, options) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        explained = await _explain_request(stub, queries, callers[LIGHT])
        works = (
            ("nothing", 0, "", b""),
            (f"{RANK_CALLS} x Rank of {RANK_PRODUCTS:,} products", RANK_CALLS, RANK, _rank_request()),
            (f"{EXPLAIN_CALLS} x explained search, {EXPLAIN_EVENTS} events", EXPLAIN_CALLS, SEARCH, explained),
        )
        phases = []
        for name, at_once, method, request in works:
            phase = Phase(name)
            with _heavy_caller(service.address, callers[HEAVY], method, request, at_once) as codes:
                await _search_at(rate, seconds, stub, queries, callers[LIGHT], phase)
            phase.heavy.update(codes)
            phases.append(phase)
            await asyncio.sleep(1)
    return Neighbours(tuple(phases))


@contextmanager
def _heavy_caller(
    address: str, metadata: Metadata, method: str, request: bytes, at_once: int
) -> Iterator[Counter[str]]:
    """Repeats a call, `at_once` at a time, until the block ends: in a process of its own, so that the searches are not held up by it.
    Counts how its calls ended."""
    codes: Counter[str] = Counter()
    if not at_once:
        yield codes
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_call_heavily, args=(theirs, address, metadata, method, request, at_once))
    process.start()
    ours.recv()  # it calls
    try:
        yield codes
    finally:
        ours.send(None)
        codes.update(ours.recv())
        process.join()


def _call_heavily(
    pipe: Connection, address: str, metadata: Metadata, method: str, request: bytes, at_once: int
) -> None:
    codes: Counter[str] = Counter()

    async def repeat(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        while True:
            try:
                await call(request, timeout=HEAVY_DEADLINE_S, metadata=metadata)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
                await asyncio.sleep(max(REFUSED_S, _retry_delay_s(error)))

    async def run() -> None:
        async with grpc.aio.insecure_channel(address, channel_options(retries=False)) as channel:
            tasks = [asyncio.ensure_future(repeat(channel.unary_unary(method))) for _ in range(at_once)]
            await asyncio.sleep(1)
            pipe.send(None)
            await asyncio.to_thread(pipe.recv)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    pipe.send(codes)


def _retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    hint = error_details_pb2.RetryInfo()
    details = status_pb2.Status.FromString(packed).details if isinstance(packed, bytes) else ()
    return hint.retry_delay.ToTimedelta().total_seconds() if any(detail.Unpack(hint) for detail in details) else 0.0


async def _search_at(
    rate: float,
    seconds: float,
    stub: search_pb2_grpc.SearchServiceAsyncStub,
    queries: QueryMix,
    metadata: Metadata,
    phase: Phase,
) -> None:
    async def call() -> None:
        began = time.perf_counter()
        try:
            await stub.Search(
                search_pb2.SearchRequest(query=queries.draw()), timeout=LIGHT_DEADLINE_S, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            phase.codes[error.code().name] += 1
            return
        phase.codes["OK"] += 1
        phase.latencies_ms.append((time.perf_counter() - began) * 1000)

    start = time.perf_counter()
    calls = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        calls.append(asyncio.ensure_future(call()))
    await asyncio.gather(*calls)


def _rank_request() -> bytes:
    """About 3 MB."""
    products = [
        product_pb2.Product(
            id=f"inline-{n}", title=f"Velvet armchair number {n} " + "with a long and winding title " * 8, price_minor=n
        )
        for n in range(RANK_PRODUCTS)
    ]
    return ranking_pb2.RankRequest(query="velvet armchair", products=products).SerializeToString()


async def _explain_request(
    stub: search_pb2_grpc.SearchServiceAsyncStub, queries: QueryMix, metadata: Metadata
) -> bytes:
    """Asks for the reasons behind a page, of a shopper who has clicked on many products."""
    seen: dict[str, None] = {}
    while len(seen) < EXPLAIN_EVENTS:
        request = search_pb2.SearchRequest(query=queries.draw(), page_size=100)
        seen.update(dict.fromkeys(hit.product_id for hit in (await stub.Search(request, metadata=metadata)).hits))
    now = time.time_ns() // 1_000_000
    events = [
        shopper_pb2.Event(id=f"e{n}", time_ms=now - n * 1000, kind=shopper_pb2.EVENT_KIND_CLICK, product_id=product_id)
        for n, product_id in zip(range(EXPLAIN_EVENTS), seen, strict=False)
    ]
    return search_pb2.SearchRequest(query=queries.draw(), recent_events=events, explain=True).SerializeToString()


def _told(codes: dict[str, int]) -> str:
    return ", ".join(f"{code} {count:,}" for code, count in sorted(codes.items())) or "none"
