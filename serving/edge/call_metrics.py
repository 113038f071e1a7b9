"""The metrics of calls. The edge has every call, from its arrival to its end, so each is counted here, and once."""

from __future__ import annotations

from serving.errors import NotPermitted, QuotaExceeded, Unauthenticated
from serving.metrics import table

UNKNOWN = "unknown"  # method: callers may ask for whatever they like


class CallMetrics:
    """Belongs to the door, whose lock makes its threads take turns. Methods are paths, as "/aisle.v1.SearchService/Search"."""

    def __init__(self, paths: list[str]) -> None:
        names = {path: path.lstrip("/") for path in paths}
        self._names = names
        self._in_flight = {path: table.IN_FLIGHT.labels(name) for path, name in names.items()}
        self._ready = table.GATEWAYS_READY.labels()

    def arrived(self, path: str, remaining_s: float) -> None:
        """Takes the time that a call of a known method and caller has left."""
        table.DEADLINE_SECONDS.labels(self._names[path]).observe(remaining_s)

    def began(self, path: str) -> None:
        self._in_flight[path].inc()

    def ended(self, path: str, code: str, seconds: float) -> None:
        """Takes the end of a call that began. `code` is the name of a gRPC status."""
        self._in_flight[path].inc(-1)
        self._count(path, code, seconds)

    def refused(self, path: str, error: Exception, code: str, seconds: float) -> None:
        """Takes a call that was refused before it began."""
        self._count(path, code, seconds)
        if isinstance(error, Unauthenticated):
            table.AUTH_REFUSED.labels("").inc()
        elif isinstance(error, NotPermitted):
            self.not_permitted(error.key_name)
        elif isinstance(error, QuotaExceeded):
            table.QUOTA_REFUSED.labels(error.key_name).inc()

    def not_permitted(self, key_name: str) -> None:
        """Takes a call whose key lacks a scope, which only its message may tell."""
        table.AUTH_REFUSED.labels(key_name).inc()

    def set_ready(self, count: int) -> None:
        self._ready.set(count)

    def _count(self, path: str, code: str, seconds: float) -> None:
        table.CALL_SECONDS.labels(self._names.get(path, UNKNOWN), code).observe(seconds)
