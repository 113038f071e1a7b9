"""The typed client reads what a failed call says, sends its key and keeps its deadline, against a gRPC server of this process."""

from __future__ import annotations

import importlib
import json
import pkgutil
import socket
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import aisle.v1
from aisle.client import AisleClient, CallError, FieldViolation, retry_policy
from aisle.v1 import search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc

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
    # The way takes some of it, and gRPC sends a long one rounded up.
    with AisleClient(address, timeout_s=2000) as client:
        assert 1100 < int(client.search(REQUEST).warnings[0]) < 2100
        assert 500 < int(client.search(REQUEST, timeout_s=1000).warnings[0]) < 1100


def test_the_retry_policy_covers_every_service_of_the_contract() -> None:
    modules = [name for _, name, _ in pkgutil.iter_modules(aisle.v1.__path__) if name.endswith("_pb2")]
    files = [importlib.import_module(f"aisle.v1.{name}").DESCRIPTOR for name in modules]
    services = {service.full_name for file in files for service in file.services_by_name.values()}
    assert len(services) >= 6
    policy = json.loads(retry_policy())
    covered = [
        name for config in policy["methodConfig"] if config["retryPolicy"]["maxAttempts"] > 1 for name in config["name"]
    ]
    assert sorted(covered, key=str) == [{"service": name} for name in sorted(services)]
    assert 0 < policy["retryThrottling"]["maxTokens"] <= 1000


class Recorder(shopper_pb2_grpc.ShopperServiceServicer):
    """Keeps the ids of events; `recorded` is shared by all servers of a test."""

    def __init__(self, recorded: list[str]) -> None:
        self._recorded = recorded

    def RecordEvents(self, request: shopper_pb2.RecordEventsRequest, _: Any) -> shopper_pb2.RecordEventsResponse:  # noqa: N802
        self._recorded.extend(event.id for event in request.events)
        return shopper_pb2.RecordEventsResponse(recorded=len(request.events))


def recording_server(port: int, recorded: list[str]) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(2))
    shopper_pb2_grpc.add_ShopperServiceServicer_to_server(Recorder(recorded), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def test_every_event_gets_through_twenty_restarts_and_a_long_outage() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    recorded: list[str] = []
    outages_s = [*[0.05] * 20, 5.0]
    server = recording_server(port, recorded)

    def record(client: AisleClient, number: int) -> None:
        client.record_events(shopper_pb2.RecordEventsRequest(events=[shopper_pb2.Event(id=str(number))]))

    with AisleClient(f"127.0.0.1:{port}", timeout_s=10) as client:
        for number, outage_s in enumerate(outages_s):
            record(client, number)
            server.stop(None).wait()
            back = time.monotonic() + outage_s
            while time.monotonic() < back:  # each call makes the channel connect again
                with pytest.raises(CallError) as refused:
                    client.info(timeout_s=0.05)
                assert refused.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            server = recording_server(port, recorded)
        record(client, len(outages_s))
    server.stop(None).wait()
    assert recorded == [str(number) for number in range(len(outages_s) + 1)]


def test_both_wheels_have_one_version() -> None:
    projects = [
        tomllib.loads((ROOT / name).read_text())["project"] for name in ("pyproject.toml", "protos/pyproject.toml")
    ]
    assert len({project["version"] for project in projects}) == 1
    stated = set(projects[0]["dependencies"])
    assert set(projects[1]["dependencies"]) <= stated


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(
    address: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:  # a port where no proxy listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        port = address.rpartition(":")[2]
        for target in (address, f"localhost:{port}", f"dns:///127.0.0.1:{port}"):
            with AisleClient(target, timeout_s=20) as aisle:
                aisle.search(REQUEST)


def test_a_proxy_of_the_environment_stands_before_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        proxy.settimeout(30)
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with AisleClient("search.example:443", timeout_s=5) as aisle, ThreadPoolExecutor(1) as pool:
            pool.submit(aisle.search, REQUEST)
            asked, _ = proxy.accept()
            with asked:
                assert asked.recv(100).startswith(b"CONNECT search.example:443")
