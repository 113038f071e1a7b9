"""A page token belongs to its request and bundle: whatever a next page must repeat changes the digest, new fields by themselves."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aisle.v1 import product_pb2, search_pb2, shopper_pb2
from models.bundles.bundle import Bundle
from serving.compute.filter_masks import FilterMasks
from serving.config import AisleConfig, RankerConfig, TypesConfig
from serving.errors import InvalidRequest, StaleVersion
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.page_token import EXEMPT_FIELDS, PageTokens, request_digest
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages

SEARCH = search_pb2.SearchRequest
FILTER = product_pb2.ProductFilter
FIELDS = {field.name: field for field in SEARCH.DESCRIPTOR.fields}
# A valid value of each field that is not its default.
VALUES: dict[str, object] = {
    "min_sequence": 1,
    "query": "red sofa",
    "shopper_id": "ann",
    "locale": "de-DE",
    "page_size": 7,
    "page_token": "",
    "filter": product_pb2.ProductFilter(brands=["Nord"]),
    "product_fields": ["title"],
    "explain": True,
    "verbatim": True,
    "recent_events": [shopper_pb2.Event(time_ms=1, kind=shopper_pb2.EVENT_KIND_CLICK, product_id="A-1001")],
    "personalisation": 0.5,
    "min_similarity": 0.0,
    "relevant_only": True,
    "boosts": {"new": 0.5},
    "product_types": search_pb2.PRODUCT_TYPE_USE_OFF,
    "product_type_boost": 0.7,
    "rank_depth": 30,
    "rank_model": search_pb2.RANK_MODEL_TEACHER,
    "rank_weights": search_pb2.RankWeights(click=1),
    "diversity": search_pb2.Diversity(max_each_brand=1, among=2),
    "facets": [search_pb2.FacetRequest(name="colour")],
    "sort": search_pb2.Sort(by="price"),
    "group_by": "colour",
    "lexical_weight": 0.5,
    "click_weight": 0.5,
    "asked_weight": 2.0,
}
# A valid value of each field of the messages inside.
INNER_VALUES: dict[str, dict[str, object]] = {
    "filter": {
        "brands": ["Nord"],
        "categories": ["Lamps"],
        "min_price_minor": 0,
        "max_price_minor": 0,
        "in_stock_only": True,
        "attributes": [product_pb2.AttributeFilter(name="colour", values=["red"])],
    },
    "rank_weights": {"click": 2.0, "cart": 2.0, "purchase": 2.0},
    "diversity": {"max_each_brand": 2, "among": 3},
    "sort": {"by": "new", "descending": True},
}
# A valid message of each, without the field of INNER_VALUES.
INNER_BASES: dict[str, dict[str, object]] = {"filter": {}, "sort": {"by": "price"}}


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


def messages_for(bundle: Bundle, **changes: Any) -> SearchMessages:
    """Messages of a bundle that holds every part, with `changes` to its manifest."""
    config = AisleConfig()
    products = bundle.products()
    return SearchMessages(
        dataclasses.replace(bundle.manifest, boosts=("popularity", "new"), **changes),
        products,
        FilterMasks(products, bundle.attributes()),
        config.limits,
        fields=RequestFields(bundle.manifest.locales, config),
        ranking=RankingFields(config.limits, RankerConfig(), has_ranker=True, has_teacher=True),
        relevance_threshold=0.25,
        types=TypesConfig(boost=0.25),
    )


@pytest.fixture(scope="module")
def messages(bundle: Bundle) -> SearchMessages:
    return messages_for(bundle)


def wrong(read: Callable[[Any], object], request: object) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        read(request)
    return {violation.field: violation.description for violation in caught.value.violations}


def digest(messages: SearchMessages, **fields: object) -> bytes:
    return messages.read(SEARCH(**({"query": "sofa"} | fields))).digest  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_changes_the_digest_or_is_exempt(messages: SearchMessages, name: str) -> None:
    assert name in VALUES, f"give a valid value of the new field {name!r} here"
    is_same = digest(messages, **{name: VALUES[name]}) == digest(messages)
    assert is_same is (name in EXEMPT_FIELDS)


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if field.message_type and not field.is_repeated]
)
def test_each_field_of_a_message_inside_changes_the_digest(messages: SearchMessages, name: str) -> None:
    values = INNER_VALUES[name]
    assert set(values) == {field.name for field in FIELDS[name].message_type.fields}
    base = INNER_BASES.get(name, dict.fromkeys(values, 1))
    digests = {digest(messages, **{name: base | {field: value}}) for field, value in values.items()}
    assert len(digests | {digest(messages, **{name: base})}) == len(values) + 1


def test_a_field_that_nobody_resolves_counts_as_it_is_sent() -> None:
    """A field that is new in the contract is not among the resolved ones: it changes the digest all the same."""
    plain = request_digest(SEARCH(query="sofa"), {"query": "sofa"})
    for name in FIELDS.keys() - EXEMPT_FIELDS - {"query"}:
        request = SEARCH(query="sofa", **{name: VALUES[name]})  # type: ignore[arg-type]
        assert request_digest(request, {"query": "sofa"}) != plain, name
        assert request_digest(request, {"query": "sofa"}) == request_digest(request, {"query": "sofa"})


def test_an_exempt_field_changes_nothing_next_to_any_other() -> None:
    for name in FIELDS.keys() - EXEMPT_FIELDS:
        plain, other = SEARCH(**{name: VALUES[name]}), SEARCH(**{name: VALUES[name]})  # type: ignore[arg-type]
        other.MergeFrom(SEARCH(page_size=9, page_token="x", product_fields=["title"], explain=True))
        assert request_digest(plain, {}) == request_digest(other, {})


@pytest.mark.parametrize(
    "same",
    [
        {"query": "  sofa\n"},
        {"locale": "en-US"},
        {"locale": "EN-us"},
        {"filter": product_pb2.ProductFilter()},
        {"personalisation": 1.0},
        {"boosts": {"new": 0.0}},
        {"product_types": search_pb2.PRODUCT_TYPE_USE_BOOST},
        {"product_type_boost": 0.25},
        {"rank_model": search_pb2.RANK_MODEL_STUDENT},
        {"rank_depth": 200, "rank_weights": {"click": 1, "cart": 4, "purchase": 16}},
    ],
    ids=str,
)
def test_a_default_that_is_stated_is_the_same_request(messages: SearchMessages, same: dict[str, object]) -> None:
    assert digest(messages, **same) == digest(messages)


def test_the_order_of_a_map_is_no_difference(messages: SearchMessages) -> None:
    one = digest(messages, boosts={"new": 0.5, "popularity": 0.25})
    assert one == digest(messages, boosts={"popularity": 0.25, "new": 0.5})


class TestToken:
    """Tokens of a first page of two hits."""

    REQUEST = SEARCH(query="sofa", locale="en-US", shopper_id="s", filter=FILTER(brands=["Nord"]))

    def token(self, messages: SearchMessages, request: SEARCH | None = None) -> str:
        call = messages.read(request or self.REQUEST)
        return PageTokens(messages._manifest.version).write(2, 1_000, call.digest)

    def with_token(self, token: str, **changes: object) -> SEARCH:
        request = SEARCH()
        request.CopyFrom(self.REQUEST)
        request.MergeFrom(SEARCH(page_token=token, **changes))  # type: ignore[arg-type]
        return request

    def test_it_goes_on_where_the_page_ended(self, messages: SearchMessages) -> None:
        assert messages.read(self.with_token(self.token(messages))).search.offset == 2

    def test_page_size_and_fields_may_change_between_pages(self, messages: SearchMessages) -> None:
        request = self.with_token(self.token(messages), page_size=7, product_fields=["title"], explain=True)
        assert messages.read(request).search.offset == 2

    @pytest.mark.parametrize(
        "changes", [{"query": "lamp"}, {"locale": "de-DE"}, {"shopper_id": "t"}, {"filter": FILTER(in_stock_only=True)}]
    )
    def test_a_token_of_another_request_is_refused(self, messages: SearchMessages, changes: dict[str, object]) -> None:
        assert "does not belong" in wrong(messages.read, self.with_token(self.token(messages), **changes))["page_token"]

    def test_a_token_that_was_tampered_with_is_refused_at_every_bit(self, messages: SearchMessages) -> None:
        raw = base64.urlsafe_b64decode(self.token(messages))
        for bit in range(8 * len(raw)):
            forged = bytearray(raw)
            forged[bit // 8] ^= 1 << bit % 8
            with pytest.raises((InvalidRequest, StaleVersion)):
                messages.read(self.with_token(base64.urlsafe_b64encode(bytes(forged)).decode()))

    @pytest.mark.parametrize("token", ["x", "====", "é", "a" * 10_000, "AAAA" * 7])
    def test_what_is_no_token_is_refused(self, messages: SearchMessages, token: str) -> None:
        assert "not a token" in wrong(messages.read, self.with_token(token))["page_token"]

    def test_a_token_of_another_bundle_is_stale_and_names_both(self, messages: SearchMessages, bundle: Bundle) -> None:
        other = messages_for(bundle, version="0123456789ab")
        with pytest.raises(
            StaleVersion, match=f"bundle version 0123456789ab, served is {bundle.manifest.version}"
        ) as caught:
            messages.read(self.with_token(self.token(other)))
        assert caught.value.reason == "STALE_PAGE_TOKEN"
