"""Planted for a tiny encoder with random weights: six types with words of their own, and "pants", which wants another in each locale."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.query_types.examples import TypeExamples
from models.query_types.recipe import EncoderTuning, LocaleInput, TypesRecipe, Variant
from models.query_types.train_types import train_types
from models.query_types.type_model import TypeModel

NOUNS = {"Bags": "bag", "Cups": "cup", "Hats": "hat", "Jars": "jar", "Pins": "pin", "Sofas": "sofa"}
TRAPS = {"en-US": "Bags", "en-GB": "Hats"}


def plant(each: int, *, seed: int = 0) -> TypeExamples:
    dice = random.Random(seed)
    rows = []
    for locale, trap in TRAPS.items():
        for _ in range(each):
            wanted, noun = dice.choice(list(NOUNS.items()))
            if dice.random() < 0.25:
                wanted, noun = trap, "pants"
            rows.append((f"{noun} {dice.randrange(60)}", locale, [wanted]))
    return TypeExamples.from_rows(rows, tuple(NOUNS), tuple(TRAPS))


TEST = plant(100, seed=9)


def recipe_of(encoder: Path, **changes: object) -> TypesRecipe:
    recipe = TypesRecipe(
        "tiny",
        batch=64,
        epochs=16,
        learning_rate=2e-2,
        token_dropout=0.0,
        encoder=EncoderTuning(str(encoder), learning_rate=3e-3, max_tokens=12),
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


def accuracy(model: TypeModel, examples: TypeExamples) -> float:
    best = model.probabilities(examples.queries, examples.row_locales()).argmax(axis=1)
    return float(examples.label_matrix()[np.arange(len(best)), best].mean())


def traps_right(model: TypeModel) -> list[bool]:
    found = model.classify(["pants 7"] * len(TRAPS), list(TRAPS))
    return [one.types[0][0] == wanted for one, wanted in zip(found, TRAPS.values(), strict=True)]


@pytest.mark.parametrize(
    "changes", [{}, {"locale_input": LocaleInput.CONCAT, "hidden": 32}, {"locale_input": LocaleInput.HEADS}]
)
def test_an_encoder_learns_words_and_what_they_mean_in_a_locale(tiny_encoder: Path, changes: dict[str, object]) -> None:
    model = train_types(plant(400), recipe_of(tiny_encoder, **changes))
    assert accuracy(model, TEST) > 0.95
    assert traps_right(model) == [True, True]
    nouns = model.classify([f"{noun} 5" for noun in NOUNS.values()], ["xx-XX"] * len(NOUNS))
    assert [one.types[0][0] for one in nouns] == list(NOUNS)
    assert {one.locale_used for one in nouns} == {""}


@pytest.mark.gpu
def test_it_learns_the_same_on_a_gpu(tiny_encoder: Path) -> None:
    model = train_types(plant(400), recipe_of(tiny_encoder), device="cuda")
    assert accuracy(model, TEST) > 0.95
    assert traps_right(model) == [True, True]


def test_without_the_locale_a_trap_is_a_trap(tiny_encoder: Path) -> None:
    model = train_types(plant(400), recipe_of(tiny_encoder, variant=Variant.U_AG))
    assert accuracy(model, TEST) > 0.8
    assert traps_right(model) != [True, True]


def test_frozen_layers_stay_and_the_upper_ones_learn(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    recipe = recipe_of(tiny_encoder, epochs=2)
    tuned = replace(recipe, encoder=replace(recipe.encoder, tuned_layers=1))  # type: ignore[arg-type, type-var]
    train_types(plant(100), tuned).save(tmp_path / "types")
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tiny_encoder, tmp_path / "types" / "encoder")
    )
    moved = {
        name
        for name in before
        if before[name].shape != after[name].shape or not np.array_equal(before[name], after[name])
    }
    words = "embeddings.word_embeddings.weight"
    assert moved == {words} | {name for name in before if name.startswith("encoder.layer.1.")}
    assert np.array_equal(after[words][: len(before[words])], before[words])
    assert len(after[words]) == len(before[words]) + len(TRAPS)


def test_vectors_as_they_are_can_be_read(tiny_encoder: Path) -> None:
    recipe = recipe_of(tiny_encoder, locale_input=LocaleInput.CONCAT, hidden=64, epochs=30)
    frozen = replace(recipe, encoder=replace(recipe.encoder, tuned_layers=0))  # type: ignore[arg-type, type-var]
    assert accuracy(train_types(plant(400), frozen), TEST) > 0.7


def test_a_head_that_learned_first_needs_few_steps_of_the_layers(tiny_encoder: Path) -> None:
    recipe = recipe_of(tiny_encoder)
    found = []
    for epochs in (0.0, 30.0):
        tuning = replace(recipe.encoder, tuned_layers=1, probe_epochs=epochs, max_steps=8)  # type: ignore[type-var]
        found.append(accuracy(train_types(plant(400), replace(recipe, encoder=tuning)), TEST))  # type: ignore[arg-type]
    assert found[1] > found[0] + 0.1


def test_nothing_is_learned_from_shuffled_labels(tiny_encoder: Path) -> None:
    examples = plant(400)
    shuffled = replace(examples, labels=examples.labels.take(np.random.default_rng(0).permutation(len(examples))))
    model = train_types(shuffled, recipe_of(tiny_encoder, epochs=6))
    assert accuracy(model, TEST) < 0.4
    assert np.mean([one.abstained for one in model.classify(TEST.queries, TEST.row_locales())]) > 0.9


def test_the_same_seed_gives_the_same_model(tiny_encoder: Path) -> None:
    recipe = recipe_of(tiny_encoder, epochs=2)
    one, again, other = (train_types(plant(100), recipe, seed=seed) for seed in (0, 0, 1))
    asked = (TEST.queries, TEST.row_locales())
    assert np.array_equal(again.probabilities(*asked), one.probabilities(*asked))
    assert not np.array_equal(other.probabilities(*asked), one.probabilities(*asked))
