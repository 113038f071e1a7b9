"""What a search does with its query's types: the boosted best are those of the whole catalogue."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.query_types.type_model import TypePrediction
from serving.retriever import NO_FILTER, Candidates, ProductFilter, Retrieval
from serving.type_use import MAX_FACETS, TypeUse, boosted, facets, retrievals, use_of

VECTOR = np.zeros(4, np.float32)


def told(*types: tuple[str, float], abstained: bool = False) -> TypePrediction:
    return TypePrediction(types, abstained, "en-US")


class Shop:
    """Products with a type and a similarity each, searched as the retriever does."""

    def __init__(self, kinds: list[str], similarities: list[float]) -> None:
        self.kinds = np.array(kinds)
        self.similarities = np.array(similarities)

    def mask(self, wanted: ProductFilter) -> np.ndarray | None:
        return np.isin(self.kinds, wanted.types) if wanted.types else None

    def find(self, asked: Retrieval) -> Candidates:
        mask = self.mask(asked.filter)
        rows = np.flatnonzero(mask) if mask is not None else np.arange(len(self.kinds))
        rows = rows[np.lexsort((rows, -self.similarities[rows]))][: asked.k]
        found = self.similarities[rows].tolist()
        return Candidates(rows.tolist(), found, found, [0.0] * len(rows), {}, [()] * len(rows))


@settings(max_examples=200)
@given(data=st.data(), size=st.integers(1, 60), k=st.integers(1, 20), weight=st.floats(0, 1))
def test_the_boosted_best_are_those_of_the_whole_catalogue(
    data: st.DataObject, size: int, k: int, weight: float
) -> None:
    kinds = data.draw(st.lists(st.sampled_from("abcd"), min_size=size, max_size=size))
    similarities = data.draw(st.lists(st.floats(-1, 1, width=16), min_size=size, max_size=size))
    chances = data.draw(st.dictionaries(st.sampled_from("abc"), st.floats(0.01, 1), min_size=1))
    shop, prediction = Shop(kinds, similarities), told(*chances.items())
    asked = retrievals(Retrieval(VECTOR, k), prediction, TypeUse.BOOST)
    found = boosted([shop.find(one) for one in asked], prediction, weight, k, shop.mask)
    totals = [value + weight * chances.get(kind, 0) for kind, value in zip(kinds, similarities, strict=True)]
    best = sorted(range(size), key=lambda row: (-totals[row], row))[:k]
    assert found.scores == pytest.approx([totals[row] for row in best], abs=1e-12)
    for row, score, similarity, boost in zip(
        found.rows, found.scores, found.similarities, found.type_boosts, strict=True
    ):
        assert score == pytest.approx(similarity + boost)
        assert similarity == similarities[row]


def test_a_filter_keeps_what_the_caller_filters_by() -> None:
    mine = ProductFilter(brands=("Halden",), in_stock_only=True)
    asked = retrievals(Retrieval(VECTOR, 5, mine), told(("a", 0.9), ("b", 0.8)), TypeUse.FILTER)
    assert [one.filter for one in asked] == [dataclasses.replace(mine, types=(name,)) for name in "ab"]


def test_a_boost_looks_among_all_and_within_each_type() -> None:
    asked = retrievals(Retrieval(VECTOR, 5), told(("a", 0.9), ("b", 0.8)), TypeUse.BOOST)
    assert [one.filter for one in asked] == [NO_FILTER, ProductFilter(types=("a",)), ProductFilter(types=("b",))]


@pytest.mark.parametrize("use", [TypeUse.OFF, TypeUse.FACETS])
def test_nothing_else_is_retrieved_for_what_changes_no_hit(use: TypeUse) -> None:
    plain = Retrieval(VECTOR, 5)
    assert retrievals(plain, told(("a", 0.9)), use) == [plain]


def test_who_abstains_is_not_acted_upon() -> None:
    unsure = told(("a", 0.3), abstained=True)
    assert [use_of(unsure, use) for use in TypeUse] == [TypeUse.OFF, TypeUse.FACETS, TypeUse.FACETS, TypeUse.FACETS]
    assert [use_of(told(("a", 0.9)), use) for use in TypeUse] == list(TypeUse)


def test_facets_count_categories_the_most_frequent_first() -> None:
    assert facets(["b", "a", "", "a", ""]) == (("a", 2), ("b", 1))
    assert len(facets([str(n) for n in range(100)])) == MAX_FACETS
