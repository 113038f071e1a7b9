"""The door for events: each bad event is named with its field and rule, and the good ones of its batch pass."""

from __future__ import annotations

import pytest

from aisle.v1 import shopper_pb2
from models.events.event import Event, EventKind
from serving.config import AisleConfig, ServerConfig, ShoppersConfig
from serving.errors import InvalidRequest
from serving.gateway.messages.event_fields import write_event
from serving.gateway.messages.events import Batch, EventMessages
from serving.shoppers.store import DAY_MS, History, Recorded

NOW = 1_790_000_000_000
BATCH = shopper_pb2.RecordEventsRequest


def messages(**shoppers: object) -> EventMessages:
    config = AisleConfig(server=ServerConfig(max_message_bytes=65536), shoppers=ShoppersConfig(**shoppers))  # type: ignore[arg-type]
    return EventMessages(("en-US", "fr-CA"), config, lambda: NOW)


def message(**changes: object) -> shopper_pb2.Event:
    fields: dict[str, object] = {
        "id": "e1", "time_ms": NOW - 5, "shopper_id": "ann", "kind": shopper_pb2.EVENT_KIND_CLICK, "product_id": "p1",
    }  # fmt: skip
    return shopper_pb2.Event(**{**fields, **changes})  # type: ignore[arg-type]


def test_an_event_is_read_as_training_knows_it() -> None:
    full = message(
        session_id="s1", locale="FR-ca", kind=shopper_pb2.EVENT_KIND_PURCHASE, query=" cafe\u0301\ttable ", position=3,
        price_minor=0, request_id="r 1",
    )  # fmt: skip
    batch = messages().read_batch(BATCH(events=[full, message(id="e2")]))
    assert batch == Batch(
        (
            Event("e1", NOW - 5, "ann", "s1", "fr-CA", EventKind.PURCHASE, "p1", "café table", 3, 0, "r 1"),
            Event("e2", NOW - 5, "ann", "", "en-US", EventKind.CLICK, "p1"),
        ),
        (),
    )


def test_an_event_is_written_as_it_was_read() -> None:
    for event in (
        message(locale="en-US", session_id="s", query="red sofa", position=1, price_minor=0, request_id="r"),
        message(locale="fr-CA"),
        *(message(locale="en-US", kind=kind) for kind in range(1, 5)),
    ):
        (read,) = messages().read_batch(BATCH(events=[event])).events
        assert write_event(read) == event


def test_every_kind_has_a_number() -> None:
    names = {name.removeprefix("EVENT_KIND_").lower() for name in shopper_pb2.EventKind.keys()}  # noqa: SIM118
    assert names == {"unspecified", *EventKind}


BAD: list[tuple[dict[str, object], str, str]] = [
    ({"id": ""}, "id", "1 to 128 printable"),
    ({"id": "x" * 129}, "id", "1 to 128 printable"),
    ({"id": "a\nb"}, "id", "1 to 128 printable"),
    ({"shopper_id": ""}, "shopper_id", "1 to 128 printable"),
    ({"shopper_id": "x" * 129}, "shopper_id", "1 to 128 printable"),
    ({"shopper_id": "a\x00"}, "shopper_id", "1 to 128 printable"),
    ({"session_id": "x" * 129}, "session_id", "0 to 128 printable"),
    ({"product_id": ""}, "product_id", "1 to 256 printable"),
    ({"product_id": "x" * 257}, "product_id", "1 to 256 printable"),
    ({"request_id": "x" * 129}, "request_id", "0 to 128 printable"),
    ({"request_id": "a\nb"}, "request_id", "0 to 128 printable"),
    ({"time_ms": 0}, "time_ms", f"is 0; it must be {NOW - 365 * DAY_MS} to {NOW + 60_000}"),
    ({"time_ms": -1}, "time_ms", "is -1"),
    ({"time_ms": NOW - 365 * DAY_MS - 1}, "time_ms", "milliseconds since 1970"),
    ({"time_ms": NOW + 60_001}, "time_ms", "milliseconds since 1970"),
    ({"time_ms": NOW // 1000}, "time_ms", "milliseconds since 1970"),
    ({"locale": "de-DE"}, "locale", "'de-DE'; served are en-US, fr-CA"),
    ({"kind": 0}, "kind", "is 0; it must be one of 1 (impression), 2 (click)"),
    ({"kind": 99}, "kind", "is 99"),
    ({"position": 0}, "position", "is 0; it must be 1 or more"),
    ({"price_minor": -1}, "price_minor", "is -1; it must be 0 or more"),
    ({"query": "x" * 513}, "query", "513 characters; at most 512"),
    ({"query": "so\x00fa"}, "query", "U+0000"),
]


@pytest.mark.parametrize(("changes", "field", "says"), BAD)
def test_a_bad_event_is_refused_alone_with_its_field_and_rule(
    changes: dict[str, object], field: str, says: str
) -> None:
    batch = messages().read_batch(BATCH(events=[message(id="a"), message(**changes), message(id="c")]))
    assert [event.id for event in batch.events] == ["a", "c"]
    (rejected,) = batch.rejected
    (violation,) = rejected.violations
    assert (rejected.index, violation.field) == (1, field)
    assert says in violation.description


@pytest.mark.parametrize("time_ms", [NOW - 365 * DAY_MS, NOW + 60_000])
def test_the_ends_of_the_allowed_time_are_allowed(time_ms: int) -> None:
    assert messages().read_batch(BATCH(events=[message(time_ms=time_ms)])).events


def test_an_event_tells_all_that_is_wrong_with_it_but_not_without_end() -> None:
    (rejected,) = messages().read_batch(BATCH(events=[shopper_pb2.Event()])).rejected
    assert [v.field for v in rejected.violations] == ["id", "shopper_id", "product_id", "time_ms"]
    (rejected,) = messages().read_batch(BATCH(events=[message(position=0, price_minor=-1)])).rejected
    assert [v.field for v in rejected.violations] == ["position", "price_minor"]


def test_a_field_that_this_server_does_not_know_refuses_the_event() -> None:
    newer = shopper_pb2.Event.FromString(message().SerializeToString() + b"\xa0\x06\x01")  # field 100, varint 1
    batch = messages().read_batch(BATCH(events=[newer, message(id="good")]))
    assert batch.rejected[0].violations[0].field == "100"
    assert len(batch.events) == 1


@pytest.mark.parametrize("count", [0, 11])
def test_a_batch_of_the_wrong_size_is_refused_as_a_whole(count: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages(max_batch_events=10).read_batch(BATCH(events=[message()] * count), "batches[3].")
    (violation,) = caught.value.violations
    assert violation.field == "batches[3].events"
    assert violation.description == f"has {count} events; it must have 1 to 10"


def test_the_totals_count_every_refusal_and_name_as_many_as_fit() -> None:
    door = messages()
    batch = door.read_batch(BATCH(events=[shopper_pb2.Event()] * 1000))
    totals, bytes_ = door.write_totals(batch, Recorded(0, 0))
    assert totals.refused == 1000
    assert 0 < totals.ByteSize() <= bytes_ <= 65536 // 2
    assert {rejection.index for rejection in totals.rejected} == set(range(len(totals.rejected) // 4))
    more, after = door.write_totals(batch, Recorded(0, 0), bytes_)
    assert more.refused == 1000
    assert after <= 65536 // 2
    few = door.read_batch(BATCH(events=[message(position=0), message(id="b")]))
    totals, _ = door.write_totals(few, Recorded(0, 1))
    assert (totals.recorded, totals.duplicates, totals.refused) == (0, 1, 1)
    assert totals.rejected[0] == shopper_pb2.Rejection(index=0, field="position", reason="is 0; it must be 1 or more")


def test_a_history_that_would_be_too_large_is_cut_at_its_old_end() -> None:
    events = tuple(Event(f"e{n}", NOW - n, "ann", "", "en-US", EventKind.CLICK, "p", "q" * 400) for n in range(200))
    answer = messages().write_history(History(events, 7))
    assert answer.version == 7
    assert answer.ByteSize() < 65536
    assert 50 < len(answer.events) < 200
    assert [event.id for event in answer.events] == [event.id for event in events[: len(answer.events)]]


@pytest.mark.parametrize("shopper_id", ["", "x" * 129, "a\tb"])
def test_a_call_about_a_shopper_names_one(shopper_id: str) -> None:
    for request in (
        shopper_pb2.GetHistoryRequest(shopper_id=shopper_id),
        shopper_pb2.ForgetShopperRequest(shopper_id=shopper_id),
    ):
        with pytest.raises(InvalidRequest) as caught:
            messages().read_shopper(request)
        assert [violation.field for violation in caught.value.violations] == ["shopper_id"]


def test_how_many_events_is_one_or_more_or_all() -> None:
    door = messages(max_events_per_shopper=30)
    assert door.read_max_events(shopper_pb2.GetHistoryRequest()) == 30
    assert door.read_max_events(shopper_pb2.GetHistoryRequest(max_events=7)) == 7
    for wrong in (0, -1):
        with pytest.raises(InvalidRequest, match=f"is {wrong}; it must be 1 or more"):
            door.read_max_events(shopper_pb2.GetHistoryRequest(max_events=wrong))
