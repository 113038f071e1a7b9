"""The shopping log as numeric columns, with its searches numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Bools, Codes, Ints
from models.errors import InputError
from models.events.event import EVENT_SCHEMA, EventKind
from models.events.kinds import KINDS
from models.unified.mended_log import with_sessions

UNKNOWN = -1  # row of a product that is not in the catalogue


class LogError(InputError):
    """The log cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ShoppingLog:
    """Events in order of time. A *search* is one query in one session; the events that it led to have its number.

    Each session of anonymous events counts as a shopper of its own, whose history is the session. Events without a session get one, see
    `with_sessions`.
    """

    time_ms: Ints  # (events,)
    kind: npt.NDArray[np.int8]  # (events,) places in KINDS
    shopper: Codes  # (events,) 0 to num_shoppers - 1
    is_anonymous: Bools  # (events,)
    locale: Codes  # (events,) into `locales`
    query: Codes  # (events,) into `queries`; 0 is "", no search
    product: Codes  # (events,) rows of the catalogue, or UNKNOWN
    search: Codes  # (events,) 0 to num_searches - 1
    search_time_ms: Ints  # (searches,) of its first event
    queries: list[str]
    locales: list[str]
    num_shoppers: int
    num_products: int

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def searched_ms(self) -> Ints:
        """(events,) the time of each event's search: a model may know only what came before it."""
        return self.search_time_ms[self.search]

    def time_at(self, share: float) -> int:
        """Returns the time before which this share of the events lies."""
        return int(self.time_ms[min(int(share * len(self)), len(self) - 1)])

    @classmethod
    def read(cls, path: Path, product_ids: Sequence[str]) -> ShoppingLog:
        """Reads a Parquet file, or a folder of them. Raises LogError if a column is missing or of another type."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise LogError(f"{path} is not a log in Parquet: {error}") from error
        return cls.from_table(table, product_ids)

    @classmethod
    def from_table(cls, table: pa.Table, product_ids: Sequence[str]) -> ShoppingLog:
        """Takes a table of EVENT_SCHEMA and the ids of the catalogue, by row. An event with a repeated id counts once."""
        table = with_sessions(check_log(table))
        time_ms = np.asarray(table["time"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()))
        order = np.argsort(time_ms, kind="stable")
        if not np.array_equal(order, np.arange(len(order))):
            table, time_ms = table.take(pa.array(order)), time_ms[order]
        ids, _ = _encode(table["id"])
        first = np.sort(np.unique(ids, return_index=True)[1])
        if len(first) < len(ids):
            table, time_ms = table.take(pa.array(first)), time_ms[first]
        session, _ = _encode(table["session_id"])
        shopper_id, shopper_names = _encode(table["shopper_id"])
        query, queries = _with_empty_first(*_encode(table["query"]))
        locale, locales = _encode(table["locale"])
        is_anonymous = np.array([not name for name in shopper_names], np.bool_)[shopper_id]
        owner = np.where(is_anonymous, session.astype(np.int64) + len(shopper_names), shopper_id)
        _, shopper = np.unique(owner, return_inverse=True)
        _, search = np.unique(session.astype(np.int64) * len(queries) + query, return_inverse=True)
        search_time_ms = np.full(int(search.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(search_time_ms, search, time_ms)
        return cls(
            time_ms=time_ms,
            kind=_kinds(table["kind"]),
            shopper=shopper.astype(np.int32),
            is_anonymous=is_anonymous,
            locale=locale,
            query=query,
            product=_product_rows(table["product_id"], product_ids),
            search=search.astype(np.int32),
            search_time_ms=search_time_ms,
            queries=queries,
            locales=locales,
            num_shoppers=int(shopper.max()) + 1,
            num_products=len(product_ids),
        )


def check_log(table: pa.Table) -> pa.Table:
    """Returns the table, of the columns of EVENT_SCHEMA. Raises LogError if one is missing, of another type or has empty cells."""
    missing = [name for name in EVENT_SCHEMA.names if name not in table.column_names]
    if missing:
        raise LogError(f"the log has no column {', '.join(missing)}; its columns are {', '.join(table.column_names)}")
    if not table.num_rows:
        raise LogError("the log holds no event")
    if not pa.types.is_timestamp(table["time"].type):
        raise LogError(f"the log's column time is {table['time'].type}, not a timestamp")
    empty = [field.name for field in EVENT_SCHEMA if not field.nullable and table[field.name].null_count]
    if empty:
        raise LogError(f"the log's column {empty[0]} has {table[empty[0]].null_count:,} empty cells; it may have none")
    return table


def _encode(column: pa.ChunkedArray) -> tuple[Codes, list[str]]:
    """Returns codes (rows,), and the distinct strings that they stand for in order of appearance."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32), encoded.dictionary.to_pylist()


def _with_empty_first(codes: Codes, names: list[str]) -> tuple[Codes, list[str]]:
    rest = [name for name in names if name]
    number = {name: at for at, name in enumerate(["", *rest])}
    return np.array([number[name] for name in names], np.int32)[codes], ["", *rest]


def _kinds(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    codes, names = _encode(column)
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise LogError(f"the log's column kind holds {unknown[0]!r}; it may be {', '.join(KINDS)}")
    return np.array([KINDS.index(EventKind(name)) for name in names], np.int8)[codes]


def _product_rows(column: pa.ChunkedArray, product_ids: Sequence[str]) -> Codes:
    codes, names = _encode(column)
    found: Any = pc.index_in(pa.array(names, pa.string()), value_set=pa.array(product_ids, pa.string()))
    return np.asarray(found.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), np.int32)[codes]
