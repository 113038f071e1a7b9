"""The files of the request log: each appears when it is whole, and the oldest go when there is too much.

Several processes may write into one folder. A file is named for the time at which it was written and for its writer.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from serving.config import ConfigError, RequestLogConfig
from serving.storage.state_path import state_path

DAY_MS = 24 * 3600 * 1000
FORGOTTEN_S = 3600.0  # an unfinished file that is older has no writer any more
_NAME = re.compile(r"(\d{13})-[0-9a-f]{8}-\d+\.parquet$")


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What is in the folder, and how many files were deleted to keep it so."""

    num_bytes: int
    deleted: int


class PageFiles:
    """The folder. Every method raises OSError or ArrowException if the disk fails."""

    def __init__(self, folder: Path, *, max_bytes: int, max_days: float) -> None:
        self._folder, self._max_bytes, self._max_days = folder, max_bytes, max_days
        self._writer = secrets.token_hex(4)
        self._numbers = itertools.count()

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Writes one file. A process that dies meanwhile leaves a hidden file that no reader sees."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{time.time_ns() // 1_000_000:013}-{self._writer}-{next(self._numbers)}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        try:
            with open(partial, "wb", opener=_private) as file:
                pq.write_table(pa.Table.from_batches(batches), file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def trim(self) -> Trimmed:
        """Deletes files over the bounds, the oldest first, and what dead writers left."""
        if not self._folder.exists():
            return Trimmed(0, 0)
        now = time.time()
        for partial in self._folder.glob(".*.partial"):
            if now - _stat(partial).st_mtime > FORGOTTEN_S:
                partial.unlink(missing_ok=True)
        sizes = {path: _stat(path).st_size for path in sorted(self._folder.iterdir()) if _NAME.match(path.name)}
        total, deleted = sum(sizes.values()), 0
        oldest_ms = now * 1000 - self._max_days * DAY_MS
        for path, size in sizes.items():
            if total <= self._max_bytes and int(path.name[:13]) >= oldest_ms:
                break
            path.unlink(missing_ok=True)
            total -= size
            deleted += 1
        return Trimmed(total, deleted)


def pages_folder(config: RequestLogConfig, catalogue: str) -> Path:
    """Returns the folder of a catalogue's request log. Raises ConfigError."""
    return config.path or state_path(catalogue, "-pages", "request_log.path")


def check_request_log(config: RequestLogConfig, catalogue: str) -> None:
    """Raises ConfigError if the log is on and its folder cannot be written."""
    if not config.share:
        return
    folder = pages_folder(config, catalogue)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".{secrets.token_hex(4)}.partial"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"request_log.path: {folder} cannot be written: {error.strerror}; name another folder, or set share = 0"
        ) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stat(path: Path) -> os.stat_result:
    """Returns the facts of a file; of one that another process has just deleted, that it is empty and new."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result((0, 0, 0, 0, 0, 0, 0, 0, time.time(), 0))
