"""What becomes of the service at four times its capacity, and after it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import bundle_queries, module_server, served
from loadtest.benchmarks.setup import QUIET, Setup, ended_calls
from loadtest.h2load import h2load
from loadtest.open_loop import open_loop
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix

TIMES = 4
PEAK_CLIENTS = 32
FLOOD_CLIENTS = 64
DEADLINE_S = 1.0
PROBE_RATE = 40.0  # calls a second, of each probe
SETTLE_S = 1.0  # from the start of a load until it is measured
MARGIN_S = 0.25  # by which a load outlasts its measurement
RECOVERY_S = 2.0  # from the end of the flood until the capacity is measured again
CODES = ("OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED")


@dataclass(frozen=True, slots=True)
class Target:
    """A service to flood, with what it is asked."""

    address: str
    messages: Sequence[bytes]  # of the generators, which repeat them
    queries: Sequence[str]  # of the probe


@dataclass(frozen=True, slots=True)
class Ended:
    """How searches ended in some seconds, by the service's own count."""

    codes: Counter[str]
    seconds: float

    @property
    def rate(self) -> float:
        return self.codes.total() / self.seconds

    @property
    def goodput(self) -> float:
        return self.codes["OK"] / self.seconds

    def share(self, *codes: str) -> float:
        return sum(self.codes[code] for code in codes) / max(1, self.codes.total())


@dataclass(frozen=True, slots=True)
class Round:
    """One peak, the flood after it, and the capacity after the flood."""

    peak: float  # queries a second
    flood: Ended
    sent: LoadReport  # of the flood, by its generator; refusals count as answers
    probe: LoadReport  # a few searches next to the flood
    echo: LoadReport  # the same probe at an idle echo server
    recovered: float  # queries a second


def bench_overload(setup: Setup) -> None:
    """Four times the capacity: what is kept, refused and late, how fast both are, and how soon the capacity is back.

    h2load cannot tell a refusal from an answer, so the service counts codes, and a Python client next to the flood measures latencies
    by code. That client waits for the cores as all do: what an idle echo server costs it in the same seconds is in each latency.
    """
    rounds: dict[str, list[Round]] = {name: [] for name in setup.bundles}
    with ExitStack() as running:
        echo = running.enter_context(module_server("loadtest.benchmarks.echo_server", ["bare"]))
        targets = {}
        for name, folder in setup.bundles.items():
            queries = bundle_queries(folder, 2000)
            service = running.enter_context(served(folder, QUIET))
            targets[name] = Target(service.address, search_messages(queries[:8]), queries)
        for number in range(setup.rounds):
            for name, target in targets.items():
                setup.say(f"{name}, round {number + 1}")
                rounds[name].append(_round(target, echo.address, setup.seconds))
    for name, measured in rounds.items():
        _add_figures(setup, name, measured)


def _round(target: Target, echo: str, seconds: float) -> Round:
    """Each load runs in a thread that waits for its generators, and begins before it is measured."""

    def closed_loop(for_s: float) -> LoadReport:
        return h2load(
            target.address, METHOD, target.messages, clients=PEAK_CLIENTS, seconds=for_s, warm_up_s=0, check_first=False
        )

    with ThreadPoolExecutor(2) as threads:
        load = threads.submit(closed_loop, SETTLE_S + seconds + MARGIN_S)
        time.sleep(SETTLE_S)
        peak = _count(target.address, seconds).goodput
        load.result()

        flood = threads.submit(
            h2load, target.address, METHOD, target.messages, clients=FLOOD_CLIENTS, seconds=seconds + 2 * MARGIN_S,
            warm_up_s=SETTLE_S, rate=TIMES * peak, deadline_ms=round(1000 * DEADLINE_S),
        )  # fmt: skip
        time.sleep(SETTLE_S + MARGIN_S)
        probes = threads.submit(asyncio.run, _probe(target, echo, seconds))
        ended = _count(target.address, seconds)
        sent = flood.result()

        load = threads.submit(closed_loop, RECOVERY_S + 1 + MARGIN_S)
        time.sleep(RECOVERY_S)
        recovered = _count(target.address, 1.0).goodput
        load.result()
        return Round(peak, ended, sent, *probes.result(), recovered)


async def _probe(target: Target, echo: str, seconds: float) -> tuple[LoadReport, LoadReport]:
    """The same calls to the service and to the echo server."""
    search, idle = (
        open_loop(address, QueryMix(target.queries), rate=PROBE_RATE, seconds=seconds, deadline_s=DEADLINE_S, seed=seed)
        for seed, address in enumerate((target.address, echo))
    )
    return await asyncio.gather(search, idle)


def _count(address: str, seconds: float) -> Ended:
    """Counts the searches that end in the next `seconds`."""
    before, started = ended_calls(address, "Search"), time.perf_counter()
    time.sleep(seconds)
    after, took = ended_calls(address, "Search"), time.perf_counter() - started
    return Ended(after - before, took)


def _add_figures(setup: Setup, bundle: str, rounds: Sequence[Round]) -> None:
    def add(name: str, unit: str, values: Sequence[float], *, goal: str = "", note: str = "") -> None:
        known = [
            value for value in values if not math.isnan(value)
        ]  # there may be no refusal among a round's few calls
        if known:
            setup.figures.add("overload", f"{bundle}: {name}", unit, known, goal=goal, note=note)

    flood = [r.flood for r in rounds]
    others = sum((r.codes for r in flood), Counter())
    for code in CODES:
        del others[code]
    probe = "by a client next to the flood"
    add(f"peak goodput, {PEAK_CLIENTS} clients", "queries/s", [r.peak for r in rounds])
    add(f"offered, {TIMES} times the peak", "calls/s", [TIMES * r.peak for r in rounds])
    add("offered, as the generator did", "ratio", [r.sent.calls / r.sent.seconds / (TIMES * r.peak) for r in rounds])
    add("calls that ended at the service", "calls/s", [f.rate for f in flood], note="by its own count, as all shares")
    add("goodput", "queries/s", [f.goodput for f in flood])
    add("goodput kept", "ratio", [r.flood.goodput / r.peak for r in rounds], goal=">= 0.90")
    add("RESOURCE_EXHAUSTED", "share", [f.share("RESOURCE_EXHAUSTED") for f in flood])
    add("DEADLINE_EXCEEDED", "share", [f.share("DEADLINE_EXCEEDED") for f in flood], goal="< 0.01")
    add(
        "other codes", "share", [1 - f.share(*CODES) for f in flood],
        note=", ".join(f"{code} {count}" for code, count in others.most_common()),
    )  # fmt: skip
    late = [sum(ms > 1000 * DEADLINE_S for ms in r.sent.latencies_ms) / max(1, r.sent.calls) for r in rounds]
    add("later than the deadline at the generator", "share", late)
    add(
        "DEADLINE_EXCEEDED at the client", "share",
        [r.probe.codes["DEADLINE_EXCEEDED"] / max(1, r.probe.calls) for r in rounds], note=probe,
    )  # fmt: skip
    for q in (50, 99):
        goal = "< 10" if q == 99 else ""
        add(f"refusals, p{q}", "ms", [r.probe.refusal_percentile(q) for r in rounds], goal=goal, note=probe)
    for q in (50, 99):
        add(f"answers, p{q}", "ms", [r.probe.percentile(q) for r in rounds], note=probe)
    for q in (50, 99):
        add(f"idle echo, p{q}", "ms", [r.echo.percentile(q) for r in rounds], note="what the client itself waits")
    add(
        f"capacity {RECOVERY_S:g} s after the flood / peak", "ratio", [r.recovered / r.peak for r in rounds],
        goal=">= 0.95", note="for one second",
    )  # fmt: skip
