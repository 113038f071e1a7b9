"""Search against the same search built the stock way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import bundle_queries, module_server, served
from loadtest.benchmarks.setup import PATIENT, Setup, ratios
from loadtest.errors import LoadError
from loadtest.h2load import h2load, raw_call

P99_LIMITS_MS = (25, 50, 100, 200)
LADDER = (1, 2, 4, 8, 16, 32, 64)


def bench_stock(setup: Setup) -> None:
    """Aisle against the same search behind Serve's gRPC proxy and `@serve.batch`: most throughput within a p99."""
    messages = search_messages(bundle_queries(setup.bundle, 2000))
    best: dict[str, dict[int, list[float]]] = {
        side: {limit: [] for limit in P99_LIMITS_MS} for side in ("aisle", "stock")
    }
    with served(setup.bundle, PATIENT) as service, _stock_server(setup.bundle) as stock_address:
        for number in range(setup.rounds):
            some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
            for side, address in (("aisle", service.address), ("stock", stock_address)):
                setup.say(f"round {number + 1}, {side}")
                reached = dict.fromkeys(P99_LIMITS_MS, 0.0)
                for clients in LADDER[:: 3 if setup.quick else 1]:
                    report = h2load(address, METHOD, some, clients=clients, seconds=setup.seconds / 2, warm_up_s=0.5)
                    for limit in P99_LIMITS_MS:
                        if report.percentile(99) <= limit:
                            reached[limit] = max(reached[limit], report.goodput)
                for limit, rate in reached.items():
                    best[side][limit].append(rate)
    for limit in P99_LIMITS_MS:
        ours, theirs = best["aisle"][limit], best["stock"][limit]
        note = f"the most of {LADDER[0]} to {LADDER[-1]} clients"
        setup.figures.add("stock", f"throughput, Aisle, p99 <= {limit} ms", "queries/s", ours, note=note)
        setup.figures.add(
            "stock",
            f"throughput, stock, p99 <= {limit} ms",
            "queries/s",
            theirs,
            note="0: never" if min(theirs) == 0 else "",
        )
        if min(theirs) > 0:
            setup.figures.add("stock", f"Aisle / stock, p99 <= {limit} ms", "ratio", ratios(ours, theirs), goal=">= 4")


@contextmanager
def _stock_server(bundle: Path) -> Iterator[str]:
    with module_server("loadtest.benchmarks.stock_server", [str(bundle)]) as stock:
        _wait_for_stock(stock.address)
        yield stock.address


def _wait_for_stock(address: str) -> None:
    """Serve's proxy listens before the application behind it is ready."""
    message = search_messages(["sofa"])[0]
    with grpc.insecure_channel(address) as channel:
        for _ in range(600):
            try:
                raw_call(channel, METHOD, message)
            except grpc.RpcError:
                time.sleep(0.2)
            else:
                return
    raise LoadError("the stock service did not become ready")
