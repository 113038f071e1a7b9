"""What a search does with the product types of its query: nothing, facets, a boost, or a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.query_types.type_model import TypePrediction
from serving.stages.batcher import Outcome

MAX_FACETS = 20


class TypeUse(StrEnum):
    OFF = "off"
    FACETS = "facets"
    BOOST = "boost"
    FILTER = "filter"


LIFTING = (TypeUse.BOOST, TypeUse.FILTER)  # those under which products of the types gain score
NOTHING_TOLD = TypePrediction((), True, "")


@dataclass(frozen=True, slots=True)
class TypeFinding:
    """What a query asks for, and what the search did with it: `used` is FACETS where nothing was to be done."""

    prediction: TypePrediction = NOTHING_TOLD
    used: TypeUse = TypeUse.OFF
    facets: tuple[tuple[str, int], ...] = ()  # categories and their share of the first hits
    outcome: Outcome[tuple[TypePrediction, ...]] | None = None  # of the stage, where it computed
    failed: str = ""  # why a query that was to be classified was not


def use_of(prediction: TypePrediction, wanted: TypeUse) -> TypeUse:
    """Who abstains is not acted upon."""
    return TypeUse.FACETS if prediction.abstained and wanted is not TypeUse.OFF else wanted


def gains(found: TypeFinding, weight: float) -> tuple[tuple[str, float], ...]:
    """What products of each type gain."""
    if found.used not in LIFTING:
        return ()
    return tuple((name, weight * probability) for name, probability in found.prediction.types)


def facets(categories: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The most frequent categories of some hits."""
    return tuple(Counter(name for name in categories if name).most_common(MAX_FACETS))
