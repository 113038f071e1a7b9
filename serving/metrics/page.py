"""The numbers of one process, in a mapped file: to write one takes no call and no lock, and a process that is killed loses none.

    0   int64    bytes in use
    8   records  uint32 length of the key, uint32 number of values, key padded to 8 bytes, float64 values

Whoever writes a page holds a lock on its file, which ends with the process, however it ends. A page appears under its name when it is
locked: one whose lock is free has been written to the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import secrets
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 1 << 18  # some 600 histograms. A file system may give a process this much without writing it
_USED = struct.Struct("=q")
_HEAD = struct.Struct("=II")
_VALUE_BYTES = 8
_TOKEN_BYTES = 4


class PageFull(Exception):
    """A process has more series than fit its page."""


class Page:
    """The page that this process writes. `values` has the numbers of all series."""

    def __init__(self, folder: Path, process: str) -> None:
        """`process` says what runs here, as "gateway". Raises OSError, also if the disk is full: to write to a mapped file that has no room
        there would end the process."""
        name = f"{process}.{os.getpid()}.{secrets.token_hex(_TOKEN_BYTES)}"
        hidden = folder / f".{name}"
        self._file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(self._file, 0, PAGE_BYTES)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._map = mmap.mmap(self._file, PAGE_BYTES)
            self.values = memoryview(self._map).cast("d")
            self._used = _USED.size
            _USED.pack_into(self._map, 0, self._used)
            hidden.rename(folder / name)
        except OSError:
            os.close(self._file)
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise
        self._adding = threading.Lock()

    def add(self, name: str, labels: tuple[str, ...], num_values: int) -> int:
        """Adds a series, all of whose values are 0. Returns the place of its first value in `values`. Raises PageFull."""
        key = json.dumps([name, *labels], ensure_ascii=False).encode()
        key += b" " * (-len(key) % _VALUE_BYTES)
        with self._adding:
            start = self._used + _HEAD.size + len(key)
            end = start + num_values * _VALUE_BYTES
            if end > PAGE_BYTES:
                raise PageFull
            _HEAD.pack_into(self._map, self._used, len(key), num_values)
            self._map[self._used + _HEAD.size : start] = key
            self._used = end
            _USED.pack_into(self._map, 0, end)  # last: a reader sees whole records only
        return start // _VALUE_BYTES

    def close(self) -> None:
        """Leaves the file as that of a process that has ended."""
        self.values.release()
        self._map.close()
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one series of a page, by the name of its metric and the values of its labels."""

    name: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WrittenPage:
    """A page as another process reads it."""

    path: Path
    process: str
    pid: int
    is_alive: bool
    series: tuple[Series, ...]


def written_pages(folder: Path) -> Iterator[WrittenPage]:
    """Yields the pages in a folder. One that cannot be read is left out."""
    for path in sorted(folder.glob("[!.]*")):
        process, pid, _ = path.name.rsplit(".", 2)
        with contextlib.suppress(OSError), path.open("rb") as file:
            is_alive = _is_locked(
                file.fileno()
            )  # before it is read: what an ended process has written is all there then
            yield WrittenPage(path, process, int(pid), is_alive, tuple(_series(file.read())))


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _series(data: bytes) -> Iterator[Series]:
    at, (used,) = _USED.size, _USED.unpack_from(data)
    while at < used:
        key_bytes, num_values = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size + key_bytes
        name, *labels = json.loads(data[at + _HEAD.size : start])
        yield Series(name, tuple(labels), struct.unpack_from(f"={num_values}d", data, start))
        at = start + num_values * _VALUE_BYTES
