"""Times as HDR histograms: they merge without loss, and their percentiles are right to a known share at every size."""

from __future__ import annotations

import math
from typing import Any

from hdrh.histogram import HdrHistogram

MAX_US = 120_000_000  # longer times count as this


class Histogram:
    """Times from a microsecond to two minutes. `digits` are the significant decimal digits of every percentile."""

    __slots__ = ("counts", "digits")

    def __init__(self, digits: int = 3) -> None:
        self.digits = digits
        self.counts = HdrHistogram(1, MAX_US, digits)

    def record(self, seconds: float) -> None:
        self.counts.record_value(min(MAX_US, max(1, int(seconds * 1e6))))

    @property
    def count(self) -> int:
        return int(self.counts.get_total_count())

    @property
    def mean_ms(self) -> float:
        return float(self.counts.get_mean_value()) / 1000 if self.count else math.nan

    @property
    def max_ms(self) -> float:
        return float(self.counts.get_max_value()) / 1000 if self.count else math.nan

    def percentile(self, q: float) -> float:
        """Returns the q-th percentile in milliseconds; not a number if there is nothing."""
        return float(self.counts.get_value_at_percentile(q)) / 1000 if self.count else math.nan

    def add(self, other: Histogram) -> None:
        self.counts.add(other.counts)

    def __getstate__(self) -> tuple[int, bytes]:
        return self.digits, self.counts.encode()

    def __setstate__(self, state: tuple[int, bytes]) -> None:
        self.digits, encoded = state
        self.counts = HdrHistogram(1, MAX_US, self.digits)
        self.counts.decode_and_add(encoded)


def merged(histograms: Any) -> Histogram:
    """Returns one histogram of all times of several with the same digits; an empty one of none."""
    total: Histogram | None = None
    for histogram in histograms:
        if total is None:
            total = Histogram(histogram.digits)
        total.add(histogram)
    return total if total is not None else Histogram()
