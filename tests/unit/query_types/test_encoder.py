"""A classifier with a Hugging Face encoder, of a few steps on a tiny one: "boot" is a shoe, in en-GB a part of a car."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from models.query_types.add_locale import add_locale
from models.query_types.examples import ExamplesError, TypeExamples
from models.query_types.recipe import ENCODER_RECIPES, EncoderTuning, LocaleInput, TypesRecipe, Variant
from models.query_types.train_types import train_types
from models.query_types.type_files import ENCODER_FOLDER, SPEC_FILE, WEIGHTS_FILE, TypeModelError
from models.query_types.type_model import TypeModel
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import EncoderError, EncoderSpec, Text

ROWS = [
    (f"{word} {noun}", locale, [kind])
    for word in ("red", "blue", "old", "new", "big", "")
    for noun, locale, kind in (
        ("boot", "en-US", "Shoes"),
        ("boot", "en-GB", "Car Parts"),
        ("sofa", "en-US", "Sofas"),
        ("sofa", "en-GB", "Sofas"),
    )
]
# Of a network with random weights, bf16 keeps a probability to about this.
BF16 = 0.05


def recipe_of(folder: Path, **changes: object) -> TypesRecipe:
    tuning = EncoderTuning(str(folder), learning_rate=2e-3, max_tokens=16, max_steps=30)
    recipe = TypesRecipe(
        "tiny", batch=16, epochs=60, patience=99, learning_rate=2e-2, token_dropout=0.0, encoder=tuning
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def train(tiny_encoder: Path) -> Callable[..., TypeModel]:
    return lambda **changes: train_types(TypeExamples.from_rows(ROWS), recipe_of(tiny_encoder, **changes))


@pytest.fixture(scope="module")
def trained(train: Callable[..., TypeModel]) -> TypeModel:
    return train()


@pytest.fixture
def saved(trained: TypeModel, tmp_path: Path) -> Path:
    trained.save(tmp_path / "types")
    return tmp_path / "types"


INPUTS = [
    {},
    {"locale_input": LocaleInput.CONCAT, "hidden": 16},
    {"locale_input": LocaleInput.HEADS},
    {"variant": Variant.U_AG},
]


@pytest.mark.parametrize("changes", INPUTS)
def test_a_loaded_model_answers_as_the_trained_one_and_hears_the_locale(
    train: Callable[..., TypeModel], tmp_path: Path, changes: dict[str, object]
) -> None:
    model = train(**changes).excluding(["Sofas"])
    model.save(tmp_path / "types")
    loaded = TypeModel.load(tmp_path / "types", device="cpu")
    asked = (["boot", "sofa", "boot"], ["en-GB", "en-US", "fr-FR"])
    assert np.array_equal(loaded.probabilities(*asked), model.probabilities(*asked))
    assert loaded.classify(*asked) == model.classify(*asked)
    assert loaded.recipe == model.recipe
    assert loaded.backend.startswith("openvino")
    aware = "variant" not in changes
    used = ["en-GB", "en-US", ""] if aware else ["", "", ""]
    assert [one.locale_used for one in loaded.classify(*asked)] == used
    british, american, unknown, none = loaded.probabilities(["boot"] * 4, ["en-GB", "en_us", "fr-FR", ""])
    assert np.allclose(british, american) != aware
    assert np.array_equal(unknown, none)


def test_what_is_saved_names_the_encoder_without_its_path(saved: Path, tiny_encoder: Path) -> None:
    text = (saved / SPEC_FILE).read_text(encoding="utf-8")
    assert json.loads(text)["encoder"] == "transformer"
    assert json.loads(text)["recipe"]["encoder"]["base"] == tiny_encoder.name
    assert str(tiny_encoder.parent) not in text
    spec = EncoderSpec.load(saved / ENCODER_FOLDER)
    assert spec.model == tiny_encoder.name
    assert sorted(spec.locale_tokens) == ["en-GB", "en-US"]


def test_the_token_of_a_locale_follows_the_first_and_a_long_query_makes_room(saved: Path) -> None:
    encoder = TextEncoder(saved / ENCODER_FOLDER, "cpu")
    token = encoder.spec.locale_tokens["en-GB"]
    plain, known = (encoder.prepare([Text("sofa", "query", locale)])[0].ids[0].tolist() for locale in ("", "en-GB"))
    assert known == [plain[0], token, *plain[1:]]
    assert encoder.prepare([Text("sofa", "product", "en-GB")])[0].ids[0].tolist() == plain
    assert encoder.prepare([Text("sofa " * 99, "query", "en-GB")])[0].mask.sum() == encoder.spec.max_query_tokens


@pytest.mark.parametrize("query", ["", "   ", "-", "\u200d"])
def test_nothing_to_read_has_no_type(trained: TypeModel, query: str) -> None:
    assert trained.classify([query, "boot"], ["en-US", "en-US"])[0].types == ()
    assert trained.classify([query], ["en-US"])[0].abstained
    assert not trained.probabilities([query], ["en-GB"]).any()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.text(max_size=30), st.sampled_from(["en-US", "en-GB", "", "xx"])), max_size=5))
def test_any_text_is_answered_alone_as_in_a_batch(trained: TypeModel, asked: list[tuple[str, str]]) -> None:
    together = trained.probabilities([query for query, _ in asked], [locale for _, locale in asked])
    assert together.shape == (len(asked), 3)
    assert ((together >= 0) & (together <= 1)).all()
    for row, (query, locale) in enumerate(asked):
        np.testing.assert_allclose(trained.probabilities([query], [locale])[0], together[row], atol=BF16)


@pytest.mark.parametrize(
    "query", ["boot" * 2_500, "boot 👟 靴 ботинки " * 600, "靴" * 10_000, "👟🛋", "sofa \ud800", "[CLS] [SEP] [PAD]"]
)
def test_long_mixed_and_broken_queries_are_answered(trained: TypeModel, query: str) -> None:
    found = trained.probabilities([query], ["en-GB"])
    assert np.isfinite(found).all()
    assert len(trained.classify([query], ["en-GB"])) == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("encoder/openvino_model.xml", None, "encoder cannot be loaded"),
        ("encoder/openvino_model.bin", b"", "encoder cannot be loaded"),
        ("encoder/tokenizer.json", b"{}", "encoder cannot be loaded"),
        ("encoder/encoder.json", b'{"dim": 32}', "encoder cannot be loaded"),
        ("types.safetensors", b"none", "types.safetensors cannot be read"),
    ],
)
def test_a_damaged_file_is_refused(saved: Path, file: str, content: bytes | None, message: str) -> None:
    (saved / file).unlink()
    if content is not None:
        (saved / file).write_bytes(content)
    with pytest.raises(TypeModelError, match=message):
        TypeModel.load(saved, device="cpu")


def test_the_encoder_of_another_model_is_refused(saved: Path, exported_encoder: Path, tmp_path: Path) -> None:
    shutil.rmtree(saved / ENCODER_FOLDER)
    shutil.copytree(exported_encoder, saved / ENCODER_FOLDER)
    with pytest.raises(TypeModelError, match=r"tokens of 0 locales, its head reads 2: en-GB, en-US not in both"):
        TypeModel.load(saved, device="cpu")
    replace(EncoderSpec.load(saved / ENCODER_FOLDER), dim=16).save(saved / ENCODER_FOLDER)
    with pytest.raises(TypeModelError, match="the encoder makes 16 dimensions, its head takes 32"):
        TypeModel.load(saved, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "n-grams"}, "types.json is damaged"),
        ({"encoder": "runes"}, "'runes' is not a valid EncoderKind"),
        ({"types": ["Shoes"]}, "names 1 types and its network has 3"),
        ({"nets": []}, "0 networks for 2 locales"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(saved: Path, change: dict[str, object], message: str) -> None:
    values = json.loads((saved / SPEC_FILE).read_text(encoding="utf-8"))
    (saved / SPEC_FILE).write_text(json.dumps({**values, **change}), encoding="utf-8")
    with pytest.raises(TypeModelError, match=message):
        TypeModel.load(saved, device="cpu")


def test_a_head_of_another_shape_is_refused_with_both(saved: Path) -> None:
    weights = load_file(saved / WEIGHTS_FILE)
    save_file({**weights, "0.out.bias": np.zeros(4, np.float16)}, saved / WEIGHTS_FILE)
    with pytest.raises(TypeModelError, match=r"0.out.bias has shape \(4,\).*\(3,\) by types.json"):
        TypeModel.load(saved, device="cpu")


def test_no_locale_can_be_added(trained: TypeModel) -> None:
    with pytest.raises(ExamplesError, match="train it again with the locale"):
        add_locale(trained, TypeExamples.from_rows([("botte", "fr-FR", ["Shoes"])] * 2), "fr-FR")


def test_recipes_that_cannot_work_are_refused(tiny_encoder: Path) -> None:
    frozen = EncoderTuning(str(tiny_encoder), tuned_layers=0)
    with pytest.raises(ValueError, match="nu would be a whole encoder for each locale"):
        recipe_of(tiny_encoder, variant=Variant.NU)
    with pytest.raises(ValueError, match="cannot learn what a prefix means"):
        recipe_of(tiny_encoder, encoder=frozen)
    with pytest.raises(ValueError, match="token_dropout must be 0"):
        recipe_of(tiny_encoder, encoder=frozen, locale_input=LocaleInput.HEADS, token_dropout=0.1)
    with pytest.raises(ValueError, match="tuned_layers must be -1"):
        EncoderTuning(tuned_layers=-2)
    assert all(recipe.encoder is not None for recipe in ENCODER_RECIPES.values())


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="there is no directory"):
        train_types(TypeExamples.from_rows(ROWS), recipe_of(tmp_path / "none"))


def test_the_encoder_of_a_bundle_can_be_tuned_and_keeps_its_prefix(exported_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(exported_encoder, tmp_path / "base")
    replace(EncoderSpec.load(tmp_path / "base"), query_prefix="ask: ").save(tmp_path / "base")
    model = train_types(TypeExamples.from_rows(ROWS), recipe_of(tmp_path / "base"))
    assert model.classify(["red sofa"], ["en-US"])[0].types[0][0] == "Sofas"
    model.save(tmp_path / "types")
    assert EncoderSpec.load(tmp_path / "types" / ENCODER_FOLDER).query_prefix == "ask: "


def test_serving_it_on_a_cpu_does_not_import_torch(saved: Path) -> None:
    code = (
        "import sys, pathlib; from models.query_types.type_model import TypeModel; "
        "model = TypeModel.load(pathlib.Path(sys.argv[1]), device='cpu'); assert model.classify(['boot'], ['en-GB'])[0].types; "
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
