"""Results of queries are merged and stacked best first, ties by id."""

from __future__ import annotations

import numpy as np

from models.index.neighbours import QueryNeighbours, stack


def result(**scores: float) -> QueryNeighbours:
    """Products named by a letter and their row, as p3=0.5."""
    rows = [int(name[1:]) for name in scores]
    return QueryNeighbours(np.array(rows, np.int64), np.array(list(scores.values()), np.float32))


def test_merging_keeps_the_k_best_of_both() -> None:
    merged = result(p1=0.9, p2=0.5).merge(result(p3=0.7, p4=0.1), 3)
    assert merged.ids.tolist() == [1, 3, 2]
    np.testing.assert_array_equal(merged.scores, np.array([0.9, 0.7, 0.5], np.float32))
    assert QueryNeighbours.none().merge(merged, 3) is merged


def test_stacked_results_are_padded_and_ties_are_in_order_of_ids() -> None:
    stacked = stack([result(p7=0.5, p2=0.5, p9=0.8), QueryNeighbours.none(), result(p4=0.1)], 3)
    assert stacked.ids.tolist() == [[9, 2, 7], [-1, -1, -1], [4, -1, -1]]
    assert stacked.scores[1:].tolist() == [[-np.inf] * 3, [np.float32(0.1), -np.inf, -np.inf]]
