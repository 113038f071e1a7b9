"""Every call goes through here: request id, API key, deadline, and the one place where errors become gRPC statuses."""

from __future__ import annotations

import asyncio
import functools
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from serving.config import LogConfig
from serving.errors import AisleError, Code, DeadlineExceeded, InvalidRequest, Overloaded, Violation
from serving.gateway.security import KeyRing
from serving.logs import log
from serving.stages.lone_calls import LoneCalls

DOMAIN = "aisle"
REQUEST_ID = "x-request-id"
STATUS_DETAILS = "grpc-status-details-bin"
MAX_REQUEST_ID_CHARS = 128
# Errors travel in HTTP/2 headers: gRPC always accepts 8 KiB of them and never more than 16 KiB.
MAX_MESSAGE_CHARS = 500
MAX_VIOLATIONS_BYTES = 3000
OVERLOAD_LOG_S = 1.0
STATUS_CODES = {code: grpc.StatusCode[code] for code in Code}

Request = TypeVar("Request")
Response = TypeVar("Response")
Service = TypeVar("Service", bound="Servicer")


@dataclass(frozen=True, slots=True)
class Call:
    """A call in progress. `started` and `deadline` are times of `time.monotonic`."""

    request_id: str
    started: float
    deadline: float


@dataclass(slots=True)
class Guard:
    """The rules that all calls of a gateway share, and the counts of how calls ended, by method and code."""

    keys: KeyRing | None
    max_deadline_s: float
    logging: LogConfig
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    lone_calls: LoneCalls = field(default_factory=LoneCalls)
    _unlogged: Counter[str] = field(default_factory=Counter)  # refusals for overload by method, since the last log line
    _overload_logged: float = 0.0

    def admit(self, context: grpc.aio.ServicerContext[Any, Any], scope: str) -> Call:
        """Starts a call. Raises _Refused if its API key is unknown or lacks the scope."""
        now = time.monotonic()
        metadata = context.invocation_metadata() or ()
        request_id = _request_id(metadata)
        remaining = context.time_remaining()
        budget_s = self.max_deadline_s if remaining is None else min(remaining, self.max_deadline_s)
        call = Call(request_id, now, now + budget_s)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        if self.keys:
            key = next((str(value) for name, value in metadata if name == "authorization"), "")
            try:
                self.keys.admit(key.removeprefix("Bearer ").strip(), scope)
            except AisleError as error:
                raise _Refused(call, error) from None
        return call

    def done(self, method: str, call: Call, code: str, error: BaseException | None = None) -> None:
        """Counts and logs the end of a call. `code` is the name of a gRPC status."""
        self.ended[method, code] += 1
        logged = self.logging.requests
        if logged == "off" or (logged == "failed" and error is None):
            return
        if isinstance(error, Overloaded):
            self._log_overload(method)
            return
        fields: dict[str, object] = {
            "method": method,
            "code": str(code),
            "request_id": call.request_id,
            "ms": (time.monotonic() - call.started) * 1000,
        }
        if error is not None:
            fields["error"] = str(error)
        if code == Code.INTERNAL:
            log.error("call", extra={"fields": fields}, exc_info=error)
        else:
            log.info("call", extra={"fields": fields})

    def _log_overload(self, method: str) -> None:
        """Logs one line a second with a count: a line per refusal would cost more than the refusal, just when time is short."""
        self._unlogged[method] += 1
        now = time.monotonic()
        if now - self._overload_logged >= OVERLOAD_LOG_S:
            log.warning("overload", extra={"fields": {"refused": dict(self._unlogged)}})
            self._unlogged.clear()
            self._overload_logged = now


class _Refused(Exception):
    """A call that ends with an error for its caller."""

    def __init__(self, call: Call, error: AisleError) -> None:
        super().__init__(str(error))
        self.call = call
        self.error = error


class Servicer:
    """A gRPC service whose methods are `guarded`. `descriptor` is its contract."""

    descriptor: ServiceDescriptor
    guard: Guard

    def check_load(self) -> None:
        """Raises Overloaded if a call that came now would be refused. Called before a request is parsed."""


def guarded(
    scope: str,
) -> Callable[
    [Callable[[Service, Request, Call], Awaitable[Response]]],
    Callable[[Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]],
]:
    """Turns `async def Method(self, request, call)` into a gRPC method that needs `scope` and ends by its deadline."""

    def decorate(
        method: Callable[[Service, Request, Call], Awaitable[Response]],
    ) -> Callable[[Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]]:
        name = method.__name__

        @functools.wraps(method)
        async def run(
            self: Service, request: Request, context: grpc.aio.ServicerContext[Request, Response]
        ) -> Response:
            guard = self.guard
            guard.lone_calls.begin()
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
                    guard.done(name, call, "CANCELLED")
                    raise
                except Exception as error:
                    guard.done(name, call, Code.INTERNAL, error)
                    hidden = AisleError(f"internal error; the server's log has it under request id {call.request_id}")
                    await _abort(context, call, hidden)
                    raise
                guard.done(name, call, "OK")
                return response
            except _Refused as refused:
                guard.done(name, refused.call, refused.error.code, refused.error)
                await _abort(context, refused.call, refused.error)
                raise
            finally:
                guard.lone_calls.end()

        return run

    return decorate


class _Methods(grpc.GenericRpcHandler):
    """The guarded methods of a servicer.

    The generated code differs in two points. Here a message that does not parse reaches the guard, which answers INVALID_ARGUMENT; gRPC
    itself would answer INTERNAL. And here a call is refused for overload before its message is parsed.
    """

    def __init__(self, servicer: Servicer) -> None:
        self._servicer = servicer
        self._handlers = {
            f"/{servicer.descriptor.full_name}/{method.name}": (
                grpc.stream_unary_rpc_method_handler if method.client_streaming else grpc.unary_unary_rpc_method_handler
            )(
                getattr(servicer, method.name),
                request_deserializer=_parser(GetMessageClass(method.input_type)),
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            for method in servicer.descriptor.methods
        }

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        handler = self._handlers.get(details.method)
        if handler is not None:
            try:
                self._servicer.check_load()
            except AisleError as error:
                return self._refusal(details, error)
        return handler

    def _refusal(self, details: grpc.HandlerCallDetails, error: AisleError) -> Any:
        """Returns a handler that answers with `error`.

        It claims to take a stream, because gRPC reads the message of any other call first. That halves the cost of a refusal (0.12 ms
        instead of 0.23 ms), and under overload most calls are refused.
        """
        call = Call(_request_id(details.invocation_metadata), time.monotonic(), math.inf)
        self._servicer.guard.done(details.method.rpartition("/")[2], call, error.code, error)
        trailers = ((REQUEST_ID, call.request_id), (STATUS_DETAILS, _retry_details(error)))

        async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            context.set_code(STATUS_CODES[error.code])
            context.set_details(error.message)
            context.set_trailing_metadata(trailers)

        return grpc.stream_stream_rpc_method_handler(refuse)


def add_service(server: grpc.aio.Server, servicer: Servicer) -> None:
    """Registers the guarded methods of a servicer."""
    server.add_generic_rpc_handlers((_Methods(servicer),))


def _request_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Returns the caller's request id, or a new one if the caller sent none that can be logged."""
    sent = next((str(value) for name, value in metadata or () if name == REQUEST_ID), "")
    if 0 < len(sent) <= MAX_REQUEST_ID_CHARS and sent.isprintable():
        return sent
    return f"{random.getrandbits(128):032x}"


def _parser(message: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    def parse(data: bytes) -> Message | DecodeError:
        try:
            return message.FromString(data)
        except DecodeError as error:
            return error

    return parse


async def _abort(context: grpc.aio.ServicerContext[Any, Any], call: Call, error: AisleError) -> None:
    """Ends the call with its code and google.rpc details. Always raises."""
    message = error.message[:MAX_MESSAGE_CHARS]
    if error.retry_after_s is not None:
        await context.abort(
            STATUS_CODES[error.code], message, ((REQUEST_ID, call.request_id), (STATUS_DETAILS, _retry_details(error)))
        )
    status = status_pb2.Status(code=STATUS_CODES[error.code].value[0], message=message)
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
        STATUS_CODES[error.code],
        message,
        ((REQUEST_ID, call.request_id), (STATUS_DETAILS, status.SerializeToString())),
    )


def _retry_details(error: AisleError) -> bytes:
    """Returns the details of a refusal. They are made once per tenth of a second of delay: under overload most calls end here."""
    tenths = math.ceil(10 * (error.retry_after_s or 0.0))
    return _packed_retry(STATUS_CODES[error.code].value[0], error.message[:MAX_MESSAGE_CHARS], error.reason, tenths)


@functools.lru_cache(maxsize=256)
def _packed_retry(code: int, message: str, reason: str, tenths: int) -> bytes:
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
