"""The fuzzer sees what it is there to see: each way in which a call can end wrong is a fault, and each right one is none."""

from __future__ import annotations

import math

import pytest
from google.protobuf.message import Message

from aisle.v1 import info_pb2, query_pb2, search_pb2, shopper_pb2
from tests.fuzz.calls import NO_ANSWER, Outcome
from tests.fuzz.checks import fault
from tests.fuzz.plans import Plan
from tests.fuzz.run import METHODS
from tests.fuzz.wire import ATTACKS

MAX_BYTES = 1000
SOFA = search_pb2.SearchRequest(
    query="sofa", boosts={"new": 2}, recent_events=[shopper_pb2.Event(), shopper_pb2.Event()]
)


def outcome(
    code: str,
    *messages: Message | bytes,
    method: str = "Search",
    plan: dict[str, object] | None = None,
    **fields: object,
) -> Outcome:
    sent = tuple(m if isinstance(m, bytes) else m.SerializeToString() for m in messages or (SOFA,))
    of_name = next((m for m in METHODS if m.name == method), None)
    made = Plan(0, "valid", f"/{method}", of_name, sent, **{"timeout_s": 15.0, **(plan or {})})  # type: ignore[arg-type]
    return Outcome(made, code, **fields)  # type: ignore[arg-type]


def invalid(*paths: str, message: Message | bytes = SOFA, method: str = "Search") -> Outcome:
    return outcome("INVALID_ARGUMENT", message, method=method, reason="INVALID_REQUEST", violations=[*paths])


RIGHT = [
    outcome("OK", answer=search_pb2.SearchResponse(request_id="id")),
    outcome("UNAVAILABLE", reason="UNAVAILABLE"),
    outcome("DEADLINE_EXCEEDED", reason="DEADLINE_EXCEEDED"),
    outcome("DEADLINE_EXCEEDED", plan={"timeout_s": 0.001}),
    outcome("CANCELLED", plan={"cancel_after_s": 0.0}),
    outcome("RESOURCE_EXHAUSTED", b"x" * 1001),
    outcome("UNIMPLEMENTED", method="Serach"),
    outcome("RESET", method="", plan={"attack": ATTACKS[0]}),
    invalid("query"),
    invalid('boosts["a \\" b"]'),
    invalid("recent_events[1].time_ms", "filter.brands", "100", "recent_events[0].100"),
    invalid("request", message=b"\xff"),
    invalid("batches[2].events", method="StreamEvents", message=shopper_pb2.StreamEventsRequest()),
    invalid("batches[0]", method="StreamEvents", message=b"\xff"),
]
WRONG = [
    (outcome(NO_ANSWER, message="within 20 s"), "NO ANSWER"),
    (outcome("INTERNAL", reason="INTERNAL"), "ended as INTERNAL"),
    (outcome("UNKNOWN"), "ended as UNKNOWN"),
    (outcome("CANCELLED"), "ended as CANCELLED"),
    (outcome("UNAVAILABLE", message="connection lost"), "without a reason"),
    (outcome("RESOURCE_EXHAUSTED", message="received trailing metadata size exceeds limit"), "without a reason"),
    (outcome("DEADLINE_EXCEEDED"), "without a reason"),
    (outcome("OK", method="Serach"), "ended as OK"),
    (outcome("NO CONNECTION", method="", plan={"attack": ATTACKS[0]}), "NO CONNECTION"),
    (invalid(), "names no field"),
    (invalid("colour"), "no field of the message"),
    (invalid("query.text"), "no field of the message"),
    (invalid("recent_events[2].time_ms"), "no field of the message"),
    (invalid("request"), "no field of the message"),
    (outcome("OK", answer=search_pb2.SearchResponse()), "no request id"),
    (outcome("OK", answer=search_pb2.SearchResponse(request_id="id", hits=[search_pb2.Hit(score=math.nan)])), "Hit.score is nan"),
    (outcome("OK", SOFA.SerializeToString() + b"\xa0\x06\x01", answer=search_pb2.SearchResponse(request_id="id")), "unknown field"),
    (
        outcome(
            "OK",
            answer=search_pb2.SearchResponse(
                request_id="id",
                degradations=[search_pb2.Degradation(part="types", reason="the types stage failed; the server's log says why")],
            ),
        ),
        "hides a bug",
    ),
]  # fmt: skip


@pytest.mark.parametrize("ended", RIGHT, ids=lambda ended: ended.code)
def test_what_the_contract_allows_is_no_fault(ended: Outcome) -> None:
    assert fault(ended, MAX_BYTES) == ""


@pytest.mark.parametrize(("ended", "says"), WRONG)
def test_what_the_contract_does_not_allow_is_a_fault(ended: Outcome, says: str) -> None:
    assert says in fault(ended, MAX_BYTES)


def test_a_nested_field_that_is_not_known_counts_too() -> None:
    nested = query_pb2.ClassifyRequest(queries=[query_pb2.LocaleQuery(query="sofa")])
    nested.queries[0].MergeFromString(b"\xa0\x06\x01")
    assert "unknown field" in fault(outcome("OK", nested, method="Classify"), MAX_BYTES)
    assert fault(outcome("OK", info_pb2.GetInfoRequest(), method="GetInfo"), MAX_BYTES) == ""
