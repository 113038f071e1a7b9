from __future__ import annotations

import numpy as np
import pytest

from models.unified.negatives import (
    Categories,
    Columns,
    Engagements,
    NegativeWeights,
    draw_columns,
    hardest_products,
    schedule,
)
from models.unified.recipe import NegativeMix
from models.unified.words import Ragged

MIX = NegativeMix(uniform=4, uniform_kin=3, kin=2, dynamic_weight=0.5, warm_up_share=0.2, full_share=0.6)
FULL = NegativeWeights(1.0, 1.0, 0.5)
PRODUCTS = 100
SHARE = np.full(PRODUCTS, 1 / PRODUCTS, np.float32)
CATEGORIES = Categories.from_products(np.arange(PRODUCTS, dtype=np.int32) % 5, SHARE)


def columns(positives: list[int], dynamic: list[int], weights: NegativeWeights = FULL) -> Columns:
    return draw_columns(
        np.array(positives, np.int32),
        np.array(dynamic, np.int32),
        SHARE,
        SHARE * 5,
        CATEGORIES,
        MIX,
        weights,
        np.random.default_rng(0),
    )


def test_only_uniform_negatives_count_while_warming_up_then_the_others_grow_linearly() -> None:
    assert schedule(MIX, 0.0) == schedule(MIX, 0.19) == NegativeWeights(1.0, 0.0, 0.0)
    assert schedule(MIX, 0.4).in_batch == pytest.approx(0.5)
    assert schedule(MIX, 0.4).dynamic == pytest.approx(0.25)
    assert schedule(MIX, 0.6) == schedule(MIX, 1.0) == NegativeWeights(1.0, 1.0, 0.5)


def test_columns_are_distinct_and_hold_every_source() -> None:
    drawn = columns([7, 3, 7], [50, 3])
    assert np.array_equal(drawn.products, np.unique(drawn.products))
    assert drawn.products[drawn.positive].tolist() == [7, 3, 7]
    assert {7, 3, 50} <= set(drawn.products.tolist())
    assert (drawn.uniform > 0).sum() >= len(drawn.products) - 3


def test_positives_are_nobodys_negatives_before_their_source_counts() -> None:
    drawn = columns([7, 3], [50], NegativeWeights(1.0, 0.0, 0.0))
    counted = dict(zip(drawn.products.tolist(), drawn.counts.tolist(), strict=True))
    assert not counted[7]
    assert not counted[3]
    assert not counted[50]
    assert drawn.counts.sum() == (drawn.uniform > 0).sum()


def test_some_uniform_draws_are_of_the_categories_of_the_positives() -> None:
    drawn = columns([7, 2, 12], [])  # all of category 2
    kin = drawn.products[drawn.uniform > 0] % 5 == 2
    assert kin.sum() >= 2  # three draws of twenty products
    many = CATEGORIES.draw(np.array([1, 4]), 2000, np.random.default_rng(1))
    assert set(many[:2000] % 5) == {1}
    assert set(many[2000:] % 5) == {4}
    assert np.bincount(many, minlength=PRODUCTS)[[1, 4]].min() > 50  # each of twenty about 100 times


def test_kin_are_expected_more_often_than_others() -> None:
    drawn = columns([7, 3], [])
    assert (drawn.expected_by_kin > drawn.expected).all()


@pytest.fixture
def engaged() -> Engagements:
    """Query 0 led to products 7 (shopper 0), 9 (shopper 2) and 5 (shopper 0); query 1 to 3 (shopper 1)."""
    return Engagements.from_examples(
        query=np.array([0, 0, 0, 1], np.int32),
        shopper=np.array([0, 2, 0, 1], np.int32),
        product=np.array([7, 9, 5, 3], np.int32),
        num_queries=3,
        num_shoppers=4,
    )


def test_what_the_query_or_the_shopper_met_is_not_unwanted(engaged: Engagements) -> None:
    drawn = columns([7, 9, 3], [20, 5])
    found = engaged.negatives(drawn, np.array([0, 1, 2], np.int32), np.array([3, 1, 0], np.int32)).irrelevant
    at = {product: column for column, product in enumerate(drawn.products.tolist())}
    assert [found[0, at[p]] for p in (7, 9, 5, 3, 20)] == [False, False, False, True, True]  # query 0's
    assert [found[1, at[p]] for p in (9, 3, 7)] == [False, False, True]  # own product; query 1 and shopper 1 met 3
    assert [found[2, at[p]] for p in (3, 7, 5, 9)] == [False, False, False, True]  # shopper 0 met 7 and 5


def test_what_others_met_by_the_same_query_counts_in_the_softmax(engaged: Engagements) -> None:
    drawn = columns([7, 9], [20, 5, 3])
    found = engaged.negatives(drawn, np.array([0, 0], np.int32), np.array([0, 3], np.int32)).counted
    at = {product: column for column, product in enumerate(drawn.products.tolist())}
    assert [found[0, at[p]] for p in (7, 5, 9, 3, 20)] == [False, False, True, True, True]  # shopper 0 met 7 and 5
    assert [found[1, at[p]] for p in (9, 7, 5, 3)] == [False, True, True, True]  # shopper 3 met nothing


def test_the_hardest_products_are_the_best_scored_that_are_not_wanted() -> None:
    queries = np.array([[1, 0], [0, 1]], np.float32)
    pool = np.array([4, 8, 15])
    products = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    wanted = Ragged.from_rows([[4], [], [8, 99]])
    found = hardest_products(queries, products, pool, wanted, np.array([0, 2]), 1)
    assert found.tolist() == [[8], [15]]
