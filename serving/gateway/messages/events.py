"""The messages of ShopperService. One bad event of a batch is refused alone; the others are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aisle.v1 import shopper_pb2
from models.events.event import Event
from serving.config import AisleConfig
from serving.errors import InvalidRequest, Violation
from serving.gateway.messages.checks import MAX_SHOPPER_ID_CHARS, check_id, refuse_unknown
from serving.gateway.messages.event_fields import EventFields, write_event
from serving.shoppers.store import History, Recorded, Retention, now_ms

MAX_VIOLATIONS = 4  # named of one event
_REJECTION_BYTES = 12  # of one rejection, besides its texts


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event of a batch that was refused."""

    index: int
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of a batch that can be recorded, and those that were refused."""

    events: tuple[Event, ...]
    rejected: tuple[Rejected, ...]


class EventMessages:
    """Translates the messages of ShopperService for one catalogue. `clock` returns milliseconds since 1970."""

    def __init__(self, locales: Sequence[str], config: AisleConfig, clock: Callable[[], int] = now_ms) -> None:
        self._fields = EventFields(locales, config, clock)
        self._max_batch_events = config.shoppers.max_batch_events
        self._retention = Retention(config.shoppers.max_events_per_shopper, config.shoppers.retention_days)
        self._max_answer_bytes = config.server.max_message_bytes // 2  # of rejections, or of a history's events
        self._clock = clock

    def read_batch(
        self, request: shopper_pb2.RecordEventsRequest | shopper_pb2.StreamEventsRequest, path: str = ""
    ) -> Batch:
        """Raises InvalidRequest if the batch as a whole breaks a rule. `path` goes before the names of its fields."""
        violations: list[Violation] = []
        refuse_unknown(request, path, violations)
        count = len(request.events)
        if not 1 <= count <= self._max_batch_events:
            what = f"has {count} events; it must have 1 to {self._max_batch_events}"
            violations.append(Violation(f"{path}events", what))
        if violations:
            raise InvalidRequest(*violations)
        now = self._clock()
        oldest_ms, newest_ms = self._retention.oldest_ms(now), self._fields.newest_ms(now)
        events: list[Event] = []
        rejected: list[Rejected] = []
        for index, message in enumerate(request.events):
            found: list[Violation] = []
            event = self._fields.read_recorded(message, oldest_ms, newest_ms, found)
            if found:
                rejected.append(Rejected(index, tuple(found[:MAX_VIOLATIONS])))
            else:
                events.append(event)
        return Batch(tuple(events), tuple(rejected))

    def read_shopper(self, request: shopper_pb2.GetHistoryRequest | shopper_pb2.ForgetShopperRequest) -> str:
        """Returns the shopper's id. Raises InvalidRequest."""
        violations: list[Violation] = []
        refuse_unknown(request, "", violations)
        check_id(request.shopper_id, "shopper_id", 1, MAX_SHOPPER_ID_CHARS, violations)
        if violations:
            raise InvalidRequest(*violations)
        return request.shopper_id

    def read_max_events(self, request: shopper_pb2.GetHistoryRequest) -> int:
        """Raises InvalidRequest."""
        if not request.HasField("max_events"):
            return self._retention.max_events_per_shopper
        if request.max_events < 1:
            raise InvalidRequest(Violation("max_events", f"is {request.max_events}; it must be 1 or more"))
        return request.max_events

    def write_totals(
        self, batch: Batch, recorded: Recorded, spent_bytes: int = 0
    ) -> tuple[shopper_pb2.BatchTotals, int]:
        """Returns what became of a batch, and the bytes of rejections in the whole answer, which held `spent_bytes` before."""
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
        """Returns the answer without its request id: the newest events, as many as fit."""
        return shopper_pb2.GetHistoryResponse(
            events=_fitting(map(write_event, history.events), self._max_answer_bytes), version=history.version
        )


def _fitting(messages: Iterable[shopper_pb2.Event], max_bytes: int) -> Iterable[shopper_pb2.Event]:
    for message in messages:
        max_bytes -= message.ByteSize() + 4
        if max_bytes < 0:
            return
        yield message
