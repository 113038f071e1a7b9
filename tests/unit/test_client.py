"""The typed client reads what a failed call says, sends its key and keeps its deadline, against a gRPC server of this process."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from aisle.client import AisleClient, CallError, FieldViolation
from aisle.v1 import search_pb2, search_pb2_grpc

ROOT = Path(__file__).parents[2]
REQUEST = search_pb2.SearchRequest(query="sofa")


class Service(search_pb2_grpc.SearchServiceServicer):
    """Ends every call with `status`, or answers with what it was sent."""

    status: status_pb2.Status | None = None
    trailers: tuple[tuple[str, str | bytes], ...] = ()

    def Search(self, _: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:  # noqa: N802
        if self.status is None:
            sent = dict(context.invocation_metadata())
            return search_pb2.SearchResponse(
                request_id=sent.get("authorization", ""), warnings=[f"{context.time_remaining():.0f}"]
            )
        context.set_trailing_metadata((*self.trailers, ("grpc-status-details-bin", self.status.SerializeToString())))
        code = next(code for code in grpc.StatusCode if code.value[0] == self.status.code)
        context.abort(code, self.status.message)
        raise AssertionError("unreachable")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    search_pb2_grpc.add_SearchServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def failure(code: grpc.StatusCode, *details: Any) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message="no")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def failed(address: str) -> CallError:
    with AisleClient(address) as client, pytest.raises(CallError) as caught:
        client.search(REQUEST)
    return caught.value


def test_an_invalid_request_names_its_fields(service: Service, address: str) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="filter.brands[3]", description="must have 1 to 256 characters")
    info = error_details_pb2.ErrorInfo(reason="INVALID_REQUEST", domain="aisle")
    service.status = failure(grpc.StatusCode.INVALID_ARGUMENT, info, bad)
    service.trailers = (("x-request-id", "r1"),)
    error = failed(address)
    assert (error.code, error.reason, error.request_id) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "r1")
    assert error.violations == (FieldViolation("filter.brands[3]", "must have 1 to 256 characters"),)
    assert error.retry_after_s is None


def test_an_overload_states_the_delay(service: Service, address: str) -> None:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(300)
    service.status = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, error_details_pb2.RetryInfo(retry_delay=delay))
    assert failed(address).retry_after_s == 0.3


def test_an_error_without_details_is_still_a_call_error() -> None:
    with AisleClient("127.0.0.1:1", timeout_s=0.2) as client, pytest.raises(CallError) as caught:
        client.search(REQUEST)
    assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert (caught.value.reason, caught.value.violations) == ("", ())


@pytest.mark.parametrize(("key", "sent"), [("", ""), ("aisle_k", "Bearer aisle_k")])
def test_the_api_key_goes_with_every_call(address: str, key: str, sent: str) -> None:
    with AisleClient(address, api_key=key) as client:
        assert client.search(REQUEST).request_id == sent


def test_a_call_has_the_clients_deadline_unless_it_states_one(address: str) -> None:
    with AisleClient(address, timeout_s=30) as client:
        assert 29 <= int(client.search(REQUEST).warnings[0]) <= 30
        assert 7 <= int(client.search(REQUEST, timeout_s=8).warnings[0]) <= 8


def test_both_wheels_have_one_version() -> None:
    projects = [
        tomllib.loads((ROOT / name).read_text())["project"] for name in ("pyproject.toml", "protos/pyproject.toml")
    ]
    assert len({project["version"] for project in projects}) == 1
    stated = set(projects[0]["dependencies"])
    assert set(projects[1]["dependencies"]) <= stated
