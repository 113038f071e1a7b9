"""The teacher as the search path uses it: candidates are cut into chunks, sent if there is time, and awaited until that time is up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from models.arrays import Floats, Ints
from serving.compute.catalogue_state import FIXED, HasSequence
from serving.compute.retrieval import GivenCandidates, Query
from serving.compute.teacher import CHUNK_TOKENS, Chunk
from serving.errors import DeadlineExceeded
from serving.stages.batcher import DEADLINE_MARGIN, Outcome
from serving.stages.outcomes import gather_or_cancel, merge_outcomes
from serving.stages.stage import Stage

Value = TypeVar("Value")
# The teacher leaves this share of a call's remaining time, and at least this many seconds, for the rest of the answer.
ANSWER_SHARE = 0.1
ANSWER_S = 0.005


class Costs(Protocol):
    def of(self, query: str, candidates: GivenCandidates) -> Ints:
        """Returns (candidates,) the estimated tokens of each pair of query and product."""


@dataclass(frozen=True, slots=True)
class TeacherStage:
    """The stage, the cost of a pair, and how many of the student's best the teacher reads. `catalogue` says which changes this process
    knows: the stage has to know them to read its rows."""

    stage: Stage[Chunk, Floats]
    costs: Costs
    depth: int
    catalogue: HasSequence = FIXED

    async def chances(
        self, query: Query, candidates: GivenCandidates, features: Floats, deadline: float
    ) -> Outcome[Floats]:
        """Returns the chances (candidates, 3).

        This is where a teacher is too late: raises DeadlineExceeded at once where its measured speed leaves no time for it, unless that has
        to be tried anew, and later when it has not answered in time. Raises what the stage raises.
        """
        left_s = deadline - time.monotonic()
        left_s -= max(ANSWER_S, ANSWER_SHARE * left_s)
        costs = self.costs.of(query.text, candidates)
        expected_s = self.stage.batcher.expected_s(int(costs.sum()))
        if left_s <= DEADLINE_MARGIN * expected_s and not self.stage.batcher.is_stale():
            raise DeadlineExceeded(
                f"there is no time for it: it takes about {expected_s * 1000:.0f} ms, and {max(left_s, 0) * 1000:.0f} ms are left"
            )
        by = time.monotonic() + left_s
        waiting = [
            self.stage(
                Chunk(
                    query.text,
                    query.locale,
                    candidates.slice(start, stop),
                    features[start:stop],
                    self.catalogue.sequence,
                ),
                cost=int(costs[start:stop].sum()),
                deadline=by,
                admitted=start > 0,
            )
            for start, stop in _chunks(costs)
        ]
        try:
            async with asyncio.timeout(left_s):
                outcomes = await gather_or_cancel(waiting)
        except TimeoutError:
            raise DeadlineExceeded(f"it did not answer within {left_s * 1000:.0f} ms") from None
        return merge_outcomes(outcomes, np.concatenate([outcome.value for outcome in outcomes]))


def _chunks(costs: Ints) -> list[tuple[int, int]]:
    """Returns start and stop of each chunk: consecutive candidates of about CHUNK_TOKENS."""
    chunk = (np.cumsum(costs) - costs) // CHUNK_TOKENS
    starts = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(costs)], strict=True))
