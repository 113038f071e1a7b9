"""Reads the rows of a log as they are in its files, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Ints
from models.events.errors import EventLogError
from models.events.report import BadEvent, BadRow, EventReport
from models.products.sources.open_source import open_source
from models.products.text import clean_text, readable

PARQUET_ROWS = 131_072  # in a batch
TEXT_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class RawEvents:
    """Rows of one file, not yet parsed."""

    file: str
    numbers: Ints  # (num_rows,) the row's line or number
    columns: Mapping[str, pa.Array]  # by name in the file


def read_raw_events(path: Path, names: tuple[str, ...], report: EventReport) -> Iterator[RawEvents]:
    """Yields the columns `names` of a log, of any format. Text rows that cannot be parsed are counted in `report`.

    Raises EventLogError for a damaged Parquet file and CatalogueError for another damaged file.
    """
    is_parquet = path.is_dir() or path.name.lower().endswith(".parquet")
    return _parquet_rows(path, names) if is_parquet else _text_rows(path, names, report)


def _parquet_rows(path: Path, names: tuple[str, ...]) -> Iterator[RawEvents]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        if not file.name.startswith((".", "_")):
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            yield from _rows_of_file(file, name, names)


def _rows_of_file(path: Path, file: str, names: tuple[str, ...]) -> Iterator[RawEvents]:
    number = 1
    try:
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=PARQUET_ROWS, columns=list(names)):
                numbers = np.arange(number, number + batch.num_rows)
                number += batch.num_rows
                yield RawEvents(file, numbers, {name: batch.column(name) for name in names})
    except (pa.ArrowException, OSError) as error:
        raise EventLogError(f"{path}: is damaged ({error})") from error


def _text_rows(path: Path, names: tuple[str, ...], report: EventReport) -> Iterator[RawEvents]:
    """Yields rows of CSV or JSON lines with all cells as text."""
    rows = open_source(path).rows(names)
    while block := list(islice(rows, TEXT_ROWS)):
        for row in block:
            if row.reason is not None:
                report.rows += 1
                value = f"{row.reason}: {row.line}"
                report.add(BadRow(file=row.file, row=row.number, reason=BadEvent.UNREADABLE, value=value))
        good = [row for row in block if row.reason is None]
        columns = {
            name: pa.array([_cell_text(row.values[at]) for row in good], pa.string()) for at, name in enumerate(names)
        }
        yield RawEvents(path.name, np.array([row.number for row in good], np.int64), columns)


def _cell_text(value: object) -> str:
    return clean_text(readable(value), unescape=False)
