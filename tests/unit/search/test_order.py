"""The rules of order: leading candidates stay, blends decide, brands are spread, nothing is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.product import Product
from models.ranking.diversity import NO_GROUP
from serving.compute.retrieval import Candidates, GivenCandidates, Retrieved, StudentScores
from serving.search.order import (
    Order,
    as_retrieved,
    by_student,
    by_teacher,
    num_leading,
    relevant,
    spread_brands,
)
from serving.search.request import Diversity, RankModel

ONLY_CLICKS = (1.0, 0.0, 0.0)


def chances(*clicks: float) -> np.ndarray:
    return np.array([[click, click / 2, click / 4] for click in clicks], np.float32)


def student(*clicks: float, leading: int = 0, count: int | None = None) -> Order:
    scores = StudentScores.blend(chances(*clicks), ONLY_CLICKS)
    return by_student(scores, len(clicks) if count is None else count, leading)


def blends(order: Order) -> list[float]:
    return [chance[3] for chance in order.chances(0, len(order.places))]


def candidates(similarities: list[float], boosts: list[float]) -> Candidates:
    rows = list(range(len(similarities)))
    return Candidates(
        rows=rows,
        scores=similarities,
        similarities=similarities,
        identifier_boosts=boosts,
        type_boosts=[0.0] * len(rows),
        feature_boosts=[()] * len(rows),
        lexical_boosts=[0.0] * len(rows),
        coverages=[0.0] * len(rows),
        words=np.zeros((len(rows), 2), np.float32),
        click_boosts=[0.0] * len(rows),
        vector_ranks=[0] * len(rows),
        lexical_ranks=[0] * len(rows),
        click_ranks=[0] * len(rows),
        matched={},
    )


def test_the_student_orders_by_blend_and_equals_stay_as_they_were_retrieved() -> None:
    order = student(0.1, 0.3, 0.1, 0.3, 0.2)
    assert order.places == [1, 3, 4, 0, 2]
    assert blends(order) == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.1])
    assert order.by is RankModel.STUDENT


def test_candidates_past_the_depth_follow_as_they_were() -> None:
    order = student(0.1, 0.3, count=5)
    assert order.places == [1, 0, 2, 3, 4]
    assert order.num_ranked == 2


def test_leading_candidates_stay() -> None:
    assert student(0.1, 0.0, 0.2, 0.3, leading=2).places == [0, 1, 3, 2]
    assert student(0.1, 0.2, leading=2).places == [0, 1]
    assert student(0.1, 0.2, leading=3, count=3).places == [0, 1, 2]


def test_candidates_lead_while_they_hold_an_identifier() -> None:
    assert num_leading(candidates([0.9] * 4, [1.0, 1.0, 0.0, 1.0]), 4) == 2
    assert num_leading(candidates([0.9] * 4, [1.0, 1.0, 0.0, 1.0]), 1) == 1
    assert num_leading(candidates([0.9], [0.0]), 1) == 0


@pytest.mark.parametrize(
    ("weights", "places"), [((1, 0, 0), [0, 1, 2]), ((0, 1, 0), [1, 0, 2]), ((0, 0, 1), [2, 1, 0])]
)
def test_weights_decide(weights: tuple[float, float, float], places: list[int]) -> None:
    scored = np.array([[0.5, 0.1, 0.01], [0.4, 0.2, 0.02], [0.3, 0.1, 0.03]], np.float32)
    assert by_student(StudentScores.blend(scored, weights), 3, 0).places == places


def test_the_teacher_orders_the_student_s_best_and_leaves_the_rest() -> None:
    order = student(0.1, 0.4, 0.3, 0.2)  # 1, 2, 3, 0
    again = by_teacher(order, chances(0.1, 0.9), ONLY_CLICKS, 0)
    assert again.places == [2, 1, 3, 0]
    assert blends(again) == pytest.approx([0.9, 0.1, 0.2, 0.1])
    assert again.by is RankModel.TEACHER
    kept = by_teacher(student(0.1, 0.4, 0.3, leading=1), chances(0.0, 0.1, 0.9), ONLY_CLICKS, 1)
    assert kept.places == [0, 2, 1]
    assert [chance[0] for chance in kept.chances(0, 3)] == pytest.approx([0.0, 0.9, 0.1])


def test_a_brand_that_comes_too_often_waits() -> None:
    order = student(0.9, 0.8, 0.7, 0.6, 0.5)
    moved = spread_brands(order, np.array([7, 7, 7, 8, NO_GROUP]), 0, Diversity(1, 3))
    assert moved.places == [0, 3, 4, 1, 2]
    assert blends(moved) == pytest.approx([0.9, 0.6, 0.5, 0.8, 0.7])


def test_leading_candidates_count_and_stay_even_where_their_brand_comes_too_often() -> None:
    brands = np.array([7, 7, 7, 8, 7])
    moved = spread_brands(as_retrieved(6), brands, 2, Diversity(1, 4))
    assert moved.places == [0, 1, 3, 2, 4, 5]
    assert moved.chances(0, 6) == []


def test_a_threshold_drops_candidates_but_not_those_with_an_identifier() -> None:
    scores = StudentScores.blend(chances(0.1, 0.2, 0.3), ONLY_CLICKS)
    retrieved = Retrieved(candidates([0.2, 0.9, 0.1, 0.8, 0.3], [1.0, 0.0, 0.0, 0.0, 0.0]), scores)
    left, num_movable = relevant(retrieved, 0.5, 3)
    assert left.candidates.rows == [0, 1, 3]
    assert num_movable == 2
    assert left.scores.by_blend == [1, 0]
    assert left.scores.blends.tolist() == pytest.approx([0.1, 0.2])
    assert relevant(retrieved, -math.inf, 3) == (retrieved, 3)


@given(
    clicks=st.lists(st.integers(0, 5).map(lambda n: n / 10), max_size=12),
    past=st.integers(0, 4),
    leading=st.integers(0, 3),
    teacher=st.lists(st.integers(0, 5).map(lambda n: n / 10), max_size=5),
    brands=st.lists(st.integers(-1, 2), min_size=12, max_size=12),
    each=st.integers(1, 3),
    among=st.integers(1, 12),
)
def test_nothing_is_lost_or_doubled_and_chances_stay_with_their_candidate(
    clicks: list[float], past: int, leading: int, teacher: list[float], brands: list[int], each: int, among: int
) -> None:
    leading, count = min(leading, len(clicks)), len(clicks) + past
    order = student(*clicks, leading=leading, count=count) if clicks else as_retrieved(count)
    expected = dict(enumerate(np.float32(clicks).tolist()))
    read = teacher[: len(clicks)]
    if read:
        leading = min(leading, len(read))
        expected |= dict(zip(order.places[: len(read)], np.float32(read).tolist(), strict=True))
        order = by_teacher(order, chances(*read), ONLY_CLICKS, leading)
    brand_of = np.array(brands)
    order = spread_brands(order, brand_of[list(order.places[: len(clicks)])], leading, Diversity(each, among))
    assert sorted(order.places) == list(range(count))
    assert list(order.places[:leading]) == list(range(leading))
    assert list(order.places[len(clicks) :]) == list(range(len(clicks), count))
    ranked = order.chances(0, count)
    assert len(ranked) == len(clicks)
    for place, chance in zip(order.places, ranked, strict=False):
        assert chance[0] == pytest.approx(expected[place])


def test_nothing_ranked_is_the_order_of_the_retrieval() -> None:
    order = as_retrieved(3)
    assert list(order.places) == [0, 1, 2]
    assert (order.by, order.num_ranked, order.chances(0, 3)) == (RankModel.NONE, 0, [])


def test_given_candidates_are_cut_and_taken_whatever_they_are() -> None:
    given_ = GivenCandidates(np.array([5, 6, 7]), (Product("a", ""), Product("b", "")))
    part = given_.slice(2, 4)
    assert (part.rows.tolist(), [product.id for product in part.products]) == ([7], ["a"])
    best, positions = given_.take([4, 0, 3, 2])
    assert (best.rows.tolist(), [product.id for product in best.products]) == ([5, 7], ["b", "a"])
    assert positions == [2, 0, 3, 1]
