"""The matrix: a stage takes the worst of what it lacks, and every lack is told with what it costs and what mends it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.needs.matrix import LEAST_PAIRS, MATRIX, RANKER, REFIT, STAGES, TEACHER, UNIFIED, Outcome, matrix_markdown
from models.needs.plan import plan_training
from models.needs.shop_facts import ShopFacts
from models.unified.shopping_log import LogError

ROOT = Path(__file__).parents[3]
WHOLE = ShopFacts(
    products=1000,
    with_category=1000,
    categories=20,
    with_price=1000,
    has_text=True,
    events=100_000,
    by_kind=(80_000, 15_000, 3_000, 2_000),
    unknown=0,
    anonymous=30_000,
    without_session=0,
    without_locale=0,
    titled=0,
    engaged=20_000,
    locales=("en-US",),
    default_locale="en-US",
    pairs=17_000,
    typed_queries=3_000,
    types=20,
    pages=900,
    clicked_pages=600,
    clicked_searches=0,
    carts=300,
    purchases=200,
    later=400,
)


def test_a_whole_shop_trains_everything() -> None:
    plan = plan_training(WHOLE)
    assert all(plan.trains(stage) for stage in STAGES)
    assert plan.lacks == ()


def test_the_worst_lack_decides_and_is_the_one_that_is_told() -> None:
    plan = plan_training(replace(WHOLE, clicked_pages=0, clicked_searches=600, with_price=0))
    told = {one.stage: one for one in plan.stages}
    assert told[TEACHER].outcome == Outcome.OUT
    assert [lack.need.name for lack in told[TEACHER].lacks] == ["impressions"]
    assert told[RANKER].outcome == Outcome.LESS
    assert {lack.need.name for lack in told[RANKER].lacks} == {"impressions", "prices"}
    assert plan.left_out == (told[TEACHER],)


def test_too_few_pairs_are_refused_with_the_numbers_and_what_helps() -> None:
    plan = plan_training(replace(WHOLE, pairs=LEAST_PAIRS - 1))
    assert not any(plan.trains(stage) for stage in STAGES)
    with pytest.raises(
        LogError, match=r"unified cannot be trained: .* 99 pairs .*, 100 are needed\. What helps: .*aisle build"
    ):
        plan.check(UNIFIED)


def test_a_single_command_hears_of_its_own_stage_alone() -> None:
    plan = plan_training(replace(WHOLE, clicked_pages=0, types=0), (UNIFIED,))
    assert [one.stage for one in plan.stages] == [UNIFIED]
    assert plan.lacks == ()


def test_the_plan_of_the_measured_bundle_says_nothing_of_the_refit() -> None:
    plan = plan_training(WHOLE)
    assert [one["stage"] for one in plan.without(REFIT).to_json()] == [stage for stage in STAGES if stage != REFIT]
    assert not plan.without(REFIT).trains(REFIT)


def test_a_few_unknown_products_are_not_worth_a_word() -> None:
    assert plan_training(replace(WHOLE, unknown=900)).lacks == ()
    (lack,) = plan_training(replace(WHOLE, unknown=10_000)).lacks
    assert lack.found == "10,000 of 100,000 events are of products that the catalogue lacks"


@pytest.mark.parametrize("need", MATRIX, ids=lambda need: need.name)
def test_every_row_names_stages_costs_and_a_remedy(need: object) -> None:
    assert set(need.outcomes) <= set(STAGES)  # type: ignore[attr-defined]
    assert need.costs  # type: ignore[attr-defined]
    assert need.mend  # type: ignore[attr-defined]


def test_the_documentation_has_the_matrix() -> None:
    assert matrix_markdown() in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
