"""The outcomes of several items of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from serving.stages.batcher import Outcome

Value = TypeVar("Value")


async def gather_or_cancel(waiting: Sequence[Awaitable[Outcome[Value]]]) -> list[Outcome[Value]]:
    """Awaits all. If one fails, the others are cancelled."""
    if len(waiting) == 1:
        return [await waiting[0]]
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def merge_outcomes(outcomes: Sequence[Outcome[Any]], value: Value) -> Outcome[Value]:
    """Returns one outcome for the parts of a call, with the longest of their times."""
    return Outcome(
        value,
        max(outcome.queue_ms for outcome in outcomes),
        max(outcome.compute_ms for outcome in outcomes),
        max(outcome.batch_size for outcome in outcomes),
    )
