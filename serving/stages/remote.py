"""A stage in Ray Serve replicas with their own CPU or GPU share.

Replicas are called with whole batches, two in flight for each live replica: one is computed while the next is on its way.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ServeStatus

from serving.config import LogConfig
from serving.errors import Unavailable
from serving.logs import configure_logging, log, logged_failure
from serving.metrics.metric import open_metrics
from serving.replica_address import bind_to_loopback
from serving.stages.scaling import DemandPolicy, GatewayLoad, HeardLoads, LoadMeter
from serving.stages.stage import BatchedStage, Compute, Item, Result, StagePlan

BATCHES_PER_REPLICA = 2
REPLICA_POLL_S = 0.5
METRICS_S = 0.5  # between two reports of a replica
STAGE_APPS = "aisle-stage-"  # how the names of the stages' applications begin


class RemoteStage(BatchedStage[Item, Result]):
    """Computes in the replicas of a Serve deployment."""

    def __init__(self, plan: StagePlan[Item, Result], handle: DeploymentHandle) -> None:
        super().__init__(plan, lambda: BATCHES_PER_REPLICA * self._live)
        self._load = LoadMeter(self.batcher)
        self._handle = handle
        self._live = 0
        self._poll: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, plan: StagePlan[Item, Result], version: str) -> RemoteStage[Item, Result]:
        """Calls the replicas that serve this version of the bundle."""
        stage = cls(plan, await asyncio.to_thread(serve.get_app_handle, stage_app_name(plan, version)))
        stage.backend = await stage._handle.describe.remote()
        stage._live = max(1, plan.config.min_replicas)
        stage._poll = asyncio.ensure_future(stage._follow_replicas())
        return stage

    def replicas(self) -> int:
        return self._live

    async def close(self) -> None:
        await super().close()
        if self._poll:
            self._poll.cancel()

    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]:
        return await call_replicas(self._handle, self.name, items, self._load.of_batch())

    async def _follow_replicas(self) -> None:
        """Follows the number of live replicas, which sets the number of batches in flight."""
        while True:
            try:
                self._live = num_running(await asyncio.to_thread(serve.status), self._handle)
                self.batcher.wake()
            except Exception:  # noqa: S110 - the controller restarts now and then; the last count holds until it answers
                pass
            self._load.read()
            await asyncio.sleep(REPLICA_POLL_S)


async def call_replicas(
    handle: DeploymentHandle, name: str, items: Sequence[Any], load: GatewayLoad, *, repeats: bool = True
) -> Any:
    """Sends one batch, and with `repeats` once more if its replica was lost: the compute has no side effect, so repeating it is safe. Where
    there is no other replica, that waits until there is one. Raises Unavailable if the batch is lost."""
    for attempt in (0, 1):
        try:
            return await handle.compute.remote(items, load)
        except RayTaskError as error:  # the stage's own code raised
            raise RuntimeError(f"stage {name} failed") from error
        except (RayActorError, DeploymentUnavailableError, BackPressureError, ray.exceptions.RayError) as error:
            if attempt or not repeats:
                raise Unavailable(f"the {name} stage lost a replica; send the call again") from error
    raise AssertionError("unreachable")


def num_running(status: ServeStatus, handle: DeploymentHandle) -> int:
    """Returns how many replicas of a deployment run."""
    app = status.applications.get(handle.app_name)
    deployment = app.deployments.get(handle.deployment_name) if app else None
    return deployment.replica_states.get("RUNNING", 0) if deployment else 0


class StageReplica:
    """A replica of a remote stage. It reports the load that the gateways tell it of, which is what scales the stage."""

    def __init__(self, name: str, load: Callable[[], Compute[Any, Any]], logging: LogConfig, log_socket: str) -> None:
        bind_to_loopback()
        configure_logging(logging.format, logging.level, log_socket)
        open_metrics(f"stage-{name}", log_socket)
        with logged_failure(f"stage {name}"):
            self._work = load()
            self._work.warm_up()
        log.info("stage ready", extra={"fields": {"stage": name, "pid": os.getpid(), "backend": self._work.backend}})
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._loads = HeardLoads()

    def describe(self) -> str:
        return self._work.backend

    async def compute(self, items: list[Any], load: GatewayLoad) -> Sequence[Any]:
        self._loads.hear(load)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work.compute, items)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._loads.stats()


def stage_app_name(plan: StagePlan[Any, Any], version: str) -> str:
    return f"{STAGE_APPS}{plan.name}-{version}"


def stage_app(plan: StagePlan[Any, Any], logging: LogConfig, log_socket: str) -> serve.Application:
    """Returns the Serve application of a remote stage."""
    config = plan.config
    scaling: dict[str, Any] = {"num_replicas": config.min_replicas}
    if config.max_replicas > config.min_replicas:
        scaling = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=config.min_replicas,
                max_replicas=config.max_replicas,
                metrics_interval_s=METRICS_S,
                look_back_period_s=4 * METRICS_S,
                upscale_delay_s=0,
                downscale_delay_s=0,
                policy=AutoscalingPolicy(
                    policy_function=DemandPolicy,
                    policy_kwargs={
                        "target_ms": config.target_queue_ms,
                        "scale_down_after_s": config.scale_down_after_s,
                    },
                ),
            )
        }
    deployment = serve.deployment(
        StageReplica,
        name=f"stage-{plan.name}",
        # Serve's default of 5 would cap the batches in flight; every gateway may have two.
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        max_surge_percent=100,
        health_check_period_s=0.5,  # a killed replica is noticed by it: with 2 seconds its place was empty half a second longer
        max_constructor_retry_count=1,  # what fails once at a rollout fails again; a replica that is lost later is always replaced
        graceful_shutdown_timeout_s=20,
        **scaling,
    )
    return deployment.bind(plan.name, plan.load, logging, log_socket)
