"""What can go wrong with a call, each with its gRPC status. `serving.gateway.rpc` is the one place that catches them."""

from __future__ import annotations

from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that breaks a rule. `field` is its path in the proto, as `filter.brands[3]`."""

    field: str
    description: str


class AisleError(Exception):
    """A refusal or failure that the caller is told about. `message` is for the caller: no paths, no internals."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).reason
        self.retry_after_s = retry_after_s
        self.violations: tuple[Violation, ...] = ()


class InvalidRequest(AisleError):
    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


class Unauthenticated(AisleError):
    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "API_KEY_INVALID"


class NotPermitted(AisleError):
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SCOPE_MISSING"


class StaleVersion(AisleError):
    """The request was made against another version of the served data."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "STALE_VERSION"


class NotServed(AisleError):
    """The bundle lacks what the call needs."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "NOT_SERVED"


class Overloaded(AisleError):
    """More work is queued than can be done in time. Nothing was computed; the same call may be sent again."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(
        self,
        retry_after_s: float,
        message: str = "the server has more work than it can do in time; try again after the given delay",
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class DeadlineExceeded(AisleError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unavailable(AisleError):
    """A part of the service is starting, stopping or was lost. The same call may be sent again."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"
