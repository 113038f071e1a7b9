"""What every call goes through: request id, API key, deadline, and the one place where errors become gRPC statuses."""

from __future__ import annotations

import asyncio
import functools
import math
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from serving.config import LogConfig
from serving.errors import AisleError, DeadlineExceeded, InvalidRequest, Violation
from serving.logs import log
from serving.security import KeyRing

DOMAIN = "aisle"
REQUEST_ID = "x-request-id"
STATUS_DETAILS = "grpc-status-details-bin"
MAX_REQUEST_ID_CHARS = 128
# Errors travel in HTTP/2 headers, of which gRPC takes 8 KiB surely and 16 KiB at most.
MAX_MESSAGE_CHARS = 500
MAX_VIOLATIONS_BYTES = 3000

Request = TypeVar("Request")
Response = TypeVar("Response")
Service = TypeVar("Service", bound="Guarded")


@dataclass(frozen=True, slots=True)
class Call:
    """One call in progress. `started` and `deadline` are times of `time.monotonic`."""

    request_id: str
    started: float
    deadline: float


@dataclass(slots=True)
class Guard:
    """The rules that all calls of a gateway share, and the count of how they ended."""

    keys: KeyRing | None
    max_deadline_s: float
    logging: LogConfig
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)

    def admit(self, context: grpc.aio.ServicerContext[Any, Any], scope: str) -> Call:
        now = time.monotonic()
        request_id = key = ""
        for name, value in context.invocation_metadata() or ():
            if name == REQUEST_ID:
                request_id = str(value)
            elif name == "authorization":
                key = str(value).removeprefix("Bearer ").strip()
        if not 0 < len(request_id) <= MAX_REQUEST_ID_CHARS or not request_id.isprintable():
            request_id = uuid.uuid4().hex
        remaining = context.time_remaining()
        budget_s = self.max_deadline_s if remaining is None else min(remaining, self.max_deadline_s)
        call = Call(request_id, now, now + budget_s)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        if self.keys:
            try:
                self.keys.admit(key, scope)
            except AisleError as error:
                raise _Refused(call, error) from None
        return call

    def done(self, method: str, call: Call, code: grpc.StatusCode, error: BaseException | None = None) -> None:
        self.ended[method, code.name] += 1
        wanted = self.logging.requests
        if wanted == "off" or (wanted == "failed" and error is None):
            return
        fields: dict[str, object] = {
            "method": method,
            "code": code.name,
            "request_id": call.request_id,
            "ms": (time.monotonic() - call.started) * 1000,
        }
        if error is not None:
            fields["error"] = str(error)
        internal = code is grpc.StatusCode.INTERNAL
        log.log(40 if internal else 20, "call", extra={"fields": fields}, exc_info=error if internal else None)


class _Refused(Exception):
    """A call that was refused before it had begun."""

    def __init__(self, call: Call, error: AisleError) -> None:
        super().__init__(str(error))
        self.call = call
        self.error = error


class Guarded(Protocol):
    """A servicer whose methods are `guarded`."""

    guard: Guard


def guarded(
    scope: str,
) -> Callable[
    [Callable[[Service, Request, Call], Awaitable[Response]]],
    Callable[[Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]],
]:
    """Makes `async def Method(self, request, call)` a gRPC method that needs `scope` and ends in time."""

    def decorate(
        method: Callable[[Service, Request, Call], Awaitable[Response]],
    ) -> Callable[[Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]]:
        name = method.__name__

        @functools.wraps(method)
        async def run(
            self: Service, request: Request, context: grpc.aio.ServicerContext[Request, Response]
        ) -> Response:
            guard = self.guard
            try:
                call = guard.admit(context, scope)
                try:
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + call.deadline - call.started):
                        if isinstance(request, DecodeError):
                            raise InvalidRequest(Violation("request", "is not a valid message (strings must be UTF-8)"))
                        response = await method(self, request, call)
                except TimeoutError:
                    raise _Refused(call, DeadlineExceeded("the deadline passed before the answer was ready")) from None
                except AisleError as error:
                    raise _Refused(call, error) from error
                except asyncio.CancelledError:
                    guard.done(name, call, grpc.StatusCode.CANCELLED)
                    raise
                except Exception as error:
                    guard.done(name, call, grpc.StatusCode.INTERNAL, error)
                    hidden = AisleError(f"internal error; the server's log has it under request id {call.request_id}")
                    await _abort(context, call, hidden)
                    raise
                guard.done(name, call, grpc.StatusCode.OK)
                return response
            except _Refused as refused:
                guard.done(name, refused.call, refused.error.code, refused.error)
                await _abort(context, refused.call, refused.error)
                raise

        return run

    return decorate


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, servicer: object) -> None:
    """Registers guarded methods. Unlike the generated code, a message that does not parse reaches the guard, which answers
    INVALID_ARGUMENT; gRPC itself would say INTERNAL."""
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=_parser(GetMessageClass(method.input_type)),
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in service.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def _parser(message: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    def parse(data: bytes) -> Message | DecodeError:
        try:
            return message.FromString(data)
        except DecodeError as error:
            return error

    return parse


async def _abort(context: grpc.aio.ServicerContext[Any, Any], call: Call, error: AisleError) -> None:
    """Ends the call with its code and google.rpc details. Raises."""
    message = error.message[:MAX_MESSAGE_CHARS]
    if error.retry_after_s is not None:
        # Under overload most calls end here, so the details are made once for each tenth of a second.
        details_bytes = _overload_details(
            error.code.value[0], message, error.reason, math.ceil(10 * error.retry_after_s)
        )
        await context.abort(error.code, message, ((REQUEST_ID, call.request_id), (STATUS_DETAILS, details_bytes)))
    status = status_pb2.Status(code=error.code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"request_id": call.request_id})
    details: list[Any] = [info]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            if bad.ByteSize() < MAX_VIOLATIONS_BYTES:
                bad.field_violations.add(field=violation.field[:200], description=violation.description[:500])
        details.append(bad)
    _pack(status, details)
    await context.abort(
        error.code,
        message,
        ((REQUEST_ID, call.request_id), (STATUS_DETAILS, status.SerializeToString())),
    )


@functools.lru_cache(maxsize=256)
def _overload_details(code: int, message: str, reason: str, tenths: int) -> bytes:
    status = status_pb2.Status(code=code, message=message)
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(100 * tenths)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    _pack(status, [info, error_details_pb2.RetryInfo(retry_delay=delay)])
    return status.SerializeToString()


def _pack(status: status_pb2.Status, details: list[Any]) -> None:
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
