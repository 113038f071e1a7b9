"""A bundle that is not what its manifest says is refused; the message names the file, the expected and the actual value."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import MANIFEST, BundleError, Manifest, content_version
from models.products.product import Product
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from tests.damages import sign


@pytest.fixture
def folder(shop_bundle: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(shop_bundle, tmp_path / "bundle"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_and_sign(folder: Path, **changes: Any) -> None:
    """As a faulty build would: the version fits, the content does not."""
    manifest = dataclasses.replace(Manifest.from_json((folder / MANIFEST).read_text()), **changes)
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    (folder / MANIFEST).write_text(manifest.to_json())


def test_a_bundle_is_what_was_put_in(shop_bundle: Path, shop: list[Product]) -> None:
    bundle = Bundle(shop_bundle)
    verify_bundle(bundle)
    manifest = bundle.manifest
    assert (manifest.products, manifest.dim, manifest.locales) == (len(shop), 32, ("en-US", "de-DE"))
    assert list(bundle.products().products()) == shop
    assert bundle.vectors().shape == (len(shop), 32)
    assert np.linalg.norm(np.asarray(bundle.vectors(), np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    assert bundle.index().size == len(shop)
    lexical = bundle.lexical()
    assert lexical is not None
    assert (lexical.num_products, lexical.analyzer.language) == (len(shop), "en")
    hits = lexical.search(lexical.query(shop[1].title), 1)
    assert shop[int(hits.rows[0])].title == shop[1].title
    assert TEXT_ENCODER_PART.open(bundle).is_dir()
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_bundle_of_before_the_lexical_index_is_read(folder: Path) -> None:
    files = Manifest.from_json((folder / MANIFEST).read_text()).files
    shutil.rmtree(folder / "lexical")
    edit_and_sign(folder, files={name: record for name, record in files.items() if not name.startswith("lexical/")})
    verify_bundle(Bundle(folder))
    assert Bundle(folder).lexical() is None


def test_a_lexical_index_that_the_manifest_names_must_be_there(folder: Path) -> None:
    shutil.rmtree(folder / "lexical")
    with pytest.raises(BundleError, match=r"lexical/\w+\.\w+ is missing"):
        Bundle(folder).lexical()


def test_a_lexical_index_of_other_products_is_refused(folder: Path) -> None:
    facts = json.loads((folder / "lexical" / "lexical.json").read_text())
    (folder / "lexical" / "lexical.json").write_text(json.dumps(facts | {"products": 3}))
    sign(folder)
    with pytest.raises(BundleError, match="products is 3, expected"):
        Bundle(folder).lexical()


def test_the_manifest_names_every_file(shop_bundle: Path) -> None:
    found = {path.relative_to(shop_bundle).as_posix() for path in shop_bundle.rglob("*") if path.is_file()}
    assert found == {*Bundle(shop_bundle).manifest.files, MANIFEST}


def test_others_may_read_what_was_built(shop_bundle: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in shop_bundle.rglob("*") if path.is_file()}
    assert modes["model.safetensors"] == modes[MANIFEST]


def test_a_relative_path_is_as_good(shop_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop_bundle.parent)
    verify_bundle(Bundle(Path(shop_bundle.name)))


@pytest.mark.parametrize("name", ["products.arrow", "vectors.npy", "encoder/openvino_model.bin", "index/spec.json"])
class TestSpoiledFile:
    def test_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(BundleError, match=rf"{name} is missing"):
            verify_bundle(Bundle(folder))

    def test_truncated(self, folder: Path, name: str) -> None:
        size = (folder / name).stat().st_size
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
        with pytest.raises(BundleError, match=rf"{name} has {size - 1} bytes, the manifest says {size}"):
            verify_bundle(Bundle(folder))

    def test_altered(self, folder: Path, name: str) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        stated = Bundle(folder).manifest.files[name].sha256[:16]
        with pytest.raises(
            BundleError, match=rf"{name} was altered: its SHA-256 is \w+\.+, the manifest says {stated}"
        ):
            verify_bundle(Bundle(folder))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("products.arrow", Bundle.products),
        ("vectors.npy", Bundle.vectors),
        ("index/spec.json", Bundle.index),
        ("identifier_rows.npy", Bundle.identifiers),
        ("encoder/config.json", TEXT_ENCODER_PART.open),
    ],
)
def test_each_part_is_verified_before_it_is_used(folder: Path, name: str, read: Callable[[Bundle], object]) -> None:
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=name):
        read(Bundle(folder))


def test_another_format_is_refused_with_both_versions(folder: Path) -> None:
    edit(folder, format_version=7)
    with pytest.raises(BundleError, match="format_version is 7, this Aisle reads 1 to 5"):
        Bundle(folder)


def test_a_bundle_of_the_format_before_is_one_without_boosts(folder: Path) -> None:
    edit_and_sign(folder, format_version=1)
    values = json.loads((folder / MANIFEST).read_text())
    del values["boosts"]
    (folder / MANIFEST).write_text(json.dumps(values))
    bundle = Bundle(folder)
    verify_bundle(bundle)
    assert bundle.manifest.boosts == ()


@pytest.mark.parametrize(
    "changes",
    [{"products": 5}, {"dim": 16}, {"currency": "JPY"}, {"locales": ["fr-FR"]}, {"files": {}}, {"boosts": ["new"]}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_manifest_edited_by_hand_is_refused_with_both_versions(folder: Path, changes: dict[str, Any]) -> None:
    version = Bundle(folder).manifest.version
    edit(folder, **changes)
    with pytest.raises(BundleError, match=rf"it says version {version}, its content is \w{{12}}"):
        Bundle(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"products": 5}, "products.arrow holds 6 products, the manifest says 5"),
        ({"dim": 16}, "vectors.npy holds 32 dimensions, the manifest says 16"),
        ({"boosts": ("new", "value")}, "vectors.npy holds 32 dimensions, the manifest says 48"),
    ],
)
def test_counts_that_do_not_fit_are_refused_with_both(folder: Path, changes: dict[str, Any], says: str) -> None:
    edit_and_sign(folder, **changes)
    with pytest.raises(BundleError, match=says):
        verify_bundle(Bundle(folder))


def test_an_encoder_of_other_dimensions_is_refused_with_both(folder: Path) -> None:
    edit_and_sign(folder, dim=16)
    with pytest.raises(BundleError, match="encoder makes 32 dimensions, the manifest says 16"):
        TEXT_ENCODER_PART.open(Bundle(folder))


def test_the_version_tells_what_callers_see_and_not_when_it_was_made(shop_bundle: Path) -> None:
    manifest = Bundle(shop_bundle).manifest
    assert content_version(dataclasses.replace(manifest, created="another day", commit="")) == manifest.version
    assert content_version(dataclasses.replace(manifest, currency="EUR")) != manifest.version


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"x"', "{}", '{"format_version": 1}', "[" * 100],
    ids=lambda text: text[:20] or "empty",
)
def test_a_damaged_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle(folder)


def test_a_manifest_that_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"\xff\xfe{")
    with pytest.raises(BundleError, match="damaged"):
        Bundle(folder)


@pytest.mark.parametrize("files", [[], {"a": 1}, {"a": {"sha256": "0"}}, {"../x": {"sha256": "0", "bytes": 1}}])
def test_a_manifest_with_impossible_files_is_refused(folder: Path, files: object) -> None:
    edit(folder, files=files)
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle(folder)


def test_what_is_not_a_bundle_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, why in (
        (tmp_path, "holds no manifest"),
        (tmp_path / "none", "no such dir"),
        (tmp_path / "file", "a file"),
    ):
        with pytest.raises(BundleError, match=f"is not a bundle .*{why}"):
            Bundle(path)


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    with pytest.raises(BundleError, match=f"{MANIFEST} cannot be read"):
        Bundle(folder)
