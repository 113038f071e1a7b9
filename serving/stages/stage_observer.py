"""What is told of one stage, as the gateway in front of it sees it: its metrics, and the spans of its batches."""

from __future__ import annotations

from collections.abc import Sequence

from serving.metrics import table
from serving.traces.trace import CallTrace

REASONS = ("full", "hopeless", "expired", "cancelled", "closed")


class StageObserver:
    """Belongs to the event loop of the stage's batcher."""

    def __init__(self, stage: str, placement: str) -> None:
        self._stage = stage
        self._queue_seconds = table.STAGE_QUEUE_SECONDS.labels(stage, placement)
        self._compute_seconds = table.STAGE_COMPUTE_SECONDS.labels(stage, placement)
        self._batch_items = table.STAGE_BATCH_ITEMS.labels(stage)
        self._batch_cost = table.STAGE_BATCH_COST.labels(stage)
        self._refused = {reason: table.STAGE_REFUSED.labels(stage, reason) for reason in REASONS}
        self._failed = table.STAGE_FAILED.labels(stage)
        self._queued_items = table.STAGE_QUEUED_ITEMS.labels(stage)
        self._queued_cost = table.STAGE_QUEUED_COST.labels(stage)
        self._queue_age = table.STAGE_QUEUE_AGE.labels(stage)
        self._replicas = table.STAGE_REPLICAS.labels(stage)

    def batch_ended(
        self,
        started: float,
        seconds: float,
        cost: int,
        waits: Sequence[float],
        traced: Sequence[tuple[CallTrace, float]],
    ) -> None:
        """Takes a batch, and the seconds that each of its items waited; `traced` has those of traced calls."""
        self._compute_seconds.observe(seconds)
        self._batch_items.observe(len(waits))
        self._batch_cost.observe(cost)
        observe = self._queue_seconds.observe
        for wait_s in waits:
            observe(wait_s)
        if traced:
            traced[0][0].batch(self._stage, traced, started, seconds, len(waits), cost)

    def refused(self, reason: str) -> None:
        self._refused[reason].inc()

    def failed(self) -> None:
        self._failed.inc()

    def set_queue(self, items: int, cost: int, age_s: float, replicas: int) -> None:
        """Takes the state of now."""
        self._queued_items.set(items)
        self._queued_cost.set(cost)
        self._queue_age.set(age_s)
        self._replicas.set(replicas)
