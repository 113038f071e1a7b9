"""What it costs a saturated service to count and to trace."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import Service, bundle_queries, free_port, served
from loadtest.benchmarks.setup import PATIENT, Setup, ratios
from loadtest.h2load import h2load

CLIENTS = 32
SCRAPE_EVERY_S = 1.0  # Prometheus does so every 15 s
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Side:
    """A service, and what was measured of it, round by round. `url` is that of its metrics, if they are on."""

    service: Service
    url: str = ""
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of gateway and edge, for each search
    scrapes_ms: list[float] = field(default_factory=list)


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


def _measure(side: Side, messages: list[bytes], seconds: float) -> None:
    pids = [line["pid"] for name in ("gateway ready", "edge ready") for line in side.service.events(name)]
    with _scraped(side):
        before = sum(map(_cpu_s, pids))
        report = h2load(side.service.address, METHOD, messages, clients=CLIENTS, seconds=seconds, warm_up_s=0.0)
        spent = sum(map(_cpu_s, pids)) - before
    side.rates.append(report.goodput)
    side.cpu_ms.append(1000 * spent / max(1, report.codes["OK"]))


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


def _cpu_s(pid: int) -> float:
    """Returns the seconds of processors that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
