from __future__ import annotations

import numpy as np

from models.unified.recall import ranks_of, recall_by_search

PRODUCTS = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float16)


def test_a_rank_is_the_number_of_products_that_score_higher() -> None:
    searches = np.array([[1, 0], [0, 1]], np.float32)
    ranks = ranks_of(searches, PRODUCTS, np.array([0, 0, 1]), np.array([0, 2, 1]))
    assert ranks.tolist() == [0, 2, 1]


def test_recall_is_of_each_search_alone() -> None:
    found = recall_by_search(np.array([0, 2, 1]), np.array([0, 0, 1]), 2, 1)
    assert found.tolist() == [0.5, 0.0]
    assert recall_by_search(np.array([0, 2, 1]), np.array([0, 0, 1]), 2, 3).tolist() == [1.0, 1.0]
