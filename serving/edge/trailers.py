"""The trailing metadata of calls: the request id, and what an error tells its caller, within the size that every client accepts.

gRPC accepts 8 KiB of headers, refuses more at random, and then reports RESOURCE_EXHAUSTED in place of the error. What counts is the size
on the wire: a byte of the message that is no printable ASCII takes three, three bytes of details take four.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from serving.errors import AisleError, Code, QuotaExceeded, Violation

DOMAIN = "aisle"
REQUEST_ID = "x-request-id"
STATUS_DETAILS = "grpc-status-details-bin"
MAX_REQUEST_ID_CHARS = 128
# Together 6.5 KB on the wire: message 1,000, details with message and violations 4/3 * 3,900, request id and names 300.
MAX_MESSAGE_BYTES = 1000  # on the wire
MAX_VIOLATIONS_BYTES = 2500
MAX_FIELD_BYTES = 400
MAX_DESCRIPTION_BYTES = 600
STATUS_CODES = {code: grpc.StatusCode[code] for code in Code}
_CUT = "..."  # ends a text that is not told in full


@dataclass(frozen=True, slots=True)
class ErrorStatus:
    """How a call ends for its caller."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def read_request_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Returns the caller's request id, or a new one if the caller sent none that can be logged and sent back: printable ASCII."""
    sent = next((str(value) for name, value in metadata or () if name == REQUEST_ID), "")
    if 0 < len(sent) <= MAX_REQUEST_ID_CHARS and sent.isascii() and sent.isprintable():
        return sent
    return f"{random.getrandbits(128):032x}"


def error_status(error: AisleError, request_id: str) -> ErrorStatus:
    """Returns the error as code, message and google.rpc details, of each as much as fits."""
    message = _cut_message(error.message)
    if error.retry_after_s is not None:
        # Made once per tenth of a second of delay: under overload most calls end here.
        tenths = math.ceil(10 * error.retry_after_s)
        quota = error.quota if isinstance(error, QuotaExceeded) else None
        details = _packed_retry(STATUS_CODES[error.code].value[0], message, error.reason, tenths, quota)
    else:
        info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"request_id": request_id})
        told = [info, _bad_request(error.violations)] if error.violations else [info]
        details = _pack(STATUS_CODES[error.code].value[0], message, told)
    return ErrorStatus(STATUS_CODES[error.code], message, ((REQUEST_ID, request_id), (STATUS_DETAILS, details)))


@functools.lru_cache(maxsize=256)
def _packed_retry(code: int, message: str, reason: str, tenths: int, quota: tuple[str, str] | None) -> bytes:
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(100 * tenths)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    told: list[Message] = [info, error_details_pb2.RetryInfo(retry_delay=delay)]
    if quota:
        violation = error_details_pb2.QuotaFailure.Violation(subject=quota[0], description=quota[1])
        told.append(error_details_pb2.QuotaFailure(violations=[violation]))
    return _pack(code, message, told)


def _pack(code: int, message: str, details: Sequence[Message]) -> bytes:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status.SerializeToString()


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    """Returns the first violations, at least one: as many as fit."""
    bad = error_details_pb2.BadRequest()
    for violation in violations:
        told = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field, MAX_FIELD_BYTES),
            description=_cut(violation.description, MAX_DESCRIPTION_BYTES),
        )
        if bad.ByteSize() + told.ByteSize() > MAX_VIOLATIONS_BYTES:
            break
        bad.field_violations.append(told)
    return bad


def _cut(text: str, max_bytes: int) -> str:
    """Returns the text, or as much of it as fits in so many bytes of UTF-8."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max_bytes - len(_CUT)].decode(errors="ignore") + _CUT


def _cut_message(text: str) -> str:
    """Returns the text, or as much of it as fits in `MAX_MESSAGE_BYTES` once gRPC has percent-encoded it."""
    text = text[: MAX_MESSAGE_BYTES + 1]
    if 3 * len(text.encode()) <= MAX_MESSAGE_BYTES:
        return text
    left = MAX_MESSAGE_BYTES
    fits = 0  # characters that leave room for `_CUT`
    for at, char in enumerate(text):
        left -= 1 if " " <= char <= "~" and char != "%" else 3 * len(char.encode())
        if left < 0:
            return text[:fits] + _CUT
        if left >= len(_CUT):
            fits = at + 1
    return text
