"""The folder of unfinished work: held by one process, kept through interruptions, and renamed when the work is done."""

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
    """How far a build has come, kept in its folder through a power cut. Empty where there is none, or it was damaged."""

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
        new = self.folder / (PROGRESS + ".new")
        new.write_text(json.dumps(self.values))
        sync_files(self.folder, [new])
        new.replace(self.folder / PROGRESS)


@contextmanager
def open_work_folder(partial: Path, recipe_key: str) -> Iterator[WorkFolder]:
    """The folder of an unfinished build of this recipe, made or found, and held against a second build."""
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
        state = WorkFolder(partial)
        if state.values.get("recipe") != recipe_key:
            _empty(partial)
            state.values = {"recipe": recipe_key}
            state.save()
        yield state
    finally:
        os.close(descriptor)


def _empty(partial: Path) -> None:
    """Clears what another recipe left. The progress goes last, since by it the folder is known as ours."""
    paths = sorted(partial.iterdir(), key=lambda path: path.name.startswith(PROGRESS))
    if paths and not paths[-1].name.startswith(PROGRESS):
        raise BundleError(f"{partial} is not an unfinished build; move it away or choose another --out")
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def check_replaceable(out: Path, replace: bool) -> None:
    if not out.exists():
        return
    if not replace:
        raise BundleError(f"{out} exists; choose another --out, or replace it with --force")
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise BundleError(f"{out} exists and is not a bundle, so --force does not replace it; choose another --out")


def move_into_place(partial: Path, out: Path) -> None:
    """Killed anywhere in here, the same command ends what is left to do: the progress goes last."""
    old = out.with_name(out.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    sync_files(out.parent, [])
    (out / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)
