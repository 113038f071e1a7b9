"""How much a key may do: calls a second and cost a second, as its line in the keys file says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.edge.keys import ApiKey
from serving.errors import QuotaExceeded

BURST_S = 2.0  # what a key did not use in this time, it may use at once


@dataclass(slots=True)
class _Bucket:
    """What is left of one limit. It fills at the limit's rate, up to `BURST_S` of it, and may be overdrawn by the cost of one call."""

    rate: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        self.left = min(self.rate * BURST_S, self.left + (now - self.at) * self.rate)
        self.at = now


class Quotas:
    """The limits of the keys that have some. Not thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take_call(self, key: ApiKey) -> None:
        """Takes one call. Raises QuotaExceeded if the key has none left, or has overdrawn its cost."""
        now = self._clock()
        for limit, rate in key.limits:
            bucket = self._bucket(key.name, limit, rate, now)
            least = min(1.0, rate * BURST_S) if limit == "calls_per_s" else 0.0  # a cost may be overdrawn
            if bucket.left < least or bucket.left <= 0:
                raise QuotaExceeded(key.name, limit, rate, (least - bucket.left) / rate)
        for limit, _ in key.limits:
            self._buckets[key.name, limit].left -= 1.0

    def take_cost(self, key: ApiKey, more: float) -> None:
        """Takes the cost of an admitted call beyond 1, once it is known."""
        for limit, rate in key.limits:
            if limit == "cost_per_s":
                self._bucket(key.name, limit, rate, self._clock()).left -= more

    def _bucket(self, name: str, limit: str, rate: float, now: float) -> _Bucket:
        bucket = self._buckets.get((name, limit))
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[name, limit] = _Bucket(rate, rate * BURST_S, now)
        bucket.fill(now)
        return bucket
