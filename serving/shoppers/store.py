"""What is kept of shoppers while serving: for each of them a bounded history of events, the same in every store.

- An event is known by its shopper and its id; one that comes again changes nothing.
- A history is ordered by time, then by id, and holds the newest `max_events_per_shopper`; the order in which events came
  does not matter. So an event that fell out cannot come back by being sent again: it would be the oldest once more.
- What `record` has answered, every `history` that begins later sees, in each process that shares the store.
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
    """What a store keeps of each shopper."""

    max_events_per_shopper: int = 200
    days: float = 365

    def oldest_ms(self, now: int) -> int:
        """Events before this time are not kept."""
        return now - int(self.days * DAY_MS)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a batch of events."""

    recorded: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class History:
    """The newest events of one shopper.

    `version` grows with every recorded event and is never used for two states, also not after `forget`: what was computed
    from a history holds while its version does. It is 0 where nothing is kept. Events that leave for their age do not
    change it.
    """

    events: tuple[Event, ...]  # newest first
    version: int


NO_HISTORY = History((), 0)


class ShopperStore(Protocol):
    """Raises Unavailable where the store cannot be reached, Overloaded where it is too slow for what it is asked, StoreFull.

    A call that raises may have recorded a part of its events; sending them again is safe. Callers bound the time by
    cancelling.
    """

    async def record(self, events: Sequence[Event]) -> Recorded:
        """Keeps the events, each with a shopper, an id, a time within the retention and no control characters; durable
        when it returns."""

    async def history(self, shopper_id: str, max_events: int) -> History: ...

    async def version(self, shopper_id: str) -> int:
        """The version that `history` would have, without its events; it may say so of a history whose events are all expired."""

    def stamp(self) -> int | None:
        """A number that stays the same only while no process records or forgets anything, told at once and without waiting for
        the store; None where that cannot be told, and `version` has to be asked."""

    async def forget(self, shopper_id: str) -> int:
        """Deletes all that is kept of a shopper. Returns the number of events that were."""

    async def close(self) -> None: ...


class StoreFull(AisleError):
    """There is no space for new events. Those that were acknowledged are kept, and can be read."""

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
    """An event out of the values that a store keeps of it."""
    return Event(
        event_id, time_ms, shopper_id, session_id, locale, EventKind(kind), product_id, query, position, price_minor
    )


class Outage:
    """Logs when a store begins to fail and when it works again, not each call in between: those may be thousands."""

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
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
