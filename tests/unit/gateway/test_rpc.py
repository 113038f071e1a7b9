"""Calls as a client sees them, over real gRPC: whatever an error or an answer holds, its code arrives, and its details with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aisle.v1 import search_pb2, search_pb2_grpc
from serving.config import AisleConfig
from serving.errors import AisleError, Code, InvalidRequest, Overloaded, Unavailable, Violation
from tests.real_edge import Searching, channel, edge_config, gateway

MAX_MESSAGE_BYTES = 64 * 1024
MAX_TRAILER_BYTES = 8 * 1024  # that every gRPC client accepts
PER_HEADER_BYTES = 32  # that HTTP/2 counts for each header

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=700) | st.sampled_from(
    ["😀" * 256, "%" * 600, "é" * 600, "\x00" * 600, "x" * 10_000]
)
violations = st.builds(Violation, texts, texts)
request_ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=200)


@pytest.fixture
def config() -> AisleConfig:
    return edge_config(server={"max_message_bytes": MAX_MESSAGE_BYTES})


@pytest.fixture
def servicer(config: AisleConfig) -> Searching:
    return Searching(config)


@pytest.fixture
async def stub(
    servicer: Searching, config: AisleConfig, tmp_path: Path
) -> AsyncIterator[search_pb2_grpc.SearchServiceStub]:
    async with gateway(config, tmp_path, [servicer]), channel(config) as opened:
        yield search_pb2_grpc.SearchServiceStub(opened)


async def failure(stub: search_pb2_grpc.SearchServiceStub, request_id: str = "") -> grpc.aio.AioRpcError:
    metadata = (("x-request-id", request_id),) if request_id else ()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Search(search_pb2.SearchRequest(query="sofa"), timeout=60, metadata=metadata)
    return caught.value


def wire_bytes(error: grpc.aio.AioRpcError) -> int:
    """The size of an error's trailers as HTTP/2 counts them."""
    message = "".join(chr(b) if 0x20 <= b <= 0x7E and b != 0x25 else f"%{b:02X}" for b in error.details().encode())
    size = len(b"grpc-message") + len(message) + PER_HEADER_BYTES + len(b"grpc-status") + 2 + PER_HEADER_BYTES
    for name, value in error.trailing_metadata():
        num_bytes = 4 * (len(value) + 2) // 3 if name.endswith("-bin") else len(value)
        size += len(name) + num_bytes + PER_HEADER_BYTES
    return size


def details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    assert status.message == error.details()
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info, bad


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(violations, min_size=1, max_size=200), request_ids)
@example([Violation("product_ids[1]", f"is '{'😀' * 256}', as product_ids[0] is: name each candidate once")] * 33, "id")
@example([Violation("😀" * 256, "😀" * 256)] * 200, "~" * 128)
async def test_an_invalid_argument_is_never_too_large_to_arrive(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching, broken: list[Violation], request_id: str
) -> None:
    servicer.raise_(InvalidRequest(*broken))
    error = await failure(stub, request_id)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
    info, bad = details(error)
    assert info.reason == "INVALID_REQUEST"
    assert len(bad.field_violations) >= 1
    for told, violation in zip(bad.field_violations, broken, strict=False):
        for part, whole in ((told.field, violation.field), (told.description, violation.description)):
            assert part == whole or whole.startswith(part.removesuffix("...")), "a text is told, or its beginning"
    assert wire_bytes(error) < 0.9 * MAX_TRAILER_BYTES


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, st.sampled_from([AisleError, Unavailable]))
async def test_no_message_is_too_large_to_arrive(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching, message: str, kind: type[AisleError]
) -> None:
    servicer.raise_(kind(message))
    error = await failure(stub)
    assert error.code().name == kind.code
    assert details(error)[0].reason == kind.reason
    assert wire_bytes(error) < 0.9 * MAX_TRAILER_BYTES


async def test_a_refusal_with_a_delay_has_a_bounded_message_too(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching
) -> None:
    servicer.raise_(Overloaded(0.25, "😀" * 3000))
    error = await failure(stub)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "😀" in error.details()
    assert len(rpc_status.from_call(error).details) == 2


def test_a_message_names_the_first_violations_and_counts_the_others() -> None:
    error = InvalidRequest(*(Violation(f"events[{n}].id", "is wrong") for n in range(1000)))
    assert error.message.startswith("events[0].id: is wrong; events[1].id")
    assert error.message.endswith("; and 992 more")
    assert len(error.message) < 300
    assert len(error.violations) == 1000


async def test_an_answer_over_the_limit_is_refused_with_its_size(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching
) -> None:
    servicer.answer = lambda: search_pb2.SearchResponse(warnings=["w" * MAX_MESSAGE_BYTES])
    error = await failure(stub)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "65,540 bytes" in error.details()
    assert "65,536" in error.details()
    assert details(error)[0].reason == "ANSWER_TOO_LARGE"
    assert servicer.guard.log.ended == {("Search", Code.RESOURCE_EXHAUSTED): 1}
    servicer.answer = lambda: search_pb2.SearchResponse(warnings=["w" * (MAX_MESSAGE_BYTES - 4)])
    assert (await stub.Search(search_pb2.SearchRequest(), timeout=60)).warnings


@pytest.mark.parametrize("sent", ["mine", "~" * 128])
async def test_a_request_id_that_can_be_a_header_comes_back(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching, sent: str
) -> None:
    servicer.answer = search_pb2.SearchResponse
    call = stub.Search(search_pb2.SearchRequest(), timeout=60, metadata=(("x-request-id", sent),))
    assert dict(await call.trailing_metadata())["x-request-id"] == sent
    servicer.raise_(Unavailable("no"))
    assert dict((await failure(stub, sent)).trailing_metadata())["x-request-id"] == sent


async def test_a_request_id_that_is_too_long_is_replaced(
    stub: search_pb2_grpc.SearchServiceStub, servicer: Searching
) -> None:
    servicer.answer = search_pb2.SearchResponse
    call = stub.Search(search_pb2.SearchRequest(), timeout=60, metadata=(("x-request-id", "~" * 129),))
    assert len(dict(await call.trailing_metadata())["x-request-id"]) == 32
    await asyncio.sleep(0)
