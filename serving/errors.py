"""The errors of calls, each with the code that its caller gets. `serving.gateway.rpc` alone catches them and speaks gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_TOLD = 8  # violations that a message names: a request can have thousands, and the message is logged


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
        told = [f"{v.field}: {v.description}" for v in violations[:MAX_TOLD]]
        more = [f"and {len(violations) - MAX_TOLD} more"] if len(violations) > MAX_TOLD else []
        super().__init__("; ".join(told + more))
        self.violations = violations


class Unauthenticated(AisleError):
    code = Code.UNAUTHENTICATED
    reason = "API_KEY_INVALID"


class NotPermitted(AisleError):
    """The API key `key_name` lacks a scope. If only one `field` of the request needs it, the error names it."""

    code = Code.PERMISSION_DENIED
    reason = "SCOPE_MISSING"

    def __init__(self, message: str, field: str = "", purpose: str = "", key_name: str = "") -> None:
        super().__init__(f"{message}, which {field} needs: {purpose}" if field else message)
        self.key_name = key_name
        self.violations = (Violation(field, purpose),) if field else ()


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


class QuotaExceeded(AisleError):
    """The caller's key has used up what its line in the keys file allows. Nothing was computed; the same call can be sent again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"

    def __init__(self, key_name: str, limit: str, rate: float, retry_after_s: float) -> None:
        said = f"the API key '{key_name}' has used up its {limit} of {rate:g}; try again after the given delay"
        super().__init__(said, retry_after_s=retry_after_s)
        self.key_name = key_name
        self.quota = (f"key:{key_name}", f"{limit} is {rate:g}")  # who, and what is used up


class AnswerTooLarge(AisleError):
    """The answer is larger than a message may be. The same call will be refused again."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "ANSWER_TOO_LARGE"


class DeadlineExceeded(AisleError):
    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Unavailable(AisleError):
    """A part of the service is starting, stopping or was lost. The same call can be sent again."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class NotImplementedHere(AisleError):
    """There is no such method."""

    code = Code.UNIMPLEMENTED
    reason = "NO_SUCH_METHOD"
