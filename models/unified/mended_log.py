"""A shopping log with what it lacks filled in, so that no stage has to: sessions from gaps in time, a locale, and queries from titles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Bools, Ints
from models.events.event import EVENT_SCHEMA, EventKind

SESSION_GAP_MS = 30 * 60_000  # without an event, after which a shopper's next event begins another session
MOST_TITLE_WORDS = 4  # of a query that is taken from a product's own title


@dataclass(frozen=True, kw_only=True, slots=True)
class MendedLog:
    """A log in EVENT_SCHEMA, and how many of its events were mended."""

    table: pa.Table | None  # None for one that was counted and needs no mending: a long log takes gigabytes
    without_session: int
    without_locale: int
    titled: int = 0  # events whose query was taken from a title

    @property
    def is_changed(self) -> bool:
        return bool(self.without_session or self.without_locale or self.titled)

    def counted(self) -> MendedLog:
        """Returns what is needed after the look: the table only if something was mended."""
        return self if self.is_changed else replace(self, table=None)

    def write(self, original: Path, folder: Path) -> Path:
        """Returns the original if nothing was mended, else a Parquet file of the same name in `folder`; the same log gives the same
        bytes."""
        if self.table is None or not self.is_changed:
            return original
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{original.stem}.parquet"
        partial = path.with_suffix(".partial")
        pq.write_table(self.table, partial)
        partial.replace(path)
        return path


def mend_log(table: pa.Table, locale: str, titles: Mapping[str, str] | None = None) -> MendedLog:
    """Fills in sessions, see `with_sessions`, and `locale` where an event has none; with `titles` by product id also queries, see
    `with_title_queries`. The table has the columns of EVENT_SCHEMA."""
    without_session = _count(_is_empty(table, "session_id"))
    without_locale = _is_empty(table, "locale")
    mended = with_sessions(table)
    if without_locale.any():
        mended = _replaced(mended, "locale", np.flatnonzero(without_locale), [locale] * _count(without_locale))
    titled = 0
    if titles is not None:
        before = _count(_is_empty(mended, "query"))
        mended = with_title_queries(mended, titles)
        titled = before - _count(_is_empty(mended, "query"))
    return MendedLog(
        table=mended, without_session=without_session, without_locale=_count(without_locale), titled=titled
    )


def with_sessions(table: pa.Table) -> pa.Table:
    """Gives every event without a session one: that of the shopper's events before it, unless SESSION_GAP_MS passed since the last.

    An anonymous event without a session is alone: nobody knows whose it is, and one session of them all would be one shopper who
    likes everything.
    """
    empty = np.flatnonzero(_is_empty(table, "session_id"))
    if not len(empty):
        return table
    part = table.take(pa.array(empty))
    shoppers = part["shopper_id"].cast(pa.string())
    time_ms = _times_ms(part)
    starts = _session_starts(shoppers, time_ms)
    named = pc.binary_join_element_wise(shoppers, pa.array(starts.astype(str), pa.string()), "@")
    alone = pc.binary_join_element_wise("event", part["id"].cast(pa.string()), "@")
    sessions = pc.if_else(pc.equal(shoppers, ""), alone, named)
    return _replaced(table, "session_id", empty, sessions.to_pylist())


def _session_starts(shoppers: pa.ChunkedArray, time_ms: Ints) -> Ints:
    """Returns (events,) the time at which the session of each event began."""
    codes = shoppers.combine_chunks().dictionary_encode()
    codes = codes.chunk(0) if isinstance(codes, pa.ChunkedArray) else codes
    owner = np.asarray(codes.indices)
    order = np.lexsort((time_ms, owner))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(owner[order]) != 0) | (np.diff(time_ms[order]) > SESSION_GAP_MS)
    first = np.flatnonzero(begins)
    starts = np.empty(len(order), np.int64)
    starts[order] = time_ms[order][first[np.cumsum(begins) - 1]]
    return starts


def with_title_queries(table: pa.Table, titles: Mapping[str, str]) -> pa.Table:
    """Gives clicks, carts and purchases without a query one from titles, for a log of views without searches.

    A model then learns two things: half of the events get a few words of the product's own title, which lead to it as a search would, and
    half the title of the product viewed before it in the session, which leads from product to product. What shoppers call a product in
    their own words cannot be learned. Events of products without a title stay as they are.
    """
    kinds = table["kind"].cast(pa.string())
    lacks = _is_empty(table, "query") & np.asarray(pc.not_equal(kinds, EventKind.IMPRESSION.value), np.bool_)
    rows = np.flatnonzero(lacks)
    if not len(rows):
        return table
    products = table["product_id"].to_pylist()
    before = _viewed_before(table, rows)
    random = np.random.default_rng(0)
    own, first, count = (
        random.random(len(rows)),
        random.random(len(rows)),
        random.integers(1, MOST_TITLE_WORDS + 1, len(rows)),
    )
    queries: list[str] = []
    for at, row in enumerate(rows.tolist()):
        previous = titles.get(products[before[at]], "") if before[at] >= 0 else ""
        if previous and own[at] < 0.5:
            queries.append(previous)
            continue
        words = titles.get(products[row], "").split()
        start = int(first[at] * max(1, len(words) - int(count[at]) + 1))
        queries.append(" ".join(words[start : start + int(count[at])]))
    return _replaced(table, "query", rows, queries)


def _viewed_before(table: pa.Table, rows: Ints) -> Ints:
    """Returns, for each of `rows`, the row of the product that was viewed before it in its session, another one than its own; else -1."""
    part = table.take(pa.array(rows))
    session, product = (_codes(part[name]) for name in ("session_id", "product_id"))
    order = np.lexsort((_times_ms(part), session))
    before = np.full(len(rows), -1, np.int64)
    # A cart follows the click on the same product: what was viewed before it is what came before that click.
    changes = np.append(True, (np.diff(session[order]) != 0) | (np.diff(product[order]) != 0))
    run = np.cumsum(changes) - 1
    starts = np.flatnonzero(changes)
    same_session = np.append(False, session[order][starts[1:]] == session[order][starts[1:] - 1])
    last_before = np.where(same_session, starts - 1, -1)[run]
    known = last_before >= 0
    before[order[known]] = rows[order[last_before[known]]]
    return before


def _codes(column: pa.ChunkedArray) -> Ints:
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    return np.asarray(encoded.indices).astype(np.int64)


def _times_ms(table: pa.Table) -> Ints:
    return np.asarray(table["time"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()))


def _is_empty(table: pa.Table, name: str) -> Bools:
    return np.asarray(pc.equal(table[name].cast(pa.string()), ""), np.bool_)


def _count(mask: Bools) -> int:
    return int(np.count_nonzero(mask))


def _replaced(table: pa.Table, name: str, rows: npt.NDArray[np.integer], texts: list[str]) -> pa.Table:
    """Returns the table with other texts in some rows of a column of strings."""
    mask = np.zeros(table.num_rows, np.bool_)
    mask[rows] = True
    column = table[name].cast(pa.string()).combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    replaced = pc.replace_with_mask(column, pa.array(mask), pa.array(texts, pa.string()))
    return table.set_column(table.schema.get_field_index(name), EVENT_SCHEMA.field(name), replaced)
