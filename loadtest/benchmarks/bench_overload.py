"""What becomes of the service at four times its capacity."""

from __future__ import annotations

from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import QUIET, Setup, search_calls
from loadtest.h2load import h2load


def bench_overload(setup: Setup) -> None:
    """Four times the capacity: what is refused, how fast, and what becomes of the calls that are answered."""
    messages = search_messages(bundle_queries(setup.bundle, 2000))[:8]
    peaks, goodputs, kept, refused, answer_ms = [], [], [], [], []
    with served(setup.bundle, QUIET) as service:
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            peak = h2load(service.address, METHOD, messages, clients=32, seconds=setup.seconds)
            before = search_calls(service.address)
            warm_up_s = 1.0
            flood = h2load(
                service.address, METHOD, messages, clients=64, seconds=setup.seconds, warm_up_s=warm_up_s,
                rate=4 * peak.goodput, deadline_ms=1000,
            )  # fmt: skip
            answer_ms.append(flood.percentile(50))
            after = search_calls(service.address)
            took = setup.seconds + warm_up_s
            goodput = (after.get("OK", 0) - before.get("OK", 0)) / took
            peaks.append(peak.goodput)
            goodputs.append(goodput)
            kept.append(goodput / peak.goodput)
            refused.append((after.get("RESOURCE_EXHAUSTED", 0) - before.get("RESOURCE_EXHAUSTED", 0)) / took)
    add = setup.figures.add
    add("overload", "peak goodput, 32 clients", "queries/s", peaks)
    add("overload", "goodput at 4 times that rate", "queries/s", goodputs, note="by the service's own count of OK")
    add("overload", "goodput kept", "ratio", kept, goal=">= 0.80")
    add("overload", "refused with RESOURCE_EXHAUSTED", "calls/s", refused)
    add("overload", "p50 of all answers, most of them refusals", "ms", answer_ms)
