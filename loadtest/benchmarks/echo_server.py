"""Echo servers to measure the gateway's own cost: the same SearchRequest in, the same prepared SearchResponse out.

python -m loadtest.benchmarks.echo_server bare 7001      # grpc.aio and nothing else
python -m loadtest.benchmarks.echo_server gateway 7002   # the gateway's listener and guard, inside a Ray Serve deployment
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import grpc
from ray import serve

from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.generator.empty_server import prepared_answer
from serving import cluster
from serving.config import AisleConfig, LogConfig, ServerConfig
from serving.edge.call_log import CallLog
from serving.gateway.edge import Edge
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.run_folder import run_folder

METHOD = "/aisle.v1.SearchService/Search"
REQUEST = search_pb2.SearchRequest(query="noise cancelling headphones", locale="en-US").SerializeToString()


class BareEcho(search_pb2_grpc.SearchServiceServicer):
    def __init__(self) -> None:
        self._answer = prepared_answer()

    async def Search(  # noqa: N802
        self, _request: search_pb2.SearchRequest, _context: grpc.aio.ServicerContext[object, object]
    ) -> search_pb2.SearchResponse:
        return self._answer


class GuardedEcho(Servicer):
    def __init__(self, guard: Guard) -> None:
        # Of the instance: this module runs as a script, so its classes are sent to Ray by value, and a descriptor cannot be pickled.
        self.descriptor = search_pb2.DESCRIPTOR.services_by_name["SearchService"]
        self.guard = guard
        self._answer = prepared_answer()

    @guarded("search")
    async def Search(self, _: search_pb2.SearchRequest, _call: Call) -> search_pb2.SearchResponse:  # noqa: N802
        return self._answer


class EchoGateway:
    """What the gateway deployment is, less the pipeline."""

    async def __init__(self, port: int) -> None:  # type: ignore[misc]  # Serve awaits it
        guard = Guard(CallLog(LogConfig()))
        config = AisleConfig(server=ServerConfig(port=port))
        self._edge = Edge(config, [GuardedEcho(guard)], guard, is_ready=lambda: True)
        await self._edge.start()

    async def __del__(self) -> None:
        if edge := getattr(self, "_edge", None):
            await edge.drain()


async def serve_bare(port: int) -> None:
    server = grpc.aio.server()
    search_pb2_grpc.add_SearchServiceServicer_to_server(BareEcho(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def serve_gateway(port: int) -> None:
    with run_folder(port) as folder:
        cluster.start_ray(folder)
        serve.run(serve.deployment(EchoGateway, ray_actor_options={"num_cpus": 0}).bind(port), route_prefix=None)
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        ended.wait()
        cluster.stop(is_own=True)


if __name__ == "__main__":
    kind, port_text = sys.argv[1:]
    if kind == "bare":
        asyncio.run(serve_bare(int(port_text)))
    else:
        serve_gateway(int(port_text))
