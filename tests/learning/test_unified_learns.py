"""The unified model finds what was planted, and only that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from models.evaluation.metrics import Relevance, places, recall_at
from models.studies.rankers import nearest
from models.unified.examples import HeldOutSearches
from models.unified.history import HistoryBlocks, HistoryItem, HistoryKind
from models.unified.recipe import LossWeights, NegativeMix, UnifiedRecipe
from models.unified.shopping_log import ShoppingLog
from models.unified.train_unified import train_unified
from models.unified.unified_model import Search, UnifiedModel
from tests.learning.conftest import BRANDS, KINDS, OF_EACH, Planted

Silent = Callable[[str, int, int | None], None]
PER_KIND = len(BRANDS) * OF_EACH
EARLY, LATE, SEASON_DAY = 0, OF_EACH, 40  # numbers within a kind; training ends at day 51
K = 5  # as many as there are of a kind and brand


@pytest.fixture(scope="module")
def model(planted: Planted, tiny_recipe: UnifiedRecipe, tmp_path_factory: pytest.TempPathFactory) -> UnifiedModel:
    folder = tmp_path_factory.mktemp("model") / "unified"
    train_unified(planted.table, planted.log, tiny_recipe, folder, lambda *_: None)
    return UnifiedModel.load(folder)


def recall(model: UnifiedModel, planted: Planted, histories: Sequence[Sequence[HistoryItem]]) -> float:
    held = held_out(planted, model)
    searches = [Search(planted.log.queries[q], "en-US", h) for q, h in zip(held.query, histories, strict=True)]
    bought = Relevance(
        held.bought_search, held.bought_product.astype(np.int64), np.ones(len(held.bought_search)), len(held)
    )
    ranked = nearest(model.search_vectors(searches), model.product_vectors, K)
    return float(recall_at(places(ranked, bought), bought, K).mean())


def held_out(planted: Planted, model: UnifiedModel) -> HeldOutSearches:
    return HeldOutSearches.from_log(planted.log, model.until_ms)


def own_histories(planted: Planted, model: UnifiedModel) -> list[list[HistoryItem]]:
    held = held_out(planted, model)
    return [
        planted.history_before(model.bands, int(shopper), int(time))
        for shopper, time in zip(held.shopper, held.searched_ms, strict=True)
    ]


def test_words_no_title_has_and_the_shoppers_own_brand_are_found(planted: Planted, model: UnifiedModel) -> None:
    """50 products are of the kind, 5 of them of the brand: the first alone makes 10% at 5, both nearly all."""
    without = recall(model, planted, [[] for _ in held_out(planted, model).query])
    own = recall(model, planted, own_histories(planted, model))
    assert without > 0.05  # chance is 1.25%
    assert own > 0.7  # 90% of the searches keep to the brand
    assert own > 4 * without


@pytest.mark.gpu
def test_it_learns_the_same_on_a_gpu(planted: Planted, tiny_recipe: UnifiedRecipe, tmp_path: Path) -> None:
    train_unified(planted.table, planted.log, tiny_recipe, tmp_path / "unified", lambda *_: None, device="cuda")
    model = UnifiedModel.load(tmp_path / "unified")
    assert recall(model, planted, own_histories(planted, model)) > 0.7


def test_other_shoppers_histories_do_not_help(planted: Planted, model: UnifiedModel) -> None:
    histories = own_histories(planted, model)
    order = np.random.default_rng(0).permutation(len(histories))
    without = recall(model, planted, [[] for _ in histories])
    assert recall(model, planted, [histories[at] for at in order]) < without + 0.1


def test_nothing_is_found_where_brands_were_shuffled_among_shoppers(
    plant: Callable[..., Planted], tiny_recipe: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    """With one search each nobody has a past; a model that scored well here would have seen the future."""
    shuffled = plant(2400, 1, seed=1)
    train_unified(shuffled.table, shuffled.log, replace(tiny_recipe, epochs=6), tmp_path / "unified", silent)
    blind = UnifiedModel.load(tmp_path / "unified")
    assert recall(blind, shuffled, own_histories(shuffled, blind)) < 0.25


def test_a_model_without_history_answers_everyone_alike(
    planted: Planted, tiny_recipe: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    recipe = replace(tiny_recipe, history=HistoryBlocks(0, 0, 0, 0), epochs=2)
    train_unified(planted.table, planted.log, recipe, tmp_path / "unified", silent)
    plain = UnifiedModel.load(tmp_path / "unified")
    item = HistoryItem(HistoryKind.CLICK, 0, terms="Nord sofa", brand="Nord")
    known, unknown = plain.search_vectors([Search("couch", "en-US", [item]), Search("couch", "en-US")])
    np.testing.assert_array_equal(known, unknown)


@pytest.mark.parametrize("losses", [LossWeights(0, 1, 0), LossWeights(0, 0, 1)], ids=["hinge", "triplet"])
def test_each_loss_finds_words_no_title_has(
    planted: Planted, tiny_recipe: UnifiedRecipe, losses: LossWeights, tmp_path: Path, silent: Silent
) -> None:
    train_unified(planted.table, planted.log, replace(tiny_recipe, losses=losses), tmp_path / "unified", silent)
    assert share_of_kind(UnifiedModel.load(tmp_path / "unified"), planted) > 0.8


def test_dynamic_hard_negatives_and_a_tuned_text_block_train(
    planted: Planted, tiny_recipe: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    recipe = replace(
        tiny_recipe,
        negatives=NegativeMix(uniform=128, kin=16, dynamic_weight=0.5, dynamic_pool=300),
        products=replace(tiny_recipe.products, text="tuned"),
    )
    train_unified(planted.table, planted.log, recipe, tmp_path / "unified", silent)
    assert share_of_kind(UnifiedModel.load(tmp_path / "unified"), planted) > 0.8


def share_of_kind(model: UnifiedModel, planted: Planted) -> float:
    """How many of the first 20 for "couch" are sofas."""
    scores = model.search_vectors([Search("couch", "en-US")]) @ model.product_vectors.astype(np.float32).T
    first: npt.NDArray[np.int64] = np.argsort(-scores[0])[:20]
    return float(np.mean(["sofa" in planted.table.string("title", row) for row in first.tolist()]))


def in_season(planted: Planted, *, shuffled: bool) -> Planted:
    """The same searches, each for one product of its kind before SEASON_DAY of 60 days and for another from then on."""
    events = planted.events.to_pylist()
    rng = np.random.default_rng(0)
    starts = {event["session_id"]: event["time"].timestamp() / 86_400 for event in events}
    days = np.array(list(starts.values()))
    day = dict(zip(starts, rng.permutation(days) if shuffled else days, strict=True))
    for event in events:
        kind = int(event["product_id"].removeprefix("P-")) // PER_KIND
        event["product_id"] = f"P-{kind * PER_KIND + (LATE if day[event['session_id']] >= SEASON_DAY else EARLY)}"
    table = pa.Table.from_pylist(events, planted.events.schema)
    return Planted(planted.table, ShoppingLog.from_table(table, [f"P-{at}" for at in range(len(planted.table))]), table)


def late_over_early(model: UnifiedModel) -> float:
    """The share of kinds whose later product is nearer to the search for the kind than the earlier one."""
    scores = model.search_vectors([Search(query, "en-US") for query in KINDS.values()]) @ model.product_vectors.T
    rows = np.arange(len(KINDS))
    return float((scores[rows, rows * PER_KIND + LATE] > scores[rows, rows * PER_KIND + EARLY]).mean())


def test_with_a_half_life_what_is_bought_now_comes_before_what_was_bought_more(
    plant: Callable[..., Planted], tiny_recipe: UnifiedRecipe, tmp_path: Path, silent: Silent
) -> None:
    """Of 51 days of training 40 are of the early product. Where seasons are shuffled there is no now.

    Shoppers search once: of two products that the same shopper chose after a query, neither is a negative of the other.
    """
    found, once = {}, plant(2400, 1)
    for name, half_life, shuffled in (("even", 0.0, False), ("lately", 3.0, False), ("shuffled", 3.0, True)):
        season = in_season(once, shuffled=shuffled)
        recipe = replace(tiny_recipe, half_life_days=half_life, epochs=12)
        train_unified(season.table, season.log, recipe, tmp_path / name, silent)
        found[name] = late_over_early(UnifiedModel.load(tmp_path / name))
    assert found["lately"] > 0.8
    assert max(found["even"], found["shuffled"]) < 0.3
