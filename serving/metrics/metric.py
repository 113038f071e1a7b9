"""Counters, gauges and histograms of this process. Like the log they belong to the process: `open_metrics` gives them a page to count in.

A number is written without a lock, so each series has one thread that writes it, or threads that take turns by a lock of theirs. Until a
page is open, and where metrics are off, a series is one that does nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from serving.logs import log
from serving.metrics.page import Page, PageFull

FOLDER = "metrics"  # of the pages, beside the log's socket


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """What becomes of the values that living processes have of a gauge."""

    SUM = "sum"
    MAX = "max"


class NumberSeries:
    """One number: a counter or a gauge."""

    __slots__ = ("_at", "_values")

    def __init__(self, values: memoryview[float], at: int, _: Sequence[float]) -> None:
        self._values, self._at = values, at

    def inc(self, amount: float = 1.0) -> None:
        self._values[self._at] += amount

    def set(self, value: float) -> None:
        self._values[self._at] = value


class HistogramSeries:
    """How many values were in each bucket, and their sum."""

    __slots__ = ("_at", "_bounds", "_sum_at", "_values")

    def __init__(self, values: memoryview[float], at: int, bounds: Sequence[float]) -> None:
        self._values, self._at, self._bounds = values, at, bounds
        self._sum_at = at + len(bounds) + 1

    def observe(self, value: float) -> None:
        self._values[self._at + bisect_left(self._bounds, value)] += 1.0
        self._values[self._sum_at] += value


class _OffNumber(NumberSeries):
    __slots__ = ()

    def __init__(self) -> None:
        """Has no place."""

    def inc(self, amount: float = 1.0) -> None:
        pass

    def set(self, value: float) -> None:
        pass


class _OffHistogram(HistogramSeries):
    __slots__ = ()

    def __init__(self) -> None:
        """Has no place."""

    def observe(self, value: float) -> None:
        pass


S = TypeVar("S", NumberSeries, HistogramSeries)

METRICS: dict[str, Metric] = {}  # all that are declared, by name
_page: list[Page] = []  # that of this process, if there is one


class Metric:
    """A name, what it tells, and the names of its labels. Whoever adds a label answers for the number of its values."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float] = (),
        merge: Merge = Merge.SUM,
    ) -> None:
        self.kind, self.name, self.text = kind, name, text
        self.label_names = tuple(labels)
        self.bounds = tuple(bounds)
        self.merge = merge
        METRICS[name] = self

    def forget_series(self) -> None:
        """Takes the series anew from the page that is open now."""


class _Metric(Metric, Generic[S]):
    _series_type: type[S]
    _off: S

    def __init__(
        self,
        kind: Kind,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        bounds: Sequence[float] = (),
        merge: Merge = Merge.SUM,
    ) -> None:
        super().__init__(kind, name, text, labels, bounds=bounds, merge=merge)
        self._series: dict[tuple[str, ...], S] = {}

    def labels(self, *values: str) -> S:
        """Returns the series with these values of the labels, in the order of their names."""
        return self._series.get(values) or self._add(values)

    def forget_series(self) -> None:
        self._series.clear()

    def _add(self, values: tuple[str, ...]) -> S:
        if not _page:
            return self._off
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, not {values}")
        (page,) = _page
        try:
            at = page.add(self.name, values, len(self.bounds) + 2 if self.bounds else 1)
        except PageFull:
            log.error("a metric is not counted", extra={"fields": {"metric": self.name, "error": "the page is full"}})
            return self._series.setdefault(values, self._off)
        # Of two threads that add one series the first wins; the other's record stays 0.
        return self._series.setdefault(values, self._series_type(page.values, at, self.bounds))


class Counter(_Metric[NumberSeries]):
    """Grows for as long as the service runs. Of processes that have ended it counts what they did."""

    _series_type, _off = NumberSeries, _OffNumber()

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(Kind.COUNTER, name, text, labels)


class Gauge(_Metric[NumberSeries]):
    """A value of now, of living processes."""

    _series_type, _off = NumberSeries, _OffNumber()

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, merge: Merge = Merge.SUM) -> None:
        super().__init__(Kind.GAUGE, name, text, labels, merge=merge)


class Histogram(_Metric[HistogramSeries]):
    """Counts values by buckets; `bounds` are the upper ones, ascending."""

    _series_type, _off = HistogramSeries, _OffHistogram()

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        super().__init__(Kind.HISTOGRAM, name, text, labels, bounds=bounds)


def open_metrics(process: str, log_socket: str) -> None:
    """Counts from now on in a page of this process, if `aisle serve` has made a folder for pages: it does where metrics are on. `process`
    says what runs here, as "gateway". A page that cannot be made is logged, and the process goes on without."""
    close_metrics()
    folder = Path(log_socket).parent / FOLDER
    if not log_socket or not folder.parent.is_dir() or not folder.exists():
        return
    try:
        _page.append(Page(folder, process))
    except OSError as error:
        fields = {"process": process, "error": f"{folder}: {error.strerror}"}
        log.error("this process has no metrics", extra={"fields": fields})


def close_metrics() -> None:
    """Ends the page of this process. Series that were taken of it must not be used any more."""
    for metric in METRICS.values():
        metric.forget_series()
    while _page:
        _page.pop().close()
