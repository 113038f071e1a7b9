"""What happens when something dies, is full or is replaced, under load, seen by real clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, is_serving, served
from loadtest.open_loop import open_loop
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix

QUERIES = [
    f"{colour} {thing}" for thing in ("sofa", "shoes", "lamp", "mug") for colour in ("red", "blue", "green", "grey")
]


@pytest.fixture(scope="module")
def replicated(bundle_folder: Path) -> Iterator[Service]:
    """Two gateways, and two encoder replicas of their own."""
    config = """
    [server]
    replicas = 2
    drain_s = 5
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


def events(service: Service, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def wait_for(service: Service, name: str, count: int, seconds: float = 60) -> list[dict[str, object]]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = events(service, name)
        if len(found) >= count:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{len(events(service, name))} of {count} times '{name}':\n{service.log.read_text()[-2000:]}")


async def load_while(service: Service, event: object, *, seconds: float, retries: bool) -> LoadReport:
    """15 searches a second, which a slow machine bears too; `event` happens after one second."""
    load = asyncio.ensure_future(
        open_loop(service.address, QueryMix(QUERIES), rate=15, seconds=seconds, deadline_s=5, retries=retries)
    )
    await asyncio.sleep(1)
    await asyncio.to_thread(event)  # type: ignore[arg-type]
    return await load


async def test_a_killed_stage_replica_costs_no_call_but_those_it_had(replicated: Service) -> None:
    before = wait_for(replicated, "stage ready", 2)
    report = await load_while(
        replicated, lambda: os.kill(int(str(before[0]["pid"])), signal.SIGKILL), seconds=8, retries=False
    )
    assert set(report.codes) <= {"OK", "UNAVAILABLE"}
    assert report.codes["OK"] > 0.9 * report.calls
    wait_for(replicated, "stage ready", len(before) + 1)  # Serve has started another
    after = await open_loop(replicated.address, QueryMix(QUERIES), rate=15, seconds=2, deadline_s=5)
    assert set(after.codes) == {"OK"}


async def test_a_killed_gateway_replica_fails_with_unavailable_only_and_the_port_stays_served(
    replicated: Service,
) -> None:
    before = wait_for(replicated, "gateway ready", 2)
    report = await load_while(
        replicated, lambda: os.kill(int(str(before[0]["pid"])), signal.SIGKILL), seconds=8, retries=False
    )
    assert set(report.codes) <= {"OK", "UNAVAILABLE"}
    assert report.codes["OK"] > 0.8 * report.calls
    wait_for(replicated, "gateway ready", len(before) + 1)
    after = await open_loop(replicated.address, QueryMix(QUERIES), rate=15, seconds=2, deadline_s=5)
    assert set(after.codes) == {"OK"}


async def test_a_rolling_redeploy_fails_no_call_of_a_client_with_the_documented_retries(replicated: Service) -> None:
    ready, stopped = len(events(replicated, "gateway ready")), len(events(replicated, "gateway stopped"))

    def roll() -> None:
        replicated.process.send_signal(signal.SIGHUP)
        wait_for(replicated, "rolled out", 1, seconds=120)
        wait_for(replicated, "gateway stopped", stopped + 2, seconds=60)

    rolled = asyncio.ensure_future(asyncio.to_thread(roll))
    reports = []
    while not rolled.done() or not reports:
        reports.append(
            await open_loop(replicated.address, QueryMix(QUERIES), rate=15, seconds=3, deadline_s=8, retries=True)
        )
    await rolled
    assert len(events(replicated, "gateway ready")) == ready + 2
    assert all(set(report.codes) == {"OK"} for report in reports), [report.errors for report in reports]


async def test_overload_is_refused_at_once_with_a_retry_hint_and_leaves_no_trace(bundle_folder: Path) -> None:
    with served(bundle_folder, '[log]\nrequests = "off"\n[encoder]\nmax_wait_ms = 50\nthreads = 1\n') as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            long_query = "a very long and winding query about shoes " * 10

            async def call(n: int) -> grpc.aio.AioRpcError | None:
                try:
                    await stub.Search(search_pb2.SearchRequest(query=f"{long_query}{n}"), timeout=20)
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
                assert 0 < hint.retry_delay.ToMilliseconds() < 10_000
            assert await call(0) is None
            stats = await info_pb2_grpc.InfoServiceStub(channel).GetStats(info_pb2.GetStatsRequest())
            encoder = stats.stages[0]
            assert encoder.refused["full"] == len(at_first) + len(errors)
            assert encoder.queued_items == encoder.queued_cost == 0


async def test_a_stopping_service_finishes_what_it_has_and_turns_health_first(bundle_folder: Path) -> None:
    with served(bundle_folder, '[log]\nrequests = "off"\n') as service:
        async with grpc.aio.insecure_channel(service.address) as channel:
            stub = search_pb2_grpc.SearchServiceStub(channel)
            await stub.Search(search_pb2.SearchRequest(query="sofa"))
            calls = [stub.Search(search_pb2.SearchRequest(query=f"sofa {n}"), timeout=10) for n in range(100)]
            await asyncio.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*calls)
            assert all(answer.hits for answer in answers)
        assert await asyncio.to_thread(service.process.wait, 30) == 0
        assert not is_serving(service.address)
        wait_for(service, "gateway stopped", 1)
