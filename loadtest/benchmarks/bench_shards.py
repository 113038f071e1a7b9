"""What it costs to divide the index: two shards against two replicas of the whole, which take the same processes and do the same work."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, Setup, ratios
from loadtest.h2load import h2load

CLIENTS = 32
SIDES = {"whole": "min_replicas = 2\nmax_replicas = 2\n", "shards": "shards = 2\nmax_shard_wait_ms = 60000\n"}


def bench_shards(setup: Setup) -> None:
    """Throughput and p50 of a remote retriever with two replicas of the whole index, and with two shards of it."""
    for name, folder in setup.bundles.items():
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        p50: dict[str, list[float]] = {side: [] for side in SIDES}
        memory: dict[str, list[float]] = {}
        messages = search_messages(bundle_queries(folder, 2000))
        with ExitStack() as running:
            services = {side: running.enter_context(served(folder, _config(own))) for side, own in SIDES.items()}
            for number in range(setup.rounds):
                some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
                for side, service in services.items():
                    setup.say(f"{name}, round {number + 1}, {side}")
                    address = service.address
                    p50[side].append(
                        h2load(address, METHOD, some[:1], clients=1, seconds=setup.seconds / 2).percentile(50)
                    )
                    report = h2load(address, METHOD, some, clients=CLIENTS, seconds=setup.seconds, warm_up_s=0.5)
                    rates[side].append(report.goodput)
            for side, service in services.items():
                memory[side] = [_proportional_mb(pid) for pid in _retrievers(service)]
        for side in SIDES:
            setup.figures.add("shards", f"{name}: throughput, {side}, {CLIENTS} clients", "queries/s", rates[side])
            setup.figures.add("shards", f"{name}: p50, {side}, 1 client", "ms", p50[side])
            setup.figures.add(
                "shards", f"{name}: memory of a retriever, {side}", "MB", memory[side], note="proportional set size"
            )
        ratio = ratios(rates["shards"], rates["whole"])
        setup.figures.add("shards", f"{name}: throughput, shards / whole", "ratio", ratio, goal=">= 0.9")


def _config(retriever: str) -> str:
    stage = f'[retriever]\nplacement = "remote"\nnum_cpus = 0.1\n{retriever}max_wait_ms = 60000\n'
    return PATIENT.replace("[retriever]\nmax_wait_ms = 60000\n", stage) + "[server]\nnum_cpus = 0.1\n"


def _retrievers(service: Service) -> list[int]:
    return [line["pid"] for line in service.events("stage ready") if line["stage"].startswith("retriever")]


def _proportional_mb(pid: int) -> float:
    """Returns the memory of a process in MB, shared pages divided among those that map them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000
