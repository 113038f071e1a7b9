"""Reading and writing shopping logs: files of events, in columns of any name, as checked batches in EVENT_SCHEMA.

A log is Parquet (a file or a folder), CSV or JSON lines (each also gzipped), a row an event or a row an impression, see
EventMapping. No row is dropped in silence: a bad row is counted by its reason, the first ones with their place. Memory does
not grow with the log but for 8 bytes an event, by which repeated ids are known.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Bools, Ints
from models.events.columns import EventColumns, RawEvents, as_text, parse_columns
from models.events.event import EVENT_SCHEMA
from models.events.kinds import KINDS
from models.events.mapping import EventLogError, EventMapping
from models.events.report import BadEvent, BadRow, EventReport
from models.products.errors import CatalogueError
from models.products.id_set import IdSet
from models.products.sources.open_source import open_source
from models.products.text import clean_text, readable

__all__ = ["BadEvent", "BadRow", "EventLogError", "EventMapping", "EventReport", "read_events", "write_events"]

_PARQUET_ROWS = 131_072  # read at once
_TEXT_ROWS = 16_384

# The field whose value is shown of a bad row.
_SHOWN = {
    BadEvent.LONG_ID: "id",
    BadEvent.DUPLICATE_ID: "id",
    BadEvent.TIME_UNCLEAR: "time",
    BadEvent.EARLY_TIME: "time",
    BadEvent.FUTURE_TIME: "time",
    BadEvent.UNKNOWN_KIND: "kind",
    BadEvent.PRICE_UNCLEAR: "price",
    BadEvent.NEGATIVE_PRICE: "price",
    BadEvent.BAD_POSITION: "position",
    BadEvent.UNKNOWN_PRODUCT: "product_id",
    BadEvent.UNKNOWN_LOCALE: "locale",
}


def read_events(
    path: Path | str,
    mapping: EventMapping | None = None,
    *,
    known_products: Container[str] | None = None,
    locales: Container[str] | None = None,
    now: datetime | None = None,
    report: EventReport | None = None,
) -> Iterator[pa.RecordBatch]:
    """The events of a log in its order, as batches in EVENT_SCHEMA; `report` is complete when they are exhausted.

    `mapping` None takes the columns named like the fields of EVENT_SCHEMA. Events after `now` (None: the clock) are bad, as
    are products that are not in `known_products` and locales that are not in `locales`, where these are given. The first row
    kept under an id stands. Raises EventLogError at once for a file or a mapping that cannot be used, and while reading for
    a damaged file.
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
    names = tuple(dict.fromkeys(mapping.named().values()))
    checks = _Checks(mapping, report, known_products, locales, round(now.timestamp() * 1000))
    return _read(path, names, checks)


def write_events(path: Path | str, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes batches in EVENT_SCHEMA as one Parquet file; returns the number of events.

    The file appears under its name when it is complete.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    written = 0
    try:
        with pq.ParquetWriter(partial, EVENT_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                written += batch.num_rows
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


# ---- rows of files


def _read(path: Path, names: tuple[str, ...], checks: _Checks) -> Iterator[pa.RecordBatch]:
    is_parquet = path.is_dir() or path.name.lower().endswith(".parquet")
    try:
        for raw in _parquet_rows(path, names) if is_parquet else _text_rows(path, names, checks.report):
            batch = checks.keep(raw)
            if batch.num_rows:
                yield batch
    except CatalogueError as error:
        raise EventLogError(str(error)) from None


def _parquet_rows(path: Path, names: tuple[str, ...]) -> Iterator[RawEvents]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    for file in files:
        if not file.name.startswith((".", "_")):
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            yield from _one_parquet(file, name, names)


def _one_parquet(path: Path, file: str, names: tuple[str, ...]) -> Iterator[RawEvents]:
    number = 1
    try:
        with pq.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=_PARQUET_ROWS, columns=list(names)):
                numbers = np.arange(number, number + batch.num_rows)
                number += batch.num_rows
                yield RawEvents(file, numbers, {name: batch.column(name) for name in names})
    except (pa.ArrowException, OSError) as error:
        raise EventLogError(f"{path}: is damaged ({error})") from error


def _text_rows(path: Path, names: tuple[str, ...], report: EventReport) -> Iterator[RawEvents]:
    """Rows of CSV or JSON lines, all cells as text. Those that cannot be read are counted here."""
    rows = open_source(path).rows(names)
    while block := list(islice(rows, _TEXT_ROWS)):
        for row in block:
            if row.reason is not None:
                report.rows += 1
                report.add(BadRow(row.file, row.number, BadEvent.UNREADABLE, f"{row.reason}: {row.line}"))
        good = [row for row in block if row.reason is None]
        columns = {
            name: pa.array([_cell_text(row.values[at]) for row in good], pa.string()) for at, name in enumerate(names)
        }
        yield RawEvents(path.name, np.array([row.number for row in good], np.int64), columns)


def _cell_text(value: object) -> str:
    return clean_text(readable(value), unescape=False)


# ---- checks


class _Checks:
    """Decides which rows are kept. A bad row counts for the first of its reasons in the order of BadEvent."""

    def __init__(
        self,
        mapping: EventMapping,
        report: EventReport,
        products: Container[str] | None,
        locales: Container[str] | None,
        now_ms: int,
    ) -> None:
        self.report = report
        self._mapping, self._products, self._locales, self._now_ms = mapping, products, locales, now_ms
        self._ids = IdSet()
        self._last_ms = np.iinfo(np.int64).min

    def keep(self, raw: RawEvents) -> pa.RecordBatch:
        columns = parse_columns(raw, self._mapping)
        columns.bad[BadEvent.FUTURE_TIME] = columns.time_ms > self._now_ms
        columns.bad[BadEvent.UNKNOWN_PRODUCT] = _outside(columns.texts["product_id"], self._products)
        columns.bad[BadEvent.UNKNOWN_LOCALE] = _outside(columns.texts["locale"], self._locales)
        good = np.ones(len(raw.numbers), np.bool_)
        for reason in BadEvent:
            if reason == BadEvent.DUPLICATE_ID and self._mapping.id is not None:
                columns.bad[reason] = self._repeated(columns.texts["id"], good)
            if reason in columns.bad and (wrong := np.nonzero(good & columns.bad[reason])[0]).size:
                self._count(reason, raw, wrong)
                good[wrong] = False
        batch = self._events(columns, np.nonzero(good)[0])
        self.report.rows += len(good)
        self.report.kept += int(good.sum())
        self.report.events += batch.num_rows
        return batch

    def _repeated(self, ids: pa.Array, good: Bools) -> Bools:
        """Which of the good rows have an id that was kept before.

        Ids are known by Python's 64-bit hash: among 100 million, the chance that any two share one is 1 in 3,700.
        """
        rows = np.nonzero(good)[0]
        hashes = map(hash, ids.take(pa.array(rows)).to_pylist())
        digests = np.fromiter(hashes, np.int64, len(rows)).view(np.uint64)
        distinct, first = np.unique(digests, return_index=True)
        unseen = ~self._ids.contains(distinct)
        self._ids.add(distinct[unseen])
        is_new = np.zeros(len(rows), np.bool_)
        is_new[first[unseen]] = True
        repeated = np.zeros(len(good), np.bool_)
        repeated[rows[~is_new]] = True
        return repeated

    def _count(self, reason: BadEvent, raw: RawEvents, rows: npt.NDArray[np.intp]) -> None:
        shown = rows[: self.report.room()].tolist()
        column = self._mapping.named().get(_SHOWN.get(reason, ""))
        for at in shown:
            value = as_text(raw.columns[column].slice(at, 1))[0].as_py() if column else ""
            self.report.add(BadRow(raw.file, int(raw.numbers[at]), reason, value))
        self.report.bad[reason] += len(rows) - len(shown)

    def _events(self, columns: EventColumns, rows: npt.NDArray[np.intp]) -> pa.RecordBatch:
        """The kept rows as events: one each, and one for each true flag."""
        flagged = [(0, rows)] if columns.flags else []
        flagged += [(KINDS.index(kind), rows[flags[rows]]) for kind, flags in columns.flags.items()]
        kinds = columns.kind[rows]
        if flagged:
            kinds = np.repeat([kind for kind, _ in flagged], [len(mine) for _, mine in flagged]).astype(np.int8)
            rows = np.concatenate([mine for _, mine in flagged])
            order = np.argsort(rows, kind="stable")
            rows, kinds = rows[order], kinds[order]
        time_ms = columns.time_ms[rows]
        self._note_order(time_ms)
        take = pa.array(rows)
        values = {name: texts.take(take) for name, texts in columns.texts.items()}
        if flagged:
            suffix = pa.array(["", *(f"-{kind}" for kind in KINDS[1:])]).take(pa.array(kinds))
            values["id"] = pc.binary_join_element_wise(values["id"], suffix, "")
        values["time"] = pa.array(time_ms).cast(pa.timestamp("ms", tz="UTC"))
        values["kind"] = pa.DictionaryArray.from_arrays(pa.array(kinds), pa.array([str(kind) for kind in KINDS]))
        values["position"] = columns.position.take(take)
        values["price_minor"] = columns.price_minor.take(take)
        return pa.RecordBatch.from_arrays([values[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)

    def _note_order(self, time_ms: Ints) -> None:
        if len(time_ms):
            before = np.concatenate(([self._last_ms], time_ms[:-1]))
            self.report.out_of_order += int((time_ms < before).sum())
            self._last_ms = int(time_ms[-1])


def _outside(values: pa.Array, known: Container[str] | None) -> Bools:
    """Which values are not among the known ones; none where these are not given."""
    if known is None:
        return np.zeros(len(values), np.bool_)
    encoded = values.dictionary_encode()
    outside = np.array([value not in known for value in encoded.dictionary.to_pylist()], np.bool_)
    return outside[encoded.indices.to_numpy(zero_copy_only=False)]
