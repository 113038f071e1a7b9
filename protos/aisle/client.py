"""A blocking client of Aisle: one channel for a process, a deadline on every call, the documented retries, errors as exceptions.

    with AisleClient("127.0.0.1:9000") as aisle:
        answer = aisle.search(SearchRequest(query="red velvet sofa"))

The generated stubs work without this module; `connect` gives them a channel with the documented options.
"""

from __future__ import annotations

import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from aisle.v1 import (
    info_pb2,
    info_pb2_grpc,
    query_pb2,
    query_pb2_grpc,
    ranking_pb2,
    ranking_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
    shopper_pb2_grpc,
)

Request = TypeVar("Request")
Response = TypeVar("Response")

DEFAULT_TIMEOUT_S = 1.0
STATUS_DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"
_LOOPBACK = re.compile(r"(?:[a-z0-9]+:/*)?(?:localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)(?::\d+)?$")


@dataclass(frozen=True, slots=True)
class ClientTls:
    """`ca` verifies the server; `certificate` and `key` are for mTLS."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that breaks a rule. `field` is its path in the message, as `filter.brands[3]`."""

    field: str
    description: str


class CallError(Exception):
    """A call that failed, with the google.rpc details that the service attached."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        """`reason` is the service's own word, as STALE_PAGE_TOKEN; `retry_after_s` is set if the service asks for a delay;
        `request_id` finds the call in the service's log."""
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    @classmethod
    def from_rpc_error(cls, error: grpc.RpcError) -> CallError:
        """Reads code, reason, violations and retry delay; each is empty if the service did not send it."""
        trailers = dict(error.trailing_metadata() or ())
        reason, violations, retry_after_s = "", (), None
        for detail in _details(trailers.get(STATUS_DETAILS)):
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(bad):
                violations = tuple(FieldViolation(v.field, v.description) for v in bad.field_violations)
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        return cls(
            error.code(),
            error.details() or "",
            reason=reason,
            violations=violations,
            retry_after_s=retry_after_s,
            request_id=str(trailers.get(REQUEST_ID, "")),
        )


class AisleClient:
    """Search, Rank, Classify, shoppers' events and GetInfo over one channel. Share it between threads; close it, or use it in a `with`
    statement. The generated stubs have the other calls: CatalogueService, EmbeddingService, StreamEvents and GetStats.

    Every method raises CallError. `timeout_s` is the deadline of one call with all its retries.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:9000",
        *,
        api_key: str = "",
        tls: ClientTls | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._channel = connect(target, tls)
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._timeout_s = timeout_s
        self._search = search_pb2_grpc.SearchServiceStub(self._channel)
        self._ranking = ranking_pb2_grpc.RankingServiceStub(self._channel)
        self._queries = query_pb2_grpc.QueryServiceStub(self._channel)
        self._shoppers = shopper_pb2_grpc.ShopperServiceStub(self._channel)
        self._info = info_pb2_grpc.InfoServiceStub(self._channel)

    def __enter__(self) -> AisleClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def search(self, request: search_pb2.SearchRequest, *, timeout_s: float | None = None) -> search_pb2.SearchResponse:
        """Returns one page of products, best first."""
        return self._call(self._search.Search, request, timeout_s)

    def rank(self, request: ranking_pb2.RankRequest, *, timeout_s: float | None = None) -> ranking_pb2.RankResponse:
        """Returns the caller's own candidates, best first, with their chances."""
        return self._call(self._ranking.Rank, request, timeout_s)

    def classify(
        self, request: query_pb2.ClassifyRequest, *, timeout_s: float | None = None
    ) -> query_pb2.ClassifyResponse:
        """Returns the product types of each query."""
        return self._call(self._queries.Classify, request, timeout_s)

    def record_events(
        self, request: shopper_pb2.RecordEventsRequest, *, timeout_s: float | None = None
    ) -> shopper_pb2.RecordEventsResponse:
        """Records what shoppers did. A batch may be sent again: an event that is kept already changes nothing."""
        return self._call(self._shoppers.RecordEvents, request, timeout_s)

    def history(
        self, request: shopper_pb2.GetHistoryRequest, *, timeout_s: float | None = None
    ) -> shopper_pb2.GetHistoryResponse:
        """Returns the kept events of one shopper, the newest first."""
        return self._call(self._shoppers.GetHistory, request, timeout_s)

    def forget(
        self, request: shopper_pb2.ForgetShopperRequest, *, timeout_s: float | None = None
    ) -> shopper_pb2.ForgetShopperResponse:
        """Deletes everything that is kept of one shopper."""
        return self._call(self._shoppers.ForgetShopper, request, timeout_s)

    def info(self, *, timeout_s: float | None = None) -> info_pb2.GetInfoResponse:
        """Returns what is served: bundle, models, limits."""
        return self._call(self._info.GetInfo, info_pb2.GetInfoRequest(), timeout_s)

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout_s: float | None
    ) -> Response:
        seconds = self._timeout_s if timeout_s is None else timeout_s
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise CallError.from_rpc_error(error) from None


def retry_policy() -> str:
    """Returns the documented gRPC service config as JSON."""
    return importlib.resources.files("aisle.v1").joinpath("service_config.json").read_text(encoding="utf-8")


def channel_options(*, retries: bool = True) -> list[tuple[str, str | int]]:
    """Returns the documented channel arguments. Without `retries` every error reaches the caller as it comes."""
    return [
        ("grpc.service_config", retry_policy()) if retries else ("grpc.enable_retries", 0),
        # After a refused connection gRPC would wait a second, and more each time up to two minutes: longer than the retries last, so that
        # calls would fail although the server is back.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
        # Despite its name the longest time that one attempt to connect may take, when the wait after it is shorter.
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ]


def connect(target: str, tls: ClientTls | None = None) -> grpc.Channel:
    """Opens a blocking channel. Close it, or use it in a `with` statement. A proxy of the environment (`http_proxy` and the like) is used
    for other machines alone: it could not reach this one."""
    options = channel_options()
    if _LOOPBACK.match(target):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, _credentials(tls), options=options)


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        private_key=tls.key.read_bytes() if tls.key else None,
        certificate_chain=tls.certificate.read_bytes() if tls.certificate else None,
    )


def _details(packed: str | bytes | None) -> list[any_pb2.Any]:
    """Returns the google.rpc details of an error; none if there are none or a proxy damaged them."""
    if not isinstance(packed, bytes):
        return []
    try:
        return list(status_pb2.Status.FromString(packed).details)
    except DecodeError:
        return []
