"""The folder of unfinished work: locked by one process, kept through interruptions, and renamed when the work is done."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.bundles.files import sync_files
from models.bundles.manifest import MANIFEST, BundleError

PROGRESS = "progress.json"


class WorkFolder:
    """A folder, and the progress of the work in it: `values`, which `save` writes to the disk. Damaged progress counts as none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: dict[str, Any] = {}
        try:
            values = json.loads((folder / PROGRESS).read_bytes())
        except (FileNotFoundError, ValueError):
            return
        if isinstance(values, dict):
            self.values = values

    def save(self) -> None:
        """Replaces the saved progress; a power cut leaves the old or the new."""
        new = self.folder / (PROGRESS + ".new")
        new.write_text(json.dumps(self.values))
        sync_files(self.folder, [new])
        new.replace(self.folder / PROGRESS)


@contextmanager
def open_work_folder(partial: Path, key: str) -> Iterator[WorkFolder]:
    """Locks the folder of an unfinished build until the block ends. It is created if it is missing, and emptied if its work has another
    key.

    Raises BundleError while another process holds it, and for a folder of something else.
    """
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BundleError(f"{partial} cannot be made: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(f"another build is at work in {partial}") from None
        if not partial.exists() or not os.path.samestat(os.fstat(descriptor), partial.stat()):
            raise BundleError(f"another build has just finished in {partial}")
        work = WorkFolder(partial)
        if work.values.get("recipe") != key:
            _empty(partial)
            work.values = {"recipe": key}
            work.save()
        yield work
    finally:
        os.close(descriptor)


def _empty(partial: Path) -> None:
    """Deletes the work of another recipe. The progress goes last, since it shows that the folder is a build's."""
    paths = sorted(partial.iterdir(), key=lambda path: path.name.startswith(PROGRESS))
    if paths and not paths[-1].name.startswith(PROGRESS):
        raise BundleError(f"{partial} is not an unfinished build; move it away or choose another --out")
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_replaceable(out: Path, replace: bool) -> None:
    """Raises BundleError if `out` exists, unless `replace` and it is a bundle or an empty folder."""
    if not out.exists():
        return
    if not replace:
        raise BundleError(f"{out} exists; choose another --out, or replace it with --force")
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise BundleError(f"{out} exists and is not a bundle, so --force does not replace it; choose another --out")


def move_into_place(partial: Path, out: Path) -> None:
    """Renames finished work to `out`, which it replaces. The progress is deleted last, so that the same command completes a move that was
    killed."""
    old = out.with_name(out.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    sync_files(out.parent, [])
    (out / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)
