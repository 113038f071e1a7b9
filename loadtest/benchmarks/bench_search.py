"""Search against its floor, one caller at a time and saturated."""

from __future__ import annotations

from loadtest.benchmarks.floor import METHOD, Floor, search_messages
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import QUIET, Setup, encoder_stats, ratios
from loadtest.h2load import h2load

CALLER_PAUSE_S = 0.001  # about what passes at the server between an answer and the next call of one client


def bench_search(setup: Setup) -> None:
    """Search over gRPC, the load generator on the same cores, against the same stages called in this process."""
    messages = search_messages(bundle_queries(setup.bundle, 2000))
    floor = Floor(setup.bundle)
    floor_p50, paced_p50, p50 = [], [], []
    saturated: dict[int, list[float]] = {32: [], 64: []}
    batches: dict[int, list[float]] = {32: [], 64: []}
    floors: dict[int, list[float]] = {32: [], 64: []}
    with served(setup.bundle, QUIET) as service:
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            # h2load repeats one message, so each round takes other queries, and the floor the very same ones.
            some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
            floor_p50.append(floor.p50_ms(some[:1], setup.seconds / 2))
            paced_p50.append(floor.p50_ms(some[:1], setup.seconds / 2, CALLER_PAUSE_S))
            p50.append(h2load(service.address, METHOD, some[:1], clients=1, seconds=setup.seconds / 2).percentile(50))
            for clients, rates in saturated.items():
                before = encoder_stats(service.address)
                report = h2load(service.address, METHOD, some, clients=clients, seconds=setup.seconds)
                after = encoder_stats(service.address)
                mean_batch = (after.items - before.items) / max(1, after.batches - before.batches)
                rates.append(report.goodput)
                batches[clients].append(mean_batch)
                floors[clients].append(floor.throughput(some, max(1, round(mean_batch)), setup.seconds))
    add = setup.figures.add
    add("search", "p50, floor in process", "ms", floor_p50)
    add("search", "p50, Search, 1 client", "ms", p50)
    add("search", "p50, Search / floor", "ratio", ratios(p50, floor_p50), goal="<= 1.3")
    pause = f"{CALLER_PAUSE_S * 1000:g} ms pause before each call"
    add("search", "p50, floor at a caller's pace", "ms", paced_p50, note=pause)
    add("search", "p50, Search / floor at a caller's pace", "ratio", ratios(p50, paced_p50), goal="<= 1.3")
    for clients, rates in saturated.items():
        add("search", f"mean batch, {clients} clients", "queries", batches[clients])
        add("search", f"throughput, floor at that batch, {clients}", "queries/s", floors[clients])
        add("search", f"throughput, Search, {clients} clients", "queries/s", rates)
        ratio = ratios(rates, floors[clients])
        add("search", f"throughput, Search / floor, {clients} clients", "ratio", ratio, goal=">= 0.70")
