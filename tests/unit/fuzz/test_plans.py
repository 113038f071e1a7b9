"""The calls of the fuzzer: the same ones for the same seed, of every method, from valid to broken."""

from __future__ import annotations

from collections import Counter

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.plans import Plan, Plans
from tests.fuzz.run import METHODS
from tests.fuzz.values import Catalogue

CATALOGUE = Catalogue(
    queries=["sofa", "rug"],
    product_ids=["p1", "p2"],
    brands=["b"],
    categories=["c > d"],
    locales=["en-US"],
    product_fields=["title"],
    boosts=["new"],
    dimensions=[64],
    page_tokens=["t"],
    day_ms=1_700_000_000_000,
    max_items={"events": 1000, "product_ids": 10_000},
)
COUNT = 3000


def drawn(seed: int, count: int = COUNT) -> list[Plan]:
    plans = Plans(seed, METHODS, CATALOGUE, 15.0)
    return [plans.draw(number) for number in range(count)]


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return drawn(1)


def test_a_call_can_be_repeated_without_those_before_it(plans: list[Plan]) -> None:
    assert Plans(1, METHODS, CATALOGUE, 15.0).draw(COUNT - 1) == plans[-1]
    assert drawn(1, 50) == plans[:50]
    assert drawn(2, 50) != plans[:50]


def test_every_method_and_every_kind_of_call_comes_up(plans: list[Plan]) -> None:
    methods = Counter(plan.method.name for plan in plans if plan.method)
    assert set(methods) == {method.name for method in METHODS}
    assert min(methods.values()) > COUNT / len(METHODS) / 2
    kinds = {plan.kind.partition(":")[0] for plan in plans}
    circumstances = ("", ", no deadline", ", hasty", ", cancelled", ", odd metadata")
    assert kinds == {
        *(kind + which for kind in ("valid", "nearly valid", "broken", "bytes") for which in circumstances),
        "wrong method",
        "wire",
    }


def test_messages_hold_what_a_service_must_bear(plans: list[Plan]) -> None:
    sent = b"".join(message for plan in plans for message in plan.messages)
    for odd in ("😀", "\x00", "\x1b", "日本", "\ufeff"):
        assert odd.encode() in sent
    assert b"\x00\x00\xc0\x7f" in sent  # NaN
    assert max(len(message) for plan in plans for message in plan.messages) > 100_000


def test_only_damaged_bytes_do_not_parse(plans: list[Plan]) -> None:
    unparsed = Counter(plan.kind.partition(",")[0] for plan in plans if plan.method and not parses(plan))
    assert set(unparsed) == {"bytes"}
    assert unparsed["bytes"] > COUNT / 50


def parses(plan: Plan) -> bool:
    assert plan.method
    try:
        for message in plan.messages:
            GetMessageClass(plan.method.input_type).FromString(message)
    except DecodeError:
        return False
    return True
