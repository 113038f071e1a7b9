"""A stage is plain compute with a batcher in front; where it computes, the pipeline cannot tell.

`local`: in the gateway's process, on a thread of its own. `remote`: in Ray Serve replicas with their own CPU or GPU share, called with
whole batches, two in flight for each live replica, so that one is computed while the next is on its way.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serving.config import LightStageConfig, LogConfig
from serving.errors import Unavailable
from serving.logs import configure_logging, log
from serving.stages.batcher import Batcher, Outcome
from serving.stages.lone_calls import LoneCalls

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

BATCHES_PER_REPLICA = 2
# Below the event loop, which has to read the calls that the next batch is made of (and to refuse those that are too many): without it
# the loop waits for its turn behind the stages' threads, and calls grow old unread.
COMPUTE_NICENESS = 2
LONE_COMPUTE_S = 0.005  # what the event loop may be held up for
REPLICA_POLL_S = 1.0
QUEUE_AGE = "queue_age_ms"
AGE_WINDOW_S = 5.0
DOWNSCALE_AFTER_S = 120.0


class Compute(Protocol[Item_contra, Result_co]):
    """The work of a stage. Called from one thread at a time."""

    max_batch_cost: int
    backend: str

    def warm_up(self) -> None: ...

    def compute(self, items: Sequence[Item_contra]) -> Sequence[Result_co | Exception]: ...


@dataclass(frozen=True, slots=True)
class StagePlan(Generic[Item, Result]):
    """How to make a stage: `load` runs in the process that computes; the rest must be known without loading it. One that `is_long`
    never computes on the event loop, which would have to wait for it."""

    name: str
    config: LightStageConfig
    load: Callable[[], Compute[Item, Result]]
    max_batch_cost: int
    is_long: bool = False


class Stage(Generic[Item, Result]):
    """What the pipeline calls. Made by `LocalStage.start` or `RemoteStage.start`."""

    def __init__(self, plan: StagePlan[Item, Result], slots: Callable[[], int]) -> None:
        self.name = plan.name
        self.placement = plan.config.placement
        self.backend = ""
        self.batcher: Batcher[Item, Result] = Batcher(
            self._compute,
            max_batch_cost=plan.max_batch_cost,
            slots=slots,
            max_wait_s=plan.config.max_wait_ms / 1000,
        )

    async def __call__(self, item: Item, *, cost: int, deadline: float, admitted: bool = False) -> Outcome[Result]:
        """`admitted` as in `Batcher.submit`."""
        if not self.replicas():
            raise Unavailable(f"no replica of the {self.name} stage is up; send the call again")
        return await self.batcher.submit(item, cost=cost, deadline=deadline, admitted=admitted)

    def replicas(self) -> int:
        """How many replicas can compute now."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.batcher.close()

    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]:
        raise NotImplementedError


class LocalStage(Stage[Item, Result]):
    """Computes in this process."""

    def __init__(self, plan: StagePlan[Item, Result], lone_calls: LoneCalls) -> None:
        super().__init__(plan, lambda: 1)
        self._thread = concurrent.futures.ThreadPoolExecutor(
            1, thread_name_prefix=f"aisle-{plan.name}", initializer=_yield_to_the_event_loop
        )
        # On its thread, so that the threads that it starts are as nice.
        self._work = self._thread.submit(plan.load).result()
        self.backend = self._work.backend
        self._lone_calls = lone_calls
        self._lone_s = math.inf if plan.is_long else 0.0

    @classmethod
    async def start(cls, plan: StagePlan[Item, Result], lone_calls: LoneCalls) -> LocalStage[Item, Result]:
        stage = await asyncio.to_thread(cls, plan, lone_calls)
        await asyncio.get_running_loop().run_in_executor(stage._thread, stage._work.warm_up)
        return stage

    def replicas(self) -> int:
        return 1

    async def close(self) -> None:
        await super().close()
        self._thread.shutdown(wait=False)

    async def _compute(self, items: list[Item]) -> Sequence[Result | Exception]:
        if len(items) == 1 and self._lone_s <= LONE_COMPUTE_S and self._lone_calls.is_lone():
            # On the event loop, which spares two wake-ups of sleeping threads. Only while calls come one at a time: nothing is read
            # meanwhile, so that with 32 clients who are all answered like this the mean batch is 1.1, not 13.
            return self._compute_lone(items)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work.compute, items)

    def _compute_lone(self, items: list[Item]) -> Sequence[Result | Exception]:
        started = time.monotonic()
        results = self._work.compute(items)
        # Rises by a tenth at most: one slow computation must not end this, as only what is computed here is measured.
        self._lone_s = min(1.1 * self._lone_s + 1e-6, time.monotonic() - started)
        return results


def _yield_to_the_event_loop() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), COMPUTE_NICENESS)


class RemoteStage(Stage[Item, Result]):
    """Computes in the replicas of a Serve deployment."""

    def __init__(self, plan: StagePlan[Item, Result], handle: DeploymentHandle) -> None:
        super().__init__(plan, lambda: BATCHES_PER_REPLICA * self._live)
        self._handle = handle
        self._live = 0
        self._poll: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, plan: StagePlan[Item, Result], handle: DeploymentHandle) -> RemoteStage[Item, Result]:
        stage = cls(plan, handle)
        stage.backend = await handle.describe.remote()
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
        """One batch, sent again once if its replica was lost: the compute has no effect, so repeating it is safe."""
        queue_age_ms = self.batcher.oldest_wait_s() * 1000
        for attempt in (0, 1):
            try:
                return await self._handle.compute.remote(items, queue_age_ms)
            except RayTaskError as error:  # the stage's own code raised
                raise RuntimeError(f"stage {self.name} failed") from error
            except (RayActorError, DeploymentUnavailableError, BackPressureError, ray.exceptions.RayError) as error:
                if attempt:
                    raise Unavailable(f"the {self.name} stage lost a replica; send the call again") from error
        raise AssertionError("unreachable")

    async def _follow_replicas(self) -> None:
        """Keeps the number of live replicas, which is the number of batches that make sense in flight."""
        name = self._handle.deployment_name
        while True:
            try:
                status = await asyncio.to_thread(serve.status)
                deployment = next(
                    app.deployments[name] for app in status.applications.values() if name in app.deployments
                )
                self._live = deployment.replica_states.get("RUNNING", 0)
                self.batcher.wake()
            except Exception:  # noqa: S110 - the controller restarts now and then; the last count holds until it answers
                pass
            await asyncio.sleep(REPLICA_POLL_S)


class StageReplica:
    """A replica of a remote stage. Reports how long items wait for it at the gateways, which is what scales it."""

    def __init__(self, name: str, load: Callable[[], Compute[Any, Any]], logging: LogConfig, log_socket: str) -> None:
        configure_logging(logging.format, logging.level, log_socket)
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
    """Adds replicas when batches leave the gateways' queues too old, takes one away when they have long been fresh.

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
            wanted = current + (1 if age_ms < 4 * self._target_ms else current)
            settled = now - float(state.get("grew", 0.0)) > 2 * AGE_WINDOW_S  # let the last ones take their share first
            if settled and current == context.current_num_replicas:
                return min(wanted, context.capacity_adjusted_max_replicas), {"grew": now}
            return current, state
        if age_ms > self._target_ms / 4 or current <= context.capacity_adjusted_min_replicas:
            return current, {"grew": state.get("grew", 0.0)}
        fresh_since = float(state.get("fresh_since", now))
        if now - fresh_since > DOWNSCALE_AFTER_S:
            return current - 1, {"grew": state.get("grew", 0.0)}
        return current, {**state, "fresh_since": fresh_since}


def stage_deployment(plan: StagePlan[Any, Any], logging: LogConfig, log_socket: str) -> Any:
    """The Serve application node of a remote stage."""
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
        # Serve's default of 5 would cap the batches in flight; every gateway may have two on its way.
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        max_surge_percent=100,
        health_check_period_s=2,
        graceful_shutdown_timeout_s=20,
        **scaling,
    )
    return deployment.bind(plan.name, plan.load, logging, log_socket)
