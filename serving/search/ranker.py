"""The last part of a search: what the student told of its candidates, and the teacher of the best of them, becomes their order.

A search never fails for want of it. Without the teacher the student orders, without the student candidates stay as they were retrieved.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models.arrays import Bools, Floats, Ints
from serving.compute.filter_masks import FilterMasks
from serving.compute.order import (
    NO_CHANCES,
    Degradation,
    Factors,
    GivenCandidates,
    Ranked,
    Ranking,
    RankInput,
    RankModel,
    ScoredCandidates,
    as_retrieved,
    by_student,
    by_teacher,
    leading,
    spread_brands,
)
from serving.compute.retriever import Candidates, Retrieval
from serving.compute.teacher import CHUNK_TOKENS, Chunk, PairCosts
from serving.errors import AisleError, DeadlineExceeded
from serving.logs import log
from serving.stages.batcher import DEADLINE_MARGIN, Outcome
from serving.stages.stage import Stage

Value = TypeVar("Value")
# Of the time that a call has left, what the teacher leaves for the rest of the answer, and the least of it.
ANSWER_SHARE = 0.1
ANSWER_S = 0.005
# A search that has less than this many times what the retrieval is expected to take is not ranked; at DEADLINE_MARGIN it is refused.
STUDENT_MARGIN = 1.5 * DEADLINE_MARGIN
ROWS_PER_COST = 100  # of candidates that are picked: as many are about as much work as a search
CHUNK_ROWS = 400  # so that searches need not wait for a call that brings thousands
NO_TIME = Degradation("rank", "too little time was left to rank")


@dataclass(frozen=True, slots=True)
class TeacherStage:
    """The stage, what a pair costs it, and how many of the student's best it reads."""

    stage: Stage[Chunk, Floats]
    costs: PairCosts
    depth: int

    async def chances(
        self, query: str, locale: str, candidates: GivenCandidates, features: Floats, deadline: float
    ) -> Outcome[Floats]:
        """(candidates, 3). Raises DeadlineExceeded where they would come too late or do, and what the stage raises."""
        left_s = deadline - time.monotonic()
        left_s -= max(ANSWER_S, ANSWER_SHARE * left_s)
        costs = self.costs.of(query, candidates)
        expected_s = self.stage.batcher.expected_s(int(costs.sum()))
        if left_s <= DEADLINE_MARGIN * expected_s:
            said = f"it takes about {expected_s * 1000:.0f} ms, and {max(left_s, 0) * 1000:.0f} ms are left"
            raise DeadlineExceeded(f"there is no time for it: {said}")
        by = time.monotonic() + left_s
        waiting = [
            self.stage(
                Chunk(query, locale, candidates.slice(start, stop), features[start:stop]),
                cost=int(costs[start:stop].sum()),
                deadline=by,
                admitted=start > 0,
            )
            for start, stop in _chunks(costs)
        ]
        try:
            async with asyncio.timeout(left_s):
                outcomes = await _all(waiting)
        except TimeoutError:
            raise DeadlineExceeded(f"it did not answer within {left_s * 1000:.0f} ms") from None
        return _together(outcomes, np.concatenate([outcome.value for outcome in outcomes]))


@dataclass(frozen=True, slots=True, eq=False)
class RankedPicked:
    """Candidates that a caller brought, in their order. `factors` are of the first, as many as were asked for; `is_known`
    (candidates, features), in the order in which they were brought, is False where a feature counted as average."""

    candidates: GivenCandidates
    ranked: Ranked
    is_known: Bools
    factors: list[Factors]
    judging: Outcome[ScoredCandidates]
    reading: Outcome[Floats] | None


class CandidateRanker:
    """`retriever` holds the student; `masks` know the products' brands."""

    def __init__(
        self, retriever: Stage[Retrieval, Candidates], masks: FilterMasks | None, teacher: TeacherStage | None = None
    ) -> None:
        self._retriever = retriever
        self._masks = masks
        self.teacher = teacher

    def has_time(self, deadline: float) -> bool:
        return deadline - time.monotonic() > STUDENT_MARGIN * self._retriever.batcher.expected_s()

    async def order(
        self, found: Candidates, num_movable: int, wanted: Retrieval, ranking: Ranking, deadline: float
    ) -> tuple[Ranked, Outcome[Floats] | None]:
        """The order of what `wanted` found, the first `num_movable` of which may move, and what the teacher took where it was asked."""
        num_leading = leading(found.identifier_boosts[:num_movable])
        outcome = None
        ranked = found.ranked
        if ranked is None:
            ranked = as_retrieved(
                len(found.rows), (Degradation("rank", found.rank_failed),) if found.rank_failed else ()
            )
        elif ranking.model is RankModel.TEACHER and len(ranked.chances):
            movable = GivenCandidates(np.array(found.rows[:num_movable], np.int64))
            ranked, outcome = await self._by_teacher(ranked, movable, wanted, ranking, num_leading, deadline)
        if ranking.diversity and self._masks and num_movable:
            brands = self._masks.brands([found.rows[at] for at in ranked.order[:num_movable].tolist()])
            ranked = spread_brands(ranked, brands, num_leading, ranking.diversity)
        return ranked, outcome

    async def rank(
        self, picked: GivenCandidates, wanted: Retrieval, ranking: Ranking, num_explained: int, deadline: float
    ) -> RankedPicked:
        """The order of candidates that a caller brings. Raises AisleError where the student fails."""
        judging = await self.judge(picked, wanted, deadline, admitted=False)
        judged = judging.value
        reading = None
        ranked = by_student(judged.chances, ranking.weights, [0.0] * len(picked))
        if ranking.model is RankModel.TEACHER:
            ranked, reading = await self._by_teacher(ranked, picked, wanted, ranking, 0, deadline)
        if ranking.diversity and self._masks:
            brands = np.concatenate(
                [
                    self._masks.brands(picked.rows.tolist()),
                    self._masks.brand_numbers([product.brand for product in picked.products]),
                ]
            )
            ranked = spread_brands(ranked, brands[ranked.order], 0, ranking.diversity)
        factors: list[Factors] = []
        if num_explained:
            best, position = picked.take(ranked.order[:num_explained])
            told = factors_of((await self.judge(best, wanted, deadline, explains=True)).value)
            factors = [told[at] for at in position.tolist()]
        is_known = judged.is_known if judged.is_known is not None else np.ones((len(picked), 0), np.bool_)
        return RankedPicked(picked, ranked, is_known, factors, judging, reading)

    async def factors(
        self, rows: Sequence[int], wanted: Retrieval, deadline: float
    ) -> tuple[dict[int, Factors], tuple[Degradation, ...]]:
        """By row what moved each candidate; a search does not fail for want of it either."""
        if not rows:
            return {}, ()
        try:
            told = await self.judge(GivenCandidates(np.array(rows, np.int64)), wanted, deadline, explains=True)
        except AisleError as error:
            return {}, (Degradation("rank", f"what moved the hits cannot be told: {error.message}"),)
        return dict(zip(rows, factors_of(told.value), strict=True)), ()

    async def judge(
        self,
        picked: GivenCandidates,
        wanted: Retrieval,
        deadline: float,
        *,
        explains: bool = False,
        admitted: bool = True,
    ) -> Outcome[ScoredCandidates]:
        """What the student tells of candidates for the query and the shopper of `wanted`. Raises AisleError where it fails. It is
        `admitted` where other work was done for the call before."""
        known = dataclasses.replace(wanted.ranking or RankInput(), explains=explains)
        waiting = []
        for start in range(0, len(picked), CHUNK_ROWS):
            part = picked.slice(start, start + CHUNK_ROWS)
            item = dataclasses.replace(wanted, k=0, ranking=known, picked=part)
            cost = 1 + len(part) // ROWS_PER_COST
            waiting.append(self._retriever(item, cost=cost, deadline=deadline, admitted=admitted or start > 0))
        outcomes = await _all(waiting)
        judged = []
        for outcome in outcomes:
            if outcome.value.judged is None:
                raise AisleError(outcome.value.rank_failed)
            judged.append(outcome.value.judged)
        return _together(outcomes, judged[0] if len(judged) == 1 else _joined(judged))

    async def _by_teacher(
        self,
        ranked: Ranked,
        movable: GivenCandidates,
        wanted: Retrieval,
        ranking: Ranking,
        num_leading: int,
        deadline: float,
    ) -> tuple[Ranked, Outcome[Floats] | None]:
        """With the student's best in the teacher's order; as the student has them, and why, where that fails. `movable` are the
        candidates in the order of the retrieval."""
        if self.teacher is None:
            return _without_teacher(ranked, "this bundle holds no teacher"), None
        try:
            best, position = movable.take(ranked.order[: self.teacher.depth][: len(ranked.chances)])
            judged = (await self.judge(best, wanted, deadline)).value
            features = judged.features if judged.features is not None else NO_CHANCES
            outcome = await self.teacher.chances(wanted.query, wanted.locale, best, features, deadline)
        except AisleError as error:
            return _without_teacher(ranked, f"the teacher stage failed: {error.message}"), None
        except Exception as error:
            log.error("the teacher failed", exc_info=error)
            return _without_teacher(ranked, "the teacher stage failed; the server's log says why"), None
        return by_teacher(ranked, outcome.value[position], ranking.weights, num_leading), outcome


def factors_of(judged: ScoredCandidates) -> list[Factors]:
    """Of each candidate that was explained."""
    if judged.features is None or judged.is_known is None or judged.contributions is None:
        return []
    values = np.where(judged.is_known, judged.features, np.float32(np.nan))
    return [Factors(*pair) for pair in zip(values, judged.contributions, strict=True)]


def _without_teacher(ranked: Ranked, reason: str) -> Ranked:
    return dataclasses.replace(ranked, lesser=(*ranked.lesser, Degradation("teacher", reason)))


def _chunks(costs: Ints) -> list[tuple[int, int]]:
    """Neighbours together, of about CHUNK_TOKENS."""
    chunk = (np.cumsum(costs) - costs) // CHUNK_TOKENS
    starts = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(costs)], strict=True))


async def _all(waiting: Sequence[Awaitable[Outcome[Any]]]) -> list[Outcome[Any]]:
    """All outcomes. Where one fails the others are given up."""
    if len(waiting) == 1:
        return [await waiting[0]]
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _together(outcomes: Sequence[Outcome[Any]], value: Value) -> Outcome[Value]:
    return Outcome(
        value,
        max(one.queue_ms for one in outcomes),
        max(one.compute_ms for one in outcomes),
        max(one.batch_size for one in outcomes),
    )


def _joined(parts: Sequence[ScoredCandidates]) -> ScoredCandidates:
    def both(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return ScoredCandidates(both("chances"), both("features"), both("is_known"), both("contributions"))
