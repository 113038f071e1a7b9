"""Calls through a real edge become spans at a real collector: a gRPC server of OTLP in this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", reason="the extra 'otel' is not installed")

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from aisle.v1 import search_pb2
from serving.config import AisleConfig, TracesConfig
from serving.errors import Overloaded, Unavailable
from serving.logs import LineFormat, log
from serving.shoppers.counted_store import CountedStore
from serving.stages.batcher import Batcher
from serving.stages.stage_observer import StageObserver
from serving.traces.otlp import OtlpTracer
from tests.otlp_collector import NOT_SAMPLED, PARENT, SAMPLED, TRACE, Collector, collecting
from tests.real_edge import SEARCH, Searching, channel, edge_config, free_port, gateway

QUERY = "secret present for anna"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def collector(port: int) -> Iterator[Collector]:
    with collecting(port) as collector:
        yield collector


class Stage:
    """A batcher of the test, which computes what `compute` returns."""

    def __init__(self) -> None:
        self.batcher: Batcher[int, int] = Batcher(
            self._compute, max_batch_cost=64, observer=StageObserver("retriever", "local")
        )

    async def _compute(self, items: list[int]) -> Sequence[int | Exception]:
        await asyncio.sleep(0.01)
        return items

    async def answer(self) -> search_pb2.SearchResponse:
        await self.batcher.submit(1, cost=3)
        return search_pb2.SearchResponse()


class EmptyStore:
    async def version(self, _: str) -> int:
        return 0


@asynccontextmanager
async def traced(folder: Path, port: int, share: float) -> AsyncIterator[tuple[AisleConfig, Searching]]:
    """A gateway that traces; its spans are at the collector when the block has ended."""
    config = edge_config(traces={"endpoint": f"http://127.0.0.1:{port}", "share": share})
    searching = Searching(config)
    tracer = OtlpTracer(config.traces, {"aisle.bundle": "b1"})
    searching.guard.tracer = tracer
    async with gateway(config, folder, [searching]):
        yield config, searching
    await asyncio.to_thread(tracer.close)


async def search(opened: grpc.aio.Channel, *metadata: tuple[str, str]) -> Any:
    call = opened.unary_unary(SEARCH)
    return await call(search_pb2.SearchRequest(query=QUERY, shopper_id="anna").SerializeToString(), metadata=metadata)


async def test_a_call_of_a_sampled_trace_is_a_span_with_its_stages_in_its_callers_trace(
    tmp_path: Path, collector: Collector, port: int
) -> None:
    async with traced(tmp_path, port, 0.0) as (config, searching), channel(config) as opened:
        searching.answer = Stage().answer
        await search(opened, ("traceparent", SAMPLED), ("x-request-id", "r-1"))
    server = collector.one("aisle.v1.SearchService/Search")
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert server.kind == Span.SPAN_KIND_SERVER
    facts = {pair.key: pair.value.string_value for pair in server.attributes}
    assert facts["aisle.request_id"] == "r-1"
    assert facts["rpc.response.status_code"] == "OK"
    stage = collector.one("stage retriever")
    assert stage.parent_span_id == server.span_id
    assert server.start_time_unix_nano <= stage.start_time_unix_nano
    assert stage.end_time_unix_nano <= server.end_time_unix_nano
    assert 9e6 < stage.end_time_unix_nano - stage.start_time_unix_nano < 1e9
    assert collector.resource["aisle.bundle"] == "b1"
    sent = b"".join(span.SerializeToString() for span in collector.spans)
    assert b"anna" not in sent  # neither query nor shopper


async def test_a_batch_is_linked_with_the_items_of_the_calls_that_it_served(
    tmp_path: Path, collector: Collector, port: int
) -> None:
    stage = Stage()
    async with traced(tmp_path, port, 0.0) as (config, searching), channel(config) as opened:
        searching.answer = stage.answer
        other = SAMPLED.replace("4bf9", "5bf9")
        await asyncio.gather(
            search(opened, ("traceparent", SAMPLED)), search(opened, ("traceparent", other)), search(opened)
        )
    items = collector.named("stage retriever")
    assert len({item.trace_id for item in items}) == len(items) == 2
    batches = collector.named("batch retriever")
    assert {link.span_id for batch in batches for link in batch.links} == {item.span_id for item in items}
    assert {link.span_id for item in items for link in item.links} == {batch.span_id for batch in batches}
    assert all(batch.trace_id not in {item.trace_id for item in items} for batch in batches)


async def test_a_caller_that_did_not_sample_is_followed_and_others_are_drawn(
    tmp_path: Path, collector: Collector, port: int
) -> None:
    async with traced(tmp_path, port, 1.0) as (config, _), channel(config) as opened:
        await search(opened, ("traceparent", NOT_SAMPLED))
        await search(opened, ("traceparent", "no traceparent"))
    span = collector.one("aisle.v1.SearchService/Search")
    assert span.trace_id.hex() != TRACE
    assert not span.parent_span_id


async def test_an_error_of_the_server_is_one_and_a_refusal_is_none(
    tmp_path: Path, collector: Collector, port: int
) -> None:
    async with traced(tmp_path, port, 1.0) as (config, searching), channel(config) as opened:
        for error in (Unavailable("gone"), Overloaded(1)):
            searching.raise_(error)
            with pytest.raises(grpc.RpcError):
                await search(opened)
    codes = {
        pair.value.string_value: span.status.code
        for span in collector.spans
        for pair in span.attributes
        if pair.key == "error.type"
    }
    assert codes == {"UNAVAILABLE": Status.STATUS_CODE_ERROR, "RESOURCE_EXHAUSTED": Status.STATUS_CODE_UNSET}


async def test_reads_of_the_shopper_store_are_spans(tmp_path: Path, collector: Collector, port: int) -> None:
    store = CountedStore(EmptyStore())  # type: ignore[arg-type]

    async def answer() -> search_pb2.SearchResponse:
        await store.version("anna")
        return search_pb2.SearchResponse()

    async with traced(tmp_path, port, 1.0) as (config, searching), channel(config) as opened:
        searching.answer = answer
        await search(opened)
    assert collector.one("store version").parent_span_id == collector.one("aisle.v1.SearchService/Search").span_id


async def test_lines_of_the_log_have_the_trace(
    tmp_path: Path, collector: Collector, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(LineFormat("json").format(record))

    monkeypatch.setattr(log, "handlers", [Lines()])
    monkeypatch.setattr(log, "level", logging.INFO)
    async with traced(tmp_path, port, 0.0) as (config, searching), channel(config) as opened:

        def answer() -> search_pb2.SearchResponse:
            log.warning("something")
            return search_pb2.SearchResponse()

        searching.answer = answer
        await search(
            opened, ("traceparent", NOT_SAMPLED)
        )  # nobody sees the spans: the line still tells where it belongs
        await search(opened)
    told = [line for line in lines if '"something"' in line]
    assert [f'"trace_id": "{TRACE}"' in line for line in told] == [True, False]
    assert "trace_id" not in told[1]


async def test_a_collector_that_is_away_costs_no_call(tmp_path: Path, port: int) -> None:
    began = time.monotonic()
    async with traced(tmp_path, port, 1.0) as (config, searching), channel(config) as opened:
        searching.answer = Stage().answer
        for _ in range(20):
            await asyncio.gather(*(search(opened) for _ in range(50)))  # more spans than may wait
        answered_s = time.monotonic() - began
    assert len(searching.calls) == 1000
    assert time.monotonic() - began - answered_s < 10  # it is not waited for at the end


async def test_a_slow_collector_costs_no_call(tmp_path: Path, collector: Collector, port: int) -> None:
    collector.delay_s = 3.0
    async with traced(tmp_path, port, 1.0) as (config, searching), channel(config) as opened:
        slowest = 0.0
        for _ in range(100):
            sent = time.monotonic()
            await asyncio.wait_for(search(opened), 2)
            slowest = max(slowest, time.monotonic() - sent)
    assert len(searching.calls) == 100
    assert slowest < collector.delay_s


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match=r"endpoint must begin with http:// or https:// \(it is 'collector:4317'\)"):
        TracesConfig(endpoint="collector:4317")
