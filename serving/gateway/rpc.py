"""Every call that a gateway answers goes through here: its deadline, its message, and the one place where errors become statuses.

Calls come from the edge (`serving.edge`), which has refused what can be refused without reading the message.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving.edge.call_log import CallLog, Counts
from serving.edge.keys import ApiKey
from serving.edge.trailers import ErrorStatus, error_status
from serving.errors import AisleError, AnswerTooLarge, Code, DeadlineExceeded, InvalidRequest, Violation
from serving.gateway.long_work import LongWork
from serving.logs import TRACE_ID
from serving.stages.caller import CALLER
from serving.stages.lone_calls import LoneCalls
from serving.traces.trace import TRACE, CallTrace, Tracer, trace_id_of

LONG_BYTES = 128 * 1024  # of a message that is not parsed on the event loop

Request = TypeVar("Request")
Response = TypeVar("Response", bound=Message)
Service = TypeVar("Service", bound="Servicer")
Method = Callable[[Service, Request, "Call"], Awaitable[Response]]
Answers = Callable[[Service, "bytes | Stream", "Call"], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call in progress. `started` and `deadline` are times of `time.monotonic`. `key` is None if calls need none; `caller` is its name,
    or the caller's address."""

    request_id: str
    started: float
    deadline: float
    key: ApiKey | None = None
    caller: str = ""
    set_cost: Callable[[float], None] = lambda _: None  # tells the edge what the call costs; 1 is an ordinary search
    trace: CallTrace | None = None  # None if the call is not traced

    def require(self, scope: str, field: str, purpose: str) -> None:
        """Raises NotPermitted if the call needs a key and its key lacks `scope`, which a field of its request needs."""
        if self.key:
            self.key.require(scope, field, purpose)


class Stream:
    """The messages of a call that streams them, each read when it is asked for."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._next: asyncio.Future[bytes | None] | None = None

    def feed(self, message: bytes | None) -> None:
        """Takes the message that was asked for; None at the end."""
        if self._next and not self._next.done():
            self._next.set_result(message)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        self._next = asyncio.get_running_loop().create_future()
        self._ask()
        message = await self._next
        if message is None:
            raise StopAsyncIteration
        return message


@dataclass(slots=True)
class Guard:
    """The rules that all calls of a gateway share, and how its calls ended."""

    log: CallLog
    max_answer_bytes: float = math.inf
    lone_calls: LoneCalls = field(default_factory=LoneCalls)
    long_work: LongWork = field(default_factory=LongWork)
    edge_ended: Mapping[tuple[str, str], int] = field(
        default_factory=dict
    )  # the calls that the edge ended itself, of all gateways
    tracer: Tracer | None = None  # None if no call is traced

    def begin(
        self,
        path: str,
        set_cost: Callable[[float], None],
        caller: str,
        key: tuple[str, tuple[str, ...]] | None,
        request_id: str,
        started: float,
        deadline: float,
        traceparent: str,
    ) -> Call:
        """Takes a call as the edge describes it; `path` is its method, as "aisle.v1.SearchService/Search". Belongs to the call's own
        task."""
        CALLER.set(caller)
        admitted = ApiKey(key[0], "", frozenset(key[1])) if key else None
        trace = self._begin_trace(path, traceparent, started, request_id)
        return Call(request_id, started, deadline, admitted, caller, set_cost, trace)

    def _begin_trace(self, path: str, traceparent: str, started: float, request_id: str) -> CallTrace | None:
        trace = self.tracer.begin(path, traceparent, started, {"aisle.request_id": request_id}) if self.tracer else None
        if trace:
            TRACE.set(trace)
            TRACE_ID.set(trace.trace_id)
        elif traceparent:
            TRACE_ID.set(trace_id_of(traceparent))
        return trace

    def ended(self) -> Counts:
        """Returns how calls ended, with those that never reached this gateway."""
        return self.log.ended + Counts(self.edge_ended)

    def done(self, method: str, call: Call, code: str, error: BaseException | None = None) -> None:
        self.log.done(method, code, call.request_id, call.started, error)
        if call.trace:
            call.trace.end(code)

    def status(self, error: Exception, call: Call) -> ErrorStatus:
        """Returns what the caller gets. Nothing of an error that is not for callers leaves this process."""
        if not isinstance(error, AisleError):
            error = AisleError(f"internal error; the server's log has it under request id {call.request_id}")
        return error_status(error, call.request_id)


class Servicer:
    """A service whose methods are `guarded`. `descriptor` is its contract."""

    descriptor: ServiceDescriptor
    guard: Guard

    def scope_of(self, method: str) -> str:
        """Returns the scope that callers of the method need."""
        return str(getattr(type(self), method).scope)

    def stages_of(self, method: str) -> tuple[int, ...]:  # noqa: ARG002
        """Returns the numbers of the stages that do the work of the method: the edge admits calls by what these can do."""
        return ()


def guarded(scope: str) -> Callable[[Method[Service, Any, Response]], Answers[Service]]:
    """Turns `async def Method(self, request, call)` into a method that needs `scope`, takes and answers bytes, and ends by its deadline.

    It raises AisleError for the caller, and counts and logs how it ended.
    """

    def decorate(method: Method[Service, Any, Response]) -> Answers[Service]:
        name = method.__name__

        @functools.wraps(method)
        async def run(self: Service, request: bytes | Stream, call: Call) -> bytes:
            guard = self.guard
            guard.lone_calls.begin()
            try:
                ends = asyncio.get_running_loop().time() + call.deadline - time.monotonic()
                async with asyncio.timeout_at(ends):
                    response = await method(self, await _parse(self, name, request, call), call)
                answer = response.SerializeToString()
                if len(answer) > guard.max_answer_bytes:
                    size = f"{len(answer):,} bytes, and a message at most {guard.max_answer_bytes:,}"
                    raise AnswerTooLarge(f"the answer has {size}; ask for fewer items or fields")
            except TimeoutError as timeout:
                error = DeadlineExceeded("the deadline passed before the answer was ready")
                guard.done(name, call, error.code, error)
                raise error from timeout
            except AisleError as error:
                guard.done(name, call, error.code, error)
                raise
            except asyncio.CancelledError:
                guard.done(name, call, "CANCELLED")
                raise
            except Exception as error:
                guard.done(name, call, Code.INTERNAL, error)
                raise
            finally:
                guard.lone_calls.end()
            guard.done(name, call, "OK")
            return answer

        run.scope = scope  # type: ignore[attr-defined]
        return run

    return decorate


async def _parse(servicer: Servicer, method: str, request: bytes | Stream, call: Call) -> Any:
    """Returns the message, or an iterator that parses those of a stream: a message that does not parse is then a DecodeError."""
    parser = GetMessageClass(servicer.descriptor.methods_by_name[method].input_type)
    if isinstance(request, Stream):
        return _parsed(request, parser)
    try:
        if len(request) > LONG_BYTES:
            return await servicer.guard.long_work(call.caller, parser.FromString, request)
        return parser.FromString(request)
    except DecodeError:
        raise InvalidRequest(Violation("request", "is not a valid message (strings must be UTF-8)")) from None


async def _parsed(stream: Stream, parser: type[Message]) -> Any:
    async for data in stream:
        try:
            yield parser.FromString(data)
        except DecodeError as error:
            yield error
