"""Carries out plans against a service, and says how each ended."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from tests.fuzz.plans import Plan
from tests.fuzz.wire import attack

NO_ANSWER = "NO ANSWER"
NUM_CHANNELS = 4
MARGIN_S = 5.0


@dataclass(slots=True)
class Outcome:
    """How a call ended. `code` is a gRPC code, NO_ANSWER, or what became of a connection; `violations` are fields that were named."""

    plan: Plan
    code: str
    message: str = ""
    reason: str = ""  # of google.rpc.ErrorInfo; empty if gRPC itself refused the call
    violations: list[str] = field(default_factory=list)
    answer: Message | None = None


class Caller:
    """Calls one service over a few channels. `patience_s` is the longest that the service may take, `max_bytes` its largest message."""

    def __init__(self, target: str, key: str, patience_s: float, max_bytes: int) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._key = key
        self._patience_s = patience_s
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", 2 * max_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        self._channels = [grpc.aio.insecure_channel(target, options) for _ in range(NUM_CHANNELS)]
        self._next_channel = itertools.cycle(self._channels)

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))

    @property
    def channel(self) -> grpc.aio.Channel:
        return next(self._next_channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._key}"),) if self._key else ()

    async def carry_out(self, plan: Plan) -> Outcome:
        if plan.attack:
            return await self._attack(plan)
        call = self._begin(plan)
        waiting = asyncio.ensure_future(self._outcome(plan, call))
        if plan.cancel_after_s is not None:
            await asyncio.sleep(plan.cancel_after_s)
            call.cancel()
        patience_s = self._patience_s if plan.timeout_s is None else plan.timeout_s
        try:
            return await asyncio.wait_for(waiting, patience_s + MARGIN_S)
        except TimeoutError:
            call.cancel()
            return Outcome(plan, NO_ANSWER, f"within {patience_s + MARGIN_S:.1f} s")

    def _begin(self, plan: Plan) -> grpc.aio.Call:
        metadata = (*self.metadata, *plan.metadata)
        if plan.method and plan.method.client_streaming:
            ends_early = plan.cancel_after_s is not None
            stream = self.channel.stream_unary(plan.path)
            return stream(_Stream(plan.messages, ends=not ends_early), timeout=plan.timeout_s, metadata=metadata)
        return self.channel.unary_unary(plan.path)(plan.messages[0], timeout=plan.timeout_s, metadata=metadata)

    async def _outcome(self, plan: Plan, call: grpc.aio.Call) -> Outcome:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return _failed(plan, error)
        except asyncio.CancelledError:
            if call.cancelled():
                return Outcome(plan, "CANCELLED")
            raise
        if plan.method is None:
            return Outcome(plan, "OK")
        return Outcome(plan, "OK", answer=GetMessageClass(plan.method.output_type).FromString(answer))

    async def _attack(self, plan: Plan) -> Outcome:
        assert plan.attack
        headers = {
            b":method": b"POST",
            b":scheme": b"http",
            b":path": plan.path.encode(),
            b":authority": b"aisle",
            b"te": b"trailers",
            b"content-type": b"application/grpc",
            b"grpc-timeout": b"1S",
            **{name.encode(): value.encode() for name, value in self.metadata},
        }
        try:
            wait_s = self._patience_s + MARGIN_S
            code = await attack(self._host, self._port, plan.attack, headers, plan.messages[0], wait_s)
        except TimeoutError:
            return Outcome(plan, NO_ANSWER, f"within {wait_s:.1f} s")
        except OSError as error:
            return Outcome(plan, "NO CONNECTION", str(error))
        return Outcome(plan, grpc_code(code))


def grpc_code(number: str) -> str:
    """Returns the name of a numeric status; anything else as it is."""
    return next((code.name for code in grpc.StatusCode if str(code.value[0]) == number), number)


class _Stream:
    """The messages of a stream; one that does not end waits after the last. No generator: gRPC cannot close one that is waiting."""

    def __init__(self, messages: tuple[bytes, ...], *, ends: bool) -> None:
        self._messages = iter(messages)
        self._ends = ends

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> bytes:
        message = next(self._messages, None)
        if message is not None:
            return message
        if not self._ends:
            await asyncio.sleep(MARGIN_S)
        raise StopAsyncIteration


def _failed(plan: Plan, error: grpc.aio.AioRpcError) -> Outcome:
    outcome = Outcome(plan, error.code().name, error.details() or "")
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    if not isinstance(packed, bytes):
        return outcome
    for detail in status_pb2.Status.FromString(packed).details:
        outcome.reason = _reason(detail) or outcome.reason
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            outcome.violations = [violation.field for violation in bad.field_violations]
    return outcome


def _reason(detail: any_pb2.Any) -> str:
    info = error_details_pb2.ErrorInfo()
    return info.reason if detail.Unpack(info) and info.domain == "aisle" else ""
