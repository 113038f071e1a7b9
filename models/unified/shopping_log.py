"""The shopping log as numeric columns, with its searches numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Codes, Ints
from models.events.errors import LogError
from models.events.event_log import EventLog, open_log
from models.events.searches import plain_queries

UNKNOWN = -1  # row of a product that is not in the catalogue


@dataclass(frozen=True, slots=True)
class ShoppingLog:
    """Events in order of time. A *search* is one query in one session (`models.events.searches`). Events that it led to have its number.

    Each session of anonymous events counts as a shopper of its own, whose history is the session. Events without a session got one when
    the log was opened.
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

    def with_locales(self, locales: Sequence[str]) -> ShoppingLog:
        """Returns the same log with its locales numbered as in `locales`. Raises LogError if it has another one."""
        if new := [name for name in self.locales if name not in locales]:
            raise LogError(
                f"the log has events in {', '.join(new)}, which the model does not know; it knows {', '.join(locales)}"
            )
        number = np.array([locales.index(name) for name in self.locales], np.int32)
        return replace(self, locale=number[self.locale], locales=list(locales))

    @classmethod
    def read(cls, paths: Path | Sequence[Path], product_ids: Sequence[str]) -> ShoppingLog:
        """Reads one log or several as `open_log` does, with the ids of the catalogue, by row. Raises LogError."""
        return cls.from_log(open_log(paths), product_ids)

    @classmethod
    def from_table(cls, table: pa.Table, product_ids: Sequence[str]) -> ShoppingLog:
        """Takes a table of EVENT_SCHEMA and the ids of the catalogue, by row. An event with a repeated id counts once."""
        return cls.from_log(EventLog.from_table(table), product_ids)

    @classmethod
    def from_log(cls, log: EventLog, product_ids: Sequence[str]) -> ShoppingLog:
        """Takes the events of a log, in their order. Raises LogError for a log without events."""
        if not len(log):
            raise LogError("the log holds no event")
        session = log.session.astype(np.int64)
        shopper, num_shoppers = _dense(
            np.where(log.shopper < 0, session + len(log.shoppers), log.shopper), len(log.shoppers) + log.num_sessions
        )
        queries = log.queries.to_pylist()
        plain = plain_queries(queries)
        _, search = np.unique(session * len(plain.names) + plain.code[log.query], return_inverse=True)
        search_time_ms = np.full(int(search.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(search_time_ms, search, log.time_ms)
        return cls(
            time_ms=np.asarray(log.time_ms),
            kind=np.asarray(log.kind),
            shopper=shopper,
            is_anonymous=np.asarray(log.shopper < 0),
            locale=np.asarray(log.locale),
            query=np.asarray(log.query),
            product=product_rows(log, product_ids)[log.product],
            search=search.astype(np.int32),
            search_time_ms=search_time_ms,
            queries=queries,
            locales=log.locales.to_pylist(),
            num_shoppers=num_shoppers,
            num_products=len(product_ids),
        )


def product_rows(log: EventLog, product_ids: Sequence[str]) -> Codes:
    """Returns (log.products,) the catalogue's row of each product of a log, or UNKNOWN. `product_ids` are the catalogue's, by row."""
    found: Any = pc.index_in(log.products, value_set=pa.array(product_ids, pa.large_string()))
    return np.asarray(found.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), np.int32)


def _dense(codes: Ints, size: int) -> tuple[Codes, int]:
    """Renumbers codes below `size` from 0 without gaps, in their order; returns them and how many there are."""
    occurs = np.zeros(size, np.bool_)
    occurs[codes] = True
    number = np.cumsum(occurs, dtype=np.int32) - np.int32(1)
    return number[codes], int(occurs.sum())
