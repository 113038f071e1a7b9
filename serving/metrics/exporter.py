"""Serves `/metrics`: the pages of all processes of this machine, added up, and what the machine says of the processes and GPUs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from models.errors import InputError
from serving.config import MetricsConfig
from serving.logs import log
from serving.metrics import table as _table  # noqa: F401 - declares the metrics
from serving.metrics.gpus import Gpus
from serving.metrics.metric import FOLDER, METRICS, Kind, Merge, Metric
from serving.metrics.page import Series, WrittenPage, written_pages

SWEEP_S = 5.0
Values = dict[tuple[str, ...], list[float]]  # by the values of the labels


class MetricsError(InputError):
    """The metrics cannot be served; the message names the key to change."""


class Exporter:
    """Listens on the configured port until `close`. What processes that have ended counted is kept here, and their pages are deleted: there
    are as many pages as processes live."""

    def __init__(self, config: MetricsConfig, run_folder: Path) -> None:
        """Makes the folder of the pages: from now on processes count. Raises MetricsError if it cannot listen."""
        self._folder = run_folder / FOLDER
        self._ended: dict[str, Values] = {}
        self._reading = threading.Lock()
        self._next_sweep = 0.0
        self._gpus = Gpus.find()
        try:
            self._folder.mkdir(mode=0o700)
        except OSError as error:
            log.error("there are no metrics but those of processes", extra={"fields": {"error": str(error)}})
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(config.port, config.host, registry)
        except OSError as error:
            raise MetricsError(
                f"metrics.port: cannot listen on {config.host}:{config.port}: {error.strerror}; stop what listens there, or set "
                "metrics.port or metrics.host"
            ) from None
        log.info("metrics", extra={"fields": {"address": f"http://{config.host}:{config.port}/metrics"}})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def describe(self) -> Iterable[Family]:
        """Tells the registry nothing: it would collect otherwise."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yields all metrics, as the registry asks for them at each scrape."""
        living, counted = self._read()
        for page in living:
            for series in page.series:
                _add(counted, series)
        for metric in METRICS.values():
            yield _family(metric, counted.get(metric.name, {}))
        yield from self._processes([("serve", os.getpid()), *((page.process, page.pid) for page in living)])
        yield from self._gpus.collect()

    def sweep(self) -> None:
        """Takes over what ended processes have counted, from time to time: nobody may scrape. Cheap: to be called often."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._read()

    def _read(self) -> tuple[list[WrittenPage], dict[str, Values]]:
        """Returns the pages of living processes, and what all others have counted, whose pages are taken over and deleted."""
        living = []
        with self._reading:  # two scrapes at a time would count a page twice
            for page in written_pages(self._folder):
                if page.is_alive:
                    living.append(page)
                    continue
                for series in page.series:
                    if (metric := METRICS.get(series.name)) and metric.kind is not Kind.GAUGE:
                        _add(self._ended, series)
                page.path.unlink(missing_ok=True)
            counted = {name: {labels: list(each) for labels, each in of.items()} for name, of in self._ended.items()}
        return living, counted

    def _processes(self, running: Iterable[tuple[str, int]]) -> Iterator[Family]:
        families: dict[str, Family] = {}
        counts: dict[str, int] = {}
        for process, pid in running:
            counts[process] = counts.get(process, 0) + 1
            for read in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                family = families.setdefault(read.name, Family(read.name, read.documentation, read.type))
                for sample in read.samples:
                    family.add_sample(sample.name, {"process": process, "pid": str(pid)}, sample.value)
        yield from families.values()
        living = GaugeMetricFamily("aisle_processes", "Processes that run, by what they are.", labels=["process"])
        for process, count in counts.items():
            living.add_metric([process], count)
        yield living


def _add(totals: dict[str, Values], series: Series) -> None:
    metric, of_metric = METRICS.get(series.name), totals.setdefault(series.name, {})
    known = of_metric.get(series.labels)
    if known is None:
        of_metric[series.labels] = list(series.values)
    elif metric and metric.merge is Merge.MAX:
        known[0] = max(known[0], series.values[0])
    else:
        of_metric[series.labels] = [one + other for one, other in zip(known, series.values, strict=True)]


def _family(metric: Metric, counted: Values) -> Family:
    if metric.kind is Kind.COUNTER:
        counter = CounterMetricFamily(metric.name, metric.text, labels=metric.label_names)
        for labels, (value,) in counted.items():
            counter.add_metric(labels, value)
        return counter
    if metric.kind is Kind.GAUGE:
        gauge = GaugeMetricFamily(metric.name, metric.text, labels=metric.label_names)
        for labels, (value,) in counted.items():
            gauge.add_metric(labels, value)
        return gauge
    histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.label_names)
    bounds = [*(f"{bound:g}" for bound in metric.bounds), "+Inf"]
    for labels, values in counted.items():
        below = list(accumulate(values[:-1]))
        histogram.add_metric(labels, list(zip(bounds, below, strict=True)), values[-1])
    return histogram
