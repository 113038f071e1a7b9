"""The rules of order, and the only place that has them.

1. Candidates below the similarity threshold are dropped.
2. Candidates with an identifier of the query keep the first places.
3. The student's blend, times what a product gains by holding the query's words, orders the others of the ranked depth; equals stay as they
   were retrieved. Products of several readings of the query take turns, here and in the next step.
4. The teacher's blend orders the best few of these again.
5. No brand comes too often among the first.
6. Candidates past the depth follow as they were retrieved.

Places are lists, and the student's order takes plain Python alone: a NumPy call may release the interpreter's lock, and the event loop
then waits behind the stages' threads to get it back. Teacher and diversity do take some NumPy calls.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.arrays import Floats, Ints
from models.ranking.diversity import NO_GROUP, diversify
from serving.compute.readings import in_turns
from serving.compute.retrieval import NOT_SCORED, Candidates, Retrieved, StudentScores, Weights
from serving.search.request import Diversity, Ranking, RankModel
from serving.search.results import Chances


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """`places` among the candidates, best first. The first `len(student)` of them are ranked; the teacher's chances, by place, replace the
    student's."""

    places: Sequence[int]
    by: RankModel = RankModel.NONE
    student: StudentScores = NOT_SCORED
    teacher: Mapping[int, Chances] = field(default_factory=dict)

    @property
    def num_ranked(self) -> int:
        return len(self.student)

    def chances(self, first: int, stop: int) -> list[Chances]:
        """Returns the chances of the ranked candidates from place `first` to before `stop` of the order."""
        chances, blends = self.student.chances, self.student.blends
        # Row by row: an index of several rows lets other threads run, and then waits for its turn behind the stages.
        return [
            self.teacher.get(place) or (*chances[place].tolist(), blends.item(place))
            for place in self.places[first : min(stop, self.num_ranked)]
        ]

    def features(self, first: int, stop: int) -> Floats | None:
        """Returns what the student read of these candidates (candidates, features), or None if the search did not keep it."""
        kept = self.student.features
        return None if kept is None else kept[list(self.places[first : min(stop, self.num_ranked)])]


def relevant(retrieved: Retrieved, min_similarity: float, depth: int) -> tuple[Retrieved, int]:
    """Drops candidates below `min_similarity`, save those that hold an identifier of the query. Returns what is left, and how many of the
    best `depth` that is."""
    candidates = retrieved.candidates
    if min_similarity == -math.inf:
        return retrieved, min(depth, len(candidates.rows))
    kept = [
        at
        for at, (similarity, boost) in enumerate(
            zip(candidates.similarities, candidates.identifier_boosts, strict=True)
        )
        if similarity >= min_similarity or boost > 0
    ]
    num_movable = bisect_left(kept, depth)
    num_scored = bisect_left(kept, len(retrieved.scores))
    return Retrieved(candidates.take(kept), retrieved.scores.take(kept[:num_scored])), num_movable


def num_leading(candidates: Candidates, num_movable: int) -> int:
    """Returns how many of the candidates that may move keep the first places, because they hold an identifier of the query."""
    boosts = candidates.identifier_boosts[:num_movable]
    return next((at for at, boost in enumerate(boosts) if boost <= 0), len(boosts))


def as_retrieved(count: int) -> Order:
    return Order(places=range(count))


def by_student(scores: StudentScores, count: int, leading: int) -> Order:
    """Orders the scored candidates by blend; the first `leading` keep their places, and the rest up to `count` follow."""
    best = scores.by_blend
    if leading:
        best = [*range(min(leading, len(best))), *(place for place in best if place >= leading)]
    return Order(places=[*best, *range(len(best), count)], by=RankModel.STUDENT, student=scores)


def by_teacher(
    order: Order,
    chances: Floats,
    weights: Weights,
    leading: int,
    asked: Sequence[float] = (),
    readings: Sequence[int] = (),
) -> Order:
    """Orders the student's best by the teacher's `chances` (read, 3), which are in the student's order. The first `leading` keep their
    places, but get the teacher's chances too. `asked`, by place, is what a product gains by holding the query's words. Several `readings`,
    by place, take turns."""
    blends = (chances @ np.array(weights, np.float32)).tolist()
    num_read = len(blends)
    first = order.places[:num_read]
    gained = [blend * asked[place] for place, blend in zip(first, blends, strict=True)] if asked else blends
    best = sorted(range(min(leading, num_read), num_read), key=lambda at: -gained[at])
    teacher: dict[int, Chances] = {
        place: (*triple, blend) for place, triple, blend in zip(first, chances.tolist(), blends, strict=True)
    }
    return Order(
        places=[*first[:leading], *in_turns((first[at] for at in best), readings), *order.places[num_read:]],
        by=RankModel.TEACHER,
        student=order.student,
        teacher=teacher,
    )


def spread_brands(order: Order, brands: Ints, leading: int, diversity: Diversity) -> Order:
    """Leaves at most `max_each` products of a brand in the first `among` places. `brands` are those of the candidates that may move, in
    the given order, NO_GROUP for none. The first `leading` count and stay, however many there are."""
    groups = brands.copy()
    taken: dict[int, int] = {}
    for place, brand in enumerate(brands[:leading].tolist()):
        taken[brand] = taken.get(brand, 0) + 1
        if taken[brand] > diversity.max_each:
            groups[place] = NO_GROUP
    moved = diversify(groups, diversity.max_each, diversity.among).tolist()
    places = [*map(order.places.__getitem__, moved), *order.places[len(moved) :]]
    return Order(places=places, by=order.by, student=order.student, teacher=order.teacher)


BrandsOf = Callable[[Sequence[int]], Ints]  # places among the candidates -> the number of each one's brand


def diversified(order: Order, brands_of: BrandsOf, num_movable: int, leading: int, ranking: Ranking) -> Order:
    """Returns the order with its brands spread if the call requests diversity."""
    if ranking.diversity is None or not num_movable:
        return order
    return spread_brands(order, brands_of(order.places[:num_movable]), leading, ranking.diversity)
