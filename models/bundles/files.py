"""Files of a bundle: their hashes, and their way to the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.bundles.manifest import MANIFEST, FileRecord


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def record_files(folder: Path, *, but: Collection[str] = ()) -> dict[str, FileRecord]:
    """Hash and size of every file of a folder except its manifest and those named in `but`."""
    left_out = {folder / name for name in (MANIFEST, *but)}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path not in left_out)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(file_sha256, paths)
        return {
            path.relative_to(folder).as_posix(): FileRecord(sha256, path.stat().st_size)
            for path, sha256 in zip(paths, hashes, strict=True)
        }


def sync_files(folder: Path, files: Iterable[Path]) -> None:
    """Makes files below `folder` and their names in it survive a power cut."""
    files = list(files)
    folders = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    for path in [*files, *folders, folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
