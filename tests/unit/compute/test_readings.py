"""Readings of a query take turns, each product once; what the catalogue does not hold is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.compute.readings import fitting, in_turns, merged
from serving.compute.retrieval import Candidates


def found(rows: Sequence[int], *coverages: float) -> Candidates:
    """Candidates of one reading whose scores tell it: 100 and down."""
    return dataclasses.replace(
        Candidates.of_rows(list(rows)),
        scores=[100.0 - place for place in range(len(rows))],
        coverages=[*coverages, *[0.0] * len(rows)][: len(rows)],
    )


def test_each_reading_in_turn_gives_its_next_product_that_is_not_there_yet() -> None:
    together = merged([found([5, 1, 2, 3], 1.0), found([1, 5, 7], 1.0), found([], 1.0)], 10)
    assert together.rows == [5, 1, 2, 7, 3]
    assert together.readings == [0, 1, 0, 1, 0]
    assert together.scores == [100, 100, 98, 98, 97]


@pytest.mark.parametrize(
    ("shares", "numbers"),
    [
        ([0.4, 1.0, 0.9], [1, 2]),  # a word of the first is unknown
        ([0.4, 0.38, 0.4], [0, 1, 2]),
        ([0.4, 1.0, 0.5], [1]),
        ([0.0, 0.0, 0.0], [0]),
        ([0.0, 0.3], [1]),
    ],
)
def test_readings_take_part_whose_words_the_catalogue_holds_as_well_as_those_of_the_best(
    shares: list[float], numbers: list[int]
) -> None:
    assert fitting([found([1, 2], 0.0, share) for share in shares]) == numbers


def test_a_reading_without_products_takes_no_part() -> None:
    assert fitting([found([]), found([3], 1.0)]) == [1]
    assert merged([found([]), found([])], 5).rows == []


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=3), st.integers(0, 40))
def test_what_a_smaller_search_finds_is_the_beginning_of_what_a_larger_one_finds(
    lists: list[list[int]], k: int
) -> None:
    readings = [found(rows, 1.0) for rows in lists]
    whole = merged(readings, 100)
    part = merged(readings, k)
    assert (part.rows, part.readings) == (whole.rows[:k], whole.readings[:k])
    assert len(set(whole.rows)) == len(whole.rows)
    if any(lists):
        assert set(whole.rows) == {row for rows in lists for row in rows}


def test_turns_keep_the_order_within_a_reading() -> None:
    readings = [0, 0, 1, 0, 1, 2]
    assert in_turns([3, 1, 5, 0, 4, 2], readings) == [3, 4, 5, 1, 2, 0]
    assert in_turns([2, 0, 1], []) == [2, 0, 1]


def test_concatenated_candidates_keep_all_they_have() -> None:
    one, other = dataclasses.replace(found([4, 2], 0.5), matched={4: ["X-1"]}), found([7], 1.0)
    together = Candidates.concatenate([one, other])
    assert together.take([0, 1]).rows == one.rows
    assert together.coverages == [0.5, 0.0, 1.0]
    assert together.matched == {4: ["X-1"]}
    np.testing.assert_array_equal(together.words, np.zeros((3, 2)))
