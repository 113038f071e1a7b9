"""The simulated shopping log: sessions of simulated shoppers as a stream of events in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Ints
from models.events.event import EVENT_SCHEMA, EventKind
from models.sample_store.assortment import Assortment
from models.sample_store.families import family_of
from models.sample_store.family import Rows
from models.sample_store.intents import MAX_INTENTS, draw_intents
from models.sample_store.locales.read_locales import MAIN_LOCALE
from models.sample_store.parameters import DAY_MS, MAX_SEARCHES, LogParameters, SharedParameters
from models.sample_store.sessions import Searches, SessionPlan
from models.sample_store.shoppers import Shoppers
from models.sample_store.store import SampleStore

MAX_EVENTS = 100_000_000
MAX_SHOPPERS = 5_000_000
START = datetime(2025, 1, 1, tzinfo=UTC)

_BLOCK_EVENTS = 131_072
_EVENTS_PER_SEARCH = 14.6  # about, by the parameters
_EVENTS_PER_SESSION = 29.0
_KINDS = tuple(EventKind)
_LETTERS = pa.array(["i", "c", "a", "p"])  # an event's kind in its id


class SimulatedLog:
    """`num_events` simulated events of `num_shoppers` shoppers in the `days` after `start`.

    The same arguments give the same events. Events are in the order of time; a session that begins late in the window ends minutes after
    it. The last session is cut off when the number of events is reached. Memory: about 600 bytes a product, 300 a shopper, and 150 MB.
    """

    def __init__(
        self,
        store: SampleStore,
        num_shoppers: int,
        num_events: int,
        seed: int = 0,
        start: datetime = START,
        days: int = 60,
        parameters: SharedParameters | None = None,
    ) -> None:
        """The class of `parameters` decides the family: LogParameters (the default) or CascadeParameters."""
        for name, value, most in (
            ("num_shoppers", num_shoppers, MAX_SHOPPERS),
            ("num_events", num_events, MAX_EVENTS),
            ("days", days, 3_650),
        ):
            if not 1 <= value <= most:
                raise ValueError(f"{name} of a simulated log is 1 to {most:,}, not {value:,}")
        if start.tzinfo is None:
            raise ValueError(f"start must have a time zone, and {start.isoformat()} has none")
        self.num_shoppers, self.num_events, self.seed, self.days = num_shoppers, num_events, seed, days
        self.parameters = parameters or LogParameters()
        self.start_ms = round(start.timestamp() * 1000)
        self.end_ms = round((start + timedelta(days=days)).timestamp() * 1000)
        num_queries = num_events / _EVENTS_PER_SEARCH / self.parameters.searches_a_query
        num_intents = int(min(MAX_INTENTS, max(1_000, num_queries)))
        self.assortment = Assortment(store, self.parameters, seed, self.start_ms, self.end_ms)
        self.shoppers = Shoppers(num_shoppers, self.parameters, seed, self.start_ms)
        self.intents = draw_intents(self.assortment, num_intents, self.parameters, seed)
        self.plan = SessionPlan(self.assortment, self.shoppers, self.intents, self.parameters, seed)
        self.family = family_of(self.assortment, self.shoppers, self.intents, self.parameters, seed, self.start_ms)
        # What depends on the day before yesterday is made a day at a time.
        a_day = max(1, num_events * DAY_MS // (self.end_ms - self.start_ms))
        self._block_events = min(_BLOCK_EVENTS, a_day) if self.family.has_memory else _BLOCK_EVENTS
        self._is_played = not self.family.has_memory
        self._texts = pa.array(self.intents.texts)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, from the first on, in EVENT_SCHEMA. Only one such iteration of a log runs at a time."""
        late = _no_rows()
        for block, ends_ms in self._blocks():
            rows = _sorted(_concatenate([late, block]))
            ready = int(np.searchsorted(rows.time_ms, ends_ms))
            if ready:
                yield self._batch(_take(rows, slice(0, ready)))
            late = _take(rows, slice(ready, None))

    def play(self) -> None:
        """Lets everything happen, once: what a family with a memory says of a time follows from what happened before."""
        if not self._is_played:
            for _ in self._blocks():
                pass

    def searches(self, sessions: Ints) -> Searches:
        """Returns all searches of sessions as they happened."""
        return self.family.recall(self.plan.searches(sessions))

    def _blocks(self) -> Iterator[tuple[Rows, int]]:
        """Yields the rows of sessions that began within a stretch of time, and the end of that stretch."""
        self.family.forget()
        self._is_played = not self.family.has_memory
        made, session = 0, 0
        while made < self.num_events:
            count = min(self._block_events, self.num_events - made)
            rows, session = self._block(session, made, count)
            made += count
            yield rows, self._time_of(made) if made < self.num_events else np.iinfo(np.int64).max
        self._is_played = True

    def _time_of(self, made: int) -> int:
        return self.start_ms + made * (self.end_ms - self.start_ms) // self.num_events

    def _block(self, session: int, made: int, count: int) -> tuple[Rows, int]:
        """Returns exactly `count` rows of the sessions from `session` on, and the first session of the next block."""
        begin_ms, end_ms = self._time_of(made), self._time_of(made + count)
        parts: list[Rows] = []
        while count > 0:
            stop = session + int(1.03 * count / _EVENTS_PER_SESSION) + 8
            searches = self.plan.searches(np.arange(session, stop))
            start_ms = begin_ms + (searches.start * (end_ms - begin_ms)).astype(np.int64)
            rows = self._rows(searches, start_ms + searches.later_ms)  # in the order of sessions
            last = min(count, len(rows.session))
            session = int(rows.session[last - 1]) + 1
            parts.append(_take(rows, slice(0, last)))
            self.family.remember(parts[-1])
            count -= last
        return _concatenate(parts), session

    def _rows(self, searches: Searches, time_ms: Ints) -> Rows:
        """Returns the events of searches, search by search, from impressions to purchases."""
        searches = self.family.asked(searches, time_ms)
        visits = self.family.visit(searches, time_ms)
        search, place = visits.search, visits.place
        waits = (
            3_000 + visits.waits[:, 0] * 60_000,
            10_000 + visits.waits[:, 1] * 60_000,
            np.full(len(search), 45_000.0),
        )
        kinds = [
            np.nonzero(kept)[0] for kept in (np.ones(len(search), np.bool_), visits.click, visits.cart, visits.purchase)
        ]
        at = np.concatenate(kinds)
        kind = np.repeat(np.arange(len(_KINDS)), [len(rows) for rows in kinds])
        later = np.cumsum(np.column_stack([np.zeros(len(search)), *waits]), axis=1)[at, kind].astype(np.int64)
        order = np.lexsort((place[at], kind, search[at]))
        at, kind, later = at[order], kind[order], later[order]
        row = search[at]
        return Rows(
            time_ms=time_ms[row] + later,
            session=searches.session[row],
            place=searches.place[row],
            shopper=np.where(searches.is_anonymous, -1, searches.shopper)[row],
            intent=searches.intent[row],
            kind=kind,
            product=visits.product[at],
            position=place[at] + 1,
        )

    def _batch(self, rows: Rows) -> pa.RecordBatch:
        position = pa.array(rows.position.astype(np.int32))
        search = _numbered("e", rows.session * MAX_SEARCHES + rows.place, 9)
        event = pc.binary_join_element_wise(
            search, pc.cast(position, pa.string()), _LETTERS.take(pa.array(rows.kind)), "-"
        )
        shopper = pc.if_else(pa.array(rows.shopper >= 0), _numbered("u", rows.shopper, 7), "")
        kind = pa.DictionaryArray.from_arrays(pa.array(rows.kind.astype(np.int8)), pa.array([str(k) for k in _KINDS]))
        columns = {
            "id": event,
            "time": pa.array(rows.time_ms).cast(pa.timestamp("ms", tz="UTC")),
            "shopper_id": shopper,
            "session_id": _numbered("s", rows.session, 9),
            "locale": pa.repeat(MAIN_LOCALE, len(rows.kind)),
            "kind": kind,
            "product_id": _numbered("AS-", rows.product + 1, 7),
            "query": self._texts.take(pa.array(rows.intent)),
            "position": position,
            "price_minor": pa.array(self.assortment.latents.price_minor[rows.product]),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _no_rows() -> Rows:
    return Rows(*(np.empty(0, np.int64) for _ in fields(Rows)))


def _concatenate(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))


def _take(rows: Rows, part: slice | npt.NDArray[np.intp]) -> Rows:
    return Rows(*(getattr(rows, field.name)[part] for field in fields(Rows)))


def _sorted(rows: Rows) -> Rows:
    return _take(rows, np.argsort(rows.time_ms, kind="stable"))


def _numbered(prefix: str, numbers: Ints, width: int) -> pa.Array:
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")
