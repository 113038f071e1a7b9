"""The simulated shopping log: sessions of simulated shoppers as a stream of events in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Ints
from models.draws import draw_uniforms, mix
from models.events.event import EVENT_SCHEMA, EventKind
from models.sample_store.assortment import Assortment
from models.sample_store.engagement import Engagement
from models.sample_store.intents import MAX_INTENTS, draw_intents
from models.sample_store.locales.read_locales import MAIN_LOCALE
from models.sample_store.parameters import MAX_SEARCHES, PAGE_SIZE, LogParameters
from models.sample_store.result_pages import NUM_DRAWS, ResultPages
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
        parameters: LogParameters | None = None,
    ) -> None:
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
        self.pages = ResultPages(self.assortment, self.intents, self.parameters)
        self.engagement = Engagement(self.assortment, self.shoppers, self.intents, self.parameters)
        self._texts = pa.array(self.intents.texts)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, from the first on, in EVENT_SCHEMA."""
        made, session = 0, 0
        late = _no_rows()
        while made < self.num_events:
            count = min(_BLOCK_EVENTS, self.num_events - made)
            rows, session = self._block(session, made, count)
            made += count
            rows = _sorted(_concatenate([late, rows]))
            ends_ms = self._time_of(made) if made < self.num_events else np.iinfo(np.int64).max
            ready = int(np.searchsorted(rows.time_ms, ends_ms))
            if ready:
                yield self._batch(_take(rows, slice(0, ready)))
            late = _take(rows, slice(ready, None))

    def _time_of(self, made: int) -> int:
        return self.start_ms + made * (self.end_ms - self.start_ms) // self.num_events

    def _block(self, session: int, made: int, count: int) -> tuple[_Rows, int]:
        """Returns exactly `count` rows of the sessions from `session` on, and the first session of the next block."""
        begin_ms, end_ms = self._time_of(made), self._time_of(made + count)
        parts: list[_Rows] = []
        while count > 0:
            stop = session + int(1.03 * count / _EVENTS_PER_SESSION) + 8
            searches = self.plan.searches(np.arange(session, stop))
            start_ms = begin_ms + (searches.start * (end_ms - begin_ms)).astype(np.int64)
            rows = self._rows(searches, start_ms + searches.later_ms)  # in the order of sessions
            last = min(count, len(rows.session))
            session = int(rows.session[last - 1]) + 1
            parts.append(_take(rows, slice(0, last)))
            count -= last
        return _concatenate(parts), session

    def _rows(self, searches: Searches, time_ms: Ints) -> _Rows:
        """Returns the events of searches, search by search, from impressions to purchases."""
        seed = mix(self.seed)
        numbers = searches.number()
        pages = self.pages.draw(searches.intent, time_ms, draw_uniforms(seed ^ 8, numbers, 2 * NUM_DRAWS))
        is_shown = np.arange(PAGE_SIZE) < self.pages.depth(searches.depth_draw)[:, None]
        search, place = np.nonzero(is_shown & (pages >= 0))
        product = pages[search, place]
        at_ms = time_ms[search]
        chances = self.engagement.chances(searches.intent[search], searches.shopper[search], product, at_ms)
        draws = draw_uniforms(seed ^ 9, numbers[search] * PAGE_SIZE + place, 5)
        click = draws[:, 0] < chances.click * self.pages.examination()[place]
        cart = click & (draws[:, 1] < chances.cart)
        purchase = cart & (draws[:, 2] < chances.purchase)
        waits = (3_000 + draws[:, 3] * 60_000, 10_000 + draws[:, 4] * 60_000, np.full(len(draws), 45_000.0))
        kinds = [np.nonzero(kept)[0] for kept in (np.ones(len(search), np.bool_), click, cart, purchase)]
        at = np.concatenate(kinds)
        kind = np.repeat(np.arange(len(_KINDS)), [len(rows) for rows in kinds])
        later = np.cumsum(np.column_stack([np.zeros(len(draws)), *waits]), axis=1)[at, kind].astype(np.int64)
        order = np.lexsort((place[at], kind, search[at]))
        at, kind, later = at[order], kind[order], later[order]
        row = search[at]
        return _Rows(
            time_ms=at_ms[at] + later,
            session=searches.session[row],
            place=searches.place[row],
            shopper=np.where(searches.is_anonymous, -1, searches.shopper)[row],
            intent=searches.intent[row],
            kind=kind,
            product=product[at],
            position=place[at] + 1,
        )

    def _batch(self, rows: _Rows) -> pa.RecordBatch:
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


@dataclass(frozen=True, slots=True)
class _Rows:
    """Events as numbers, each field (num_rows,)."""

    time_ms: Ints
    session: Ints
    place: Ints  # of the search in its session
    shopper: Ints  # -1: anonymous
    intent: Ints
    kind: Ints
    product: Ints
    position: Ints


def _no_rows() -> _Rows:
    return _Rows(*(np.empty(0, np.int64) for _ in fields(_Rows)))


def _concatenate(parts: list[_Rows]) -> _Rows:
    return _Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Rows)))


def _take(rows: _Rows, part: slice | npt.NDArray[np.intp]) -> _Rows:
    return _Rows(*(getattr(rows, field.name)[part] for field in fields(_Rows)))


def _sorted(rows: _Rows) -> _Rows:
    return _take(rows, np.argsort(rows.time_ms, kind="stable"))


def _numbered(prefix: str, numbers: Ints, width: int) -> pa.Array:
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, digits, "")
