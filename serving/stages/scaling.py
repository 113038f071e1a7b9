"""How many replicas a remote stage has: what the gateways measure, how that reaches Serve's controller, and what it decides.

Serve's own signal, ongoing requests, counts batches and stays flat while the queue stands in the gateway. So each batch tells its replica
what its gateway knows (`GatewayLoad`), the replica reports the latest of each gateway, and `DemandPolicy` adds them up in the controller.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the policy is sent to the controller by value: it takes nothing along
    from ray.serve.config import AutoscalingContext

    from serving.stages.batcher import Batcher

NUMBERS = ("number", "queue_age_ms", "offered_per_s", "answered_per_s")  # of a load, that a replica reports
RATE_WINDOW_S = 1.0
READING_S = 0.1  # between the counts that rates are made of
HOLD_S = 5.0  # a gateway that sent no batch for so long has no load
# A replica is added when the age of the queue was above its target for so long: a machine that stops for a moment is no load.
CONFIRM_S = 0.75
SETTLE_S = 3.0  # after a change of the replicas, until the rates are those of the new number
UTILISATION = 0.75  # of what the replicas can do, that is planned with
SPEED_WEIGHT = 0.3  # of what the replicas do now, ten times a second
MAX_GROWTH = 4  # times the replicas that run: callers that are refused come again, and are counted again


@dataclass(frozen=True, slots=True)
class GatewayLoad:
    """What a gateway sees of a stage when it sends a batch."""

    gateway: str
    number: int  # of its batches: of two loads the greater is the newer
    queue_age_ms: float  # of the oldest item that this batch leaves in the queue
    offered_per_s: float  # cost of all items that came, with those that were refused
    answered_per_s: float


class LoadMeter:
    """Makes the rates of one gateway from the counts of its batcher. Belongs to the batcher's event loop."""

    def __init__(self, batcher: Batcher[Any, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._batcher = batcher
        self._clock = clock
        self._gateway = uuid.uuid4().hex[:12]
        self._number = 0
        self._readings: deque[tuple[float, float, float]] = deque([(clock(), 0.0, 0.0)])  # when, offered, answered

    def read(self) -> None:
        """Takes the counts of now. Call it now and then also while no batch is sent: the next rates are of the time since."""
        now = self._clock()
        if now - self._readings[-1][0] >= READING_S:
            self._readings.append((now, self._batcher.offered_cost, self._batcher.answered_cost))
        while len(self._readings) > 1 and now - self._readings[1][0] >= RATE_WINDOW_S:
            self._readings.popleft()

    def of_batch(self) -> GatewayLoad:
        """Returns the load to send with the batch that was just cut."""
        self.read()
        self._number += 1
        at, offered, answered = self._readings[0]
        seconds = max(self._clock() - at, READING_S)
        return GatewayLoad(
            self._gateway,
            self._number,
            1000 * self._batcher.oldest_wait_s(),
            (self._batcher.offered_cost - offered) / seconds,
            (self._batcher.answered_cost - answered) / seconds,
        )


class HeardLoads:
    """What a replica heard of the gateways, as the numbers that Serve takes to its controller."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loads: dict[str, tuple[float, GatewayLoad]] = {}

    def hear(self, load: GatewayLoad) -> None:
        before = self._loads.get(load.gateway)
        if before is None or before[1].number < load.number:
            self._loads[load.gateway] = (self._clock(), load)

    def stats(self) -> dict[str, float]:
        """Returns the numbers of each gateway's latest load by `gateway:field`."""
        since = self._clock() - HOLD_S
        self._loads = {gateway: heard for gateway, heard in self._loads.items() if heard[0] >= since}
        loads = [load for _, load in self._loads.values()]
        return {f"{load.gateway}:{name}": float(getattr(load, name)) for load in loads for name in NUMBERS}


@dataclass(frozen=True, slots=True)
class TotalLoad:
    """The load of all gateways: the age of the oldest of their queues, the sums of their rates."""

    queue_age_ms: float
    offered_per_s: float
    answered_per_s: float


def total_load(metrics: Mapping[str, Mapping[Any, Any]], now: float) -> TotalLoad:
    """Adds up the loads of all gateways. `metrics` has a time series for each `gateway:field` and replica; of the replicas that heard a
    gateway, the one counts that heard of its newest batch. `now` is in seconds since the epoch."""
    heard: dict[tuple[str, Any], dict[str, float]] = {}
    for key, by_replica in metrics.items():
        gateway, _, name = key.partition(":")
        for replica, series in by_replica.items():
            if name in NUMBERS and series and now - series[-1].timestamp < 2 * HOLD_S:
                heard.setdefault((gateway, replica), {})[name] = series[-1].value
    newest: dict[str, dict[str, float]] = {}
    for (gateway, _), fields in heard.items():
        if len(fields) == len(NUMBERS) and fields["number"] > newest.get(gateway, {}).get("number", 0):
            newest[gateway] = fields
    loads = newest.values()
    return TotalLoad(
        max((load["queue_age_ms"] for load in loads), default=0.0),
        sum(load["offered_per_s"] for load in loads),
        sum(load["answered_per_s"] for load in loads),
    )


class DemandPolicy:
    """Adds the replicas that the load needs as soon as queues are too old, and removes those that it has long not needed.

    What a replica can do shows in what is answered while a queue stands: below that, batches get smaller and no replica is idle for it.
    So a queue says *when* to grow, and the rates say *to what*. Belongs to one deployment, in the controller.
    """

    def __init__(self, target_ms: float, scale_down_after_s: float) -> None:
        self._target_ms = target_ms
        self._scale_down_after_s = scale_down_after_s
        self._live, self._changed = 0, 0.0  # replicas that run, and since when
        self._over_since = math.inf
        self._speed = 0.0  # cost a second of one replica; 0: never seen at its limit
        self._surplus_since = math.inf
        self._surplus_need = 0

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now = context.current_time or time.time()
        return self.decide(context, total_load(context.raw_metrics or {}, now), now), {}

    def decide(self, context: AutoscalingContext, load: TotalLoad, now: float) -> int:
        """Returns the number of replicas to have. `now` is in seconds."""
        target, live = max(1, context.target_num_replicas), context.current_num_replicas
        if live != self._live:
            self._live, self._changed = live, now
        is_steady = now - self._changed >= SETTLE_S
        self._over_since = min(self._over_since, now) if load.queue_age_ms > self._target_ms else math.inf
        if now - self._over_since >= CONFIRM_S:
            self._surplus_since = math.inf
            if is_steady and live:
                self._learn(load.answered_per_s / live)
            least = target + 1 if is_steady and live == target else target
            need = min(self._need(load), MAX_GROWTH * max(1, live))
            return min(max(need, least), context.capacity_adjusted_max_replicas)
        return self._without_surplus(target, load, now, context.capacity_adjusted_min_replicas)

    def _learn(self, speed: float) -> None:
        self._speed += (SPEED_WEIGHT if self._speed else 1.0) * (speed - self._speed)

    def _need(self, load: TotalLoad) -> int:
        """Returns how many replicas the load needs; 0 if that is not known."""
        return math.ceil(load.offered_per_s / (self._speed * UTILISATION)) if self._speed else 0

    def _without_surplus(self, target: int, load: TotalLoad, now: float, least: int) -> int:
        """Returns the most replicas that were needed at any time of the cool-down; `target` before it is over. Where the need is not known
        one replica is given up."""
        need = max(least, self._need(load) if self._speed else target - 1)
        if need >= target:
            self._surplus_since = math.inf
            return target
        if self._surplus_since == math.inf:
            self._surplus_since, self._surplus_need = now, need
        self._surplus_need = max(self._surplus_need, need)
        if now - self._surplus_since < self._scale_down_after_s:
            return target
        self._surplus_since = math.inf
        return self._surplus_need
