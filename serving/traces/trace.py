"""What is told of a traced call: `serving.traces.otlp` makes spans of it. A call that is not traced has no `CallTrace`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol

TRACEPARENT = "traceparent"  # metadata of a call, as the W3C's Trace Context writes it
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

Value = str | int | float | bool | Sequence[str]


class CallTrace(Protocol):
    """One call. Times are of `time.monotonic`."""

    trace_id: str

    def describe(self, **facts: Value) -> None:
        """Adds attributes: never a query, a shopper or another text of the caller."""

    def phase(self, name: str, started: float, ended: float) -> None:
        """Tells of work that began and ended in this process."""

    def batch(
        self, stage: str, items: Sequence[tuple[CallTrace, float]], started: float, seconds: float, size: int, cost: int
    ) -> None:
        """Tells of a batch of `size` items. `items` are those of traced calls, this one among them, with the seconds that each waited."""

    def end(self, code: str) -> None:
        """Ends the call. `code` is the name of a gRPC status."""


class Tracer(Protocol):
    def begin(self, method: str, traceparent: str, started: float, facts: Mapping[str, Value]) -> CallTrace | None:
        """Returns the trace of a call, or None if it is not traced. `method` is its full name, `traceparent` what the caller sent."""

    def close(self) -> None:
        """Sends what is left, for a bounded time."""


# That of the call whose work this is. Set where a call begins; every task of the call sees it.
TRACE: ContextVar[CallTrace | None] = ContextVar("trace", default=None)


def read_traceparent(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Returns the caller's traceparent; empty if there is none, or none that is one."""
    for name, value in metadata:
        if name == TRACEPARENT:
            return str(value) if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else ""
    return ""


def trace_id_of(traceparent: str) -> str:
    """Returns the id of the trace; empty for an empty traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""
