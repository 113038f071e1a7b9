"""A ranker, its teacher and a classifier of queries go into a bundle side by side, and each leaves the others as they are."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from models.bundle_parts import PARTS, verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.extend import link_bundle
from models.bundles.files import record_files
from models.bundles.manifest import MANIFEST, BundleError, Manifest, content_version
from models.query_types.add_to_bundle import add_types
from models.query_types.type_model import TypeModel
from models.ranking import column_files
from models.ranking.add_to_bundle import add_ranker
from models.ranking.bundle_part import RANKER_PART
from models.ranking.column_files import COLUMNS_PART
from models.ranking.feature_names import FEATURES
from models.ranking.product_columns import ProductColumns
from models.ranking.ranker import Ranker, Scaling, shapes
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.probabilities import Calibration
from models.ranking.teacher.spec import TEACHER_FILE, HeadSizes, TeacherSpec
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.unified.model_files import FORMAT_VERSION, SPEC_FILE
from models.unified.price_bands import PriceBands
from models.unified.recipe import STARTER

REPORT = {"pages": 120, "last_page_ms": 5, "holdout_calibration_error": {"click": 0.01, "cart": 0.0, "purchase": 0.0}}
TINY = RankerRecipe("tiny", experts=2, expert_dim=4, tower_dim=3)


def ranker_of(features: tuple[str, ...] = FEATURES) -> Ranker:
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in shapes(TINY, len(features)).items()
        if not name.startswith("scaling.")
    }
    scaling = Scaling(np.zeros(len(features), np.float32), np.ones(len(features), np.float32))
    return Ranker(TINY, weights, scaling, features=features)


def teacher_in(folder: Path, features: tuple[str, ...] = FEATURES) -> Path:
    """What says what a teacher is, without a network."""
    folder.mkdir()
    facts = {"recipe": {"name": "small"}, "base": "minilm", "data": {"pages": 90}}
    spec = TeacherSpec(
        features=features,
        transfer=TINY.transfer,
        pooling="mean",
        head=HeadSizes(),
        calibration=Calibration((1, 1, 1), (0, 0, 0)),
        facts=facts,
    )
    (folder / TEACHER_FILE).write_text(json.dumps(spec.as_json()))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def unified(shop_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle that lists a unified model, without its weights: adding a part reads its settings and price bands alone."""
    folder = Path(shutil.copytree(shop_bundle, tmp_path / "unified"))
    (folder / "unified").mkdir()
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    recipe = asdict(STARTER)
    recipe["sizes"]["dim"] = manifest.dim
    spec = {"format_version": FORMAT_VERSION, "recipe": recipe, "locales": ["en-US"], "threshold": 0.0}
    (folder / "unified" / SPEC_FILE).write_text(json.dumps(spec))
    PriceBands.from_products(Bundle(shop_bundle).products().products()).save(folder / "unified")
    sign(folder, dataclasses.replace(manifest, files=record_files(folder)))
    return Bundle(folder)


def sign(folder: Path, manifest: Manifest) -> None:
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    (folder / MANIFEST).write_text(manifest.to_json())


def test_a_ranker_is_added_and_reported(unified: Bundle, tmp_path: Path) -> None:
    manifest = add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT)
    ranked = Bundle(tmp_path / "out")
    assert (RANKER_PART.is_in(ranked), TEACHER_PART.is_in(ranked), RANKER_PART.is_in(unified)) == (True, False, False)
    assert ranked.manifest == manifest
    assert manifest.version != unified.manifest.version
    assert manifest.ranker == {
        "recipe": "tiny",
        "structure": "mmoe",
        "transfer": "chain",
        "features": len(FEATURES),
        "blend": [1.0, 4.0, 16.0],
        "pages": 120,
        "last_page_ms": 5,
        "clicks_until_ms": 0,
        "calibration_error": REPORT["holdout_calibration_error"],
        "teacher": {},
    }
    rows = np.ones((3, len(FEATURES)), np.float32)
    assert np.array_equal(RANKER_PART.open(ranked).probabilities(rows), ranker_of().probabilities(rows))
    assert (tmp_path / "out" / "vectors.npy").samefile(unified.folder / "vectors.npy")


def test_a_teacher_comes_and_goes_with_its_ranker(unified: Bundle, tmp_path: Path) -> None:
    teacher = teacher_in(tmp_path / "teacher")
    manifest = add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT, teacher=teacher)
    taught = Bundle(tmp_path / "out")
    assert manifest.ranker["teacher"] == {"recipe": "small", "base": "minilm", "pages": 90}
    assert TEACHER_PART.open(taught) == tmp_path / "out" / "teacher"
    assert (tmp_path / "teacher" / TEACHER_FILE).exists()
    add_ranker(taught, ranker_of(), tmp_path / "out", report=REPORT, replace=True)
    alone = Bundle(tmp_path / "out")
    assert (RANKER_PART.is_in(alone), TEACHER_PART.is_in(alone), alone.manifest.ranker["teacher"]) == (True, False, {})
    assert not (tmp_path / "out" / "teacher").exists()


def test_types_and_ranker_keep_each_other(unified: Bundle, shop_types: TypeModel, tmp_path: Path) -> None:
    add_types(unified, shop_types, tmp_path / "typed")
    add_ranker(Bundle(tmp_path / "typed"), ranker_of(), tmp_path / "typed first", report=REPORT)
    add_ranker(unified, ranker_of(), tmp_path / "ranked", report=REPORT)
    add_types(Bundle(tmp_path / "ranked"), shop_types, tmp_path / "ranked first")
    one, other = Bundle(tmp_path / "typed first"), Bundle(tmp_path / "ranked first")
    assert one.manifest.version == other.manifest.version
    assert one.manifest.query_types == other.manifest.query_types != {}
    assert one.manifest.ranker == other.manifest.ranker != {}


def test_a_ranker_of_other_features_is_refused_with_the_difference(unified: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="reads moon_phase, which are not computed"):
        add_ranker(unified, ranker_of((*FEATURES, "moon_phase")), tmp_path / "out", report=REPORT)
    teacher = teacher_in(tmp_path / "teacher", FEATURES[1:])
    with pytest.raises(BundleError, match=f"what differs: {FEATURES[0]}"):
        add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT, teacher=teacher)
    assert not (tmp_path / "out").exists()


def test_a_bundle_whose_parts_read_other_features_is_refused_and_can_be_mended(unified: Bundle, tmp_path: Path) -> None:
    add_ranker(unified, ranker_of(), tmp_path / "old", report=REPORT, teacher=teacher_in(tmp_path / "teacher"))
    for name in ("ranker/ranker.json", f"teacher/{TEACHER_FILE}"):
        path = tmp_path / "old" / name
        values = json.loads(path.read_text())
        path.unlink()  # it is linked elsewhere
        path.write_text(json.dumps(values | {"features": [*FEATURES[:-1], "moon_phase"]}))
    manifest = Bundle(tmp_path / "old").manifest
    sign(tmp_path / "old", dataclasses.replace(manifest, files=record_files(tmp_path / "old")))
    old = Bundle(tmp_path / "old")
    with pytest.raises(BundleError, match=f"moon_phase, which are not computed; it does not read {FEATURES[-1]}"):
        RANKER_PART.open(old)
    with pytest.raises(BundleError, match=r"teacher: .*what differs: .*moon_phase"):
        TEACHER_PART.open(old)
    add_ranker(old, ranker_of(), tmp_path / "new", report=REPORT)
    assert RANKER_PART.open(Bundle(tmp_path / "new")).features == FEATURES


def test_columns_of_an_earlier_format_are_computed_where_a_ranker_is_trained_anew(
    unified: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(column_files, "FORMAT_VERSION", column_files.FORMAT_VERSION - 1)
        add_ranker(unified, ranker_of(), tmp_path / "old", report=REPORT)
    old = Bundle(tmp_path / "old")
    with pytest.raises(BundleError, match=r"format 1 is not 2; train the ranker again"):
        COLUMNS_PART.open(old)
    rows = np.arange(old.manifest.products)
    computed, fresh = (ProductColumns.from_bundle(bundle).take(rows) for bundle in (old, unified))
    assert np.array_equal(computed.ids, fresh.ids)
    assert np.array_equal(computed.numbers, fresh.numbers)


def test_a_damaged_ranker_stops_the_start(unified: Bundle, tmp_path: Path) -> None:
    add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT)
    (tmp_path / "out" / "ranker" / "ranker.json").write_text("{}")
    with pytest.raises(BundleError, match=r"ranker/ranker.json has 2 bytes, the manifest says \d+"):
        RANKER_PART.open(Bundle(tmp_path / "out"))


def test_verifying_a_bundle_opens_its_parts(shop_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    (folder / RANKER_PART.name).mkdir()
    (folder / RANKER_PART.name / "ranker.json").write_text("{}")
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    sign(folder, dataclasses.replace(manifest, files=record_files(folder)))
    Bundle(folder).verify()  # the files are those of the manifest
    with pytest.raises(BundleError, match="format version None is not"):
        verify_bundle(Bundle(folder))


def test_a_bundle_that_nothing_encodes_queries_in_is_refused(shop_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    shutil.rmtree(folder / TEXT_ENCODER_PART.name)
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    sign(folder, dataclasses.replace(manifest, files=record_files(folder)))
    with pytest.raises(BundleError, match="lists no file of encoder"):
        verify_bundle(Bundle(folder))


def test_a_part_that_is_absent_is_found_as_none(shop_bundle: Path) -> None:
    bundle = Bundle(shop_bundle)
    assert TEXT_ENCODER_PART.find(bundle) == shop_bundle / "encoder"
    assert [part.find(bundle) for part in PARTS if part is not TEXT_ENCODER_PART] == [None] * (len(PARTS) - 1)


def test_no_two_parts_share_a_folder() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)


def test_a_bundle_without_the_unified_model_takes_no_ranker(shop_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="needs the unified model.*aisle train unified"):
        add_ranker(Bundle(shop_bundle), ranker_of(), tmp_path / "out", report=REPORT)


def test_what_stands_is_replaced_only_when_asked(unified: Bundle, tmp_path: Path) -> None:
    add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT)
    with pytest.raises(BundleError, match="--force"):
        add_ranker(unified, ranker_of(), tmp_path / "out", report=REPORT)
    with pytest.raises(BundleError, match="--force"):
        link_bundle(unified, tmp_path / "out")
    link_bundle(unified, tmp_path / "out", replace=True)
    assert Bundle(tmp_path / "out").manifest == unified.manifest
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.replaced"))


def test_a_bundle_may_get_facts_and_links_to_the_files_that_another_holds_too(unified: Bundle, tmp_path: Path) -> None:
    copied = Bundle(Path(shutil.copytree(unified.folder, tmp_path / "copied")))
    link_bundle(copied, tmp_path / "out", catalogue={"measured": "1"}, same_as=unified)
    made = Bundle(tmp_path / "out")
    made.verify()
    assert made.manifest.catalogue == {**unified.manifest.catalogue, "measured": "1"}
    assert all((made.folder / name).samefile(unified.folder / name) for name in made.manifest.files)


def test_bundles_of_earlier_formats_have_no_ranker(shop_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))
    for version, lacking in ((3, ["ranker"]), (2, ["ranker", "query_types"])):
        values = json.loads((folder / MANIFEST).read_text()) | {"format_version": version}
        for name in lacking:
            values.pop(name, None)
        (folder / MANIFEST).write_text(json.dumps(values))
        assert Bundle(folder).manifest.ranker == {}
        assert not RANKER_PART.is_in(Bundle(folder))
