"""A model made by hand: "boot" is a shoe, in en-GB a part of a car; "sofa" is a sofa."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.query_types.calibration import Calibration
from models.query_types.recipe import LocaleInput, TypesRecipe, Variant
from models.query_types.tokens import LocaleRows, QueryHashing, locale_row
from models.query_types.type_files import SPEC_FILE, WEIGHTS_FILE, TypeModelError
from models.query_types.type_model import Certainty, TypeModel
from models.query_types.type_net import NetSpec, TypeNet

TYPES = ("Shoes", "Car Parts", "Sofas")
HASHING = QueryHashing(bits=10)


def make(variant: Variant = Variant.U_AW) -> TypeModel:
    is_aware = variant == Variant.U_AW
    locales = ("en-US", "en-GB")
    block = LocaleRows(1024, 10)
    spec = NetSpec(
        hashing=HASHING,
        locale_input=LocaleInput.PREFIX if is_aware else None,
        locales=locales if is_aware else (),
        languages=("en",) if is_aware else (),
        rows=(block, block) if is_aware else (),
        num_rows=2048 if is_aware else 1024,
        num_types=3,
        dim=3,
        hidden=0,
        locale_dim=1,
    )
    tokens = np.zeros((spec.num_rows, 3), np.float32)
    tokens[HASHING.buckets("boot")[0]] = (4, 0, 0)
    tokens[HASHING.buckets("sofa")[0]] = (0, 0, 4)
    if is_aware:
        tokens[locale_row("en-GB", "boot", block)] = (-4, 4, 0)
    net = TypeNet(spec, {"tokens.weight": tokens, "out.weight": np.eye(3), "out.bias": np.zeros(3)})
    nets = (net, net) if variant == Variant.NU else (net,)
    sure = Certainty(Calibration(), 0.8, "all")
    return TypeModel(TYPES, locales, TypesRecipe("made", variant), nets, dict.fromkeys(("", *locales), sure))


def test_a_word_means_what_it_means_in_the_locale() -> None:
    american, british, unknown = make().classify(["boot"] * 3, ["en-US", "en-GB", "fr-FR"])
    assert [one.types[0][0] for one in (american, british, unknown)] == ["Shoes", "Car Parts", "Shoes"]
    assert [one.locale_used for one in (american, british, unknown)] == ["en-US", "en-GB", ""]
    assert not american.abstained


def test_a_locale_is_known_in_whatever_case_it_is_written() -> None:
    assert make().classify(["boot"], ["EN_gb"])[0].locale_used == "en-GB"


def test_a_unified_model_without_locales_never_uses_one() -> None:
    assert make(Variant.U_AG).classify(["boot"], ["en-GB"])[0].locale_used == ""


def test_a_model_of_locales_apart_abstains_elsewhere() -> None:
    found = make(Variant.NU).classify(["boot", "boot"], ["en-GB", "fr-FR"])
    assert found[0].types[0][0] == "Shoes"
    assert (found[1].types, found[1].abstained, found[1].locale_used) == ((), True, "")


def test_it_abstains_below_its_threshold_and_still_says_its_guess() -> None:
    guess = make().classify(["boot sofa"], ["en-US"])[0]
    assert guess.abstained
    assert {name for name, _ in guess.types[:2]} == {"Shoes", "Sofas"}


@pytest.mark.parametrize("query", ["", "   ", "-", "\u200d"])
def test_nothing_to_read_has_no_type(query: str) -> None:
    model = make()
    assert model.classify([query, "boot"], ["en-US", "en-US"])[0].types == ()
    assert model.classify([query], ["en-US"])[0].abstained
    assert not model.probabilities([query], ["en-GB"]).any()


@given(st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["en-US", "en-GB", "", "xx"])), max_size=5))
def test_any_text_is_answered_alone_as_in_a_batch(asked: list[tuple[str, str]]) -> None:
    model = make()
    together = model.probabilities([query for query, _ in asked], [locale for _, locale in asked])
    assert together.shape == (len(asked), 3)
    assert ((together >= 0) & (together <= 1)).all()
    for row, (query, locale) in enumerate(asked):
        np.testing.assert_allclose(model.probabilities([query], [locale])[0], together[row], atol=1e-6)


@pytest.mark.parametrize("query", ["boot" * 2_500, "boot 👟 靴 ботинки " * 600, "靴" * 10_000])
def test_long_and_mixed_queries_are_answered(query: str) -> None:
    assert len(make().classify([query], ["en-GB"])) == 1


def test_a_type_that_is_gone_is_never_predicted_and_the_others_stay() -> None:
    model = make()
    masked = model.excluding(["Shoes", "never heard of"])
    before, after = (one.probabilities(["boot"], ["en-US"])[0] for one in (model, masked))
    assert after[0] == 0
    assert np.array_equal(after[1:], before[1:])
    found = masked.classify(["boot"], ["en-US"])[0]
    assert found.abstained
    assert "Shoes" not in [name for name, _ in found.types]


@pytest.mark.parametrize("variant", list(Variant))
def test_a_loaded_model_answers_as_the_saved_one(tmp_path: Path, variant: Variant) -> None:
    model = make(variant).excluding(["Sofas"])
    model.save(tmp_path / "types")
    loaded = TypeModel.load(tmp_path / "types")
    asked = (["boot", "sofa", "boot"], ["en-GB", "en-US", "fr-FR"])
    assert np.array_equal(loaded.probabilities(*asked), model.probabilities(*asked))
    assert loaded.classify(*asked) == model.classify(*asked)
    assert loaded.recipe == model.recipe


def test_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    make().save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    save_file({**weights, "0.out.bias": np.zeros(4, np.float16)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(TypeModelError, match=r"0.out.bias has shape \(4,\).*\(3,\) by types.json"):
        TypeModel.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99 is not 1 or 2"),
        ({"types": ["Shoes"]}, "names 1 types and its network has 3"),
        ({"nets": []}, "0 networks for 2 locales"),
        ({"certainty": {"": {}}}, "types.json is damaged"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    make().save(tmp_path)
    values = json.loads((tmp_path / SPEC_FILE).read_text(encoding="utf-8"))
    (tmp_path / SPEC_FILE).write_text(json.dumps({**values, **change}), encoding="utf-8")
    with pytest.raises(TypeModelError, match=message):
        TypeModel.load(tmp_path)


def test_a_model_of_the_first_format_is_read(tmp_path: Path) -> None:
    model = make()
    model.save(tmp_path)
    values = json.loads((tmp_path / SPEC_FILE).read_text(encoding="utf-8"))
    del values["encoder"], values["recipe"]["encoder"]
    (tmp_path / SPEC_FILE).write_text(json.dumps({**values, "format_version": 1}), encoding="utf-8")
    assert TypeModel.load(tmp_path).classify(["boot"], ["en-GB"]) == model.classify(["boot"], ["en-GB"])


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    make().save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS_FILE)
    weights.pop("0.out.bias")
    save_file(weights, tmp_path / WEIGHTS_FILE)
    with pytest.raises(TypeModelError, match="0.out.bias is in types.json and not in types.safetensors"):
        TypeModel.load(tmp_path)


def test_threads_get_the_same_answers() -> None:
    model = make()
    queries = [f"boot {number}" for number in range(200)]
    wanted = make().probabilities(queries, ["en-GB"] * 200)
    found: list[np.ndarray] = []
    threads = [Thread(target=lambda: found.append(model.probabilities(queries, ["en-GB"] * 200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, wanted) for one in found)


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="1 queries and 2 locales"):
        make().probabilities(["a"], ["en-US", "en-GB"])
    with pytest.raises(ValueError, match="max_types must be 1 or more, not 0"):
        make().classify(["a"], ["en-US"], max_types=0)


def test_recipes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a hidden layer"):
        TypesRecipe("bad", locale_input=LocaleInput.CONCAT)
    with pytest.raises(ValueError, match="temperature must be 1 or more"):
        TypesRecipe("bad", temperature=0.5)
    with pytest.raises(ValueError, match="precision must be between"):
        TypesRecipe("bad", precision=1.0)
