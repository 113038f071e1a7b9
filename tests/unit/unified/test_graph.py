from __future__ import annotations

import numpy as np
import pytest

from models.unified.graph import graph_vectors
from models.unified.words import Ragged

# Queries 0 and 1 share the word 5, and lead to products 0 to 3; queries 2 and 3 share the word 7, and lead to 4 to 7.
WORDS = Ragged.from_rows([[5], [5, 6], [7], [7, 8]])
QUERY = np.array([0, 0, 1, 1, 2, 2, 3, 3])
PRODUCT = np.array([0, 1, 2, 3, 4, 5, 6, 7])
ONES = np.ones(8)


def vectors(seed: int = 0, dim: int = 2) -> np.ndarray:
    return graph_vectors(QUERY, PRODUCT, ONES, WORDS, 9, dim, seed)[0]


def test_products_that_queries_of_the_same_words_led_to_are_near() -> None:
    """No query led to products 0 and 2 both: they meet through the word 5."""
    found = vectors()
    cosines = found @ found.T
    assert cosines[0, 1] > 0.9
    assert cosines[0, 2] > 0.9
    assert abs(cosines[0, 4]) < 0.1


def test_a_product_that_nothing_led_to_has_zeros() -> None:
    found = vectors()
    assert not found[8].any()
    np.testing.assert_allclose(np.linalg.norm(found[:8], axis=1), 1, atol=1e-5)
    assert not graph_vectors(QUERY[:0], PRODUCT[:0], ONES[:0], WORDS, 9, 4, 0).any()


def test_the_same_seed_gives_the_same_vectors_and_missing_dimensions_are_0() -> None:
    np.testing.assert_array_equal(vectors(), vectors())
    assert vectors(dim=32).shape == (9, 32)


@pytest.mark.parametrize("times", [2, 5])
def test_an_edge_that_comes_often_is_one_edge_of_the_summed_weight(times: int) -> None:
    once = graph_vectors(QUERY, PRODUCT, ONES * times, WORDS, 9, 2, 0)[0]
    often = graph_vectors(np.tile(QUERY, times), np.tile(PRODUCT, times), np.tile(ONES, times), WORDS, 9, 2, 0)[0]
    np.testing.assert_allclose(once, often, atol=1e-5)


def test_edges_that_are_left_out_are_not_seen_and_the_others_stay_where_they_were() -> None:
    left_out = [QUERY == 3, np.ones(len(QUERY), bool)]
    full, without, nothing = graph_vectors(QUERY, PRODUCT, ONES, WORDS, 9, 2, 0, left_out)
    assert not without[6:].any()  # only query 3 led to products 6 and 7
    assert (np.sum(full * without, axis=1)[:6] > 0.9).all()
    assert not nothing.any()
