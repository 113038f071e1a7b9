"""The fields that requests share: the same query, locale and events are read from every request."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisle.v1 import ranking_pb2, search_pb2, shopper_pb2
from models.events.event import Event, EventKind
from serving.config import AisleConfig, LimitsConfig
from serving.errors import Violation
from serving.gateway.messages.event_fields import EventFields
from serving.gateway.messages.fields import RequestFields

NOW = 1_790_000_000_000
CONFIG = AisleConfig(limits=LimitsConfig(max_query_chars=20, max_recent_events=3))
FIELDS = RequestFields(("en-US", "de-DE"), CONFIG, lambda: NOW)
EVENTS = EventFields(("en-US", "de-DE"), CONFIG, lambda: NOW)
CLICK = shopper_pb2.EVENT_KIND_CLICK


def event(**fields: object) -> shopper_pb2.Event:
    return shopper_pb2.Event(**({"time_ms": NOW, "kind": CLICK, "product_id": "p"} | fields))  # type: ignore[arg-type]


def refusals(*messages: shopper_pb2.Event) -> dict[str, str]:
    violations: list[Violation] = []
    FIELDS.read_recent_events(messages, violations)
    return {violation.field: violation.description for violation in violations}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=25))
def test_a_query_is_the_same_text_in_a_search_and_in_an_event(text: str) -> None:
    of_search: list[Violation] = []
    of_event: list[Violation] = []
    searched = FIELDS.read_query(text, "query", of_search)
    (recent,) = EVENTS.read_recent([event(query=text)], "recent_events", of_event)
    assert recent.query == searched
    if searched:
        assert of_search == of_event == []
    else:  # an event needs no query
        assert bool(of_event) == (of_search[0].description != "must not be empty")


@pytest.mark.parametrize(("sent", "read"), [("", "en-US"), ("en-US", "en-US"), ("EN-us", "en-US"), ("de-de", "de-DE")])
def test_a_locale_is_read_as_the_catalogue_writes_it(sent: str, read: str) -> None:
    violations: list[Violation] = []
    assert FIELDS.read_locale(sent, violations) == read
    assert not violations


def test_another_locale_is_refused_with_those_that_are_served() -> None:
    violations: list[Violation] = []
    FIELDS.read_locale("fr-FR", violations)
    assert violations == [Violation("locale", "is 'fr-FR'; served are en-US, de-DE")]


def test_search_and_rank_read_the_same_caller() -> None:
    sent = {
        "query": " sofa ",
        "locale": "DE-de",
        "shopper_id": "ann",
        "personalisation": 0.5,
        "recent_events": [event()],
    }
    violations: list[Violation] = []
    callers = [
        FIELDS.read_caller(request, violations)
        for request in (search_pb2.SearchRequest(**sent), ranking_pb2.RankRequest(**sent))  # type: ignore[arg-type]
    ]
    assert not violations
    assert callers[0] == callers[1]
    assert dataclasses.asdict(callers[0]) | {"recent_events": ()} == {
        "query": "sofa",
        "locale": "de-DE",
        "shopper_id": "ann",
        "personalisation": 0.5,
        "recent_events": (),
    }
    assert [read.product_id for read in callers[0].recent_events] == ["p"]


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_personalisation_out_of_range_is_refused(strength: float) -> None:
    violations: list[Violation] = []
    FIELDS.read_caller(search_pb2.SearchRequest(query="x", personalisation=strength), violations)
    assert violations == [Violation("personalisation", f"is {strength:g}; it must be 0 to 1")]


class TestRecentEvents:
    def test_they_are_read_newest_first_without_a_shopper(self) -> None:
        violations: list[Violation] = []
        read = FIELDS.read_recent_events(
            [event(time_ms=NOW - 9), event(id="e", time_ms=NOW, product_id="", query=" red\tsofa")], violations
        )
        assert not violations
        assert read == (
            Event("e", NOW, "", "", "", EventKind.CLICK, "", "red sofa"),
            Event("#0", NOW - 9, "", "", "", EventKind.CLICK, "p", ""),
        )

    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({"time_ms": 0}, "time_ms", "is 0; it must be 1 to"),
            ({"time_ms": NOW + 60_001}, "time_ms", "milliseconds since 1970"),
            ({"kind": 99}, "kind", "is 99; it must be one of"),
            ({"id": "x" * 129}, "id", "0 to 128 printable"),
            ({"product_id": "x" * 257}, "product_id", "0 to 256 printable"),
            ({"product_id": ""}, "product_id", "must not be empty where there is no query either"),
            ({"product_id": "", "query": " \n"}, "product_id", "must not be empty where there is no query either"),
            ({"product_id": "", "query": "x" * 21}, "query", "has 21 characters; at most 20"),
            ({"product_id": "", "query": "so\x00fa"}, "query", "U+0000"),
        ],
    )
    def test_a_bad_one_is_named_with_its_place_and_one_reason(
        self, fields: dict[str, object], field: str, says: str
    ) -> None:
        refused = refusals(event(), event(**fields))
        assert list(refused) == [f"recent_events[1].{field}"]
        assert says in refused[f"recent_events[1].{field}"]

    def test_too_many_are_refused_as_a_whole(self) -> None:
        assert refusals(*[event()] * 4) == {"recent_events": "has 4 events; at most 3"}
