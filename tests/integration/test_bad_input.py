"""Bad calls, each refused by itself with the code, the field and the rule; and the service goes on."""

from __future__ import annotations

import base64

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import (
    embedding_pb2,
    embedding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    product_pb2,
    search_pb2,
    search_pb2_grpc,
)

Stub = search_pb2_grpc.SearchServiceStub
REQUEST = search_pb2.SearchRequest
FILTER = product_pb2.ProductFilter


def refusal(
    call: grpc.UnaryUnaryMultiCallable, request: object, code: grpc.StatusCode, **options: object
) -> dict[str, str]:
    """The violations (field -> description) of a call that must fail with `code`."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **{"timeout": 60, **options})
    error = caught.value
    assert error.code() is code, error.details()
    assert "/" not in (error.details() or "").replace("and/or", ""), "no path in a message to a caller"
    status = rpc_status.from_call(error)
    found: dict[str, str] = {}
    if status is None:
        return found
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found = {violation.field: violation.description for violation in bad.field_violations}
        about = error_details_pb2.ErrorInfo()
        if detail.Unpack(about):
            assert about.domain == "aisle"
            assert about.metadata["request_id"]
    return found


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        (REQUEST(query=""), "query", "must not be empty"),
        (REQUEST(query=" \t\n "), "query", "must not be empty"),
        (REQUEST(query="x" * 513), "query", "513 characters; at most 512"),
        (REQUEST(query="so\x00fa"), "query", "U+0000"),
        (REQUEST(query="so\x1b[31mfa"), "query", "U+001B"),
        (REQUEST(query="sofa", page_size=0), "page_size", "is 0; it must be 1 to 100"),
        (REQUEST(query="sofa", page_size=-5), "page_size", "is -5"),
        (REQUEST(query="sofa", page_size=101), "page_size", "is 101"),
        (REQUEST(query="sofa", locale="xx-XX"), "locale", "served are en-US, en-GB"),
        (REQUEST(query="sofa", shopper_id="s" * 129), "shopper_id", "at most 128"),
        (
            REQUEST(query="sofa", product_fields=["title", "colour"]),
            "product_fields[1]",
            "'colour' is unknown; known are title",
        ),
        (REQUEST(query="sofa", filter=FILTER(min_price_minor=-1)), "filter.min_price_minor", "0 or more"),
        (REQUEST(query="sofa", filter=FILTER(min_price_minor=9, max_price_minor=5)), "filter.min_price_minor", "above"),
        (REQUEST(query="sofa", filter=FILTER(brands=["b"] * 65)), "filter.brands", "65 values; at most 64"),
        (REQUEST(query="sofa", filter=FILTER(categories=[""])), "filter.categories[0]", "1 to 256"),
        (REQUEST(query="sofa", page_token="garbage"), "page_token", "not a token"),
    ],
)
def test_a_bad_field_is_named_with_its_rule(search: Stub, request_: REQUEST, field: str, says: str) -> None:
    assert says in refusal(search.Search, request_, grpc.StatusCode.INVALID_ARGUMENT)[field]


def test_all_violations_of_a_request_come_together(search: Stub) -> None:
    found = refusal(search.Search, REQUEST(query="", page_size=0, locale="zz"), grpc.StatusCode.INVALID_ARGUMENT)
    assert set(found) == {"query", "page_size", "locale"}


@pytest.mark.parametrize("message", [b"\x0a\x04\xff\xfe\xfd\xfc", b"\x0a\xff"], ids=["not UTF-8", "truncated"])
def test_a_message_that_does_not_parse_is_the_callers_mistake(channel: grpc.Channel, message: bytes) -> None:
    call = channel.unary_unary("/aisle.v1.SearchService/Search")
    assert "UTF-8" in refusal(call, message, grpc.StatusCode.INVALID_ARGUMENT)["request"]


@pytest.mark.parametrize(
    ("method", "known"),
    [
        ("SearchService/Search", REQUEST(query="sofa")),
        ("InfoService/GetInfo", info_pb2.GetInfoRequest()),
        ("InfoService/GetStats", info_pb2.GetStatsRequest()),
    ],
)
def test_a_field_that_this_server_does_not_know_is_refused(channel: grpc.Channel, method: str, known: Message) -> None:
    call = channel.unary_unary(f"/aisle.v1.{method}")
    newer = known.SerializeToString() + b"\xa0\x06\x01"  # field 100, varint 1
    assert "100" in refusal(call, newer, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_forged_page_token_is_refused(search: Stub) -> None:
    token = search.Search(REQUEST(query="sofa"), timeout=60).next_page_token
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[6] ^= 1  # another offset
    forged = base64.urlsafe_b64encode(bytes(raw)).decode()
    found = refusal(search.Search, REQUEST(query="sofa", page_token=forged), grpc.StatusCode.INVALID_ARGUMENT)
    assert "does not belong" in found["page_token"]


def test_a_page_token_of_another_query_is_refused(search: Stub) -> None:
    token = search.Search(REQUEST(query="sofa"), timeout=60).next_page_token
    refusal(search.Search, REQUEST(query="lamp", page_token=token), grpc.StatusCode.INVALID_ARGUMENT)


def test_a_page_token_of_another_index_is_stale(search: Stub) -> None:
    token = search.Search(REQUEST(query="sofa"), timeout=60).next_page_token
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[0] ^= 1
    stale = base64.urlsafe_b64encode(bytes(raw)).decode()
    refusal(search.Search, REQUEST(query="sofa", page_token=stale), grpc.StatusCode.FAILED_PRECONDITION)


def test_a_message_over_the_limit_is_refused(search: Stub) -> None:
    refusal(search.Search, REQUEST(query="x" * 100_000), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/aisle.v1.SearchService/Sreach")
    refusal(call, b"", grpc.StatusCode.UNIMPLEMENTED)


def test_a_call_without_a_deadline_is_answered(search: Stub) -> None:
    assert search.Search(REQUEST(query="sofa")).hits


def test_an_expired_deadline_is_not_computed(search: Stub) -> None:
    refusal(search.Search, REQUEST(query="sofa"), grpc.StatusCode.DEADLINE_EXCEEDED, timeout=0.000001)


def test_a_deadline_that_passes_mid_way_ends_the_call_and_its_work(
    search: Stub, info: info_pb2_grpc.InfoServiceStub
) -> None:
    def encoded() -> int:
        return info.GetStats(info_pb2.GetStatsRequest(), timeout=60).stages[0].items

    before = encoded()
    long_query = "a long and winding query about shoes for the garden " * 9
    # The first have no time at all. How many of the others do depends on the machine.
    calls = [search.Search.future(REQUEST(query=f"{long_query}{n}"), timeout=n / 1000) for n in range(200)]
    codes = [call.exception().code() if call.exception() else grpc.StatusCode.OK for call in calls]
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    assert encoded() - before < 200  # what was too late was never computed
    assert search.Search(REQUEST(query="sofa"), timeout=60).hits


def test_a_client_that_cancels_leaves_the_service_well(search: Stub) -> None:
    calls = []
    for n in range(50):
        calls.append(search.Search.future(REQUEST(query=f"sofa {n}"), timeout=60))
        if n % 2 == 0:
            calls[-1].cancel()
    assert all(call.result().hits for call in calls[1::2])
    assert any(call.cancelled() for call in calls[::2])  # another may have been answered before
    assert search.Search(REQUEST(query="sofa"), timeout=60).hits


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (embedding_pb2.EmbedQueriesRequest(), "queries"),
        (embedding_pb2.EmbedQueriesRequest(queries=["a"] * 257), "queries"),
        (embedding_pb2.EmbedQueriesRequest(queries=["a", ""]), "queries[1]"),
        (embedding_pb2.EmbedQueriesRequest(queries=["a"], dimensions=100), "dimensions"),
        (embedding_pb2.EmbedQueriesRequest(queries=["a"], encoding=9), "encoding"),
        (embedding_pb2.EmbedQueriesRequest(queries=["a"], locale="xx"), "locale"),
    ],
)
def test_a_bad_embedding_request_names_the_field(
    embedding: embedding_pb2_grpc.EmbeddingServiceStub, request_: embedding_pb2.EmbedQueriesRequest, field: str
) -> None:
    assert field in refusal(embedding.EmbedQueries, request_, grpc.StatusCode.INVALID_ARGUMENT)


def test_a_product_without_a_title_is_named(embedding: embedding_pb2_grpc.EmbeddingServiceStub) -> None:
    request = embedding_pb2.EmbedProductsRequest(
        products=[product_pb2.Product(title="Sofa"), product_pb2.Product(brand="B")]
    )
    assert "products[1].title" in refusal(embedding.EmbedProducts, request, grpc.StatusCode.INVALID_ARGUMENT)
