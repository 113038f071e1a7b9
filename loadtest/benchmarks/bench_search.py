"""Search against its floor, one caller at a time and saturated."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from loadtest.benchmarks.floor import METHOD, Floor, search_messages
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, Setup, mean_batch, ratios, stats_of
from loadtest.h2load import h2load

CALLER_PAUSE_S = 0.001  # about what passes at the server between an answer and the next call of one client
CLIENTS = (32, 64)


def _lists() -> dict[int, list[float]]:
    return {clients: [] for clients in CLIENTS}


@dataclass(frozen=True, slots=True)
class Target:
    """A service with its floor, and what was measured of both, round by round."""

    address: str
    messages: list[bytes]
    floor: Floor
    floor_p50: list[float] = field(default_factory=list)
    paced_p50: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    saturated: dict[int, list[float]] = field(default_factory=_lists)
    batches: dict[int, list[float]] = field(default_factory=_lists)
    floors: dict[int, list[float]] = field(default_factory=_lists)


def bench_search(setup: Setup) -> None:
    """Search over gRPC, the load generator on the same cores, against the same stages called in this process."""
    with ExitStack() as running:
        targets = {}
        for name, folder in setup.bundles.items():
            messages = search_messages(bundle_queries(folder, 2000))
            service = running.enter_context(served(folder, PATIENT))
            targets[name] = Target(service.address, messages, Floor(folder))
        for number in range(setup.rounds):
            for name, target in targets.items():
                setup.say(f"{name}, round {number + 1}")
                _measure(target, number, setup.seconds)
    for name, target in targets.items():
        _add_figures(setup, name, target)


def _measure(target: Target, number: int, seconds: float) -> None:
    address, messages, floor = target.address, target.messages, target.floor
    # h2load repeats one message, so each round takes other queries, and the floor the very same ones.
    some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
    target.floor_p50.append(floor.p50_ms(some[:1], seconds / 2))
    target.paced_p50.append(floor.p50_ms(some[:1], seconds / 2, CALLER_PAUSE_S))
    target.p50.append(h2load(address, METHOD, some[:1], clients=1, seconds=seconds / 2).percentile(50))
    for clients in CLIENTS:
        before = stats_of(address)
        report = h2load(address, METHOD, some, clients=clients, seconds=seconds)
        batch = mean_batch(before, stats_of(address), floor.first_stage)
        target.saturated[clients].append(report.goodput)
        target.batches[clients].append(batch)
        target.floors[clients].append(floor.throughput(some, max(1, round(batch)), seconds))


def _add_figures(setup: Setup, bundle: str, target: Target) -> None:
    def add(name: str, unit: str, values: list[float], *, goal: str = "", note: str = "") -> None:
        setup.figures.add("search", f"{bundle}: {name}", unit, values, goal=goal, note=note)

    add("p50, floor in process", "ms", target.floor_p50)
    add("p50, Search, 1 client", "ms", target.p50)
    add("p50, Search / floor", "ratio", ratios(target.p50, target.floor_p50), goal="<= 1.3")
    pause = f"{CALLER_PAUSE_S * 1000:g} ms pause before each call"
    add("p50, floor at a caller's pace", "ms", target.paced_p50, note=pause)
    add("p50, Search / floor at a caller's pace", "ratio", ratios(target.p50, target.paced_p50), goal="<= 1.3")
    for clients in CLIENTS:
        rates, floors = target.saturated[clients], target.floors[clients]
        add(f"mean batch, {clients} clients", "queries", target.batches[clients])
        add(f"throughput, floor at that batch, {clients}", "queries/s", floors)
        add(f"throughput, Search, {clients} clients", "queries/s", rates)
        add(f"throughput, Search / floor, {clients} clients", "ratio", ratios(rates, floors), goal=">= 0.85")
