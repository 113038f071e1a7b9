"""Where the generations of a bundle lie: the one that is served, and its neighbours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.bundles.bundle import Bundle
from models.bundles.files import aside
from models.bundles.manifest import BundleError
from models.errors import InputError

_opened: dict[Generation, int] = {}  # descriptors of folders
_opening = threading.Lock()


def next_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".next")


def previous_of(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".previous")


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of the bundle in a folder. All processes of a service read the same one, whenever they start: a row of a retriever says
    nothing to a gateway that has another."""

    folder: Path
    version: str

    def path(self) -> Path:
        """Returns a path of the generation that stays its own in this process: another may take its place in the folder while its files are
        read one by one. Raises BundleError if it is gone."""
        with _opening:
            if self not in _opened:
                _opened[self] = self._open()
            return _path_of(_opened[self])

    @contextmanager
    def named(self) -> Iterator[None]:
        """Lets errors that name `path` name the folder and the version instead."""
        try:
            yield
        except InputError as error:
            path = str(_path_of(_opened[self])) if self in _opened else ""
            if not path or path not in str(error):
                raise
            raise type(error)(str(error).replace(path, f"{self.folder} ({self.version})")) from error

    def _open(self) -> int:
        """Returns a descriptor of the folder, which follows it wherever it is moved."""
        # In the order in which it moves when the next one takes its place.
        for folder in (self.folder, aside(self.folder), next_of(self.folder), previous_of(self.folder)):
            with suppress(OSError):
                descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
                with suppress(BundleError):
                    if Bundle(_path_of(descriptor)).manifest.version == self.version:
                        return descriptor
                os.close(descriptor)
        raise BundleError(
            f"{self.folder} does not hold {self.version} any more, which is served; SIGHUP to 'aisle serve' rolls out what it holds"
        )


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")
