"""A stage in Ray Serve replicas with their own CPU or GPU share.

Replicas are called with whole batches, two in flight for each live replica: one is computed while the next is on its way.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ServeStatus

from serving.config import LogConfig
from serving.errors import Unavailable
from serving.logs import configure_logging, log, logged_failure
from serving.metrics.metric import open_metrics
from serving.replica_address import bind_to_loopback
from serving.stages.stage import BatchedStage, Compute, Item, Result, StagePlan

BATCHES_PER_REPLICA = 2
REPLICA_POLL_S = 1.0
QUEUE_AGE = "queue_age_ms"
AGE_WINDOW_S = 5.0
DOWNSCALE_AFTER_S = 120.0
STAGE_APPS = "aisle-stage-"  # how the names of the stages' applications begin


class RemoteStage(BatchedStage[Item, Result]):
    """Computes in the replicas of a Serve deployment."""

    def __init__(self, plan: StagePlan[Item, Result], handle: DeploymentHandle) -> None:
        super().__init__(plan, lambda: BATCHES_PER_REPLICA * self._live)
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
        return await call_replicas(self._handle, self.name, items, self.batcher.oldest_wait_s() * 1000)

    async def _follow_replicas(self) -> None:
        """Follows the number of live replicas, which sets the number of batches in flight."""
        while True:
            try:
                self._live = num_running(await asyncio.to_thread(serve.status), self._handle)
                self.batcher.wake()
            except Exception:  # noqa: S110 - the controller restarts now and then; the last count holds until it answers
                pass
            await asyncio.sleep(REPLICA_POLL_S)


async def call_replicas(
    handle: DeploymentHandle, name: str, items: Sequence[Any], queue_age_ms: float, *, repeats: bool = True
) -> Any:
    """Sends one batch, and with `repeats` once more if its replica was lost: the compute has no side effect, so repeating it is safe. Where
    there is no other replica, that waits until there is one. Raises Unavailable if the batch is lost."""
    for attempt in (0, 1):
        try:
            return await handle.compute.remote(items, queue_age_ms)
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
    """A replica of a remote stage. It reports how long items wait for it at the gateways, which is what scales the stage."""

    def __init__(self, name: str, load: Callable[[], Compute[Any, Any]], logging: LogConfig, log_socket: str) -> None:
        bind_to_loopback()
        configure_logging(logging.format, logging.level, log_socket)
        open_metrics(f"stage-{name}", log_socket)
        with logged_failure(f"stage {name}"):
            self._work = load()
            self._work.warm_up()
        log.info("stage ready", extra={"fields": {"stage": name, "pid": os.getpid(), "backend": self._work.backend}})
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._ages: list[tuple[float, float]] = []

    def describe(self) -> str:
        return self._work.backend

    async def compute(self, items: list[Any], queue_age_ms: float) -> Sequence[Any]:
        self._ages.append((time.monotonic(), queue_age_ms))
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work.compute, items)

    def record_autoscaling_stats(self) -> dict[str, float]:
        since = time.monotonic() - AGE_WINDOW_S
        self._ages = [(at, age) for at, age in self._ages if at >= since]
        return {QUEUE_AGE: max((age for _, age in self._ages), default=0.0)}


class QueueAgePolicy:
    """Adds replicas while items leave the gateways' queues too old, and removes one when they have long been fresh.

    Serve's own signal, ongoing requests, counts batches and stays flat while the queue stands in the gateway.
    """

    def __init__(self, target_ms: float) -> None:
        self._target_ms = target_ms

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        ages = (context.aggregated_metrics or {}).get(QUEUE_AGE, {})
        age_ms = max(ages.values(), default=0.0)
        now = context.current_time or time.time()
        current = max(1, context.target_num_replicas)
        state = dict(context.policy_state or {})
        if age_ms > self._target_ms:
            target = current + (1 if age_ms < 4 * self._target_ms else current)
            settled = now - float(state.get("grew", 0.0)) > 2 * AGE_WINDOW_S  # let the last ones take their share first
            if settled and current == context.current_num_replicas:
                return min(target, context.capacity_adjusted_max_replicas), {"grew": now}
            return current, state
        if age_ms > self._target_ms / 4 or current <= context.capacity_adjusted_min_replicas:
            return current, {"grew": state.get("grew", 0.0)}
        fresh_since = float(state.get("fresh_since", now))
        if now - fresh_since > DOWNSCALE_AFTER_S:
            return current - 1, {"grew": state.get("grew", 0.0)}
        return current, {**state, "fresh_since": fresh_since}


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
                metrics_interval_s=2,
                look_back_period_s=6,
                upscale_delay_s=0,
                downscale_delay_s=0,
                policy=AutoscalingPolicy(
                    policy_function=QueueAgePolicy, policy_kwargs={"target_ms": config.target_queue_ms}
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
