"""The Event message: read when it is recorded, read when a request brings it along, and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aisle.v1 import shopper_pb2
from models.events.event import Event, EventKind
from models.products.product import MAX_ID_CHARS
from serving.config import AisleConfig
from serving.edge.trailers import MAX_REQUEST_ID_CHARS
from serving.errors import Violation
from serving.gateway.messages.checks import MAX_SHOPPER_ID_CHARS, check_id, read_query, refuse_unknown
from serving.shoppers.store import now_ms

MAX_EVENT_ID_CHARS = 128
MAX_SESSION_ID_CHARS = 128
KIND_NUMBERS = {
    EventKind.IMPRESSION: shopper_pb2.EVENT_KIND_IMPRESSION,
    EventKind.CLICK: shopper_pb2.EVENT_KIND_CLICK,
    EventKind.CART: shopper_pb2.EVENT_KIND_CART,
    EventKind.PURCHASE: shopper_pb2.EVENT_KIND_PURCHASE,
}
_KINDS = {number: kind for kind, number in KIND_NUMBERS.items()}


class EventFields:
    """Reads events for one catalogue. `clock` returns milliseconds since 1970."""

    def __init__(self, locales: Sequence[str], config: AisleConfig, clock: Callable[[], int] = now_ms) -> None:
        self._default_locale = locales[0]
        self._locales = {locale.casefold(): locale for locale in locales}
        self._max_query_chars = config.limits.max_query_chars
        self._skew_ms = int(config.shoppers.max_clock_skew_s * 1000)
        self._clock = clock

    def newest_ms(self, now: int) -> int:
        """Returns the latest time that an event may have: clocks of senders run fast or slow."""
        return now + self._skew_ms

    def read_recorded(
        self, message: shopper_pb2.Event, oldest_ms: int, newest_ms: int, violations: list[Violation]
    ) -> Event:
        """Reads an event that is to be recorded. Ignore the result if there are `violations`."""
        refuse_unknown(message, "", violations)
        check_id(message.id, "id", 1, MAX_EVENT_ID_CHARS, violations)
        check_id(message.shopper_id, "shopper_id", 1, MAX_SHOPPER_ID_CHARS, violations)
        check_id(message.session_id, "session_id", 0, MAX_SESSION_ID_CHARS, violations)
        check_id(message.product_id, "product_id", 1, MAX_ID_CHARS, violations)
        check_id(message.request_id, "request_id", 0, MAX_REQUEST_ID_CHARS, violations)
        if not oldest_ms <= message.time_ms <= newest_ms:
            bounds = f"it must be {oldest_ms} to {newest_ms}, milliseconds since 1970"
            violations.append(Violation("time_ms", f"is {message.time_ms}; {bounds}"))
        locale = self._locales.get(message.locale.casefold(), "") if message.locale else self._default_locale
        if not locale:
            served = ", ".join(self._locales.values())
            violations.append(Violation("locale", f"is {message.locale[:40]!r}; served are {served}"))
        kind = _read_kind(message, violations)
        position = message.position if message.HasField("position") else None
        if position is not None and position < 1:
            violations.append(Violation("position", f"is {position}; it must be 1 or more"))
        price = message.price_minor if message.HasField("price_minor") else None
        if price is not None and price < 0:
            violations.append(Violation("price_minor", f"is {price}; it must be 0 or more"))
        return Event(
            id=message.id,
            time_ms=message.time_ms,
            shopper_id=message.shopper_id,
            session_id=message.session_id,
            locale=locale,
            kind=kind,
            product_id=message.product_id,
            query=self._read_query(message, violations),
            position=position,
            price_minor=price,
            request_id=message.request_id,
        )

    def read_recent(
        self, messages: Sequence[shopper_pb2.Event], field: str, violations: list[Violation]
    ) -> tuple[Event, ...]:
        """Reads the events that a request brings along: their kind, time, and product or query. Returns the newest first; ignore
        the result if there are `violations`."""
        newest_ms = self.newest_ms(self._clock())
        events: list[Event] = []
        for index, message in enumerate(messages):
            found: list[Violation] = []
            refuse_unknown(message, "", found)
            check_id(message.id, "id", 0, MAX_EVENT_ID_CHARS, found)
            check_id(message.session_id, "session_id", 0, MAX_SESSION_ID_CHARS, found)
            check_id(message.product_id, "product_id", 0, MAX_ID_CHARS, found)
            check_id(message.request_id, "request_id", 0, MAX_REQUEST_ID_CHARS, found)
            if not 0 < message.time_ms <= newest_ms:
                what = f"is {message.time_ms}; it must be 1 to {newest_ms}, milliseconds since 1970"
                found.append(Violation("time_ms", what))
            kind = _read_kind(message, found)
            query = self._read_query(message, found)
            if not message.product_id and not query and not message.query.strip():
                found.append(Violation("product_id", "must not be empty where there is no query either"))
            violations.extend(Violation(f"{field}[{index}].{v.field}", v.description) for v in found)
            events.append(
                Event(
                    id=message.id or f"#{index}",
                    time_ms=message.time_ms,
                    shopper_id="",
                    session_id=message.session_id,
                    locale="",
                    kind=kind,
                    product_id=message.product_id,
                    query=query,
                )
            )
        return tuple(sorted(events, key=lambda event: -event.time_ms))

    def _read_query(self, message: shopper_pb2.Event, violations: list[Violation]) -> str:
        if not message.query:
            return ""
        return read_query(message.query, "query", self._max_query_chars, violations, may_be_empty=True)


def _read_kind(message: shopper_pb2.Event, violations: list[Violation]) -> EventKind:
    kind = _KINDS.get(message.kind)
    if kind is None:
        known = ", ".join(f"{number} ({kind})" for number, kind in _KINDS.items())
        violations.append(Violation("kind", f"is {message.kind}; it must be one of {known}"))
    return kind or EventKind.IMPRESSION


def write_event(event: Event) -> shopper_pb2.Event:
    return shopper_pb2.Event(
        id=event.id,
        time_ms=event.time_ms,
        shopper_id=event.shopper_id,
        session_id=event.session_id,
        locale=event.locale,
        kind=KIND_NUMBERS[event.kind],
        product_id=event.product_id,
        query=event.query,
        position=event.position,
        price_minor=event.price_minor,
        request_id=event.request_id,
    )
