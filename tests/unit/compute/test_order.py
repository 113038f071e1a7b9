"""The rules of order: what leads stays, blends decide, brands are spread, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.product import Product
from models.ranking.diversity import NO_GROUP
from serving.compute.order import (
    NO_CHANCES,
    Diversity,
    GivenCandidates,
    Ranked,
    RankModel,
    as_retrieved,
    by_student,
    by_teacher,
    spread_brands,
)

ONLY_CLICKS = (1.0, 0.0, 0.0)


def chances(*clicks: float) -> np.ndarray:
    return np.array([[click, click / 2, click / 4] for click in clicks], np.float32)


def student(*clicks: float, leading: int = 0, count: int | None = None) -> Ranked:
    count = len(clicks) if count is None else count
    return by_student(chances(*clicks), ONLY_CLICKS, [1.0] * leading + [0.0] * (count - leading))


def test_the_student_orders_by_blend_and_equals_stay_in_the_order_of_the_retrieval() -> None:
    ranked = student(0.1, 0.3, 0.1, 0.3, 0.2)
    assert ranked.order.tolist() == [1, 3, 4, 0, 2]
    assert ranked.blends.tolist() == pytest.approx([0.3, 0.3, 0.2, 0.1, 0.1])
    assert ranked.by is RankModel.STUDENT


def test_what_is_past_the_depth_follows_as_it_was() -> None:
    ranked = student(0.1, 0.3, count=5)
    assert ranked.order.tolist() == [1, 0, 2, 3, 4]
    assert len(ranked.chances) == 2


def test_what_leads_stays() -> None:
    assert student(0.1, 0.0, 0.2, 0.3, leading=2).order.tolist() == [0, 1, 3, 2]
    assert student(0.1, 0.2, leading=2).order.tolist() == [0, 1]


def test_weights_decide() -> None:
    told = np.array([[0.5, 0.1, 0.01], [0.4, 0.2, 0.02], [0.3, 0.1, 0.03]], np.float32)
    for weights, order in (((1, 0, 0), [0, 1, 2]), ((0, 1, 0), [1, 0, 2]), ((0, 0, 1), [2, 1, 0])):
        assert by_student(told, weights, [0.0] * 3).order.tolist() == order


def test_the_teacher_orders_the_student_s_best_and_leaves_the_rest() -> None:
    ranked = student(0.1, 0.4, 0.3, 0.2)  # 1, 2, 3, 0
    again = by_teacher(ranked, chances(0.1, 0.9), ONLY_CLICKS, 0)
    assert again.order.tolist() == [2, 1, 3, 0]
    assert again.blends.tolist() == pytest.approx([0.9, 0.1, 0.2, 0.1])
    assert again.by is RankModel.TEACHER
    kept = by_teacher(student(0.1, 0.4, 0.3, leading=1), chances(0.0, 0.1, 0.9), ONLY_CLICKS, 1)
    assert kept.order.tolist() == [0, 2, 1]
    assert kept.chances[:, 0].tolist() == pytest.approx([0.0, 0.9, 0.1])


def test_a_brand_that_comes_too_often_waits() -> None:
    ranked = student(0.9, 0.8, 0.7, 0.6, 0.5)
    moved = spread_brands(ranked, np.array([7, 7, 7, 8, NO_GROUP]), 0, Diversity(1, 3))
    assert moved.order.tolist() == [0, 3, 4, 1, 2]
    assert moved.blends.tolist() == pytest.approx([0.9, 0.6, 0.5, 0.8, 0.7])


def test_what_leads_counts_and_stays_even_where_it_is_too_many() -> None:
    brands = np.array([7, 7, 7, 8, 7])
    moved = spread_brands(as_retrieved(6), brands, 2, Diversity(1, 4))
    assert moved.order.tolist() == [0, 1, 3, 2, 4, 5]
    assert len(moved.chances) == 0


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
    ranked = student(*clicks, leading=leading, count=count) if clicks else as_retrieved(count)
    of = dict(zip(ranked.order.tolist(), ranked.chances[:, 0].tolist(), strict=False))
    judged = teacher[: len(clicks)]
    if judged:
        leading = min(leading, len(judged))
        of |= dict(zip(ranked.order[: len(judged)].tolist(), np.float32(judged).tolist(), strict=True))
        ranked = by_teacher(ranked, chances(*judged), ONLY_CLICKS, leading)
    of_brand = np.array(brands)
    ranked = spread_brands(ranked, of_brand[ranked.order[: len(clicks)]], leading, Diversity(each, among))
    assert sorted(ranked.order.tolist()) == list(range(count))
    assert ranked.order[:leading].tolist() == list(range(leading))
    assert ranked.order[len(clicks) :].tolist() == list(range(len(clicks), count))
    for place, told in zip(ranked.order.tolist(), ranked.chances[:, 0].tolist(), strict=False):
        assert told == pytest.approx(of[place])


def test_nothing_ranked_is_the_order_of_the_retrieval() -> None:
    ranked = as_retrieved(3)
    assert ranked.order.tolist() == [0, 1, 2]
    assert (ranked.by, ranked.chances.shape) == (RankModel.NONE, NO_CHANCES.shape)


def test_picked_candidates_are_cut_and_taken_whatever_they_are() -> None:
    picked = GivenCandidates(np.array([5, 6, 7]), (Product("a", ""), Product("b", "")))
    part = picked.slice(2, 4)
    assert (part.rows.tolist(), [one.id for one in part.products]) == ([7], ["a"])
    best, position = picked.take(np.array([4, 0, 3, 2]))
    assert (best.rows.tolist(), [one.id for one in best.products]) == ([5, 7], ["b", "a"])
    assert position.tolist() == [2, 0, 3, 1]
