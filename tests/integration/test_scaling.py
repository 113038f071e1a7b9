"""A remote stage follows its load, up and down, and no call is lost; stages share a GPU. Ray is real, devices and the GPU are simulated."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import ray
from ray import serve
from ray.serve.schema import ApplicationStatus

from serving.config import LightStageConfig, LogConfig
from serving.errors import Overloaded
from serving.stages.remote import RemoteStage, stage_app, stage_app_name
from serving.stages.stage import StagePlan

VERSION = "test"
BATCH, BATCH_S = 8, 0.04
CAPACITY = BATCH / BATCH_S  # items a second of one replica
WAIT_S = 240.0


class Doubling:
    """A simulated device: it takes the same time for every batch."""

    max_batch_cost = BATCH
    backend = "simulated"

    def warm_up(self) -> None:
        """Is always warm."""

    def compute(self, items: Sequence[int]) -> Sequence[int]:
        time.sleep(BATCH_S)
        return [2 * item for item in items]


class GpuNames(Doubling):
    """Answers with the GPUs that its process may use."""

    def compute(self, items: Sequence[int]) -> Sequence[Any]:
        return [os.environ.get("CUDA_VISIBLE_DEVICES") for _ in items]


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """A Ray whose one GPU is a number that it counts down."""
    ray.init(
        address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()
    ray.shutdown()


def plan(name: str, compute: Callable[[], Any], **config: Any) -> StagePlan[Any, Any]:
    config = {"placement": "remote", "num_cpus": 0.1} | config
    return StagePlan(name=name, config=LightStageConfig(**config), load=compute, max_batch_cost=BATCH)


def deploy(*stages: StagePlan[Any, Any], waits: bool = True) -> None:
    targets = [
        serve.RunTarget(stage_app(stage, LogConfig(), ""), name=stage_app_name(stage, VERSION), route_prefix=None)
        for stage in stages
    ]
    serve.run_many(targets, wait_for_applications_running=waits)


def running(stages: Sequence[StagePlan[Any, Any]]) -> list[StagePlan[Any, Any]]:
    apps = serve.status().applications
    return [stage for stage in stages if apps[stage_app_name(stage, VERSION)].status is ApplicationStatus.RUNNING]


async def test_two_gateways_grow_and_shrink_a_stage_and_lose_no_call() -> None:
    stage = plan("doubling", Doubling, max_replicas=2, target_queue_ms=80, scale_down_after_s=2)
    deploy(stage)
    gateways = [await RemoteStage.start(stage, VERSION) for _ in range(2)]
    ends: Counter[str] = Counter()

    async def ask(number: int) -> None:
        try:
            outcome = await gateways[number % 2](number, cost=1, deadline=time.monotonic() + 60)
            ends["right" if outcome.value == 2 * number else "wrong"] += 1
        except Overloaded:
            ends["refused"] += 1

    async def load_until(replicas: int, rate: float) -> None:
        """Sends items until all gateways know of so many replicas."""
        calls, start = [], time.monotonic()
        while any(gateway.replicas() != replicas for gateway in gateways):
            assert time.monotonic() < start + WAIT_S, [gateway.replicas() for gateway in gateways]
            while len(calls) < rate * (time.monotonic() - start):
                calls.append(asyncio.ensure_future(ask(len(calls))))
            await asyncio.sleep(0.005)
        await asyncio.gather(*calls)

    await load_until(2, 1.4 * CAPACITY)
    assert ends["right"] > CAPACITY
    await load_until(1, 0.1 * CAPACITY)
    assert set(ends) <= {"right", "refused"}
    for gateway in gateways:
        await gateway.close()


async def test_two_stages_share_a_gpu_and_a_third_waits() -> None:
    stages = [plan(name, GpuNames, num_gpus=0.5) for name in ("first", "second", "third")]
    deploy(*stages, waits=False)
    give_up = time.monotonic() + WAIT_S
    while len(running(stages)) < 2 and time.monotonic() < give_up:  # noqa: ASYNC110 - Serve tells nobody
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # in which the third would have started
    up = running(stages)
    assert len(up) == 2
    for stage in up:
        gateway = await RemoteStage.start(stage, VERSION)
        assert (await gateway(0, cost=1, deadline=time.monotonic() + WAIT_S)).value == "0"
        await gateway.close()
