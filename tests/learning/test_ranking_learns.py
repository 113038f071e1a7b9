"""Planted: clicks fall with the position and with feature 1, which follows it; feature 0 is what shoppers really want."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from models.arrays import Floats
from models.errors import DegenerateLoss
from models.events.errors import LogError
from models.query_types.calibration import expected_calibration_error
from models.ranking.fit_ranker import FittedRanker, RankerRows, fit_ranker
from models.ranking.recipe import RankerRecipe, Structure, Transfer, Weighting
from models.ranking.train_ranker import calibrated

TINY = RankerRecipe(
    "tiny",
    chain_prior=100.0,
    experts=2,
    expert_dim=12,
    tower_dim=8,
    epochs=15,
    batch_pages=32,
    learning_rate=5e-3,
    weight_decay=1e-4,
    dropout=0.1,
)
PAGE = 10


def plant(
    num_pages: int,
    *,
    seed: int = 0,
    biased: bool = False,
    idle: int = 0,
    rates: tuple[float, ...] = (-1.0, 0.0, 0.0),
) -> RankerRows:
    """Pages of ten. A click wants feature 0, what follows wants feature 2 too; `biased` shows what has feature 1 first, and
    shoppers look at few places. With `idle` features, which nobody wants, what follows wants feature 0 as a click does."""
    random = np.random.default_rng(seed)
    rows = num_pages * PAGE
    features = random.normal(size=(rows, 4)).astype(np.float32)
    page = np.repeat(np.arange(num_pages), PAGE)
    position = np.tile(np.arange(1, PAGE + 1), num_pages)
    if biased:
        order = np.lexsort((-features[:, 1] + random.normal(size=rows), page))
        features = features[order]
    odds = np.stack([1.5 * features[:, 0], features[:, 0] + features[:, 2], features[:, 2]], axis=1) + rates
    if idle:
        odds = features[:, :1] * np.array([1.5, 1.0, 1.0]) + rates
        features = np.concatenate([features, random.normal(size=(rows, idle)).astype(np.float32)], axis=1)
    if biased:
        odds[:, 0] -= 1.2 * np.log(position)
    labels = np.cumprod(random.random((rows, 3)) < 1 / (1 + np.exp(-odds)), axis=1)
    return RankerRows(features, labels.astype(np.float32), page, position)


@lru_cache
def fitted(recipe: RankerRecipe = TINY, *, biased: bool = False, seed: int = 0) -> FittedRanker:
    return fit_ranker(plant(400, biased=biased), plant(100, biased=biased, seed=1), recipe, seed=seed)


def area(scores: Floats, labels: Floats) -> float:
    """Chance that a labelled row scores above another."""
    ranks = np.argsort(np.argsort(scores))[labels > 0]
    count = len(ranks)
    return float((ranks.sum() - count * (count - 1) / 2) / (count * (len(labels) - count)))


def areas(found: FittedRanker, rows: RankerRows) -> list[float]:
    chances = found.ranker.probabilities(rows.features)
    return [area(chances[:, task], rows.labels[:, task]) for task in range(3)]


def effect(found: FittedRanker, feature: int) -> float:
    """How much the log odds of a click rise with a feature."""
    ends = np.zeros((2, 4), np.float32)
    ends[:, feature] = -1, 1
    low, high = found.ranker.log_odds(ends)[:, 0].tolist()
    return (high - low) / 2


@pytest.mark.parametrize(
    "changes",
    [
        *({"structure": structure, "transfer": transfer} for structure in Structure for transfer in Transfer),
        {"listwise": 0.0},
        {"listwise": 1.0},
        {"weighting": Weighting.UNCERTAINTY},
    ],
)
def test_every_recipe_learns_what_shoppers_want(changes: dict[str, object]) -> None:
    found = fitted(replace(TINY, **changes))  # type: ignore[arg-type]
    assert all(value > least for value, least in zip(areas(found, plant(200, seed=2)), (0.75, 0.8, 0.8), strict=True))


def test_nothing_is_learned_from_shuffled_labels() -> None:
    shuffled = [
        replace(rows, labels=np.random.default_rng(3).permutation(rows.labels))
        for rows in (plant(400), plant(100, seed=1))
    ]
    test = plant(200, seed=2)
    found = fit_ranker(shuffled[0], shuffled[1], TINY)
    assert areas(found, test) == pytest.approx([0.5] * 3, abs=0.15)
    spread = calibrated(found.ranker, shuffled[1]).probabilities(test.features)[:, 0].std()
    assert spread < 0.2 * calibrated(fitted().ranker, plant(100, seed=1)).probabilities(test.features)[:, 0].std()


def test_a_position_takes_its_share_of_the_clicks_from_what_follows_it() -> None:
    knows = fitted(biased=True)
    blind = fitted(replace(TINY, use_position=False), biased=True)
    assert effect(blind, 1) > 0.3  # without positions, products shown first seem to be relevant
    assert abs(effect(knows, 1)) < 0.4 * effect(blind, 1)
    assert effect(knows, 0) > 1
    falls = knows.position_odds[1:11, 0]
    assert falls[9] - falls[0] == pytest.approx(-1.2 * np.log(10), rel=0.25)
    assert not blind.position_odds.any()


def test_a_chain_helps_where_purchases_are_few() -> None:
    """A hundred purchases are too few to learn which of thirty features count; the clicks show it."""
    rates = (-1.5, -1.0, -2.0)
    few = plant(300, idle=30, rates=rates)
    held, test = plant(80, idle=30, rates=rates, seed=1), plant(1000, idle=30, seed=2)
    means = {}
    for transfer in Transfer:
        recipe = replace(TINY, structure=Structure.SINGLE, transfer=transfer)
        means[transfer] = np.mean([areas(fit_ranker(few, held, recipe, seed=seed), test)[2] for seed in range(3)])
    assert few.labels[:, 2].sum() < 120
    assert means[Transfer.CHAIN] > means[Transfer.NONE] + 0.02, means


def test_a_prior_holds_a_later_step_to_the_one_before_it() -> None:
    """Carts want feature 2, which clicks do not."""
    asked, alike = plant(200, seed=2).features, {}
    for prior in (0.0, 1e6):
        chances = fitted(replace(TINY, chain_prior=prior)).ranker.probabilities(asked).astype(np.float64)
        steps = [chances[:, 0], chances[:, 1] / chances[:, 0]]
        alike[prior] = np.corrcoef([np.log(chance / (1 - chance)) for chance in steps])[0, 1]
    assert alike[1e6] > 0.99
    assert 1 - alike[1e6] < 0.5 * (1 - alike[0.0])


def test_a_teacher_tells_what_few_labels_do_not() -> None:
    few, test = plant(6), plant(300, seed=2)
    wants = np.stack(
        [1.5 * few.features[:, 0] - 1, few.features[:, 0] + few.features[:, 2], few.features[:, 2]], axis=1
    )
    teacher = np.cumprod(1 / (1 + np.exp(-wants)), axis=1).astype(np.float32)
    recipe, held = replace(TINY, distillation=0.9, listwise=0.0, epochs=1000, patience=24), plant(200, seed=1)
    alone = fit_ranker(few, held, recipe)
    taught = fit_ranker(replace(few, teacher=teacher), held, recipe)
    assert np.mean(areas(taught, test)) > np.mean(areas(alone, test)) + 0.01


def test_chances_hold_what_they_say_after_calibration() -> None:
    ranker = calibrated(fitted(replace(TINY, listwise=1.0)).ranker, plant(800, seed=4))
    test = plant(1500, seed=2)
    chances = ranker.probabilities(test.features)
    for task in range(3):
        assert expected_calibration_error(chances[:, task], test.labels[:, task] > 0) < 0.03
    assert (np.diff(chances, axis=1) <= 0).all()


def test_gates_tell_how_evenly_they_mix() -> None:
    entropy = fitted().gate_entropy
    assert set(entropy) == {"click", "cart", "purchase"}
    assert all(0 < value <= 1 for value in entropy.values())
    assert not fitted(replace(TINY, structure=Structure.SHARED)).gate_entropy


def test_the_same_seed_gives_the_same_ranker() -> None:
    features = plant(5, seed=7).features
    once, again, other = (
        fit_ranker(plant(50), plant(20, seed=1), TINY, seed=seed).ranker.probabilities(features) for seed in (0, 0, 1)
    )
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_training_stops_when_the_held_out_pages_gain_no_more() -> None:
    long = replace(TINY, epochs=400, patience=2)
    found = fit_ranker(plant(40), plant(40, seed=1), long)
    assert found.steps < 400


def test_a_loss_that_is_no_number_stops_with_its_step() -> None:
    with pytest.raises(DegenerateLoss, match=r"the loss is (nan|inf) at step \d+"):
        fit_ranker(plant(50), plant(20, seed=1), replace(TINY, learning_rate=1e30))


def test_rows_that_do_not_fit_are_refused_by_name() -> None:
    rows = plant(4)
    for changes, said in (
        ({"labels": rows.labels[:, :2]}, "labels must be"),
        ({"page": rows.page + 1}, "page must ascend"),
        ({"teacher": rows.labels[1:]}, "teacher must be"),
        ({"teacher": 2 * rows.labels}, "probabilities must be 0 to 1"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(rows, **changes)
    with pytest.raises(LogError, match="4 pages with 0 clicks"):
        fit_ranker(replace(rows, labels=0 * rows.labels), rows, TINY)
    with pytest.raises(LogError, match="features must be finite"):
        fit_ranker(replace(rows, features=rows.features * np.nan), rows, TINY)


def test_progress_is_told_by_step() -> None:
    told: list[tuple[int, int]] = []
    fit_ranker(plant(64), plant(20, seed=1), replace(TINY, epochs=2), report=lambda *at: told.append(at))
    assert told == [(step + 1, 4) for step in range(4)]
