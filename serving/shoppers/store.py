"""The contract of shopper stores: they keep a bounded history of events for each shopper.

- An event is identified by its shopper and its id. Recording it a second time changes nothing.
- A history holds the newest `max_events_per_shopper` events, ordered by time, then by id. The order in which events arrive does not
  matter: an event that was dropped and is sent again is the oldest again, and is dropped again.
- When `record` has returned, every `history` that begins later includes its events, in each process that shares the store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.events.event import Event, EventKind
from serving.errors import AisleError, Code
from serving.logs import log

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """How many events of a shopper a store keeps, and for how long."""

    max_events_per_shopper: int = 200
    days: float = 365

    def oldest_ms(self, now: int) -> int:
        """Returns the time before which events are deleted. Both times are in milliseconds since 1970."""
        return now - int(self.days * DAY_MS)


@dataclass(frozen=True, slots=True)
class Recorded:
    """How many events of a batch were new, and how many the store had already."""

    recorded: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class History:
    """The newest events of one shopper.

    `version` grows with every recorded event, and no version is used twice, not even after `forget`: what was computed from a history
    is valid while the version is the same. It is 0 for a shopper without events. Expiry of old events does not change it.
    """

    events: tuple[Event, ...]  # newest first
    version: int


NO_HISTORY = History((), 0)


class ShopperStore(Protocol):
    """Every method raises Unavailable if the store cannot be reached, and Overloaded if too many calls wait for it; `record` raises
    StoreFull too.

    A call that raises may have recorded some of its events; sending them again is safe. Callers bound the time by cancelling.
    """

    async def record(self, events: Sequence[Event]) -> Recorded:
        """Stores the events; they are durable when it returns. Each has a shopper, an id, a time within the retention, and no control
        characters."""

    async def history(self, shopper_id: str, max_events: int) -> History: ...

    async def version(self, shopper_id: str) -> int:
        """Returns the version that `history` would return. It may be above 0 if all events of the shopper have expired."""

    def stamp(self) -> int | None:
        """Returns, without waiting for the store, a number that stays the same only while no process records or forgets anything.

        None means that the store cannot provide one: call `version` instead.
        """

    async def forget(self, shopper_id: str) -> int:
        """Deletes everything about a shopper. Returns the number of deleted events."""

    async def close(self) -> None: ...


class StoreFull(AisleError):
    """There is no space for new events. Acknowledged events stay and can be read."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORE_FULL"


def restore_event(
    shopper_id: str,
    event_id: str,
    time_ms: int,
    session_id: str,
    locale: str,
    kind: str,
    product_id: str,
    query: str,
    position: int | None,
    price_minor: int | None,
) -> Event:
    """Returns an event from the values of a stored row."""
    return Event(
        id=event_id,
        time_ms=time_ms,
        shopper_id=shopper_id,
        session_id=session_id,
        locale=locale,
        kind=EventKind(kind),
        product_id=product_id,
        query=query,
        position=position,
        price_minor=price_minor,
    )


class Outage:
    """Logs when a store begins to fail and when it works again, but not the failed calls in between, which may be thousands."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._since = 0.0

    def failed(self, error: str) -> None:
        if not self._since:
            self._since = time.monotonic()
            log.error("shopper store fails", extra={"fields": {"store": self._store, "error": error}})

    def works(self) -> None:
        if self._since:
            fields = {"store": self._store, "seconds": time.monotonic() - self._since}
            log.info("shopper store works again", extra={"fields": fields})
            self._since = 0.0


def now_ms() -> int:
    """Returns milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
