"""Pages and events as rows of a log in EVENT_SCHEMA, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Progress, silent
from models.events.event import EVENT_SCHEMA, Event
from models.events.exporting.page_log import PageLog
from models.events.kinds import IMPRESSION, KINDS

CHUNK_PAGES = 5000  # whose impressions are made at once: 120,000 rows of usual pages
CHUNK_EVENTS = 50_000
_KIND_NAMES = pa.array([str(kind) for kind in KINDS])


class ServedRows:
    """Collects what a join finds out. `is_shown` says which pages become impressions."""

    def __init__(self, pages: PageLog, is_shown: list[bool]) -> None:
        self.is_shown = is_shown
        self.owner: dict[int, str] = {}  # page -> shopper; other pages are anonymous
        self.session: dict[int, str] = {}  # page -> session; other pages are sessions of their own
        self._pages = pages
        self._waiting: list[dict[str, Any]] = []
        self._events = [EVENT_SCHEMA.empty_table()]

    def add(self, event: Event, shopper: str, session: str) -> None:
        """Adds an event of a shopper, in a session."""
        self._waiting.append(
            {
                "id": _name(shopper, event.id),
                "time": event.time_ms,
                "shopper_id": shopper,
                "session_id": session,
                "locale": event.locale,
                "kind": str(event.kind),
                "product_id": event.product_id,
                "query": event.query,
                "position": event.position,
                "price_minor": event.price_minor,
            }
        )
        if len(self._waiting) >= CHUNK_EVENTS:
            self._pack()

    def _pack(self) -> None:
        self._events.append(pa.Table.from_pylist(self._waiting, schema=EVENT_SCHEMA))
        self._waiting = []

    def batches(self, progress: Progress = silent, chunk_pages: int = CHUNK_PAGES) -> Iterator[pa.RecordBatch]:
        """Yields the log in order of time; of equal times impressions come first. `chunk_pages` are made at once."""
        self._pack()
        events = pa.concat_tables(self._events).unify_dictionaries().sort_by("time")
        event_ms = np.asarray(events["time"].cast(pa.int64()), np.int64)
        shown = np.flatnonzero(self.is_shown)
        starts = range(0, len(shown), chunk_pages)
        # The events of a chunk are those before the first page of the next one.
        ends = [int(np.searchsorted(event_ms, self._pages.time_ms[shown[start]])) for start in starts[1:]]
        begin = 0
        for start, end in zip(starts, [*ends, len(events)], strict=False):
            progress("write the log", start, len(shown))
            impressions = self._impressions(shown[start : start + chunk_pages].tolist())
            both = pa.concat_tables([impressions, events.slice(begin, end - begin)]).unify_dictionaries()
            begin = end
            order = np.argsort(np.asarray(both["time"].cast(pa.int64()), np.int64), kind="stable")
            yield from both.take(pa.array(order)).combine_chunks().to_batches()
        progress("write the log", len(shown), len(shown))
        yield from events.slice(begin).combine_chunks().to_batches()

    def _impressions(self, chosen: list[int]) -> pa.Table:
        """Returns the hits of these pages. # (hits, columns)"""
        pages = self._pages
        lengths = np.diff(pages.starts)[chosen]
        page = np.repeat(np.arange(len(chosen)), lengths)  # (hits,) places in `chosen`
        place = np.arange(len(page)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # (hits,) from 0
        at = pa.array(pages.starts[chosen][page] + place)
        names = [_name(str(pages.time_ms[one]), pages.request_ids[one]) for one in chosen]

        def by_page(values: list[str]) -> pa.Array:
            return pa.array(values, pa.string()).take(pa.array(page))

        columns = {
            "id": pc.binary_join_element_wise(by_page(names), pa.array(place + 1).cast(pa.string()), "-"),
            "time": pa.array(pages.time_ms[chosen][page]).cast(pa.timestamp("ms", tz="UTC")),
            "shopper_id": by_page([self.owner.get(one, "") for one in chosen]),
            "session_id": by_page([self.session.get(one) or name for one, name in zip(chosen, names, strict=True)]),
            "locale": by_page([pages.locales[one] for one in chosen]),
            "kind": pa.DictionaryArray.from_arrays(pa.array(np.full(len(page), IMPRESSION, np.int8)), _KIND_NAMES),
            "product_id": pages.products.take(at).cast(pa.string()),
            "query": by_page([pages.queries[one] for one in chosen]),
            "position": pa.array((pages.offset[chosen][page] + place + 1).astype(np.int32)),
            "price_minor": pages.prices.take(at),
        }
        return pa.table([columns[field.name] for field in EVENT_SCHEMA], schema=EVENT_SCHEMA)

    @property
    def num_impressions(self) -> int:
        return int(np.diff(self._pages.starts)[self.is_shown].sum())


def _name(of: str, text: str) -> str:
    """Returns an id that tells nothing of `text`, and is the same in each export."""
    return blake2b(f"{of}\0{text}".encode(), digest_size=12).hexdigest()
