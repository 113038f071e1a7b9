"""Says what is wrong with how a call ended."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from tests.fuzz.calls import NO_ANSWER, Outcome
from tests.fuzz.plans import Plan

# With a reason of Aisle's own. Without one they are gRPC's.
ALLOWED = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "UNIMPLEMENTED",
           "UNAUTHENTICATED", "PERMISSION_DENIED"}  # fmt: skip
# What gRPC answers by its own specification to frames that are wrong; and a connection may end.
ALLOWED_ON_WIRE = ALLOWED | {"INTERNAL", "UNKNOWN", "RESET", "CLOSED", "HUNG UP", "CANCELLED"}
MAX_METADATA_BYTES = 2000  # more than that with the headers of gRPC may be too much for it
MAY_BE_NAN = {"RankFactor.value"}
UNPARSED = "request"
CUT = "..."  # ends a path that is too long
BUG = "the server's log says why"  # ends the reason of a degradation that was not foreseen
_STEP = re.compile(r'(?P<name>\w+)(?:\[(?P<index>\d+)\]|\[(?P<key>"(?:[^"\\]|\\.)*"|\'.*\')\])?(?:\.|$)', re.DOTALL)


def fault(outcome: Outcome, max_bytes: int) -> str:
    """Returns what is wrong, or an empty text. `max_bytes` is the largest message that the service takes."""
    plan, code = outcome.plan, outcome.code
    if code in (NO_ANSWER, "NO CONNECTION"):
        return f"{code} {outcome.message}"
    if plan.attack:
        allowed = ALLOWED_ON_WIRE
    elif plan.method is None:
        allowed = {"UNIMPLEMENTED"}
    else:
        allowed = ALLOWED | {"CANCELLED"} if may_be_cancelled(plan) else ALLOWED
    if code not in allowed and not _is_lost_by_client(outcome):
        return f"ended as {code}: {outcome.message}"
    return _fault_of_method(outcome, max_bytes) if plan.method else ""


def may_be_cancelled(plan: Plan) -> bool:
    """Says whether the caller leaves. A server that sees the deadline first resets the call, and the client calls that CANCELLED too."""
    return plan.cancel_after_s is not None or is_hasty(plan)


def is_hasty(plan: Plan) -> bool:
    return plan.timeout_s is not None and plan.timeout_s < 1


def _is_lost_by_client(outcome: Outcome) -> bool:
    """Says whether `grpc.aio` lost the status: it does when a stream ends while the client is writing to it."""
    method = outcome.plan.method
    return bool(method and method.client_streaming and outcome.message == "Internal error from Core")


def _fault_of_method(outcome: Outcome, max_bytes: int) -> str:
    if outcome.code == "OK":
        return _fault_of_taken(outcome) or _fault_of_answer(outcome.answer)
    if outcome.code == "CANCELLED" or _is_lost_by_client(outcome):
        return ""
    if not outcome.reason:
        return _fault_of_grpc(outcome, max_bytes)
    return _fault_of_violations(outcome) if outcome.code == "INVALID_ARGUMENT" else ""


def _fault_of_grpc(outcome: Outcome, max_bytes: int) -> str:
    """Judges an error that Aisle did not write."""
    plan = outcome.plan
    is_large = any(len(message) > max_bytes for message in plan.messages)
    is_long = sum(len(name) + len(value) for name, value in plan.metadata) > MAX_METADATA_BYTES
    if outcome.code == "RESOURCE_EXHAUSTED" and (is_large or is_long):
        return ""
    if outcome.code == "DEADLINE_EXCEEDED" and is_hasty(plan):
        return ""
    return f"ended as {outcome.code} without a reason: {outcome.message}"


def _fault_of_violations(outcome: Outcome) -> str:
    assert outcome.plan.method
    if not outcome.violations:
        return f"INVALID_ARGUMENT names no field: {outcome.message}"
    for path in outcome.violations:
        if not any(_names_field(outcome.plan.method.input_type, data, path) for data in outcome.plan.messages):
            return f"INVALID_ARGUMENT names {path!r}, which is no field of the message: {outcome.message}"
    return ""


def _names_field(descriptor: Descriptor, data: bytes, path: str) -> bool:
    """Says whether a path leads to a field that the type has, at an index that the message has, or to a number that it does not know."""
    path, in_stream = re.subn(r"^batches\[\d+\]\.?", "", path)
    try:
        within: Message | None = GetMessageClass(descriptor).FromString(data)
    except DecodeError:
        return path == ("" if in_stream else UNPARSED)
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None or within is None:
            return path.endswith(CUT)
        at = step.end()
        field = within.DESCRIPTOR.fields_by_name.get(step["name"])
        if field is None:
            return step["name"].isdigit() and at == len(path)
        within = _entered(within, field, step)
    return True


def _entered(message: Message, field: FieldDescriptor, step: re.Match[str]) -> Message | None:
    """Returns the message that a step leads to, None if it leads to a value."""
    value = getattr(message, field.name)
    if step["key"] is not None:
        return None
    if step["index"] is not None:
        index = int(step["index"])
        value = value[index] if index < len(value) else None
    return value if isinstance(value, Message) else None


def _fault_of_taken(outcome: Outcome) -> str:
    """A field that the service does not know may be a filter: to answer without it is to answer another question. Events are refused one
    by one, within an answer."""
    method = outcome.plan.method
    assert method
    if "events" in method.input_type.fields_by_name:
        return ""
    messages = [GetMessageClass(method.input_type).FromString(data) for data in outcome.plan.messages]
    return "an unknown field was passed over" if any(map(_has_unknown_field, messages)) else ""


def _has_unknown_field(message: Message) -> bool:
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        is_map = field.message_type and field.message_type.GetOptions().map_entry
        items = value if field.is_repeated and not is_map else (value,)
        if any(_has_unknown_field(item) for item in items if isinstance(item, Message)):
            return True
    return False


def _fault_of_answer(answer: Message | None) -> str:
    if answer is None:
        return ""
    if "request_id" in answer.DESCRIPTOR.fields_by_name and not answer.request_id:  # type: ignore[attr-defined]
        return "the answer has no request id"
    for degradation in getattr(answer, "degradations", ()):
        if degradation.reason.endswith(BUG):
            return f"the answer hides a bug: {degradation.part}: {degradation.reason}"
    return next((f"the answer's {path} is {value}" for path, value in _floats(answer) if not math.isfinite(value)), "")


def _floats(message: Message) -> Iterator[tuple[str, float]]:
    for field, value in message.ListFields():
        name = f"{message.DESCRIPTOR.name}.{field.name}"
        if field.message_type and field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else (value,):
            if isinstance(item, Message):
                yield from _floats(item)
            elif isinstance(item, float) and name not in MAY_BE_NAN:
                yield name, item


def told(outcome: Outcome) -> str:
    """Returns an outcome as one line."""
    return json.dumps(f"{outcome.plan.name} ({outcome.plan.kind}): {outcome.message}", ensure_ascii=True)[1:400]
