"""What happens when something dies, is full or is replaced, under load, seen by real clients."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.client import channel_options
from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from loadtest.benchmarks.service import Service, is_serving, served

NUM_CALLERS = 8
CALLS_AFTER = 20  # of each caller
QUERIES = [
    f"{colour} {thing}" for thing in ("sofa", "shoes", "lamp", "mug") for colour in ("red", "blue", "green", "grey")
]

# Deadlines so long that no machine misses them.
PATIENT = '[log]\nrequests = "off"\n[server]\nmax_deadline_ms = 300000\ndrain_s = 300\n'


@pytest.fixture(scope="module")
def replicated(bundle_folder: Path) -> Iterator[Service]:
    """Two gateways, and two encoder replicas of their own."""
    config = """
    [server]
    replicas = 2
    drain_s = 300
    max_deadline_ms = 300000
    [encoder]
    placement = "remote"
    min_replicas = 2
    max_replicas = 2
    num_cpus = 0.1
    threads = 1
    [log]
    requests = "off"
    """
    with served(bundle_folder, config) as service:
        yield service


async def ask_while(service: Service, event: Callable[[], None], *, retries: bool = False) -> Counter[str]:
    """Searches until `event` has happened, and for a while after it; returns how often a call ended how.

    Each caller waits for its answer before it asks again, so that a slow machine is not overloaded. `event` begins when there is load.
    """
    options = [*channel_options(retries=retries), ("grpc.use_local_subchannel_pool", 1)]
    ended: Counter[str] = Counter()
    loaded = asyncio.Event()

    async def happen() -> None:
        await loaded.wait()
        await asyncio.to_thread(event)

    happening = asyncio.ensure_future(happen())

    async def ask() -> None:
        async with grpc.aio.insecure_channel(service.address, options) as channel:
            stub, calls_after = search_pb2_grpc.SearchServiceStub(channel), 0
            while calls_after < CALLS_AFTER:
                calls_after += happening.done()
                try:
                    await stub.Search(search_pb2.SearchRequest(query=random.choice(QUERIES)))
                    ended["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    ended[error.code().name] += 1
                    await asyncio.sleep(0.1)
                if ended["OK"] > 2 * NUM_CALLERS:
                    loaded.set()

    await asyncio.gather(happening, *(ask() for _ in range(NUM_CALLERS)))
    return ended


async def test_a_killed_stage_replica_costs_no_call_but_those_it_had(replicated: Service) -> None:
    before = replicated.wait_for("stage ready", 2)

    def kill() -> None:
        os.kill(int(str(before[0]["pid"])), signal.SIGKILL)
        replicated.wait_for("stage ready", len(before) + 1)  # Serve has started another

    ended = await ask_while(replicated, kill)
    assert set(ended) <= {"OK", "UNAVAILABLE"}
    assert ended["UNAVAILABLE"] <= NUM_CALLERS
    assert set(await ask_while(replicated, lambda: None)) == {"OK"}


async def test_a_killed_gateway_replica_fails_with_unavailable_only_and_the_port_stays_served(
    replicated: Service,
) -> None:
    before = replicated.wait_for("gateway ready", 2)

    def kill() -> None:
        os.kill(int(str(before[0]["pid"])), signal.SIGKILL)
        while not is_serving(replicated.address):  # a connection may still have gone to the one that died
            time.sleep(0.1)
        assert len(replicated.events("gateway ready")) == len(before)  # so the other one serves
        replicated.wait_for("gateway ready", len(before) + 1)

    ended = await ask_while(replicated, kill)
    assert set(ended) <= {"OK", "UNAVAILABLE"}
    assert ended["OK"] > ended["UNAVAILABLE"]
    assert set(await ask_while(replicated, lambda: None)) == {"OK"}


async def test_a_rolling_redeploy_fails_no_call_of_a_client_with_the_documented_retries(replicated: Service) -> None:
    ready = len(replicated.events("gateway ready"))
    assert set(await ask_while(replicated, replicated.update, retries=True)) == {"OK"}
    assert len(replicated.events("gateway ready")) == ready + 2
    assert len(replicated.events("edge ready")) == 1  # it outlives the gateway that started it


async def test_overload_is_refused_at_once_with_a_retry_hint_and_leaves_no_trace(bundle_folder: Path) -> None:
    with served(bundle_folder, PATIENT + "[encoder]\nmax_wait_ms = 1\nthreads = 1\n") as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            long_query = "a very long and winding query about shoes " * 10

            async def call(n: int) -> grpc.aio.AioRpcError | None:
                try:
                    await stub.Search(search_pb2.SearchRequest(query=f"{long_query}{n}"))
                except grpc.aio.AioRpcError as error:
                    return error
                return None

            # The batcher learns its speed; a slow machine refuses some of these already.
            at_first = [error for error in await asyncio.gather(*(call(n) for n in range(64))) if error]
            errors = [error for error in await asyncio.gather(*(call(n) for n in range(600))) if error]
            assert 0 < len(errors) < 600
            assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert len({dict(error.trailing_metadata() or ())["x-request-id"] for error in errors}) == len(errors)
            for error in errors[:20]:
                status = rpc_status.from_call(error)
                assert status is not None
                hint = error_details_pb2.RetryInfo()
                assert any(detail.Unpack(hint) for detail in status.details)
                assert 0 < hint.retry_delay.ToMilliseconds() < 300_000
            assert await call(0) is None
            stats = await info_pb2_grpc.InfoServiceStub(channel).GetStats(info_pb2.GetStatsRequest())
            encoder = stats.stages[0]
            refused = {call.code: call.count for call in stats.calls if call.method == "Search"}["RESOURCE_EXHAUSTED"]
            assert refused == len(at_first) + len(errors)
            assert encoder.queued_items == encoder.queued_cost == 0


@pytest.mark.parametrize("num_calls", [100, 200])
async def test_the_first_calls_of_a_fresh_service_may_come_all_at_once(bundle_folder: Path, num_calls: int) -> None:
    with served(bundle_folder, PATIENT) as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            for _ in range(2):  # the second time it knows the speed of its first batches
                calls = [stub.Search(search_pb2.SearchRequest(query=f"sofa {n}")) for n in range(num_calls)]
                assert all(answer.hits for answer in await asyncio.gather(*calls))


async def test_a_stopping_service_finishes_what_it_has_and_turns_health_first(bundle_folder: Path) -> None:
    click = shopper_pb2.Event(
        id="e", time_ms=time.time_ns() // 1_000_000, shopper_id="ann", session_id="s", product_id="p",
        kind=shopper_pb2.EVENT_KIND_CLICK,
    )  # fmt: skip
    with served(bundle_folder, PATIENT) as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stream = shopper_pb2_grpc.ShopperServiceStub(channel).StreamEvents()
            await stream.write(shopper_pb2.StreamEventsRequest(events=[click]))
            stub = search_pb2_grpc.SearchServiceStub(channel)
            calls = [stub.Search(search_pb2.SearchRequest(query=f"sofa {n}")) for n in range(100)]
            await calls[0]  # so the stream and the other calls have reached it too
            service.process.send_signal(signal.SIGTERM)
            assert all(answer.hits for answer in await asyncio.gather(*calls))
            while await asyncio.to_thread(is_serving, service.address):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
            await stream.done_writing()
            assert [batch.recorded for batch in (await stream).batches] == [1]
        assert await asyncio.to_thread(service.process.wait, 240) == 0
        service.wait_for("gateway stopped", 1)
