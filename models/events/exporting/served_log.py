"""Joins what a service showed, its request log, with what shoppers did, its shopper store.

- An event belongs to the page whose request id it names, if the page showed its product.
- An event that names none belongs to the latest page of its shopper with the same query in the 30 minutes before, if that showed its
  product. This needs pages with pseudonyms.
- Any other event is a click, cart or purchase without impressions. It must not join the impressions of another page of its query: there it
  would be a product that was clicked and never shown. So its session is one beside that of the page.
- A page is its shopper's by its tag, or by an event on it. One without a shopper is an anonymous session of its own.
- A shopper's session ends with 30 minutes without a page or an event.
- A page without a query or a hit, and one in an order that the caller named, is no impressions: it tells nothing of relevance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from models.arrays import Progress, silent
from models.events.event import Event, EventKind
from models.events.exporting.counts import ServedCounts
from models.events.exporting.page_log import PageLog
from models.events.exporting.served_rows import ServedRows
from models.events.searches import plain_query
from models.events.sessions import SESSION_GAP_MS
from models.events.shopper_events import ShopperEvents

DAY_MS = 24 * 3600 * 1000
NOT_LOGGED = "~"  # ends the session of events beside logged pages of their query
TOLD_EVERY = 1000  # shoppers


class Placed(NamedTuple):
    """An event, and its page and its product's place there, from 1; -1 and 0 for an event without a page."""

    event: Event
    page: int
    place: int


class ServedLog:
    """Takes the shoppers of a store one after the other; `rows` has the log when all have been taken."""

    def __init__(self, pages: PageLog, since_ms: int | None = None, until_ms: int | None = None) -> None:
        """Events before `since_ms`, or at `until_ms` and later, are left out; None: no limit."""
        self.counts = ServedCounts()
        self.rows = ServedRows(pages, [self._is_impressions(pages, page) for page in range(len(pages))])
        self._pages, self._since_ms, self._until_ms = pages, since_ms, until_ms
        self._by_request: dict[str, list[int]] = defaultdict(list)
        self._by_tag: dict[int, dict[bytes, list[int]]] = defaultdict(lambda: defaultdict(list))  # by day
        for page, request_id in enumerate(pages.request_ids):
            self._by_request[request_id].append(page)
            if tag := pages.tags[page]:
                self.counts.tagged += 1
                self._by_tag[int(pages.time_ms[page]) // DAY_MS][tag].append(page)

    def _is_impressions(self, pages: PageLog, page: int) -> bool:
        counts, has_query = self.counts, bool(pages.queries[page])
        is_sorted, is_empty = pages.is_sorted[page], pages.starts[page] == pages.starts[page + 1]
        counts.pages += 1
        counts.without_query += not has_query
        counts.sorted += has_query and is_sorted
        counts.empty += has_query and not is_sorted and is_empty
        return has_query and not is_sorted and not is_empty

    def join(self, shoppers: Iterable[ShopperEvents], progress: Progress = silent) -> None:
        for number, shopper in enumerate(shoppers):
            if number % TOLD_EVERY == 0:
                progress("join the events", number, None)
            self._join(shopper)
        tagged = (page for by_tag in self._by_tag.values() for pages in by_tag.values() for page in pages)
        self.counts.of_nobody = sum(page not in self.rows.owner for page in tagged)

    def _join(self, shopper: ShopperEvents) -> None:
        tagged = sorted(
            page
            for day, by_tag in self._by_tag.items()
            for page in by_tag.get(shopper.tag_of(day), ())
            if self._is_owner(page, shopper)
        )
        events = [event for event in shopper.events if self._is_in_range(event.time_ms)]
        self.counts.shoppers += bool(events)
        self.counts.events += len(events)
        placed = [self._placed(event, shopper, tagged) for event in events]
        own = {*tagged, *(one.page for one in placed if one.page >= 0)}
        kept = [one for one in placed if not self._repeats_page(one)]
        self.counts.stored_impressions += len(placed) - len(kept)
        self._add(shopper.name, own, kept)

    def _placed(self, event: Event, shopper: ShopperEvents, tagged: list[int]) -> Placed:
        if event.request_id:
            return self._on_named_page(event, shopper)
        query = plain_query(event.query)
        for page in reversed(tagged if query else []):
            age_ms = event.time_ms - int(self._pages.time_ms[page])
            if not 0 <= age_ms <= SESSION_GAP_MS or plain_query(self._pages.queries[page]) != query:
                continue
            if place := self._pages.place(page, event.product_id):
                self.counts.by_query += 1
                return Placed(event, page, place)
            break
        self.counts.nameless += 1
        return Placed(event, -1, 0)

    def _on_named_page(self, event: Event, shopper: ShopperEvents) -> Placed:
        """Finds the page of a request. A caller's own request id may name several: then the nearest in time that showed the product."""
        named = self._by_request.get(event.request_id, [])
        for page in sorted(named, key=lambda page: abs(int(self._pages.time_ms[page]) - event.time_ms)):
            place = self._pages.place(page, event.product_id)
            if place and self._is_owner(page, shopper):
                self.counts.by_request += 1
                return Placed(event, page, place)
        self.counts.on_unlogged += not named
        self.counts.not_shown += bool(named)
        return Placed(event, -1, 0)

    def _repeats_page(self, placed: Placed) -> bool:
        """Says whether an event is an impression that its page has."""
        return placed.event.kind is EventKind.IMPRESSION and placed.page >= 0 and self.rows.is_shown[placed.page]

    def _add(self, shopper: str, own: set[int], placed: list[Placed]) -> None:
        """Gives the shopper's pages and events their sessions, and keeps the events."""
        pages, rows = self._pages, self.rows
        times = sorted([*(int(pages.time_ms[page]) for page in own), *(one.event.time_ms for one in placed)])
        begins = [now for at, now in enumerate(times) if not at or now - times[at - 1] > SESSION_GAP_MS]

        def session_at(time_ms: int) -> str:
            return f"{shopper}-{begins[bisect_right(begins, time_ms) - 1]}"

        for page in own:
            rows.session[page] = session_at(int(pages.time_ms[page]))
        searched = {(rows.session[page], plain_query(pages.queries[page])) for page in own if rows.is_shown[page]}
        for event, page, place in placed:
            session = session_at(event.time_ms)
            if page >= 0:
                rows.add(self._as_on_page(event, page, place), shopper, rows.session[page])
            elif (session, plain_query(event.query)) in searched:
                rows.add(event, shopper, session + NOT_LOGGED)
            else:
                rows.add(event, shopper, session)

    def _as_on_page(self, event: Event, page: int, place: int) -> Event:
        pages = self._pages
        return replace(
            event,
            time_ms=max(event.time_ms, int(pages.time_ms[page])),  # the caller's clock may be behind
            query=pages.queries[page],
            locale=pages.locales[page],
            position=int(pages.offset[page]) + place,
        )

    def _is_owner(self, page: int, shopper: ShopperEvents) -> bool:
        """Says whether a page is the shopper's; one that is nobody's becomes so. A tag of somebody else, also of who the shopper was before
        being forgotten, is never the shopper's."""
        tag = self._pages.tags[page]
        if tag and tag != shopper.tag_of(int(self._pages.time_ms[page]) // DAY_MS):
            return False
        return self.rows.owner.setdefault(page, shopper.name) == shopper.name

    def _is_in_range(self, time_ms: int) -> bool:
        since, until = self._since_ms, self._until_ms
        return (since is None or time_ms >= since) and (until is None or time_ms < until)
