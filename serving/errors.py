"""The errors of calls, each with the code that its caller gets. `serving.gateway.rpc` alone catches them and speaks gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """How a call ends. The names are those of gRPC's status codes."""

    INTERNAL = "INTERNAL"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that breaks a rule. `field` is its path in the proto, such as `filter.brands[3]`."""

    field: str
    description: str


class AisleError(Exception):
    """A refusal or failure that is reported to the caller. `message` is for the caller: no paths, no internals."""

    code = Code.INTERNAL
    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.retry_after_s = retry_after_s
        self.violations: tuple[Violation, ...] = ()


class InvalidRequest(AisleError):
    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


class Unauthenticated(AisleError):
    code = Code.UNAUTHENTICATED
    reason = "API_KEY_INVALID"


class NotPermitted(AisleError):
    code = Code.PERMISSION_DENIED
    reason = "SCOPE_MISSING"


class StaleVersion(AisleError):
    """The request was made against another version of the served data."""

    code = Code.FAILED_PRECONDITION
    reason = "STALE_VERSION"


class NotServed(AisleError):
    """The bundle lacks what the call needs."""

    code = Code.FAILED_PRECONDITION
    reason = "NOT_SERVED"


class Overloaded(AisleError):
    """More work is queued than can be done in time. Nothing was computed; the same call can be sent again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(
        self,
        retry_after_s: float,
        message: str = "the server has more work than it can do in time; try again after the given delay",
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class DeadlineExceeded(AisleError):
    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unavailable(AisleError):
    """A part of the service is starting, stopping or was lost. The same call can be sent again."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"
