"""Writes the folder of a log from batches of events in order of time.

Memory holds 4 bytes for each distinct name, and 12 for each shopper whose sessions are derived; the events go straight to the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Codes, Ints
from models.events.event_log import COLUMNS, FORMAT, LOG_JSON
from models.events.kinds import IMPRESSION, KINDS

_LONG_AGO = -(2**62)


class Renumbering:
    """New codes of names, in order of appearance. `place` (names,) is -1 for a name that did not appear."""

    def __init__(self, num_names: int) -> None:
        self.place: Codes = np.full(max(1, num_names), -1, np.int32)  # one, of which -1 can be looked up
        self.size = 0

    def __call__(self, codes: Codes) -> Codes:
        """Returns the new codes (n,); -1 stays."""
        known = codes[codes >= 0]
        unseen, first = np.unique(known[self.place[known] < 0], return_index=True)
        self.place[unseen[np.argsort(first)]] = np.arange(self.size, self.size + len(unseen))
        self.size += len(unseen)
        return np.where(codes >= 0, self.place[codes], -1).astype(np.int32)


class Sessions:
    """Numbers of sessions: those with a name, those that a pause ends, and those of a lone event."""

    def __init__(self, num_named: int, num_shoppers: int, gap_ms: float) -> None:
        self._named: Codes = np.full(num_named, -1, np.int32)
        self._last_ms: Ints = np.full(num_shoppers, _LONG_AGO)
        self._current: Codes = np.zeros(num_shoppers, np.int32)
        self._gap_ms = gap_ms
        self.size = 0
        self.derived = 0
        self.alone = 0

    def __call__(self, named: Codes, shopper: Codes, time_ms: Ints) -> Codes:
        """Returns the sessions (n,) of events in order of time. Where `named` is -1 the shopper's pauses divide them."""
        numbers = np.empty(len(named), np.int32)
        has_name = named >= 0
        codes = named[has_name]
        unseen, first = np.unique(codes[self._named[codes] < 0], return_index=True)
        self._named[unseen[np.argsort(first)]] = self._next(len(unseen))
        numbers[has_name] = self._named[codes]
        alone = ~has_name & (shopper < 0)
        self.alone += int(alone.sum())
        numbers[alone] = self._next(int(alone.sum()))
        rows = np.flatnonzero(~has_name & (shopper >= 0))
        if len(rows):
            rows = rows[np.argsort(shopper[rows], kind="stable")]
            numbers[rows] = self._divided(shopper[rows], time_ms[rows])
        return numbers

    def _divided(self, shopper: Codes, time_ms: Ints) -> Codes:
        """Takes events by shopper, each in order of time."""
        is_first = np.r_[True, shopper[1:] != shopper[:-1]]
        before = np.where(is_first, self._last_ms[shopper], np.r_[_LONG_AGO, time_ms[:-1]])
        begins = time_ms - before > self._gap_ms
        number = np.where(is_first, self._current[shopper], -1)
        number[begins] = self._next(int(begins.sum()))
        self.derived += int(begins.sum())
        known = np.maximum.accumulate(np.where(is_first | begins, np.arange(len(number)), 0))
        number = number[known]
        is_last = np.r_[is_first[1:], True]
        self._last_ms[shopper[is_last]] = time_ms[is_last]
        self._current[shopper[is_last]] = number[is_last]
        return number.astype(np.int32)

    def _next(self, count: int) -> Codes:
        self.size += count
        return np.arange(self.size - count, self.size, dtype=np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What the columns hold."""

    kinds: dict[str, int]
    searched: int
    shown_in_searches: int
    first_ms: int
    last_ms: int


def write_columns(
    folder: Path,
    batches: Iterable[pa.RecordBatch],
    num_events: int,
    renumberings: dict[str, Renumbering],
    sessions: Sessions,
) -> Written:
    """Writes the columns of COLUMNS. `batches` have codes of names that `renumberings` (by column) replace, and -1 for none.

    Files are written without a memory map, where a full disk would kill the process.
    """
    kinds = np.zeros(len(KINDS), np.int64)
    written, searched, shown, first_ms, last_ms = 0, 0, 0, 0, 0
    with ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for name, dtype in COLUMNS.items():
            files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (num_events,)}
            np.lib.format.write_array_header_1_0(files[name], header)
        for batch in batches:
            values = {name: _array(batch, name) for name in COLUMNS}
            for name, renumbering in renumberings.items():
                values[name] = renumbering(values[name])
            values["session"] = sessions(values["session"], values["shopper"], values["time_ms"])
            for name, dtype in COLUMNS.items():
                files[name].write(np.ascontiguousarray(values[name], dtype).data)
            has_query = values["query"] > 0
            kinds += np.bincount(values["kind"], minlength=len(KINDS))
            searched += int(has_query.sum())
            shown += int((has_query & (values["kind"] == IMPRESSION)).sum())
            first_ms = first_ms if written else int(values["time_ms"][0])
            last_ms = int(values["time_ms"][-1])
            written += len(has_query)
    if written != num_events:
        raise RuntimeError(f"{written} events were written, and {num_events} were counted")
    return Written(
        kinds={str(kind): int(count) for kind, count in zip(KINDS, kinds, strict=True)},
        searched=searched,
        shown_in_searches=shown,
        first_ms=first_ms,
        last_ms=last_ms,
    )


def write_names(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Writes one column of names, as large strings: together they may pass 2 GiB."""
    schema = pa.schema([pa.field("name", pa.large_string(), nullable=False)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch([batch.column(0).cast(pa.large_string())], schema=schema))


def write_log_json(folder: Path, facts: dict[str, Any]) -> None:
    """Writes `log.json` with the facts and the digests of all files, after they are on the disk."""
    files = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".parquet")):
        with path.open("rb") as file:
            files[path.name] = {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
            os.fsync(file.fileno())
    with (folder / LOG_JSON).open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **facts, "files": files}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _array(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    return batch.column(batch.schema.get_field_index(name)).to_numpy(zero_copy_only=False)
