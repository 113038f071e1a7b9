"""The door for events: protos in, `models.events.event.Event` out, and back. A bad event is told apart from the good ones beside it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aisle.v1 import shopper_pb2
from models.events.event import Event, EventKind
from models.products.product import MAX_ID_CHARS
from serving.config import AisleConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.search import KIND_NUMBERS, MAX_SHOPPER_ID_CHARS, refuse_unknown
from serving.shoppers.store import History, Recorded, Retention, now_ms

MAX_EVENT_ID_CHARS = 128
MAX_SESSION_ID_CHARS = 128
MAX_VIOLATIONS = 4  # told of one event
_REJECTION_BYTES = 12  # of one, beside its texts

_KINDS = {number: kind for kind, number in KIND_NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event of a batch that was refused."""

    index: int
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What of a batch can be recorded, and what cannot."""

    events: tuple[Event, ...]
    rejected: tuple[Rejected, ...]


class EventMessages:
    """Translates for one served catalogue. `clock` gives milliseconds since 1970."""

    def __init__(self, locales: Sequence[str], config: AisleConfig, clock: Callable[[], int] = now_ms) -> None:
        self._default_locale = locales[0]
        self._locales = {locale.casefold(): locale for locale in locales}
        self._max_query_chars = config.limits.max_query_chars
        self._max_batch_events = config.shoppers.max_batch_events
        self._skew_ms = int(config.shoppers.max_clock_skew_s * 1000)
        self._retention = Retention(config.shoppers.max_events_per_shopper, config.shoppers.retention_days)
        self._max_answer_bytes = config.server.max_message_bytes // 2  # of rejections, or of a history's events
        self._clock = clock

    def read_batch(
        self, request: shopper_pb2.RecordEventsRequest | shopper_pb2.StreamEventsRequest, where: str = ""
    ) -> Batch:
        """Raises InvalidRequest for what is wrong with the batch as a whole. `where` goes before the fields' names."""
        wrong: list[Violation] = []
        refuse_unknown(request, where, wrong)
        count = len(request.events)
        if not 1 <= count <= self._max_batch_events:
            what = f"has {count} events; it must have 1 to {self._max_batch_events}"
            wrong.append(Violation(f"{where}events", what))
        if wrong:
            raise InvalidRequest(*wrong)
        now = self._clock()
        oldest, newest = self._retention.oldest_ms(now), now + self._skew_ms
        events: list[Event] = []
        rejected: list[Rejected] = []
        for index, message in enumerate(request.events):
            violations: list[Violation] = []
            event = self._read(message, oldest, newest, violations)
            if violations:
                rejected.append(Rejected(index, tuple(violations[:MAX_VIOLATIONS])))
            else:
                events.append(event)
        return Batch(tuple(events), tuple(rejected))

    def read_shopper(self, request: shopper_pb2.GetHistoryRequest | shopper_pb2.ForgetShopperRequest) -> str:
        """The shopper's id. Raises InvalidRequest."""
        wrong: list[Violation] = []
        refuse_unknown(request, "", wrong)
        _check_id(request.shopper_id, "shopper_id", 1, MAX_SHOPPER_ID_CHARS, wrong)
        if wrong:
            raise InvalidRequest(*wrong)
        return request.shopper_id

    def read_max_events(self, request: shopper_pb2.GetHistoryRequest) -> int:
        """Raises InvalidRequest."""
        if not request.HasField("max_events"):
            return self._retention.max_events_per_shopper
        if request.max_events < 1:
            raise InvalidRequest(Violation("max_events", f"is {request.max_events}; it must be 1 or more"))
        return request.max_events

    def read_recent(
        self, messages: Sequence[shopper_pb2.Event], where: str, wrong: list[Violation]
    ) -> tuple[Event, ...]:
        """The events of a search, newest first: of each its kind and time, and its product or query. Means nothing where
        something is wrong."""
        newest_ms = self._clock() + self._skew_ms
        events: list[Event] = []
        for index, message in enumerate(messages):
            violations: list[Violation] = []
            refuse_unknown(message, "", violations)
            _check_id(message.id, "id", 0, MAX_EVENT_ID_CHARS, violations)
            _check_id(message.session_id, "session_id", 0, MAX_SESSION_ID_CHARS, violations)
            _check_id(message.product_id, "product_id", 0, MAX_ID_CHARS, violations)
            if not 0 < message.time_ms <= newest_ms:
                what = f"is {message.time_ms}; it must be 1 to {newest_ms}, milliseconds since 1970"
                violations.append(Violation("time_ms", what))
            kind = self._kind(message, violations)
            query = self._query(message.query, violations) if message.query else ""
            if not query and not message.product_id:
                violations.append(Violation("product_id", "must not be empty where there is no query either"))
            wrong.extend(Violation(f"{where}[{index}].{v.field}", v.description) for v in violations)
            events.append(
                Event(
                    message.id or f"#{index}",
                    message.time_ms,
                    "",
                    message.session_id,
                    "",
                    kind,
                    message.product_id,
                    query,
                )
            )
        return tuple(sorted(events, key=lambda event: -event.time_ms))

    def write_totals(
        self, batch: Batch, recorded: Recorded, spent_bytes: int = 0
    ) -> tuple[shopper_pb2.BatchTotals, int]:
        """What became of a batch, and the bytes of rejections that the answer holds with it, of which it held `spent_bytes`."""
        totals = shopper_pb2.BatchTotals(
            recorded=recorded.recorded, duplicates=recorded.duplicates, refused=len(batch.rejected)
        )
        for rejected in batch.rejected:
            size = sum(_REJECTION_BYTES + len(v.field) + len(v.description.encode()) for v in rejected.violations)
            if spent_bytes + size > self._max_answer_bytes:
                break
            spent_bytes += size
            for violation in rejected.violations:
                totals.rejected.add(index=rejected.index, field=violation.field, reason=violation.description)
        return totals, spent_bytes

    def write_history(self, history: History) -> shopper_pb2.GetHistoryResponse:
        """The answer, but for the request id: the newest events, as many as fit."""
        return shopper_pb2.GetHistoryResponse(
            events=_fitting(map(write_event, history.events), self._max_answer_bytes), version=history.version
        )

    def _read(self, message: shopper_pb2.Event, oldest_ms: int, newest_ms: int, wrong: list[Violation]) -> Event:
        """Means nothing where something is wrong."""
        refuse_unknown(message, "", wrong)
        _check_id(message.id, "id", 1, MAX_EVENT_ID_CHARS, wrong)
        _check_id(message.shopper_id, "shopper_id", 1, MAX_SHOPPER_ID_CHARS, wrong)
        _check_id(message.session_id, "session_id", 0, MAX_SESSION_ID_CHARS, wrong)
        _check_id(message.product_id, "product_id", 1, MAX_ID_CHARS, wrong)
        if not oldest_ms <= message.time_ms <= newest_ms:
            bounds = f"it must be {oldest_ms} to {newest_ms}, milliseconds since 1970"
            wrong.append(Violation("time_ms", f"is {message.time_ms}; {bounds}"))
        locale = self._locales.get(message.locale.casefold(), "") if message.locale else self._default_locale
        if not locale:
            served = ", ".join(self._locales.values())
            wrong.append(Violation("locale", f"is {message.locale[:40]!r}; served are {served}"))
        kind = self._kind(message, wrong)
        position = message.position if message.HasField("position") else None
        if position is not None and position < 1:
            wrong.append(Violation("position", f"is {position}; it must be 1 or more"))
        price = message.price_minor if message.HasField("price_minor") else None
        if price is not None and price < 0:
            wrong.append(Violation("price_minor", f"is {price}; it must be 0 or more"))
        return Event(
            id=message.id,
            time_ms=message.time_ms,
            shopper_id=message.shopper_id,
            session_id=message.session_id,
            locale=locale,
            kind=kind,
            product_id=message.product_id,
            query=self._query(message.query, wrong) if message.query else "",
            position=position,
            price_minor=price,
        )

    def _kind(self, message: shopper_pb2.Event, wrong: list[Violation]) -> EventKind:
        kind = _KINDS.get(message.kind)
        if kind is None:
            known = ", ".join(f"{number} ({kind})" for number, kind in _KINDS.items())
            wrong.append(Violation("kind", f"is {message.kind}; it must be one of {known}"))
        return kind or EventKind.IMPRESSION

    def _query(self, text: str, wrong: list[Violation]) -> str:
        """Written as a search writes it, so that both are the same words."""
        text = text.strip()
        if len(text) > self._max_query_chars:
            wrong.append(Violation("query", f"has {len(text)} characters; at most {self._max_query_chars}"))
            return ""
        if text.isascii() and text.isprintable():
            return text
        text = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
        bad = next((c for c in text if unicodedata.category(c) == "Cc"), "")
        if bad:
            wrong.append(Violation("query", f"holds the control character U+{ord(bad):04X}"))
        return unicodedata.normalize("NFC", text)


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
    )


def _fitting(messages: Iterable[shopper_pb2.Event], max_bytes: int) -> Iterable[shopper_pb2.Event]:
    for message in messages:
        max_bytes -= message.ByteSize() + 4
        if max_bytes < 0:
            return
        yield message


def _check_id(text: str, field: str, min_chars: int, max_chars: int, wrong: list[Violation]) -> None:
    if not min_chars <= len(text) <= max_chars or not text.isprintable():
        wrong.append(Violation(field, f"must have {min_chars} to {max_chars} printable characters"))
