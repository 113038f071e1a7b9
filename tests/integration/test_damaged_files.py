"""Whatever is wrong with a file of a bundle with all trained models is found before it is served."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from tests.damages import DAMAGES, damaged, sign, truncate

# What only training reads again, or CUDA.
UNSERVED = {"unified/signals.parquet", "unified/product_tower.safetensors", "unified/text_reader.safetensors"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(ranked_folder: Path, tmp_path: Path, damage: str) -> None:
    for number, name in enumerate(Bundle(ranked_folder).manifest.files):
        folder = damaged(ranked_folder, tmp_path / str(number), name, DAMAGES[damage])
        with pytest.raises(BundleError, match=name):
            verify_bundle(Bundle(folder))


def test_a_file_that_was_written_damaged_is_refused_too(ranked_folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(sorted(set(Bundle(ranked_folder).manifest.files) - UNSERVED)):
        folder = damaged(ranked_folder, tmp_path / str(number), name, truncate)
        sign(folder)
        try:
            verify_bundle(Bundle(folder))
        except BundleError:
            continue
        raise AssertionError(f"{name} was accepted")


def test_every_file_and_folder_can_be_read_by_others(ranked_folder: Path) -> None:
    closed = [path for path in (ranked_folder, *ranked_folder.rglob("*")) if path.stat().st_mode & 0o044 != 0o044]
    assert closed == []
