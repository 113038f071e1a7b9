"""What a search does with its query's types."""

from __future__ import annotations

import pytest

from models.query_types.type_model import TypePrediction
from serving.search.request import TypeUse
from serving.search.type_use import BOOSTING, MAX_FACETS, TypeFinding, facets, type_boosts, usable


def told(*types: tuple[str, float], abstained: bool = False) -> TypePrediction:
    return TypePrediction(types, abstained, "en-US")


def test_who_abstains_is_not_acted_upon() -> None:
    unsure = told(("a", 0.3), abstained=True)
    assert [usable(unsure, use) for use in TypeUse] == [TypeUse.OFF, TypeUse.FACETS, TypeUse.FACETS, TypeUse.FACETS]
    assert [usable(told(("a", 0.9)), use) for use in TypeUse] == list(TypeUse)


@pytest.mark.parametrize("use", list(TypeUse))
def test_a_type_gains_by_its_probability_where_types_lift(use: TypeUse) -> None:
    found = type_boosts(TypeFinding(told(("a", 0.8), ("b", 0.2)), use), 0.5)
    assert found == ((("a", 0.4), ("b", 0.1)) if use in BOOSTING else ())


def test_facets_count_categories_the_most_frequent_first() -> None:
    assert facets(["b", "a", "", "a", ""]) == (("a", 2), ("b", 1))
    assert len(facets([str(n) for n in range(100)])) == MAX_FACETS
