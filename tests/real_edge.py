"""A real edge process, with gateways of the test behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from aisle.v1 import search_pb2, shopper_pb2
from serving.config import AisleConfig
from serving.edge.call_log import CallLog
from serving.gateway.edge import Edge
from serving.gateway.rpc import Call, Guard, Servicer, guarded

SEARCH = "/aisle.v1.SearchService/Search"


class Searching(Servicer):
    """Answers every search with what `answer` returns, and counts them."""

    descriptor = search_pb2.DESCRIPTOR.services_by_name["SearchService"]

    def __init__(self, config: AisleConfig | None = None) -> None:
        config = config or AisleConfig()
        self.guard = Guard(CallLog(config.log), config.server.max_message_bytes)
        self.calls: list[Call] = []
        self.answer: Callable[[], Any] = search_pb2.SearchResponse

    def stages_of(self, method: str) -> tuple[int, ...]:  # noqa: ARG002
        return (0,)

    @guarded("search")
    async def Search(self, _: search_pb2.SearchRequest, call: Call) -> search_pb2.SearchResponse:  # noqa: N802
        self.calls.append(call)
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    def raise_(self, error: Exception) -> None:
        def answer() -> search_pb2.SearchResponse:
            raise error

        self.answer = answer


class Streaming(Servicer):
    """Counts the batches of a stream of events."""

    descriptor = shopper_pb2.DESCRIPTOR.services_by_name["ShopperService"]

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def scope_of(self, method: str) -> str:  # noqa: ARG002
        return "events"

    @guarded("events")
    async def StreamEvents(self, requests: Any, _call: Call) -> shopper_pb2.StreamEventsResponse:  # noqa: N802
        response = shopper_pb2.StreamEventsResponse()
        async for _ in requests:
            response.batches.add()
        return response

    RecordEvents = GetHistory = ForgetShopper = StreamEvents


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def edge_config(**sections: Any) -> AisleConfig:
    server = {"port": free_port(), "drain_s": 1, **sections.pop("server", {})}
    return AisleConfig.model_validate({"server": server, "log": {"requests": "off"}, **sections})


@asynccontextmanager
async def gateway(config: AisleConfig, folder: Path, services: Sequence[Servicer], **more: Any) -> AsyncIterator[Edge]:
    """A gateway behind the edge of its port, until the block ends."""
    edge = Edge(
        config,
        services,
        services[0].guard,
        is_ready=more.pop("is_ready", lambda: True),
        log_socket=str(folder / "log.sock"),
        **more,
    )
    await edge.start()
    try:
        yield edge
    finally:
        await edge.drain()


@asynccontextmanager
async def channel(config: AisleConfig) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{config.server.port}", options=options) as opened:
        yield opened
