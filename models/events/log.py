"""Reads and writes shopping logs.

A log is Parquet (a file or a folder), CSV or JSON lines (each also gzipped). Its columns have any names, and a row is an event or an
impression, see EventMapping. No row is dropped silently: bad rows are counted by reason, and the first ones are reported with their place.
Memory does not grow with the log except for 8 bytes an event, which detect repeated ids.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.events.checks import EventChecks
from models.events.errors import EventLogError
from models.events.event import EVENT_SCHEMA
from models.events.mapping import EventMapping
from models.events.raw_events import read_raw_events
from models.events.report import EventReport
from models.products.errors import CatalogueError
from models.products.sources.open_source import open_source


def read_events(
    path: Path | str,
    mapping: EventMapping | None = None,
    *,
    known_products: Container[str] | None = None,
    locales: Container[str] | None = None,
    now: datetime | None = None,
    report: EventReport | None = None,
) -> Iterator[pa.RecordBatch]:
    """Returns the events of a log in its order, as batches in EVENT_SCHEMA; `report` is complete when they are exhausted.

    `mapping` None takes the columns named like the fields of EVENT_SCHEMA. Events after `now` (None: the clock) are bad, and so
    are products outside `known_products` and locales outside `locales`, unless these are None. The first row kept under an id
    stands. Raises EventLogError at once for a file or a mapping that cannot be used, and while reading for a damaged file.
    """
    path = Path(path)
    now = now or datetime.now(UTC)
    if now.tzinfo is None:
        raise ValueError(f"now must have a time zone, and {now.isoformat()} has none")
    try:
        source = open_source(path)
        mapping = mapping or EventMapping.by_name(source.columns)
        for file, columns in source.files():
            mapping.check(columns, file)
    except CatalogueError as error:
        raise EventLogError(str(error)) from None
    report = report if report is not None else EventReport()
    names = tuple(dict.fromkeys(mapping.field_columns().values()))
    now_ms = round(now.timestamp() * 1000)
    return _read(path, names, EventChecks(mapping, report, products=known_products, locales=locales, now_ms=now_ms))


def _read(path: Path, names: tuple[str, ...], checks: EventChecks) -> Iterator[pa.RecordBatch]:
    try:
        for raw in read_raw_events(path, names, checks.report):
            batch = checks.events(raw)
            if batch.num_rows:
                yield batch
    except CatalogueError as error:
        raise EventLogError(str(error)) from None


def write_events(path: Path | str, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes batches in EVENT_SCHEMA as one Parquet file and returns the number of events.

    The file appears under its name when it is complete.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    num_events = 0
    try:
        with pq.ParquetWriter(partial, EVENT_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_events += batch.num_rows
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_events
