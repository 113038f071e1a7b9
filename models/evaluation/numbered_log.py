"""A shopping log as arrays of integer codes, for evaluation.

The log is read batch by batch. Memory holds the id and 29 bytes per event, and each distinct query, shopper and session once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Codes, Ints, Progress
from models.errors import InputError
from models.events.kinds import KINDS

Kinds = npt.NDArray[np.int8]


_COLUMNS = ("id", "time", "shopper_id", "session_id", "locale", "kind", "product_id", "query")
_BATCH_ROWS = 1 << 17


class EventLogError(InputError):
    """The log cannot be used; the message names the column and the expected content."""


@dataclass(frozen=True, slots=True, eq=False)
class NumberedLog:
    """Events ordered by time. Codes are positions in the lists of names; -1 is none."""

    ids: pa.ChunkedArray  # (events,)
    times_ms: Ints  # (events,) since 1970-01-01 UTC, ascending
    kinds: Kinds  # (events,) positions in KINDS
    products: Codes  # (events,) catalogue rows; -1: not in the catalogue
    shoppers: Codes  # (events,) -1: anonymous
    sessions: Codes  # (events,)
    queries: Codes  # (events,) -1: no search led to the event
    locales: Codes  # (events,)
    num_products: int  # in the catalogue
    query_names: list[str]  # normalised by `plain_query`
    shopper_names: list[str]
    session_names: list[str]
    locale_names: list[str]
    num_repeated: int  # events left out because their id is a duplicate

    def __len__(self) -> int:
        return len(self.times_ms)

    @property
    def owners(self) -> Ints:
        """The owner of each event's history (events,): the shopper, or the session if the shopper is anonymous."""
        session_owners = len(self.shopper_names) + self.sessions.astype(np.int64)
        return np.where(self.shoppers >= 0, self.shoppers, session_owners)


def plain_query(text: str) -> str:
    """Normalises a query for comparison: NFC, case folding, single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def read_log(log: Path, product_ids: Sequence[str], progress: Progress | None = None) -> NumberedLog:
    """Reads a Parquet file, or a folder of them, with the columns of EVENT_SCHEMA. `product_ids` are the catalogue's, in order of row.

    Raises EventLogError.
    """
    files = sorted(log.rglob("*.parquet")) if log.is_dir() else [log]
    if not files or not all(file.is_file() for file in files):
        raise EventLogError(f"{log}: there is no Parquet file")
    total = sum(pq.read_metadata(file).num_rows for file in files)
    return numbered_log(_batches(files, total, progress or (lambda *_: None)), product_ids)


def _batches(files: Sequence[Path], total: int, progress: Progress) -> Iterator[pa.RecordBatch]:
    done = 0
    for path in files:
        file = pq.ParquetFile(path)
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise EventLogError(f"{path.name}: the columns {', '.join(missing)} of the event schema are missing")
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(_COLUMNS)):
            progress("read events", done, total)
            yield batch
            done += batch.num_rows
    progress("read events", total, total)


def numbered_log(batches: Iterable[pa.RecordBatch], product_ids: Sequence[str]) -> NumberedLog:
    """Converts record batches with the columns of EVENT_SCHEMA. `product_ids` are the catalogue's, in order of row."""
    products = _Names({product_id: row for row, product_id in enumerate(product_ids)}, grows=False)
    kinds = _Names({str(kind): code for code, kind in enumerate(KINDS)}, grows=False)
    shoppers, sessions = _Names({"": -1}), _Names({"": -1})
    queries, locales = _QueryNames(), _Names({})
    tables: list[tuple[npt.NDArray[Any], ...]] = []
    ids: list[pa.Array] = []
    for batch in batches:
        ids.append(batch.column("id"))
        tables.append(
            (
                _times_ms(batch.column("time")),
                _checked_kinds(kinds, batch.column("kind")),
                products.codes(batch.column("product_id")),
                shoppers.codes(batch.column("shopper_id")),
                sessions.codes(batch.column("session_id")),
                queries.codes(batch.column("query")),
                locales.codes(batch.column("locale")),
            )
        )
    if not tables:
        raise EventLogError("the log holds no event")
    columns = [np.concatenate(parts) for parts in zip(*tables, strict=True)]
    all_ids = pa.chunked_array(ids)
    order = _first_of_each(all_ids, np.argsort(columns[0], kind="stable"))
    times, of_kind, of_product, shopper, session, query, locale = (column[order] for column in columns)
    return NumberedLog(
        ids=all_ids.take(pa.array(order)),
        times_ms=times,
        kinds=of_kind,
        products=of_product,
        shoppers=shopper,
        sessions=session,
        queries=query,
        locales=locale,
        num_products=len(product_ids),
        query_names=queries.names,
        shopper_names=shoppers.names,
        session_names=sessions.names,
        locale_names=locales.names,
        num_repeated=len(columns[0]) - len(order),
    )


class _Names:
    """Codes of strings. `given` names have given codes; further names are numbered in order of appearance if the table `grows`."""

    def __init__(self, given: dict[str, int], *, grows: bool = True) -> None:
        self._code_of = dict(given)
        self._grows = grows
        self.names: list[str] = []

    def codes(self, strings: pa.Array) -> Codes:
        """Returns the codes (n,); -1 for a name that is neither given nor added. Looks each distinct string up once."""
        if not pa.types.is_dictionary(strings.type):
            strings = strings.dictionary_encode()
        codes = np.fromiter((self._code(name) for name in strings.dictionary.to_pylist()), np.int32)
        indices = pc.fill_null(strings.indices, -1).to_numpy(zero_copy_only=False)
        return np.append(codes, np.int32(-1))[indices]

    def _code(self, name: str) -> int:
        code = self._code_of.get(name)
        if code is None:
            if not self._grows:
                return -1
            code = self._code_of[name] = len(self.names)
            self.names.append(name)
        return code


class _QueryNames(_Names):
    def __init__(self) -> None:
        super().__init__({"": -1})
        self._plain_code: dict[str, int] = {}

    def _code(self, name: str) -> int:
        code = self._plain_code.get(name)
        if code is None:
            code = self._plain_code[name] = super()._code(plain_query(name))
        return code


def _times_ms(times: pa.Array) -> Ints:
    if not pa.types.is_timestamp(times.type) or times.null_count:
        raise EventLogError(f"column time is {times.type} with {times.null_count} nulls; each row needs a timestamp")
    converted: Ints = times.cast(pa.timestamp("ms", times.type.tz), safe=False).cast(pa.int64()).to_numpy()
    return converted


def _checked_kinds(kinds: _Names, column: pa.Array) -> Kinds:
    codes = kinds.codes(column)
    if (codes < 0).any():
        unknown = column[int(np.argmax(codes < 0))].as_py()
        raise EventLogError(f"column kind holds {unknown!r}; the kinds are {', '.join(KINDS)}")
    return codes.astype(np.int8)


def _first_of_each(ids: pa.ChunkedArray, order: Ints) -> Ints:
    """Returns `order` (events,) without the events whose id appears earlier in it."""
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return order
    codes = ids.dictionary_encode().unify_dictionaries()
    places = np.concatenate([chunk.indices.to_numpy(zero_copy_only=False) for chunk in codes.chunks])
    return order[np.sort(np.unique(places[order], return_index=True)[1])]
