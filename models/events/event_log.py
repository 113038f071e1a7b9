"""A shopping log as columns of numbers: the form in which every stage of training and evaluation reads it.

`open_log` maps the folder that `aisle import` writes, or reads Parquet in EVENT_SCHEMA. A folder holds a file for each column (NumPy), a
Parquet file for each list of names, and `log.json`, which is written last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from models.arrays import Codes, Ints
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA, EventKind
from models.events.kinds import KINDS
from models.events.sessions import derived_sessions

FORMAT = 1  # of the folder
LOG_JSON = "log.json"
COLUMNS: dict[str, Any] = {
    "time_ms": np.int64,
    "kind": np.int8,
    "shopper": np.int32,
    "session": np.int32,
    "product": np.int32,
    "query": np.int32,
    "locale": np.int32,
    "position": np.int32,
    "price_minor": np.int64,
}
REQUEST_ID = "request_id"  # a column that Parquet may have beside EVENT_SCHEMA, for 'aisle record'
NAMES = ("shoppers", "products", "queries", "locales")
_IMPORT = "'aisle import FILE --out LOG' makes a log from a table of events"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventLog:
    """Events in order of time, each once. Codes are places in the lists of names, which are in order of appearance."""

    time_ms: Ints  # (events,) since 1970-01-01 UTC
    kind: npt.NDArray[np.int8]  # (events,) places in KINDS
    shopper: Codes  # (events,) -1: anonymous
    session: Codes  # (events,) 0 to num_sessions - 1; derived where the files name none
    product: Codes  # (events,)
    query: Codes  # (events,) 0 is "", no search
    locale: Codes  # (events,)
    position: Codes  # (events,) on the result page, from 1; 0: not known
    price_minor: Ints  # (events,) -1: not known
    shoppers: pa.Array  # large_string, as are all names
    products: pa.Array
    queries: pa.Array
    locales: pa.Array
    num_sessions: int
    num_repeated: int = 0  # events left out because they were there before
    num_without_session: int = 0  # events whose session was derived, see `derived_sessions`
    ids: pa.Array | None = None  # (events,) None: numbers stand for them
    request_ids: pa.Array | None = None  # (events,) of the pages that showed the products; None: the log has none
    sessions: pa.Array | None = None  # names of the sessions

    def __len__(self) -> int:
        return len(self.time_ms)

    @classmethod
    def from_table(cls, table: pa.Table) -> EventLog:
        """Takes a table of EVENT_SCHEMA. An event with a repeated id counts once, at its first time. Raises LogError."""
        table, time_ms = _checked(table)
        rows: Any = np.argsort(time_ms, kind="stable")
        ids, _ = _encoded(table["id"].take(pa.array(rows)))
        first = np.sort(np.unique(ids, return_index=True)[1])
        num_repeated = len(rows) - len(first)
        rows = rows[first]
        if num_repeated or not np.array_equal(rows, np.arange(len(rows))):
            table, time_ms = table.take(pa.array(rows)), time_ms[rows]
        shopper, shoppers = _without_empty(*_encoded(table["shopper_id"]))
        session, sessions = _without_empty(*_encoded(table["session_id"]))
        query, queries = _without_empty(*_encoded(table["query"]))
        product, products = _encoded(table["product_id"])
        locale, locales = _encoded(table["locale"])
        log = cls(
            time_ms=time_ms,
            kind=_kinds(table["kind"]),
            shopper=shopper,
            session=session,
            product=product,
            query=query + np.int32(1),
            locale=locale,
            position=_numbers(table["position"], "position", 0).astype(np.int32),
            price_minor=_numbers(table["price_minor"], "price_minor", -1),
            shoppers=shoppers,
            products=products,
            queries=pa.concat_arrays([_strings([""]), queries]),
            locales=locales,
            num_sessions=len(sessions),
            num_repeated=num_repeated,
            ids=_flat(table["id"]),
            request_ids=_flat(pc.fill_null(table[REQUEST_ID], "")) if REQUEST_ID in table.column_names else None,
            sessions=sessions,
        )
        return _with_sessions(log)

    def table(self, rows: npt.NDArray[np.integer]) -> pa.Table:
        """Returns these events in EVENT_SCHEMA. Without names, an id is the event's number, and a session is named by its own."""
        numbers = pa.array(np.asarray(rows, np.int64))
        session = self.session[rows]
        columns = {
            "id": self.ids.take(numbers) if self.ids is not None else numbers.cast(pa.string()),
            "time": pa.array(self.time_ms[rows]).cast(pa.timestamp("ms", tz="UTC")),
            "shopper_id": _named(self.shopper[rows], self.shoppers),
            "session_id": _named(session, self.sessions)
            if self.sessions is not None
            else pa.array(session).cast(pa.string()),
            "locale": _named(self.locale[rows], self.locales),
            "kind": pa.DictionaryArray.from_arrays(pa.array(self.kind[rows]), pa.array([str(kind) for kind in KINDS])),
            "product_id": _named(self.product[rows], self.products),
            "query": _named(self.query[rows], self.queries),
            "position": pa.array(self.position[rows], mask=self.position[rows] == 0),
            "price_minor": pa.array(self.price_minor[rows], mask=self.price_minor[rows] < 0),
        }
        return pa.table([columns[field.name].cast(field.type) for field in EVENT_SCHEMA], schema=EVENT_SCHEMA)


def open_log(paths: Path | Sequence[Path]) -> EventLog:
    """Opens one log, or several of one shop as one.

    A log is a folder of `aisle import`, or a Parquet file or a folder of them in EVENT_SCHEMA. Sessions of different imported logs are
    different sessions; those of Parquet files are told apart by their names. Raises LogError.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    if not paths:
        raise LogError("no log is given; name at least one")
    imported = [_open_folder(path) for path in paths if (path / LOG_JSON).is_file()]
    tables = [_read_parquet(path) for path in paths if not (path / LOG_JSON).is_file()]
    if tables:
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowException as error:
            raise LogError(f"the logs {', '.join(map(str, paths))} have columns of different types: {error}") from error
        imported.append(EventLog.from_table(table))
    return imported[0] if len(imported) == 1 else joined_log(imported)


def log_digests(path: Path) -> list[str]:
    """Returns SHA-256 digests that change with the events of a log."""
    if (path / LOG_JSON).is_file():
        return sorted(file["sha256"] for file in _facts(path)["files"].values())
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    digests = []
    for file in files:
        with file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    return digests


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / LOG_JSON).read_text(encoding="utf-8"))
        found = facts["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise LogError(f"{folder / LOG_JSON} is damaged ({error}); import the log again") from None
    if found != FORMAT:
        raise LogError(f"{folder} is a log of format {found}, and this version reads {FORMAT}; import the log again")
    return facts


def _open_folder(folder: Path) -> EventLog:
    facts = _facts(folder)
    columns: dict[str, Any] = {}
    try:
        for name, dtype in COLUMNS.items():
            column = columns[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
            if column.shape != (facts["events"],) or column.dtype != dtype:
                raise LogError(
                    f"{folder / name}.npy holds {column.shape} {column.dtype}, not {facts['events']} {np.dtype(dtype)}; "
                    "import the log again"
                )
        names = {
            name: _flat(pq.read_table(folder / f"{name}.parquet", memory_map=True).column(0).cast(pa.large_string()))
            for name in NAMES
        }
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{folder} is a damaged log ({error}); import the log again") from None
    log = EventLog(
        **columns, **names, num_sessions=facts["sessions"], num_repeated=facts["report"].get("duplicates", 0)
    )
    return _with_sessions(log)


def _with_sessions(log: EventLog) -> EventLog:
    """Gives every event without a session (-1) one."""
    rows = np.flatnonzero(log.session < 0)
    if not len(rows):
        return log
    derived = derived_sessions(log.shopper[rows], log.time_ms[rows])
    session = np.array(log.session)
    session[rows] = derived + log.num_sessions
    count = int(derived.max()) + 1
    names = (
        None if log.sessions is None else pa.concat_arrays([log.sessions, _strings([f"@{n}" for n in range(count)])])
    )
    return replace(
        log,
        session=session,
        num_sessions=log.num_sessions + count,
        num_without_session=len(rows),
        sessions=names,
    )


def _read_parquet(path: Path) -> pa.Table:
    try:
        source = ds.dataset(path, format="parquet")
        missing = [name for name in EVENT_SCHEMA.names if name not in source.schema.names]
        if missing:
            raise LogError(
                f"{path}: the log has no column {', '.join(missing)}; its columns are {', '.join(source.schema.names)}. {_IMPORT}"
            )
        return source.to_table(columns=[*EVENT_SCHEMA.names, *_more_columns(source.schema.names)])
    except (OSError, pa.ArrowException) as error:
        raise LogError(f"{path} is not a log in Parquet: {error}. {_IMPORT}") from error


def _more_columns(names: Sequence[str]) -> list[str]:
    return [REQUEST_ID] if REQUEST_ID in names else []


def _checked(table: pa.Table) -> tuple[pa.Table, Ints]:
    missing = [name for name in EVENT_SCHEMA.names if name not in table.column_names]
    if missing:
        raise LogError(
            f"the log has no column {', '.join(missing)}; its columns are {', '.join(table.column_names)}. {_IMPORT}"
        )
    if not table.num_rows:
        raise LogError("the log holds no event")
    if not pa.types.is_timestamp(table["time"].type):
        raise LogError(f"the log's column time is {table['time'].type}, not a timestamp. {_IMPORT}")
    empty = [field.name for field in EVENT_SCHEMA if not field.nullable and table[field.name].null_count]
    if empty:
        raise LogError(f"the log's column {empty[0]} has {table[empty[0]].null_count:,} empty cells; it may have none")
    table = table.select([*EVENT_SCHEMA.names, *_more_columns(table.column_names)])
    for at, field in enumerate(EVENT_SCHEMA):
        if not pa.types.is_string(field.type):
            continue
        try:  # large: a column of many long texts passes 2 GiB
            table = table.set_column(at, field.name, table[field.name].cast(pa.large_string()))
        except pa.ArrowException:
            raise LogError(f"the log's column {field.name} is {table[field.name].type}, not text. {_IMPORT}") from None
    times = table["time"].cast(pa.timestamp("ms", table["time"].type.tz), safe=False).cast(pa.int64())
    return table, np.asarray(times, np.int64)


def _encoded(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Returns codes (rows,), and the distinct strings that they stand for in order of appearance."""
    encoded = _flat(column).dictionary_encode()
    return np.asarray(encoded.indices, np.int32), encoded.dictionary


def _without_empty(codes: Codes, names: pa.Array) -> tuple[Codes, pa.Array]:
    """Gives "" the code -1, and the other names those from 0."""
    is_named = np.asarray(pc.not_equal(names, ""), np.bool_)
    number = np.where(is_named, np.cumsum(is_named) - 1, -1).astype(np.int32)
    return number[codes], names.filter(pa.array(is_named))


def _kinds(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    codes, names = _encoded(column.cast(pa.large_string()))
    unknown = [name for name in names.to_pylist() if name not in KINDS]
    if unknown:
        raise LogError(f"the log's column kind holds {unknown[0]!r}; it may be {', '.join(KINDS)}")
    return np.array([KINDS.index(EventKind(name)) for name in names.to_pylist()], np.int8)[codes]


def _numbers(column: pa.ChunkedArray, name: str, missing: int) -> Ints:
    try:
        return np.asarray(pc.fill_null(column.cast(pa.int64()), missing), np.int64)
    except pa.ArrowException:
        raise LogError(f"the log's column {name} is {column.type}, not whole numbers. {_IMPORT}") from None


def _named(codes: Codes, names: pa.Array) -> pa.Array:
    return pc.fill_null(names.take(pa.array(codes, mask=codes < 0)), "")


def _strings(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.large_string())


def _flat(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    return pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat


def joined_log(logs: Sequence[EventLog]) -> EventLog:
    """Merges logs by the names of shoppers, products, queries and locales."""
    fields: dict[str, Any] = {}
    for column, names in (
        ("shopper", "shoppers"),
        ("product", "products"),
        ("query", "queries"),
        ("locale", "locales"),
    ):
        places, distinct = _encoded(pa.chunked_array([getattr(log, names) for log in logs]))
        starts = np.cumsum([0, *(len(getattr(log, names)) for log in logs)])
        parts = [
            np.append(places[starts[at] : starts[at + 1]], np.int32(-1))[getattr(log, column)]
            for at, log in enumerate(logs)
        ]
        fields[column], fields[names] = np.concatenate(parts), distinct
    starts = np.cumsum([0, *(log.num_sessions for log in logs)])
    fields["session"] = np.concatenate([(log.session + starts[at]).astype(np.int32) for at, log in enumerate(logs)])
    for name in ("time_ms", "kind", "position", "price_minor"):
        fields[name] = np.concatenate([getattr(log, name) for log in logs])
    order = np.argsort(fields["time_ms"], kind="stable")
    return EventLog(
        **{name: values[order] if name in COLUMNS else values for name, values in fields.items()},
        num_sessions=int(starts[-1]),
        num_repeated=sum(log.num_repeated for log in logs),
        num_without_session=sum(log.num_without_session for log in logs),
    )
