"""Step three of a search: the order of its candidates, from the student's scores and, where a call asks for it, the teacher's.

A search never fails because ranking does. Without the teacher the student's order stands, without the student the retrieval's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.ranking.feature_names import FEATURES
from serving.compute.filter_masks import FilterMasks
from serving.compute.retrieval import Candidates, GivenCandidates, ScoredCandidates, StudentScores, Subject
from serving.search.failure import reason_of
from serving.search.order import (
    Order,
    as_retrieved,
    by_student,
    by_teacher,
    diversified,
    num_leading,
    relevant,
)
from serving.search.request import RankCall, Ranking, RankModel, Search
from serving.search.results import Degradation, Factors, PhaseTime
from serving.search.retrieve import Retrieval, Retrieve
from serving.search.teacher_stage import TeacherStage
from serving.search.understand import Understanding
from serving.stages.batcher import Outcome
from serving.stages.outcomes import merge_outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The candidates that are relevant, and their order."""

    candidates: Candidates
    order: Order
    degradations: tuple[Degradation, ...]
    phases: tuple[PhaseTime, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedCandidates:
    """The order of a caller's candidates; `factors` explain the first `RankCall.num_explained` of them."""

    order: Order
    scored: ScoredCandidates
    factors: list[Factors]
    degradations: tuple[Degradation, ...]
    phases: tuple[PhaseTime, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reread:
    """An order that the teacher may have changed."""

    order: Order
    degradations: tuple[Degradation, ...] = ()
    phases: tuple[PhaseTime, ...] = ()


class Ranker:
    """`retrieve` reaches the student; `masks` know the products' brands; `teacher` is None for a bundle without one."""

    def __init__(self, retrieve: Retrieve, masks: FilterMasks, teacher: TeacherStage | None = None) -> None:
        self._retrieve = retrieve
        self._masks = masks
        self.teacher = teacher

    async def __call__(
        self, search: Search, understanding: Understanding, retrieval: Retrieval, deadline: float
    ) -> Ranked:
        """Decides the order of what was retrieved."""
        ranking = search.ranking
        retrieved, num_movable = relevant(retrieval.retrieved, search.min_similarity, ranking.depth)
        candidates, scores = retrieved.candidates, retrieved.scores
        count = len(candidates.rows)
        leading = num_leading(candidates, num_movable)
        reread = _Reread(order=by_student(scores, count, leading) if len(scores) else as_retrieved(count))
        if scores.failure:
            reread = _Reread(order=reread.order, degradations=(Degradation("rank", scores.failure),))
        elif ranking.model is RankModel.TEACHER and len(scores):
            movable = GivenCandidates(np.array(candidates.rows[:num_movable], np.int64))
            asked = [math.exp(ranking.asked_weight * coverage) for coverage in candidates.coverages[:num_movable]]
            subjects = [reading.subject for reading in understanding.readings]
            reread = await self._ask_teacher(
                reread.order, movable, subjects, ranking, leading, deadline, asked, candidates.readings
            )

        def brands_of(places: Sequence[int]) -> Ints:
            return self._masks.brands([candidates.rows[place] for place in places])

        order = diversified(reread.order, brands_of, num_movable, leading, ranking)
        return Ranked(candidates=candidates, order=order, degradations=reread.degradations, phases=reread.phases)

    async def rank(self, call: RankCall, subject: Subject, deadline: float) -> RankedCandidates:
        """Decides the order of a caller's candidates. Raises AisleError if the student fails."""
        candidates, ranking = call.candidates, call.ranking
        scoring = await self._retrieve.score(subject, candidates, ranking.weights, deadline, admitted=False)
        asked = _asked(scoring.value) if ranking.asked_weight else []
        scores = StudentScores.blend(scoring.value.chances, ranking.weights, ranking.asked_weight, asked)
        reread = _Reread(order=by_student(scores, len(candidates), 0))
        if ranking.model is RankModel.TEACHER:
            gains = [math.exp(ranking.asked_weight * share) for share in asked]
            reread = await self._ask_teacher(reread.order, candidates, [subject], ranking, 0, deadline, gains)
        order = diversified(
            reread.order, lambda places: self._brands(candidates)[list(places)], len(candidates), 0, ranking
        )
        factors: list[Factors] = []
        if call.num_explained:
            best, positions = candidates.take(order.places[: call.num_explained])
            explained = await self._retrieve.score(subject, best, ranking.weights, deadline, explains=True)
            factors = [factors_of(explained.value)[at] for at in positions]
        return RankedCandidates(
            order=order,
            scored=scoring.value,
            factors=factors,
            degradations=reread.degradations,
            phases=(PhaseTime.of_stage("rank", scoring), *reread.phases),
        )

    async def factors(
        self, rows: Sequence[int], subject: Subject, ranking: Ranking, deadline: float
    ) -> tuple[dict[int, Factors], tuple[Degradation, ...]]:
        """Returns by row what moved each candidate, or a degradation if the student fails: the search goes on without factors."""
        if not rows:
            return {}, ()
        candidates = GivenCandidates(np.array(rows, np.int64))
        try:
            outcome = await self._retrieve.score(subject, candidates, ranking.weights, deadline, explains=True)
        except Exception as error:
            return {}, (Degradation("rank", reason_of("the explanation of the ranking", error)),)
        return dict(zip(rows, factors_of(outcome.value), strict=True)), ()

    async def _ask_teacher(
        self,
        order: Order,
        movable: GivenCandidates,
        subjects: Sequence[Subject],
        ranking: Ranking,
        leading: int,
        deadline: float,
        asked: Sequence[float] = (),
        readings: Sequence[int] = (),
    ) -> _Reread:
        """Returns the order with the student's best as the teacher orders them, or the given order and the reason if the teacher fails.
        `movable` are the candidates that may move, in the order of retrieval; `subjects` those of the query's readings, and `readings` has
        the reading of each candidate, if there are several."""
        if self.teacher is None:
            return _without_teacher(order, "this bundle holds no teacher")
        places = order.places[: min(self.teacher.depth, order.num_ranked)]
        chances = np.zeros((len(places), 3), np.float32)
        outcomes: list[Outcome[Floats]] = []
        try:
            for number, subject in enumerate(subjects):
                own = [at for at, place in enumerate(places) if not readings or readings[place] == number]
                if own:
                    outcomes.append(
                        await self._teach(self.teacher, movable, [places[at] for at in own], subject, ranking, deadline)
                    )
                    chances[own] = outcomes[-1].value
        except Exception as error:
            return _without_teacher(order, reason_of("the teacher stage", error))
        reread = by_teacher(order, chances, ranking.weights, leading, asked, readings)
        return _Reread(order=reread, phases=(PhaseTime.of_stage("teacher", merge_outcomes(outcomes, chances)),))

    async def _teach(
        self,
        teacher: TeacherStage,
        movable: GivenCandidates,
        places: Sequence[int],
        subject: Subject,
        ranking: Ranking,
        deadline: float,
    ) -> Outcome[Floats]:
        """Returns the teacher's chances (places, 3)."""
        best, positions = movable.take(places)
        scoring = await self._retrieve.score(subject, best, ranking.weights, deadline)
        outcome = await teacher.chances(subject.query, best, scoring.value.features, deadline)
        return dataclasses.replace(outcome, value=outcome.value[positions])

    def _brands(self, candidates: GivenCandidates) -> Ints:
        """Returns (candidates,) the number of each candidate's brand."""
        stated = self._masks.brand_numbers([product.brand for product in candidates.products])
        return np.concatenate([self._masks.brands(candidates.rows.tolist()), stated])


def _asked(scored: ScoredCandidates) -> list[float]:
    """Returns the share of the query's words that each candidate holds; of one that is not in the catalogue all words count alike."""
    held, match = (FEATURES.index(name) for name in ("words_held", "text_match"))
    shares: list[float] = np.where(
        scored.is_known[:, held], scored.features[:, held], scored.features[:, match]
    ).tolist()
    return shares


def factors_of(scored: ScoredCandidates) -> list[Factors]:
    """Returns the factors of each candidate that was scored with `explains`."""
    values = np.where(scored.is_known, scored.features, np.float32(np.nan))
    return [Factors(*pair) for pair in zip(values, scored.contributions, strict=True)]


def _without_teacher(order: Order, reason: str) -> _Reread:
    return _Reread(order=order, degradations=(Degradation("teacher", reason),))
