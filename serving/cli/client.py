"""Calls to a running service: channel, key, deadline, and what a failed call means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from aisle.client import ClientTls, connect
from serving.cli.options import ServiceOptions
from serving.cli.terminal import fail

TIMEOUT_S = 10

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Connection:
    channel: grpc.Channel
    metadata: tuple[tuple[str, str], ...]

    def call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        return method(request, timeout=TIMEOUT_S, metadata=self.metadata)


@contextmanager
def connected(service: ServiceOptions) -> Iterator[Connection]:
    """Opens a channel to the service. A call that fails within the block ends the command."""
    if service.ca is None and (service.cert or service.cert_key):
        fail("--cert and --cert-key need --ca, the CA certificate of the service")
    if (service.cert is None) != (service.cert_key is None):
        fail("give --cert and --cert-key together")
    tls = ClientTls(service.ca, service.cert, service.cert_key) if service.ca else None
    metadata = (("authorization", f"Bearer {service.api_key}"),) if service.api_key else ()
    with connect(service.server, tls) as channel:
        try:
            yield Connection(channel, metadata)
        except grpc.RpcError as error:
            fail(f"{error.code().name}: {error.details()}{_hint(error.code(), service)}")


def _hint(code: grpc.StatusCode, service: ServiceOptions) -> str:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return "; set --api-key or AISLE_API_KEY"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return ""
    tls = "" if service.ca else ", and --ca if it uses TLS"
    return f"; is there a service on {service.server}? Start one with 'aisle serve', or set --server{tls}"
