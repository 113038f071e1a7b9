"""How candidates are ordered: what a call may ask for, what became of it, and the rules of order.

retrieval order -> the first few that hold an identifier of the query stay; the others of the ranked depth by blend, equals as they were
                -> of these the teacher's few by its blend -> no brand too often among the first -> what is past the depth, as it was
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.arrays import Bools, Floats, Ints
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.ranking.diversity import NO_GROUP, diversify
from models.ranking.ranker import DEFAULT_BLEND
from models.ranking.taste import Taste

Weights = tuple[float, float, float]  # what a click, a cart and a purchase are worth
Told = tuple[float, float, float, float]  # the chances of each, and the blend


class RankModel(StrEnum):
    NONE = "none"
    STUDENT = "student"
    TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Diversity:
    """At most `max_each` products of a brand in the first `among` places."""

    max_each: int
    among: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a call asks for. Candidates past the best `depth` of the retrieval stay where they are, whatever ranks or spreads the others."""

    model: RankModel = RankModel.NONE
    depth: int = 0
    weights: Weights = DEFAULT_BLEND
    diversity: Diversity | None = None


AS_RETRIEVED = Ranking()


@dataclass(frozen=True, slots=True, eq=False)
class RankInput:
    """What the student needs beside query, locale and vectors: the best `depth` candidates of a search and what their chances are worth,
    what the shopper likes and what the query asks for. Candidates that the caller brings are judged whatever their number, and with
    `explains` explained."""

    depth: int = 0
    weights: Weights = DEFAULT_BLEND
    taste: Taste | None = None
    types: TypePrediction | None = None
    explains: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class GivenCandidates:
    """Candidates that a caller brings, instead of searching: those of the catalogue by row, then others as they are stated."""

    rows: Ints
    products: tuple[Product, ...] = ()

    def __len__(self) -> int:
        return len(self.rows) + len(self.products)

    def slice(self, start: int, stop: int) -> GivenCandidates:
        known = len(self.rows)
        return GivenCandidates(self.rows[start:stop], self.products[max(start - known, 0) : max(stop - known, 0)])

    def take(self, places: Ints) -> tuple[GivenCandidates, Ints]:
        """Those at `places`, and where in the result each place is: products of the catalogue come first in it."""
        known = len(self.rows)
        order = np.argsort(places >= known, kind="stable")
        among = places[order]
        rows, others = among[among < known], among[among >= known] - known
        position = np.empty(len(places), np.int64)
        position[order] = np.arange(len(places))
        return GivenCandidates(self.rows[rows], tuple(self.products[at] for at in others.tolist())), position


@dataclass(frozen=True, slots=True, eq=False)
class ScoredCandidates:
    """Of candidates: the chances (candidates, 3) of click, cart and purchase. Of those that the caller picked also what the ranker read
    (candidates, features), its mean where `is_known` (candidates, features) is False, and where it was asked what each feature
    contributes (candidates, features)."""

    chances: Floats
    features: Floats | None = None
    is_known: Bools | None = None
    contributions: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What moved one candidate: by feature what the ranker read, NaN where it is not known, and what it contributed."""

    values: Floats  # (features,)
    contributions: Floats  # (features,)


@dataclass(frozen=True, slots=True)
class Degradation:
    """A part of the answer that is less than was asked for: "rank" or "teacher", and why."""

    part: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """What became of a ranking. `order` are places among the candidates, best first; of the first `len(chances)` in that order `chances`
    (ranked, 3) are told and their `blends` (ranked,)."""

    order: Ints
    chances: Floats
    blends: Floats
    by: RankModel = RankModel.NONE
    lesser: tuple[Degradation, ...] = ()

    def told(self, first: int = 0, stop: int | None = None) -> list[Told]:
        """Of those that were ranked among the places from `first` to before `stop`."""
        chances, blends = self.chances[first:stop].tolist(), self.blends[first:stop].tolist()
        return [(*three, blend) for three, blend in zip(chances, blends, strict=True)]


NO_CHANCES: Floats = np.zeros((0, 3), np.float32)
# Cut, not made: on the event loop any NumPy call that lets others run has to wait for its turn behind the stages' threads. Making and
# sorting a few hundred places there took a third of a search.
_PLACES: Ints = np.arange(20_000)
_PLACES.flags.writeable = False


def as_retrieved(count: int, lesser: tuple[Degradation, ...] = ()) -> Ranked:
    places = _PLACES[:count] if count <= len(_PLACES) else np.arange(count)
    return Ranked(places, NO_CHANCES, NO_CHANCES[:, 0], lesser=lesser)


def by_student(chances: Floats, weights: Weights, identifier_boosts: Sequence[float]) -> Ranked:
    """The first of the candidates by their `chances` (ranked, 3); all have `identifier_boosts`. Those that lead by one stay; equal blends
    stay in their order."""
    count = len(chances)
    num_leading = leading(identifier_boosts[:count])
    blends = chances @ np.array(weights, np.float32)
    order = np.arange(len(identifier_boosts))
    order[num_leading:count] = num_leading + (-blends[num_leading:]).argsort(kind="stable")
    ranked = order[:count]
    return Ranked(order, chances.take(ranked, axis=0), blends.take(ranked), RankModel.STUDENT)


def leading(identifier_boosts: Sequence[float]) -> int:
    """How many candidates lead because they hold an identifier of the query."""
    return next((at for at, boost in enumerate(identifier_boosts) if boost <= 0), len(identifier_boosts))


def by_teacher(ranked: Ranked, chances: Floats, weights: Weights, num_leading: int) -> Ranked:
    """The student's best by the `chances` (judged, 3) that the teacher tells of them. Those that lead stay, and have the teacher's chances
    too."""
    judged = len(chances)
    blends = chances @ np.array(weights, np.float32)
    places = np.arange(judged)
    places[num_leading:] = num_leading + np.argsort(-blends[num_leading:], kind="stable")
    order, all_chances, all_blends = ranked.order.copy(), ranked.chances.copy(), ranked.blends.copy()
    order[:judged] = ranked.order[places]
    all_chances[:judged] = chances[places]
    all_blends[:judged] = blends[places]
    return Ranked(order, all_chances, all_blends, RankModel.TEACHER, ranked.lesser)


def spread_brands(ranked: Ranked, brands: Ints, num_leading: int, wanted: Diversity) -> Ranked:
    """With at most `max_each` of a brand in the first `among` places. `brands` are those of the candidates that may move, best first, as
    `ranked` orders them, NO_GROUP for none. Those that lead count and stay, however many there are."""
    groups = brands.copy()
    taken: dict[int, int] = {}
    for place, brand in enumerate(brands[:num_leading].tolist()):
        taken[brand] = taken.get(brand, 0) + 1
        if taken[brand] > wanted.max_each:
            groups[place] = NO_GROUP
    moved = diversify(groups, wanted.max_each, wanted.among)
    order = ranked.order.copy()
    order[: len(moved)] = ranked.order[moved]
    if not len(ranked.chances):
        return Ranked(order, ranked.chances, ranked.blends, ranked.by, ranked.lesser)
    return Ranked(order, ranked.chances[moved], ranked.blends[moved], ranked.by, ranked.lesser)
