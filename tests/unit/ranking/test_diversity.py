"""No brand takes the first page, nothing is lost, and nothing moves without a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ranking.diversity import NO_GROUP, diversify


def order(groups: list[int], max_each: int, among: int) -> list[int]:
    return diversify(np.array(groups, np.int64), max_each, among).tolist()


def test_the_third_of_a_brand_waits_for_the_second_page() -> None:
    assert order([7, 7, 7, 8, 7, 9], max_each=2, among=4) == [0, 1, 3, 5, 2, 4]


def test_who_waited_comes_before_who_was_ranked_lower() -> None:
    assert order([7, 7, 8, 7, 9], max_each=1, among=2) == [0, 2, 1, 3, 4]


def test_what_has_no_brand_is_never_too_many() -> None:
    assert order([NO_GROUP] * 4, max_each=1, among=3) == [0, 1, 2, 3]


def test_one_brand_alone_stays_as_it_was() -> None:
    assert order([3, 3, 3], max_each=1, among=2) == [0, 1, 2]
    assert order([], max_each=1, among=2) == []


@given(st.lists(st.integers(NO_GROUP, 4), max_size=40), st.integers(1, 5), st.integers(1, 45))
def test_any_ranking_is_spread_as_far_as_it_can_be(groups: list[int], max_each: int, among: int) -> None:
    found = order(groups, max_each, among)
    assert sorted(found) == list(range(len(groups)))
    first = [groups[place] for place in found[:among]]
    counts = {group: first.count(group) for group in set(first) - {NO_GROUP}}
    room = sum(1 for g in groups if g == NO_GROUP) + sum(
        min(max_each, groups.count(g)) for g in set(groups) - {NO_GROUP}
    )
    if room >= min(among, len(groups)):
        assert all(count <= max_each for count in counts.values())
    for group in set(groups):  # within a group nothing overtakes
        places = [place for place in found if groups[place] == group]
        assert places == sorted(places)
    if all(groups[:among].count(group) <= max_each for group in set(groups) - {NO_GROUP}):
        assert found == list(range(len(groups)))


@pytest.mark.parametrize(("max_each", "among"), [(0, 1), (1, 0)])
def test_limits_below_one_are_refused(max_each: int, among: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        diversify(np.array([1]), max_each, among)
