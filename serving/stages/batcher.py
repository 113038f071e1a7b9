"""Turns single items into batches for a stage whose compute is cheaper per item in a batch.

The batcher pulls: a batch is made of what is queued at the moment the stage is free, so an idle stage adds no wait and a
busy one gets larger batches the busier it is, with nothing to tune. Its promises, each held by a test:

- every item that was accepted is answered exactly once, with its own result or its own error;
- a batch costs at most `max_batch_cost` (counted with padding), unless it is a single item;
- callers take turns by cost; the items of one caller leave in order of their deadlines, first come first served among equals;
- an item whose caller left or whose deadline passed is never computed;
- an item that makes its batch fail fails alone;
- what cannot be answered in time is refused at once, with the time after which to try again;
- a burst of items that finds the stage free is refused for deadlines only.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from serving.errors import DeadlineExceeded, Overloaded, Unavailable
from serving.stages.caller import CALLER
from serving.stages.fair_queue import FairQueue
from serving.stages.stage_observer import StageObserver
from serving.traces.trace import TRACE, CallTrace

Item = TypeVar("Item")
Result = TypeVar("Result")

RECENT = 2048  # items whose times make the quantiles
COLD_QUEUE_BATCHES = 64  # bound of the queue until the stage's speed is known
LONG_BATCH_S = 0.05
COSTLY_SHARE = 16  # an item that costs this part of a whole batch is costly
SHORT_QUEUE_ITEMS = 8  # a shorter queue is never full: a batch of a few items takes about as long as a batch of one
# A stage that was free takes on so many batches, however long they are expected to take. A batch of short texts holds 64 searches, and on a
# busy machine it takes up to 350 ms: a bound on the wait alone would refuse some of 100 calls that come at once.
BURST_BATCHES = 8
SPEED_WEIGHT = (
    0.2  # of the latest batch in the measured speed; the first few count alike, so that no single one decides
)
MIN_RETRY_S = 0.01
# An item is admitted when its deadline leaves this many times the time that its answer is expected to take. An answer that comes too late
# was computed in place of one that would have been in time, and under overload the expectation is seldom too high.
DEADLINE_MARGIN = 2.0
# A measured speed counts for this time after the last batch. One batch that a stall, or a replica that died, made slow may leave an
# estimate by which every call is refused; then no batch would ever be measured again.
STALE_S = 2.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Result]):
    """A result, the time that its item waited, and the batch that computed it."""

    value: Result
    queue_ms: float
    compute_ms: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class BatcherStats:
    items: int
    batches: int
    mean_batch_items: float
    mean_batch_cost: float
    queue_ms_p50: float
    queue_ms_p99: float
    compute_ms_p50: float
    compute_ms_p99: float
    refused: dict[str, int]
    failed: int
    queued_items: int
    queued_cost: int


@dataclass(slots=True, eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    cost: int
    deadline: float
    arrived: float
    future: asyncio.Future[Outcome[Result]]
    caller: str
    trace: CallTrace | None
    queued: bool = True


@dataclass(slots=True)
class _Recent:
    queue_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    compute_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @staticmethod
    def quantile(values: deque[float], q: float) -> float:
        return float(np.quantile(values, q)) if values else 0.0


class Batcher(Generic[Item, Result]):
    """Queue and batch former in front of one stage. Belongs to one event loop.

    `compute` gets a list of items and returns as many results; a result that is an exception fails its item alone.
    `slots()` says how many batches may be in flight now: 1 for a stage in this process, more for remote replicas.
    `max_wait_s` bounds the queue of a stage that is never free: it holds no more work than the stage does in that time, at its measured
    speed. `observer` is told what happens.
    """

    def __init__(
        self,
        compute: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch_cost: int,
        slots: Callable[[], int] = lambda: 1,
        max_wait_s: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
        observer: StageObserver | None = None,
    ) -> None:
        if max_batch_cost < 1:
            raise ValueError(f"max_batch_cost is {max_batch_cost}; it must be at least 1")
        self._compute = compute
        self._max_batch_cost = max_batch_cost
        self._slots = slots
        self.max_wait_s = max_wait_s
        self._clock = clock
        self._queue: FairQueue[_Entry[Item, Result]] = FairQueue()
        self._burst_cost = 0  # accepted since a slot was last free
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pull_scheduled = False
        self._closed = False
        self._cost_per_s = 0.0  # of one slot
        self._batch_s = 0.0  # what a batch takes under load
        self._measured = 0  # batches that made these two
        self._idle_since = 0.0  # the end of the last batch
        self._items = self._batches = self._failed = 0
        # Both only grow. An item that was refused at the door for a cost that nobody knew yet counts as much as others do.
        self.offered_cost = 0.0  # of all items that came: accepted, or refused because the stage is overloaded
        self.answered_cost = 0  # of all items that were computed
        self._refused: Counter[str] = Counter()
        self._recent = _Recent()
        self._observer = observer

    async def submit(
        self, item: Item, *, cost: int = 1, deadline: float = math.inf, admitted: bool = False
    ) -> Outcome[Result]:
        """Returns the outcome of one item. `cost` is in the unit of `max_batch_cost`; `deadline` is a time of the clock. An item that was
        `admitted` before, so that other work was done for its call, is refused for its deadline only, not for a full queue.

        Raises Overloaded when the queue is full or the deadline cannot be met, DeadlineExceeded when it passes in the
        queue, Unavailable when the batcher is closed, and whatever the item's own computation raised.
        """
        self.check_admission(cost, deadline, admitted=admitted)
        future: asyncio.Future[Outcome[Result]] = asyncio.get_running_loop().create_future()
        entry = _Entry(item, cost, deadline, self._clock(), future, CALLER.get(), TRACE.get())
        if not self._queue.items and len(self._in_flight) < self._slots():
            self._burst_cost = 0
        self._burst_cost += cost
        self.offered_cost += cost
        self._queue.push(entry)
        self._schedule_pull()
        try:
            return await entry.future
        except asyncio.CancelledError:
            if entry.queued:  # its place is free at once, its entry is dropped when it surfaces
                self._queue.give_up(entry)
                self._count_refusal("cancelled")
            raise

    def check_admission(self, cost: int = 1, deadline: float = math.inf, *, admitted: bool = False) -> None:
        """Raises the error with which `submit` would refuse an item. Cheap: a call can be refused before any other work."""
        if self._closed:
            self._count_refusal("closed")
            raise Unavailable("the server is shutting down; send the call to another replica")
        now = self._clock()
        if deadline <= now:
            self._count_refusal("expired")
            raise DeadlineExceeded("the deadline had passed before any work was done")
        if self._queue.items == 0:
            return
        wait_s = self.expected_wait_s()
        # A speed that was measured on batches of one, or on a busy machine, says little about a few items together.
        is_short = admitted or self._queue.items < SHORT_QUEUE_ITEMS
        is_burst = self._burst_cost + cost <= BURST_BATCHES * self._max_batch_cost
        is_over = wait_s > self.max_wait_s if self._cost_per_s else self._over_cold_bound(cost)
        too_long = is_over and not (is_short or is_burst)
        hopeless = now + DEADLINE_MARGIN * self.expected_s() > deadline
        if too_long or hopeless:
            self._count_refusal("full" if too_long else "hopeless")
            self.offered_cost += max(cost, self.answered_cost / max(1, self._items))
            excess_s = wait_s - min(self.max_wait_s, max(deadline - now, 0.0)) / 2
            raise Overloaded(max(MIN_RETRY_S, excess_s))

    def expected_wait_s(self) -> float:
        """Returns the time until an item that its caller sent now would be computed, at the measured speed (0 before any batch)."""
        return self._queue.ahead_of(CALLER.get(), 1) / self.cost_per_s() if self._cost_per_s else 0.0

    def expected_s(self, cost: int = 0) -> float:
        """Returns the time until items of this cost that came now would be answered."""
        own_s = cost / self.cost_per_s() if self._cost_per_s else 0.0
        return self.expected_wait_s() + max(own_s, self._batch_s)

    def is_stale(self) -> bool:
        """Whether the measured speed has to be tried anew: it is no reason to refuse an item."""
        return not self._in_flight and self._clock() > self._idle_since + STALE_S

    def cost_per_s(self) -> float:
        """Returns the measured speed of all slots, in cost a second; 0 before any batch."""
        return self._cost_per_s * max(1, self._slots())

    def oldest_wait_s(self) -> float:
        """Returns how long the oldest queued item has waited; 0 with an empty queue."""
        now = self._clock()
        return max((now - entry.arrived for entry in self._queue), default=0.0)

    def show(self, replicas: int) -> None:
        """Tells the observer how the queue is now."""
        if self._observer:
            self._observer.set_queue(self._queue.items, self._queue.cost, self.oldest_wait_s(), replicas)

    def wake(self) -> None:
        """Starts batches if there are slots for them. Call it when `slots()` may have grown."""
        self._schedule_pull()

    async def close(self) -> None:
        """Refuses new items, computes the queued ones, and returns when the last is answered."""
        self._closed = True
        while self._queue.items or self._in_flight:
            self._pull()
            if self._in_flight:
                await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(0.01)  # no slot yet: a remote stage without a live replica

    def stats(self) -> BatcherStats:
        recent, batches = self._recent, max(1, self._batches)
        return BatcherStats(
            items=self._items,
            batches=self._batches,
            mean_batch_items=self._items / batches,
            mean_batch_cost=self.answered_cost / batches,
            queue_ms_p50=recent.quantile(recent.queue_ms, 0.5),
            queue_ms_p99=recent.quantile(recent.queue_ms, 0.99),
            compute_ms_p50=recent.quantile(recent.compute_ms, 0.5),
            compute_ms_p99=recent.quantile(recent.compute_ms, 0.99),
            refused=dict(self._refused),
            failed=self._failed,
            queued_items=self._queue.items,
            queued_cost=self._queue.cost,
        )

    def _over_cold_bound(self, cost: int) -> bool:
        return self._queue.cost + cost > COLD_QUEUE_BATCHES * self._max_batch_cost

    def _schedule_pull(self) -> None:
        # Not at once: what arrives in the same turn of the event loop shares the batch.
        if not self._pull_scheduled and self._queue.items:
            self._pull_scheduled = True
            asyncio.get_running_loop().call_soon(self._pull)

    def _pull(self) -> None:
        self._pull_scheduled = False
        while self._queue.items and len(self._in_flight) < self._slots():
            batch = self._take_batch()
            if not batch:
                return
            task = asyncio.ensure_future(self._run(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._batch_done)

    def _batch_done(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._idle_since = self._clock()
        self._pull()

    def _take_batch(self) -> list[_Entry[Item, Result]]:
        """Cuts a batch: the next items that fit the budget when each is padded to the costliest of them."""
        batch: list[_Entry[Item, Result]] = []
        widest = 0
        now = self._clock()
        if self.is_stale():
            self._measured, late_s = 0, 0.0  # the next batch that is measured counts whole
        else:
            late_s = self._batch_s / 2
        while (entry := self._queue.next()) is not None:
            if entry.deadline <= now + late_s:  # the answer would be late
                self._queue.pop()
                self._count_refusal("expired")
                entry.future.set_exception(DeadlineExceeded("the deadline passed while the call was queued"))
                continue
            if batch and (len(batch) + 1) * max(widest, entry.cost) > self._budget(max(widest, entry.cost)):
                break
            batch.append(self._queue.pop())
            widest = max(widest, entry.cost)
        return batch

    def _budget(self, widest: int) -> float:
        """Returns what a batch may cost. One with costly items takes `LONG_BATCH_S` at most: whoever comes next waits for it."""
        if widest == 1 or COSTLY_SHARE * widest < self._max_batch_cost or not self._cost_per_s:
            return self._max_batch_cost
        return min(self._max_batch_cost, LONG_BATCH_S * self._cost_per_s)

    async def _run(self, batch: list[_Entry[Item, Result]]) -> None:
        backlog = self._queue.items > 0
        started = self._clock()
        results = await self._compute_or_bisect([entry.item for entry in batch])
        seconds = self._clock() - started
        cost = sum(entry.cost for entry in batch)
        waits = [started - entry.arrived for entry in batch]
        self._count(cost, seconds, waits)
        if self._observer:
            traced = [(entry.trace, wait_s) for entry, wait_s in zip(batch, waits, strict=True) if entry.trace]
            self._observer.batch_ended(started, seconds, cost, waits, traced)
        if not all(isinstance(result, BaseException) for result in results):  # a lost batch says nothing of the speed
            self._measure(cost, seconds, backlog)
        for entry, result, wait_s in zip(batch, results, waits, strict=True):
            if entry.future.done():
                continue
            if isinstance(result, BaseException):
                self._failed += 1
                if self._observer:
                    self._observer.failed()
                entry.future.set_exception(result)
            else:
                entry.future.set_result(Outcome(result, wait_s * 1000, seconds * 1000, len(batch)))

    async def _compute_or_bisect(self, items: list[Item]) -> Sequence[Result | BaseException]:
        """Returns as many results as items. A failing batch is halved until the items that make it fail stand alone."""
        try:
            results = await self._compute(items)
            if len(results) != len(items):
                raise RuntimeError(f"a stage returned {len(results)} results for {len(items)} items")
        except (Unavailable, Overloaded) as error:  # the stage's fault, not an item's
            return [error] * len(items)
        except asyncio.CancelledError:
            return [Unavailable("the server is shutting down; send the call to another replica")] * len(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            middle = len(items) // 2
            left = await self._compute_or_bisect(items[:middle])
            return [*left, *await self._compute_or_bisect(items[middle:])]
        return results

    def _count(self, cost: int, seconds: float, waits: Sequence[float]) -> None:
        self._items += len(waits)
        self._batches += 1
        self.answered_cost += cost
        self._recent.compute_ms.append(seconds * 1000)
        self._recent.queue_ms.extend(wait_s * 1000 for wait_s in waits)

    def _count_refusal(self, reason: str) -> None:
        self._refused[reason] += 1
        if self._observer:
            self._observer.refused(reason)

    def _measure(self, cost: int, seconds: float, backlog: bool) -> None:
        speed = cost / max(seconds, 1e-6)
        # A batch that left a backlog or was half full shows the speed of the stage. A small batch is slower per item, so its speed is a
        # lower bound: without it, a speed that was once measured too low would keep the queue, and so every batch, too small to be
        # measured again.
        if backlog or 2 * cost >= self._max_batch_cost or 0 < self._cost_per_s < speed:
            self._measured += 1
            weight = max(SPEED_WEIGHT, 1 / self._measured)
            self._cost_per_s += weight * (speed - self._cost_per_s)
            self._batch_s += weight * (seconds - self._batch_s)
