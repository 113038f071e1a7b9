"""The product types of a query, and what a search does with them: nothing, facets, a boost, or a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.query_types.type_model import TypePrediction
from serving.search.request import TypeUse
from serving.stages.batcher import Outcome

MAX_FACETS = 20
BOOSTING = (TypeUse.BOOST, TypeUse.FILTER)  # the uses under which products of the types gain score
NOT_CLASSIFIED = TypePrediction((), True, "")


@dataclass(frozen=True, slots=True)
class TypeFinding:
    """The prediction for a query and what the search is to do with it. `failure` says why a query that was to be classified was not."""

    prediction: TypePrediction = NOT_CLASSIFIED
    use: TypeUse = TypeUse.OFF
    outcome: Outcome[tuple[TypePrediction, ...]] | None = None  # of the stage, where it computed
    failure: str = ""

    def has_facets(self, use: TypeUse) -> bool:
        """Says whether a search with this use counts the categories of its first hits. It does not if the classifier abstained."""
        return use is TypeUse.FACETS and not self.prediction.abstained


def usable(prediction: TypePrediction, requested: TypeUse) -> TypeUse:
    """Returns the use that a prediction allows. If the classifier abstained it is FACETS, which leaves the hits unchanged, or OFF."""
    return TypeUse.FACETS if prediction.abstained and requested is not TypeUse.OFF else requested


def type_boosts(types: TypeFinding, weight: float) -> tuple[tuple[str, float], ...]:
    """Returns category and boost of each type: `weight` times its probability."""
    if types.use not in BOOSTING:
        return ()
    return tuple((name, weight * probability) for name, probability in types.prediction.types)


def facets(categories: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Returns the most frequent categories of some hits, with their counts."""
    return tuple(Counter(name for name in categories if name).most_common(MAX_FACETS))
