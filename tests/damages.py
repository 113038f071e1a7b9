"""Ways in which a file of a bundle can be damaged."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from models.bundles.files import record_files
from models.bundles.manifest import MANIFEST, Manifest, content_version


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {"a bit": flip_a_bit, "truncated": truncate, "deleted": Path.unlink}


def damaged(bundle: Path, to: Path, name: str, damage: Callable[[Path], None]) -> Path:
    """A copy of a bundle with one file damaged."""
    shutil.copytree(bundle, to, copy_function=os.link)
    content = (to / name).read_bytes()
    (to / name).unlink()  # it is linked
    (to / name).write_bytes(content)
    damage(to / name)
    return to


def sign(folder: Path) -> None:
    """Makes the manifest vouch for the files as they are."""
    manifest = dataclasses.replace(Manifest.from_json((folder / MANIFEST).read_text()), files=record_files(folder))
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(manifest.to_json())
