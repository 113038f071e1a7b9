"""How calls ended: counted by method and code, and logged."""

from __future__ import annotations

import time
from collections import Counter

from serving.config import LogConfig
from serving.errors import Code, Overloaded, QuotaExceeded
from serving.logs import log
from serving.traces.trace import trace_id_of

REFUSALS_LOG_S = 1.0

Counts = Counter[tuple[str, str]]  # by method and name of the gRPC code


class CallLog:
    """The calls that ended in one process."""

    def __init__(self, config: LogConfig) -> None:
        self.ended: Counts = Counter()
        self._requests = config.requests
        self._unlogged: Counter[str] = Counter()  # refusals for overload by method, since the last log line
        self._refusals_logged = 0.0

    def done(
        self,
        method: str,
        code: str,
        request_id: str,
        started: float,
        error: BaseException | None = None,
        traceparent: str = "",
    ) -> None:
        """Counts and logs the end of a call. `code` is the name of a gRPC status, `started` a time of `time.monotonic`, `traceparent` the
        caller's where the log does not know the call's trace by itself."""
        self.ended[method, code] += 1
        if self._requests == "off" or (self._requests == "failed" and error is None):
            return
        if isinstance(error, Overloaded | QuotaExceeded):
            self._log_refusal(method)
            return
        fields: dict[str, object] = {
            "method": method,
            "code": str(code),
            "request_id": request_id,
            "ms": (time.monotonic() - started) * 1000,
        }
        if traceparent:
            fields["trace_id"] = trace_id_of(traceparent)
        if error is not None:
            fields["error"] = str(error)
        if code == Code.INTERNAL:
            log.error("call", extra={"fields": fields}, exc_info=error)
        else:
            log.info("call", extra={"fields": fields})

    def codes(self) -> dict[str, int]:
        """Returns how many calls ended with each code, whatever their method."""
        counts: Counter[str] = Counter()
        for (_, code), count in self.ended.items():
            counts[str(code)] += count
        return dict(counts)

    def _log_refusal(self, method: str) -> None:
        """Logs one line a second with a count: a line per refusal would cost more than the refusal, just when time is short."""
        self._unlogged[method] += 1
        now = time.monotonic()
        if now - self._refusals_logged >= REFUSALS_LOG_S:
            log.warning("overload", extra={"fields": {"refused": dict(self._unlogged)}})
            self._unlogged.clear()
            self._refusals_logged = now
