"""The files of a bundle: hashed, and written so that they survive a power cut."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import safe_open

from models.bundles.manifest import MANIFEST, BundleError, FileRecord, Manifest, content_version

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def file_sha256(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """Returns the hex digest of a file. `on_bytes` gets the size of each block that was read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if on_bytes:
                on_bytes(len(block))
    return digest.hexdigest()


def read_format(path: Path) -> None:
    """Reads as much of a JSON, NumPy or safetensors file as shows that it is one. Raises whatever its library does."""
    match path.suffix:
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".npy":
            np.load(path, mmap_mode="r")
        case ".safetensors":
            with safe_open(path, "numpy"):
                pass


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


def link_file(source: Path, target: Path) -> None:
    """Links a file, or copies it where the disk has no links. Raises BundleError for a copy that differs."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
        if file_sha256(source) != file_sha256(target):
            raise BundleError(f"{target} differs from {source}: the disk does not keep what is written") from None


def exchange(one: Path, other: Path) -> None:
    """Swaps two paths of one folder in one step: both are there at any time. Where the file system cannot, in three renames, between which
    `other` is at `aside`."""
    libc = ctypes.CDLL(None, use_errno=True)
    ctypes.set_errno(0)
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if not hasattr(libc, "renameat2") or libc.renameat2(*arguments):
        number = ctypes.get_errno()
        if number not in (0, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), str(one))
        other.rename(aside(other))
        one.rename(other)
        aside(other).rename(one)
    sync_files(other.parent, [])


def aside(path: Path) -> Path:
    """Returns where `exchange` puts a path for a moment, where it must."""
    return path.with_name(path.name + ".swapped")


def follow_umask(folder: Path) -> None:
    """Lets whoever the umask admits read a folder and all below it. safetensors writes files that only their owner can read, and the copy
    of a temporary folder is as closed as that was."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    umask = next(int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:"))
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | ((0o777 if path.is_dir() else 0o666) & ~umask)
        if wanted != mode:
            with suppress(PermissionError):  # a linked file of another user, which could be read
                path.chmod(wanted)


def write_manifest(folder: Path, manifest: Manifest, written: Iterable[str]) -> Manifest:
    """Writes the manifest after the files `written`, names below `folder`, are on the disk, and opens the folder to whoever the umask
    admits. Returns the manifest with its version."""
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    sync_files(folder, [folder / name for name in written])
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    follow_umask(folder)
    sync_files(folder, [folder / MANIFEST])
    return manifest
