"""The standard health service and server reflection, answered at the edge: they must work while the gateways are busy or away."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

import aisle.v1
from serving.edge.http2 import Metadata, ServerCall

Request = TypeVar("Request", bound=Message)

NO_TRAILERS: Metadata = ()
_Status = health_pb2.HealthCheckResponse


class Health:
    """`grpc.health.v1`: one status for all services. `set` and the calls' callbacks must not run at the same time."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = {"", *services}
        self._serving = False
        self._watchers: set[_Watcher] = set()

    def set(self, serving: bool) -> None:
        if serving != self._serving:
            self._serving = serving
            for watcher in list(self._watchers):
                watcher.tell()

    def status(self, service: str) -> int:
        if service not in self._services:
            return int(_Status.SERVICE_UNKNOWN)
        return int(_Status.SERVING if self._serving else _Status.NOT_SERVING)

    def accept(self, call: ServerCall, method: str) -> None:
        if method == "Check":
            call.watch(lambda _: None)
            call.read(lambda message: self._check(call, message))
        elif method == "List":
            call.watch(lambda _: None)
            call.read(lambda _: self._list(call))
        else:
            watcher = _Watcher(self, call)
            self._watchers.add(watcher)
            call.watch(lambda _: self._watchers.discard(watcher))
            call.read(watcher.begin)

    def _check(self, call: ServerCall, message: bytes | None) -> None:
        request = _parse(health_pb2.HealthCheckRequest, message)
        if request is None:
            call.fail(grpc.StatusCode.INVALID_ARGUMENT, "request: is not a valid message", NO_TRAILERS)
        elif request.service not in self._services:
            call.fail(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:200]!r}", NO_TRAILERS)
        else:
            call.answer(_Status(status=self.status(request.service)).SerializeToString(), NO_TRAILERS)

    def _list(self, call: ServerCall) -> None:
        response = health_pb2.HealthListResponse()
        for service in self._services:
            response.statuses[service].status = self.status(service)
        call.answer(response.SerializeToString(), NO_TRAILERS)


class _Watcher:
    """One call of Watch. It is sent every change, and only the latest while an earlier one is on its way."""

    def __init__(self, of: Health, call: ServerCall) -> None:
        self._health = of
        self._call = call
        self._service: str | None = None
        self._told: int | None = None
        self._sending = False

    def begin(self, message: bytes | None) -> None:
        request = _parse(health_pb2.HealthCheckRequest, message)
        if request is None:
            self._call.fail(grpc.StatusCode.INVALID_ARGUMENT, "request: is not a valid message", NO_TRAILERS)
            return
        self._service = request.service
        self.tell()

    def tell(self) -> None:
        if self._service is None or self._sending:
            return
        status = self._health.status(self._service)
        if status != self._told:
            self._sending = True
            first, self._told = self._told is None, status
            self._call.send(_Status(status=status).SerializeToString(), self._sent, first=first)

    def _sent(self, ok: bool) -> None:
        self._sending = False
        if ok:
            self.tell()


class Reflection:
    """`grpc.reflection.v1alpha`, over the contract in `aisle.v1`."""

    def __init__(self, services: Sequence[str]) -> None:
        for module in pkgutil.iter_modules(aisle.v1.__path__):
            if module.name.endswith("_pb2"):
                importlib.import_module(f"aisle.v1.{module.name}")  # which registers its descriptors
        self._servicer = reflection.ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))

    def accept(self, call: ServerCall) -> None:
        call.watch(lambda _: None)
        self._next(call, first=True)

    def _next(self, call: ServerCall, *, first: bool) -> None:
        call.read(lambda message: self._answer(call, message, first))

    def _answer(self, call: ServerCall, message: bytes | None, first: bool) -> None:
        if message is None:
            call.fail(grpc.StatusCode.OK, "", NO_TRAILERS, begun=not first)
            return
        request = _parse(reflection_pb2.ServerReflectionRequest, message)
        if request is None:
            call.fail(grpc.StatusCode.INVALID_ARGUMENT, "request: is not a valid message", NO_TRAILERS, begun=not first)
            return
        (response,) = self._servicer.ServerReflectionInfo(iter([request]), None)
        call.send(response.SerializeToString(), lambda ok: self._next(call, first=False) if ok else None, first=first)


LOCAL_METHODS: dict[str, str] = {
    **{f"/{health.SERVICE_NAME}/{method}": method for method in ("Check", "Watch", "List")},
    f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": "reflection",
}


def _parse(kind: type[Request], message: bytes | None) -> Request | None:
    try:
        return None if message is None else kind.FromString(message)
    except DecodeError:
        return None
