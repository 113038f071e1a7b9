"""The shopper state: events recorded a second through gRPC, and how long reading a history takes at a million stored events."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from aisle.v1 import shopper_pb2
from loadtest.benchmarks.redis_server import redis_is_installed, redis_server
from loadtest.benchmarks.service import Service, served
from loadtest.benchmarks.setup import QUIET, Setup
from loadtest.h2load import raw_call
from models.events.event import Event, EventKind
from serving.config import AisleConfig
from serving.gateway.messages.event_fields import write_event
from serving.shoppers.open_store import open_shoppers
from serving.shoppers.store import ShopperStore, now_ms

RECORD = "/aisle.v1.ShopperService/RecordEvents"
GET_HISTORY = "/aisle.v1.ShopperService/GetHistory"
BATCH = 100
CALLS_IN_FLIGHT = 16
NUM_SHOPPERS = 20_000
STORED_EVENTS = 1_000_000
READS = 2_000
MAX_EVENTS = 200


def bench_shoppers(setup: Setup) -> None:
    """RecordEvents in batches of 100 into each store, and histories out of a store that holds a million events."""
    stores = ["sqlite, sync full", "sqlite, sync normal", *(["redis"] if redis_is_installed() else [])]
    rates: dict[str, list[float]] = {name: [] for name in stores}
    for name in stores:
        with _store_config(name) as config, served(setup.bundle, QUIET + config) as service:
            for number in range(setup.rounds):
                setup.say(f"{name}, round {number + 1}")
                rates[name].append(record_rate(service, seconds=setup.seconds, seed=number))
    for name, values in rates.items():
        setup.figures.add(
            "shoppers", f"RecordEvents, {name}", "events/s", values, goal=">= 5,000" if name == stores[0] else "",
            note=f"batches of {BATCH}, {CALLS_IN_FLIGHT} calls in flight",
        )  # fmt: skip
    _bench_history(setup)


def record_rate(service: Service, *, seconds: float, seed: int) -> float:
    """Events acknowledged a second, all of them new. Raises RuntimeError when one was not recorded."""
    # More than the store is expected to take; made before the time runs.
    batches = (request.SerializeToString() for request in record_requests(seed))
    prepared = list(itertools.islice(batches, round(600 * seconds) + CALLS_IN_FLIGHT))
    return asyncio.run(_record(service.address, prepared, seconds))


async def _record(address: str, requests: Sequence[bytes], seconds: float) -> float:
    left = iter(requests)
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(RECORD)
        recorded = 0
        started = time.perf_counter()

        async def send() -> None:
            nonlocal recorded
            while time.perf_counter() - started < seconds and (request := next(left, None)) is not None:
                answer = shopper_pb2.RecordEventsResponse.FromString(await call(request, timeout=30))
                if answer.recorded != BATCH:
                    raise RuntimeError(f"{answer.recorded} of {BATCH} new events were recorded: {answer.rejected[:1]}")
                recorded += BATCH

        await asyncio.gather(*(send() for _ in range(CALLS_IN_FLIGHT)))
        return recorded / (time.perf_counter() - started)


def _bench_history(setup: Setup) -> None:
    stored = 20_000 if setup.quick else STORED_EVENTS
    reads = 200 if setup.quick else READS
    stores = ["sqlite", *(["redis"] if redis_is_installed() else [])]
    for name in stores:
        with _store_config(name) as config:
            asyncio.run(_fill(config, stored, setup.say))
            in_process, over_grpc = [], []
            with served(setup.bundle, QUIET + config) as service:
                for number in range(setup.rounds):
                    setup.say(f"{name}, histories, round {number + 1}")
                    in_process.append(asyncio.run(_read_times_ms(config, reads, number)))
                    over_grpc.append(_call_times_ms(service.address, reads, number))
        for where, times in (("in process", in_process), ("GetHistory, 1 client", over_grpc)):
            for q in (50, 99):
                setup.figures.add(
                    "shoppers", f"history of {name}, {where}, p{q}", "ms",
                    [float(np.percentile(values, q)) for values in times],
                    goal="< 2" if (q, where) == (99, "in process") else "", note=f"{stored:,} events stored",
                )  # fmt: skip


async def _read_times_ms(config: str, reads: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    store = await _open(config)
    times: list[float] = []
    num_events = 0
    try:
        for _ in range(reads):
            shopper_id = _shopper(rng)
            started = time.perf_counter()
            history = await store.history(shopper_id, MAX_EVENTS)
            times.append((time.perf_counter() - started) * 1000)
            num_events += len(history.events)
    finally:
        await store.close()
    if not num_events:
        raise RuntimeError("the store is empty")
    return times


def _call_times_ms(address: str, reads: int, seed: int) -> list[float]:
    rng = random.Random(1000 + seed)
    times = []
    with grpc.insecure_channel(address) as channel:
        for _ in range(reads):
            request = shopper_pb2.GetHistoryRequest(shopper_id=_shopper(rng)).SerializeToString()
            started = time.perf_counter()
            raw_call(channel, GET_HISTORY, request)
            times.append((time.perf_counter() - started) * 1000)
    return times


async def _fill(config: str, num_events: int, say: Callable[[str], None]) -> None:
    store = await _open(config)
    try:
        for number, events in enumerate(simulated_batches(seed=99, size=1000)):
            if number * 1000 >= num_events:
                return
            if number % 50 == 0:
                say(f"store {number * 1000:,} of {num_events:,} events")
            await store.record(events)
    finally:
        await store.close()


def simulated_batches(seed: int, size: int = BATCH) -> Iterator[list[Event]]:
    """Batches of simulated events without end, each new; a batch is of many shoppers."""
    rng = random.Random(seed)
    run = rng.getrandbits(64)
    first = now_ms() - 30 * 24 * 3_600_000
    kinds = tuple(EventKind)
    for number in itertools.count():
        yield [
            Event(
                id=f"{run:016x}-{number}-{n}", time_ms=first + number * size + n, shopper_id=_shopper(rng),
                session_id=f"session-{number}", locale="en-US", kind=kinds[n % 4], product_id=f"AS-{n:07}",
                query="red velvet sofa", position=n % 24 + 1, price_minor=19_999,
            )
            for n in range(size)
        ]  # fmt: skip


def record_requests(seed: int) -> Iterator[shopper_pb2.RecordEventsRequest]:
    for events in simulated_batches(seed):
        yield shopper_pb2.RecordEventsRequest(events=[write_event(event) for event in events])


def _shopper(rng: random.Random) -> str:
    return f"shopper-{rng.randrange(NUM_SHOPPERS)}"


@contextmanager
def _store_config(name: str) -> Iterator[str]:
    """The configuration of a new, empty store of this kind."""
    if name == "redis":
        with redis_server() as redis:
            yield f'[shoppers]\nstore = "redis"\nurl = "{redis.url}"\n'
        return
    sync = "normal" if name.endswith("normal") else "full"
    with tempfile.TemporaryDirectory(prefix="aisle-shoppers-") as folder:
        yield f'[shoppers]\npath = "{folder}/shoppers.db"\nsync = "{sync}"\n'


async def _open(config: str) -> ShopperStore:
    """The store of a configuration, in this process."""
    store = await open_shoppers(AisleConfig.model_validate(tomllib.loads(config)).shoppers, "benchmark")
    if store is None:
        raise RuntimeError("the configuration keeps no events")
    return store
