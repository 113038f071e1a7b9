"""Planted: twelve types with words of their own, and "pants", which wants another type in each locale."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from models.errors import DegenerateLoss
from models.query_types.add_locale import add_locale
from models.query_types.calibration import expected_calibration_error
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.recipe import LocaleInput, Loss, TypesRecipe, Variant
from models.query_types.tokens import QueryHashing
from models.query_types.train_types import train_types
from models.query_types.type_model import TypeModel

TYPES = tuple(f"Type {number}" for number in range(12))
TRAPS = {"en-US": "Type 1", "en-GB": "Type 2", "en-AU": "Type 2"}
TINY = TypesRecipe("tiny", hashing=QueryHashing(bits=13), dim=32, batch=128, epochs=12)


def plant(volumes: dict[str, int], *, seed: int = 0, noise: float = 0.05) -> TypeExamples:
    """Queries of a noun of the type and a word that says nothing; `noise` of them with another type."""
    dice = random.Random(seed)
    rows = []
    for locale, volume in volumes.items():
        for _ in range(volume):
            wanted = dice.choice(TYPES)
            noun = f"noun{TYPES.index(wanted)}{'abcdef'[dice.randrange(6)]}"
            if dice.random() < 0.1:
                noun, wanted = "pants", TRAPS[locale]
            if dice.random() < noise:
                wanted = dice.choice(TYPES)
            rows.append((f"{noun} extra{dice.randrange(60)}", locale, [wanted]))
    return TypeExamples.from_rows(rows, TYPES, list(volumes))


VOLUMES = {"en-US": 1500, "en-GB": 300, "en-AU": 40}
TEST = plant(dict.fromkeys(VOLUMES, 200), seed=9, noise=0.0)


def accuracy(model: TypeModel, examples: TypeExamples) -> float:
    best = model.probabilities(examples.queries, examples.row_locales()).argmax(axis=1)
    return float(examples.label_matrix()[np.arange(len(best)), best].mean())


def traps_right(model: TypeModel) -> list[bool]:
    found = model.classify(["pants"] * len(TRAPS), list(TRAPS))
    return [one.types[0][0] == wanted for one, wanted in zip(found, TRAPS.values(), strict=True)]


@pytest.fixture(scope="module")
def aware() -> TypeModel:
    return train_types(plant(VOLUMES), TINY)


def test_a_poor_locale_learns_from_the_rich_ones(aware: TypeModel) -> None:
    poor = TEST.of_locale("en-AU")
    alone = train_types(plant(VOLUMES), replace(TINY, variant=Variant.NU))
    assert accuracy(aware, poor) > 0.9
    assert accuracy(aware, poor) > accuracy(alone, poor) + 0.2


def test_only_a_model_that_knows_the_locale_escapes_the_traps(aware: TypeModel) -> None:
    agnostic = train_types(plant(VOLUMES), replace(TINY, variant=Variant.U_AG))
    assert all(traps_right(aware))
    assert not all(traps_right(agnostic))


@pytest.mark.parametrize(
    "changes", [{"locale_input": LocaleInput.CONCAT, "hidden": 64}, {"locale_input": LocaleInput.HEADS}]
)
def test_other_ways_of_telling_the_locale_learn_the_traps_of_rich_locales(changes: dict[str, object]) -> None:
    model = train_types(plant(VOLUMES), replace(TINY, **changes))  # type: ignore[arg-type]
    assert traps_right(model)[:2] == [True, True]


@pytest.mark.parametrize("changes", [{"loss": Loss.BCE}, {"loss": Loss.ASYMMETRIC}, {"sampled_types": 4}])
def test_every_loss_learns(changes: dict[str, object]) -> None:
    assert accuracy(train_types(plant(VOLUMES), replace(TINY, **changes)), TEST) > 0.9  # type: ignore[arg-type]


def test_nothing_is_learned_from_shuffled_labels() -> None:
    examples = plant(VOLUMES)
    shuffled = replace(examples, labels=examples.labels.take(np.random.default_rng(0).permutation(len(examples))))
    model = train_types(shuffled, TINY)
    assert accuracy(model, TEST) < 0.3
    found = model.classify(TEST.queries, TEST.row_locales())
    assert np.mean([one.abstained for one in found]) > 0.9


def test_probabilities_hold_what_they_say(aware: TypeModel) -> None:
    noisy = plant(VOLUMES, seed=5)  # as noisy as what it learned from
    probabilities = aware.probabilities(noisy.queries, noisy.row_locales())
    best = probabilities.argmax(axis=1)
    right = noisy.label_matrix()[np.arange(len(best)), best]
    assert expected_calibration_error(probabilities.max(axis=1), right) < 0.05


def test_an_unknown_locale_is_answered_without_one(aware: TypeModel) -> None:
    asked = [row for row in range(len(TEST)) if "pants" not in TEST.queries[row]]
    elsewhere = aware.classify([TEST.queries[row] for row in asked], ["en-NZ"] * len(asked))
    assert {one.locale_used for one in elsewhere} == {""}
    right = [TEST.types[TEST.labels.row(row)[0]] == one.types[0][0] for row, one in zip(asked, elsewhere, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize(
    "changes", [{}, {"locale_input": LocaleInput.CONCAT, "hidden": 64}, {"locale_input": LocaleInput.HEADS}]
)
def test_an_added_locale_is_learned_and_moves_no_other(changes: dict[str, object]) -> None:
    old = {name: volume for name, volume in VOLUMES.items() if name != "en-GB"}
    model = train_types(plant(old), replace(TINY, **changes))  # type: ignore[arg-type]
    grown = add_locale(model, plant({"en-GB": 300}, seed=3), "en-GB")
    others = ["en-US", "en-AU", "", "xx-XX"]
    queries = [query for query in TEST.queries[:100] for _ in others]
    asked = (queries, others * 100)
    assert np.array_equal(grown.probabilities(*asked), model.probabilities(*asked))
    assert grown.classify(*asked) == model.classify(*asked)
    assert grown.locales == (*model.locales, "en-GB")
    if grown.recipe.locale_input != LocaleInput.CONCAT:  # 16 numbers of its own cannot say what a word means
        assert grown.classify(["pants"], ["en-GB"])[0].types[0][0] == TRAPS["en-GB"]
    assert model.classify(["pants"], ["en-GB"])[0].locale_used == ""
    assert accuracy(grown, TEST.of_locale("en-GB")) > 0.85


def test_a_locale_is_added_once_and_with_types_that_are_known(aware: TypeModel) -> None:
    with pytest.raises(ExamplesError, match="knows the locale 'en-GB' already"):
        add_locale(aware, TEST, "en-GB")
    with pytest.raises(ExamplesError, match="'New' among them"):
        add_locale(aware, TypeExamples.from_rows([("a", "fr-FR", ["New"]), ("b", "fr-FR", ["New"])]), "fr-FR")


def test_the_same_seed_gives_the_same_model(aware: TypeModel) -> None:
    again = train_types(plant(VOLUMES), TINY)
    other = train_types(plant(VOLUMES), TINY, seed=1)
    asked = (TEST.queries, TEST.row_locales())
    assert np.array_equal(again.probabilities(*asked), aware.probabilities(*asked))
    assert not np.array_equal(other.probabilities(*asked), aware.probabilities(*asked))


def test_a_loss_that_is_no_number_stops_with_its_step() -> None:
    with pytest.raises(DegenerateLoss, match=r"the loss is (nan|inf) at step \d+"):
        train_types(plant({"en-US": 200}), replace(TINY, learning_rate=1e30))


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int | None]] = []
    train_types(plant({"en-US": 200}), replace(TINY, epochs=2), progress=lambda *what: told.append(what))
    assert {stage for stage, _, _ in told} == {"train types", "calibrate"}
