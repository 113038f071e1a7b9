"""Whatever is wrong with a file of a bundle is found before it is served. The integration tests have the models that are trained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import MANIFEST, BundleError
from models.query_types.add_to_bundle import add_types
from models.query_types.type_model import TypeModel
from tests.damages import DAMAGES, damaged, sign, truncate

FILES = [
    "attributes/attributes.json",
    "attributes/codes_1.npy",
    "attributes/codes_2.npy",
    "attributes/codes_4.npy",
    "attributes/numbers.npy",
    "attributes/rows.npy",
    "attributes/starts.npy",
    "attributes/strings.arrow",
    "encoder/config.json",
    "encoder/encoder.json",
    "encoder/model.safetensors",
    "encoder/openvino_model.bin",
    "encoder/openvino_model.xml",
    "encoder/tokenizer.json",
    "identifier_hashes.npy",
    "identifier_rows.npy",
    "index/spec.json",
    "lexical/lexical.json",
    "lexical/posting_fields.npy",
    "lexical/posting_rows.npy",
    "lexical/posting_weights.npy",
    "lexical/term_hashes.npy",
    "lexical/term_offsets.npy",
    "products.arrow",
    "types/types.json",
    "types/types.safetensors",
    "vectors.npy",
    "words.json",
]
FOR_CUDA = {"encoder/config.json", "encoder/model.safetensors"}


@pytest.fixture(scope="module")
def whole(shop_bundle: Path, shop_types: TypeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    add_types(Bundle(shop_bundle), shop_types, folder)
    return folder


def test_the_list_is_that_of_the_bundle(whole: Path) -> None:
    assert sorted(Bundle(whole).manifest.files) == FILES


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_damaged_file_is_named(whole: Path, tmp_path: Path, name: str, damage: str) -> None:
    folder = damaged(whole, tmp_path / "bundle", name, DAMAGES[damage])
    with pytest.raises(BundleError, match=name):
        verify_bundle(Bundle(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_written_damaged_is_refused_too(whole: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(whole, tmp_path / "bundle", name, truncate)
    sign(folder)
    with pytest.raises(BundleError, match=name.partition("/")[0].partition("_")[0]):
        verify_bundle(Bundle(folder))


@pytest.mark.parametrize("name", sorted(set(FILES) - FOR_CUDA))
def test_a_file_that_was_never_written_is_refused_too(whole: Path, tmp_path: Path, name: str) -> None:
    folder = damaged(whole, tmp_path / "bundle", name, Path.unlink)
    sign(folder)
    with pytest.raises(BundleError):
        verify_bundle(Bundle(folder))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_and_folders_follow_the_umask(
    shop_bundle: Path, shop_types: TypeModel, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        folder = tmp_path / "bundle"
        add_types(Bundle(shop_bundle), shop_types, folder)
        for path in (folder, *folder.rglob("*")):
            wanted = (0o777 if path.is_dir() else 0o666) & ~umask
            assert path.stat().st_mode & wanted == wanted, path
    finally:
        os.umask(before)
