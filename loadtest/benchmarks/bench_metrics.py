"""What it costs a saturated service to count and to trace."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import Service, bundle_queries, free_port, served
from loadtest.benchmarks.setup import PATIENT, Setup, ratios
from loadtest.h2load import h2load
from serving.metrics.metric import FOLDER, close_metrics, open_metrics
from serving.metrics.table import CALL_SECONDS

CLIENTS = 32
SCRAPE_EVERY_S = 5.0  # Prometheus does so every 15 s
GAUGES = 2  # times that a call moves a gauge
REPEATS = 100_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """A service, and what was measured of it, round by round. `url` is that of its metrics, if they are on."""

    service: Service
    url: str = ""
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of gateway and edge, for each search
    scrapes_ms: list[float] = field(default_factory=list)
    observations: list[float] = field(default_factory=list)  # of a search
    observation_us: list[float] = field(default_factory=list)


def bench_metrics(setup: Setup) -> None:
    """Search with metrics on, and scraped, against metrics off; and with one of a hundred calls traced, for a collector that is away."""
    folder = setup.personal or setup.bundle
    messages = search_messages(bundle_queries(folder, 2000))
    port = free_port()
    collector = f'[traces]\nendpoint = "http://127.0.0.1:{free_port()}"\n'
    with ExitStack() as running:
        off = Side(running.enter_context(served(folder, PATIENT)))
        on = Side(
            running.enter_context(served(folder, f"{PATIENT}[metrics]\nport = {port}\n")),
            f"http://127.0.0.1:{port}/metrics",
        )
        traced = Side(running.enter_context(served(folder, PATIENT + collector)))
        sides = [off, on, traced]
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
            for side in sides[number % 3 :] + sides[: number % 3]:  # whoever is first finds a machine that has rested
                _measure(side, some, setup.seconds)
    add = setup.figures.add
    scraped = f"{CLIENTS} clients; scraped every {SCRAPE_EVERY_S:g} s"
    add("metrics", "throughput, metrics off", "queries/s", off.rates)
    add("metrics", "throughput, metrics on / off", "ratio", ratios(on.rates, off.rates), goal=">= 0.99", note=scraped)
    add("metrics", "throughput, traces on / off", "ratio", ratios(traced.rates, off.rates), goal=">= 0.99")
    add("metrics", "CPU of a search, metrics off", "ms", off.cpu_ms)
    add("metrics", "CPU of a search, metrics on / off", "ratio", ratios(on.cpu_ms, off.cpu_ms), goal="<= 1.01")
    add("metrics", "CPU of a search, traces on / off", "ratio", ratios(traced.cpu_ms, off.cpu_ms), goal="<= 1.01")
    add("metrics", "a scrape of a saturated service", "ms", on.scrapes_ms)
    add("metrics", "numbers counted for a search", "", on.observations)
    add("metrics", "one of them, in a histogram with labels", "us", on.observation_us)
    counting = [count * us / 1000 for count, us in zip(on.observations, on.observation_us, strict=True)]
    add("metrics", "all of them / CPU of a search", "ratio", ratios(counting, off.cpu_ms), goal="<= 0.01")


def _measure(side: Side, messages: list[bytes], seconds: float) -> None:
    pids = [line["pid"] for name in ("gateway ready", "edge ready") for line in side.service.events(name)]
    if side.url:
        side.observation_us.append(_observation_us())
    counted = _counted(side)
    with _scraped(side):
        before = sum(map(_cpu_s, pids))
        report = h2load(side.service.address, METHOD, messages, clients=CLIENTS, seconds=seconds, warm_up_s=0.0)
        spent = sum(map(_cpu_s, pids)) - before
    side.rates.append(report.goodput)
    side.cpu_ms.append(1000 * spent / max(1, report.codes["OK"]))
    if side.url:
        side.observations.append((_counted(side) - counted) / max(1, report.codes["OK"]) + GAUGES)


@contextmanager
def _scraped(side: Side) -> Iterator[None]:
    """Scrapes a service for as long as the block lasts, if it has metrics."""
    over = threading.Event()
    taken: list[float] = []

    def scrape() -> None:
        while True:
            began = time.perf_counter()
            with urllib.request.urlopen(side.url, timeout=30) as answer:  # noqa: S310 - our own service
                answer.read()
            taken.append(1000 * (time.perf_counter() - began))
            if over.wait(SCRAPE_EVERY_S):
                return

    thread = threading.Thread(target=scrape)
    if side.url:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if side.url:
            thread.join()
            side.scrapes_ms.append(sum(taken) / len(taken))


def _counted(side: Side) -> float:
    """Returns how many numbers a service has counted; 0 if it has no metrics."""
    if not side.url:
        return 0.0
    with urllib.request.urlopen(side.url, timeout=30) as answer:  # noqa: S310 - our own service
        families = list(text_string_to_metric_families(answer.read().decode()))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith(("_count", "_total")) and not sample.name.startswith("process_")
    )


def _observation_us() -> float:
    """Returns what the costliest way to count takes, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FOLDER).mkdir()
        open_metrics("bench", str(Path(folder) / "log.sock"))
        began = time.perf_counter()
        for _ in range(REPEATS):
            CALL_SECONDS.labels("aisle.v1.SearchService/Search", "OK").observe(0.01)
        taken_s = time.perf_counter() - began
        close_metrics()
    return 1e6 * taken_s / REPEATS


def _cpu_s(pid: int) -> float:
    """Returns the seconds of processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
