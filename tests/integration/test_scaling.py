"""A remote stage grows when items wait for it at the gateway."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc

from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, served

CONFIG = """
[encoder]
placement = "remote"
min_replicas = 1
max_replicas = 2
target_queue_ms = 2
max_wait_ms = 5000
num_cpus = 0.1
threads = 1
[log]
requests = "off"
[server]
max_deadline_ms = 300000
"""


def stages_ready(service: Service) -> int:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return sum(line["event"] == "stage ready" for line in lines)


async def test_a_standing_queue_adds_a_replica_and_the_gateway_uses_it(bundle_folder: Path) -> None:
    with served(bundle_folder, CONFIG) as service:
        assert stages_ready(service) == 1
        async with grpc.aio.insecure_channel(service.address) as channel:
            search = search_pb2_grpc.SearchServiceStub(channel)
            stop = asyncio.Event()

            async def ask(number: int) -> None:
                while not stop.is_set():
                    try:
                        await search.Search(search_pb2.SearchRequest(query=f"red sofa {number} " * 20))
                    except grpc.aio.AioRpcError as error:
                        if (
                            error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
                        ):  # the queue is to stand, so it may also be full
                            raise
                        await asyncio.sleep(0.05)

            load = [asyncio.ensure_future(ask(number)) for number in range(64)]
            for _ in range(240):
                await asyncio.sleep(1)
                stats = await info_pb2_grpc.InfoServiceStub(channel).GetStats(info_pb2.GetStatsRequest())
                if stats.stages[0].replicas == 2:
                    break
            stop.set()
            await asyncio.gather(*load)
            assert stages_ready(service) == 2
            assert stats.stages[0].replicas == 2
            assert stats.stages[0].placement == "remote"
