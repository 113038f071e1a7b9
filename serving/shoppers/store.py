"""The contract of shopper stores: they keep a bounded history of events for each shopper.

- An event is identified by its shopper and its id. Recording it a second time changes nothing.
- A history holds the newest `max_events_per_shopper` events, ordered by time, then by id. The order in which events arrive does not
  matter: an event that was dropped and is sent again is the oldest again, and is dropped again.
- Of events with the same time at the end of a full history, the store chooses which stay. It always chooses the same ones.
- When `record` has returned, every `history` that begins later includes its events, in each process that shares the store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.events.event import Event, EventKind

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """How many events of a shopper a store keeps, and for how long."""

    max_events_per_shopper: int = 200
    days: float = 365

    def oldest_ms(self, now: int) -> int:
        """Returns the time before which events are deleted. Both times are in milliseconds since 1970."""
        return now - int(self.days * DAY_MS)

    def max_step_ms(self) -> int:
        """Returns how far a clock may be ahead of the last purge and still be believed: a tenth of the retention, at least a day.

        So no clock that jumps deletes more than the oldest tenth. A service that stood still for longer has to be told that its clock
        is right.
        """
        return int(max(self.days / 10, 1) * DAY_MS)


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

    def believed_ms(self) -> int:
        """Returns the time by which the store keeps events, in milliseconds since 1970. It falls behind a clock that has jumped ahead."""

    def page_tag(self, shopper_id: str, time_ms: int) -> bytes:
        """Returns, without waiting, what stands for the shopper in the request log on the day of that time. Once the shopper is forgotten
        nobody can tell whose it was. Empty for a shopper without events, and where the store cannot make one."""

    async def forget(self, shopper_id: str) -> int:
        """Deletes everything about a shopper. Returns the number of deleted events."""

    async def close(self) -> None: ...


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
    request_id: str = "",
) -> Event:
    """Returns an event from the values of a stored row. Rows of earlier versions have no request id."""
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
        request_id=request_id,
    )


def stored_values(event: Event) -> tuple[Any, ...]:
    """Returns what a row holds besides shopper and id, in the order of `restore_event`. Without a request id it is as earlier versions
    wrote it, and read it."""
    values = (
        event.time_ms, event.session_id, event.locale, event.kind, event.product_id, event.query, event.position,
        event.price_minor,
    )  # fmt: skip
    return (*values, event.request_id) if event.request_id else values


def now_ms() -> int:
    """Returns milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000
