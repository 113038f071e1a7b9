"""The gateway's own cost: echo calls through its listener and guard, against bare `grpc.aio`."""

from __future__ import annotations

from loadtest.benchmarks import echo_server
from loadtest.benchmarks.service import module_server
from loadtest.benchmarks.setup import Setup, ratios
from loadtest.h2load import h2load

ECHO = "loadtest.benchmarks.echo_server"


def bench_echo(setup: Setup) -> None:
    """The gateway's listener and guard inside Ray Serve, against bare `grpc.aio`, with the same messages."""
    with module_server(ECHO, ["bare"]) as bare, module_server(ECHO, ["gateway"]) as gateway:
        throughput, p50 = _pairs(), _pairs()
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            for side, address in (("bare", bare.address), ("gateway", gateway.address)):
                many = h2load(address, echo_server.METHOD, [echo_server.REQUEST], clients=32, seconds=setup.seconds)
                one = h2load(address, echo_server.METHOD, [echo_server.REQUEST], clients=1, seconds=setup.seconds / 2)
                throughput[side].append(many.goodput)
                p50[side].append(one.percentile(50))
    add = setup.figures.add
    add("echo", "throughput, bare grpc.aio, 32 clients", "calls/s", throughput["bare"])
    add("echo", "throughput, gateway, 32 clients", "calls/s", throughput["gateway"])
    add(
        "echo",
        "throughput, gateway / bare",
        "ratio",
        ratios(throughput["gateway"], throughput["bare"]),
        goal=">= 0.60",
    )
    add("echo", "p50, bare, 1 client", "ms", p50["bare"])
    add("echo", "p50, gateway / bare, 1 client", "ratio", ratios(p50["gateway"], p50["bare"]))


def _pairs() -> dict[str, list[float]]:
    return {"bare": [], "gateway": []}
