"""The types stage: calls share a batch, and each gets its own answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError, Manifest
from models.query_types.add_to_bundle import add_types
from models.query_types.bundle_part import TYPES_PART
from models.query_types.examples import TypeExamples
from models.query_types.recipe import EncoderTuning, TypesRecipe
from models.query_types.train_types import train_types
from models.query_types.type_model import TypeModel, TypePrediction
from serving.compute.query_typer import QueryTyper, TypeQuestion

BuildTiny = Callable[..., Manifest]


@pytest.fixture(scope="module")
def typed(build_tiny: BuildTiny, shop_types: TypeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed") / "plain"
    build_tiny(folder)
    add_types(Bundle(folder), shop_types, folder.with_name("typed"))
    return folder.with_name("typed")


def test_each_call_gets_the_answers_of_its_queries(typed: Path) -> None:
    typer = QueryTyper(typed)
    sofa, table, both = (
        TypeQuestion((("sofa", "en-US"),)),
        TypeQuestion((("table", "en-US"),), 1),
        TypeQuestion((("table", "en-US"), ("sofa", "de-DE"))),
    )
    alone = [typer.compute([one])[0] for one in (sofa, table, both)]
    together = typer.compute([sofa, table, both])
    assert [[_names(told) for told in call] for call in together] == [[_names(told) for told in call] for call in alone]
    assert [len(told) for told in alone] == [1, 1, 2]
    assert [told[0].types[0][0] for told in alone[:2]] == ["Furniture > Sofas", "Furniture > Tables"]
    assert len(alone[1][0].types) == 1


def _names(told: TypePrediction) -> list[str]:
    return [name for name, _ in told.types]


def test_the_bundle_is_the_same_but_for_the_classifier(typed: Path) -> None:
    plain, extended = Bundle(typed.with_name("plain")), Bundle(typed)
    verify_bundle(extended)
    assert not TYPES_PART.is_in(plain)
    assert TYPES_PART.is_in(extended)
    assert extended.manifest.version != plain.manifest.version
    assert {k: v for k, v in extended.manifest.files.items() if not k.startswith("types/")} == plain.manifest.files
    assert extended.manifest.locales == (*plain.manifest.locales, "en-GB")
    assert extended.manifest.query_types["locales"] == ["en-US", "en-GB", "de-DE"]


def test_a_classifier_can_be_replaced_in_place(typed: Path, shop_types: TypeModel, tmp_path: Path) -> None:
    add_types(Bundle(typed), shop_types, tmp_path / "b")
    with pytest.raises(BundleError, match="--force"):
        add_types(Bundle(tmp_path / "b"), shop_types, tmp_path / "b")
    again = add_types(Bundle(tmp_path / "b"), shop_types, tmp_path / "b", replace=True)
    assert again.version == Bundle(typed).manifest.version
    verify_bundle(Bundle(tmp_path / "b"))
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.replaced"))


def test_a_type_that_the_catalogue_lost_is_never_told(typed: Path) -> None:
    model = TYPES_PART.open(Bundle(typed))
    told = model.classify(["bicycle"], ["en-US"])[0]
    assert "Sports > Bikes" not in [name for name, _ in told.types]
    assert model.probabilities(["bicycle"], ["en-US"])[0, model.types.index("Sports > Bikes")] == 0


def test_a_model_of_another_shop_is_refused_with_both_named(typed: Path, shop_types: TypeModel, tmp_path: Path) -> None:
    strange = TypeModel(
        [f"Other > {n}" for n in range(len(shop_types.types))],
        shop_types.locales,
        shop_types.recipe,
        shop_types.nets,
        shop_types.certainty,
    )
    with pytest.raises(BundleError, match=r"Other > 0.*Furniture"):
        add_types(Bundle(typed), strange, tmp_path / "b")


def test_a_damaged_classifier_stops_the_start(typed: Path, shop_types: TypeModel, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    add_types(Bundle(typed), shop_types, folder)
    (folder / "types" / "types.json").write_text("{}")
    with pytest.raises(BundleError, match="types/types.json"):
        verify_bundle(Bundle(folder))


def test_a_classifier_with_an_encoder_serves_alike_and_gives_way_to_another(
    typed: Path, shop_types: TypeModel, tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = [
        (f"{word} {noun}", locale, [f"Furniture > {noun.title()}s"])
        for word in "abcdefgh"
        for noun in ("sofa", "table")
        for locale in ("en-US", "de-DE")
    ]
    tuning = EncoderTuning(str(tiny_encoder), learning_rate=3e-3, max_tokens=16, max_steps=80)
    recipe = TypesRecipe(
        "tiny", batch=16, epochs=60, patience=99, learning_rate=2e-2, token_dropout=0.0, encoder=tuning
    )
    model = train_types(TypeExamples.from_rows(rows), recipe)
    folder = tmp_path / "b"
    manifest = add_types(Bundle(typed), model, folder)
    assert {"types/types.json", "types/encoder/openvino_model.bin"} < set(manifest.files)
    verify_bundle(Bundle(folder))
    typer = QueryTyper(folder)
    typer.warm_up()
    assert typer.backend.startswith("openvino")
    sofa, table = TypeQuestion((("a sofa", "en-US"),)), TypeQuestion((("b table", "de-DE"), ("", "xx-XX")), 1)
    told = typer.compute([sofa, table])
    assert [one.types[0][0] for one in (told[0][0], told[1][0])] == ["Furniture > Sofas", "Furniture > Tables"]  # type: ignore[index]
    assert told[1][1].types == ()  # type: ignore[index]
    (folder / "types" / "encoder" / "openvino_model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="openvino_model.bin has 0 bytes"):
        QueryTyper(folder)
    again = add_types(Bundle(folder), shop_types, folder, replace=True)
    assert again.version == Bundle(typed).manifest.version
    assert not (folder / "types" / "encoder").exists()
