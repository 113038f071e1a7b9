"""What a request may say of ranking: read as it is meant, or refused with every field named."""

from __future__ import annotations

import math

import pytest

from aisle.v1 import ranking_pb2, search_pb2
from serving.config import LimitsConfig, RankerConfig
from serving.errors import Violation
from serving.gateway.messages.ranking_fields import RankingFields
from serving.search.request import AS_RETRIEVED, Diversity, Ranking, RankModel

SEARCH = search_pb2.SearchRequest
NONE, STUDENT, TEACHER = search_pb2.RANK_MODEL_NONE, search_pb2.RANK_MODEL_STUDENT, search_pb2.RANK_MODEL_TEACHER
LIMITS = LimitsConfig(max_rank_depth=500)
BOTH = RankingFields(LIMITS, RankerConfig(), has_ranker=True, has_teacher=True)
STUDENT_ONLY = RankingFields(LIMITS, RankerConfig(), has_ranker=True)
NEITHER = RankingFields(LIMITS, RankerConfig())


def read(request: SEARCH, fields: RankingFields = BOTH) -> Ranking:
    wrong: list[Violation] = []
    found = fields.read_for_search(request, wrong)
    assert not wrong, wrong
    return found


def wrong_in(request: SEARCH, fields: RankingFields = BOTH) -> dict[str, str]:
    wrong: list[Violation] = []
    fields.read_for_search(request, wrong)
    return {one.field: one.description for one in wrong}


def test_what_is_not_stated_is_as_configured() -> None:
    assert read(SEARCH()) == Ranking(model=RankModel.STUDENT, depth=200, weights=(1, 4, 16), asked_weight=6)
    assert read(SEARCH(), NEITHER) == AS_RETRIEVED
    config = RankerConfig(model="teacher", depth=50, click_weight=0, cart_weight=2, purchase_weight=3)
    found = read(SEARCH(), RankingFields(LIMITS, config, has_ranker=True, has_teacher=True))
    assert found == Ranking(model=RankModel.TEACHER, depth=50, weights=(0, 2, 3), asked_weight=6)


def test_who_weighs_features_by_hand_orders_by_hand() -> None:
    assert BOTH.read_for_search(SEARCH(), [], has_boosts=True) == AS_RETRIEVED
    assert BOTH.read_for_search(SEARCH(rank_model=STUDENT), [], has_boosts=True).model is RankModel.STUDENT


def test_what_is_stated_is_read() -> None:
    request = SEARCH(
        rank_depth=7, rank_model=TEACHER, rank_weights={"cart": 2}, diversity={"max_each_brand": 2, "among": 7}
    )
    assert read(request) == Ranking(
        model=RankModel.TEACHER, depth=7, weights=(0, 2, 0), asked_weight=6, diversity=Diversity(2, 7)
    )


def test_a_depth_of_nothing_ranks_nothing() -> None:
    assert read(SEARCH(rank_depth=0, rank_model=STUDENT)) == AS_RETRIEVED


def test_brands_are_spread_without_a_ranker_too() -> None:
    found = read(SEARCH(diversity={"max_each_brand": 2, "among": 10}), NEITHER)
    assert (found.model, found.depth, found.diversity) == (RankModel.NONE, 200, Diversity(2, 10))


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        (SEARCH(rank_depth=-1), "rank_depth", "is -1; it must be 0 to 500"),
        (SEARCH(rank_depth=501), "rank_depth", "is 501; it must be 0 to 500"),
        (SEARCH(rank_model=9), "rank_model", "is 9; it must be one of RankModel"),  # type: ignore[arg-type]
        (SEARCH(rank_weights={}), "rank_weights", "must not be 0 for click, cart and purchase alike"),
        (SEARCH(rank_weights={"click": -0.5}), "rank_weights.click", "is -0.5; it must be 0 to 1,000,000"),
        (SEARCH(rank_weights={"cart": math.nan}), "rank_weights.cart", "is nan; it must be 0 to 1,000,000"),
        (SEARCH(rank_weights={"purchase": math.inf}), "rank_weights.purchase", "is inf; it must be 0 to 1,000,000"),
        (SEARCH(diversity={"among": 5}), "diversity.max_each_brand", "is 0; it must be 1 to 1000"),
        (
            SEARCH(diversity={"max_each_brand": 1}),
            "diversity.among",
            "is 0; it must be 1 to the rank depth, which is 200",
        ),
        (SEARCH(diversity={"max_each_brand": 1, "among": 201}), "diversity.among", "is 201; it must be 1 to the rank"),
        (SEARCH(rank_depth=0, diversity={"max_each_brand": 1, "among": 1}), "diversity.among", "which is 0"),
    ],
)
def test_a_bad_field_is_named_with_its_limit(request_: SEARCH, field: str, said: str) -> None:
    assert said in wrong_in(request_)[field]


def test_all_violations_are_told_together() -> None:
    request = SEARCH(
        rank_depth=501, rank_weights={"click": -1, "cart": -1}, diversity={"max_each_brand": 0, "among": -3}
    )
    assert len(wrong_in(request)) == 5


def test_a_model_that_the_bundle_does_not_hold_is_refused() -> None:
    assert "holds none" in wrong_in(SEARCH(rank_model=TEACHER), STUDENT_ONLY)["rank_model"]
    for model in (STUDENT, TEACHER):
        assert "holds no ranker" in wrong_in(SEARCH(rank_model=model), NEITHER)["rank_model"]
    assert read(SEARCH(rank_model=NONE), NEITHER) == AS_RETRIEVED


def test_a_rank_call_has_no_none() -> None:
    wrong: list[Violation] = []
    assert BOTH.read_for_rank(ranking_pb2.RankRequest(), wrong) == Ranking(
        model=RankModel.STUDENT, depth=0, weights=(1, 4, 16)
    )
    assert not wrong
    assert BOTH.read_for_rank(ranking_pb2.RankRequest(asked_weight=3), wrong).asked_weight == 3
    assert not wrong
    BOTH.read_for_rank(ranking_pb2.RankRequest(asked_weight=-1), wrong)
    assert [one.field for one in wrong] == ["asked_weight"]
    wrong.clear()
    BOTH.read_for_rank(ranking_pb2.RankRequest(model=NONE), wrong)
    assert [one.field for one in wrong] == ["model"]
    off = RankingFields(LIMITS, RankerConfig(model="none"), has_ranker=True)
    assert off.read_for_rank(ranking_pb2.RankRequest(), []).model is RankModel.STUDENT


def test_weights_that_nothing_uses_are_said_to_have_no_effect() -> None:
    request = SEARCH(rank_weights={"click": 1}, rank_model=NONE)
    assert BOTH.warnings(request, read(request)) == ("rank_weights: nothing is ranked",)
    assert BOTH.warnings(SEARCH(rank_weights={"click": 1}), read(SEARCH())) == ()
