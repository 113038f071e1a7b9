"""The files of a bundle: hashed, and written so that they survive a power cut."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from models.bundles.manifest import MANIFEST, FileRecord, Manifest, content_version


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Returns the hex digest of a file. `on_bytes` gets the size of each block that was read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def record_files(folder: Path, *, excluding: Collection[str] = ()) -> dict[str, FileRecord]:
    """Returns hash and size of every file below a folder, except its manifest and the files `excluding`, by relative name."""
    excluded = {folder / name for name in (MANIFEST, *excluding)}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path not in excluded)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(file_sha256, paths)
        return {
            path.relative_to(folder).as_posix(): FileRecord(sha256, path.stat().st_size)
            for path, sha256 in zip(paths, hashes, strict=True)
        }


def sync_files(folder: Path, files: Iterable[Path]) -> None:
    """Flushes files below `folder`, and the folders that name them, to the disk."""
    files = list(files)
    folders = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    for path in [*files, *folders, folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_manifest(folder: Path, manifest: Manifest, written: Iterable[str]) -> Manifest:
    """Writes the manifest after the files `written`, names below `folder`, are on the disk. Returns it with its version."""
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    sync_files(folder, [folder / name for name in written])
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(folder, [folder / MANIFEST])
    return manifest
