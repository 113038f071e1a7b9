"""The encoder as a service: EmbedQueries against the encoder by itself, and against mosec with the same encoder."""

from __future__ import annotations

import http.client
import importlib.util
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from aisle.v1 import embedding_pb2
from loadtest.benchmarks.service import Service, bundle_queries, module_server, served
from loadtest.benchmarks.setup import PATIENT, Setup, mean_batch, ratios, stats_of
from loadtest.errors import LoadError
from loadtest.h2load import h2load, http_load
from loadtest.report import LoadReport
from models.bundles.bundle import Bundle
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.compute.text_encoder import CPU_BATCH_TOKENS

METHOD = "/aisle.v1.EmbeddingService/EmbedQueries"
CLIENTS = (1, 32, 64)
SETTLE_S = 0.5  # of each load, before it is measured


@dataclass(frozen=True, slots=True)
class Speed:
    """What one side reached with some clients."""

    rate: float  # queries a second
    p50_ms: float
    core_ms: float  # CPU time of a query in all processes of the side, without the generator


def bench_encoder_service(setup: Setup) -> None:
    """One query a call from 1, 32 and 64 clients. The floor encodes the same queries in batches of the size that Aisle reached."""
    queries = bundle_queries(setup.bundle, 2000)
    encoder = TextEncoder(TEXT_ENCODER_PART.open(Bundle(setup.bundle)), "cpu")
    encoder.warm_up(CPU_BATCH_TOKENS)
    has_mosec = importlib.util.find_spec("mosec") is not None
    if not has_mosec:
        setup.leave_out("mosec, which is not installed: pip install 'mosec>=0.9.8'")
    sides = ("Aisle", "floor", *(["mosec"] if has_mosec else []))
    speeds: dict[str, dict[int, list[Speed]]] = {side: {clients: [] for clients in CLIENTS} for side in sides}
    batches: dict[int, list[float]] = {clients: [] for clients in CLIENTS}
    with ExitStack() as running:
        aisle = running.enter_context(served(setup.bundle, PATIENT))
        if has_mosec:
            mosec = running.enter_context(
                module_server("loadtest.benchmarks.mosec_server", [str(setup.bundle)], _mosec_answers)
            )
        for number in range(setup.rounds):
            some = [queries[(8 * number + n) % len(queries)] for n in range(8)]
            for clients in CLIENTS:
                setup.say(f"round {number + 1}, {clients} clients")
                before = stats_of(aisle.address)
                speeds["Aisle"][clients].append(_aisle_speed(aisle, some, clients, setup.seconds))
                batch = mean_batch(before, stats_of(aisle.address), "encoder")
                batches[clients].append(batch)
                speeds["floor"][clients].append(_floor_speed(encoder, some, max(1, round(batch)), setup.seconds))
                if has_mosec:
                    speeds["mosec"][clients].append(_mosec_speed(mosec, some, clients, setup.seconds))
    for clients in CLIENTS:
        _add_figures(setup, clients, batches[clients], {side: speeds[side][clients] for side in sides})


def _aisle_speed(service: Service, queries: Sequence[str], clients: int, seconds: float) -> Speed:
    messages = [embedding_pb2.EmbedQueriesRequest(queries=[query]).SerializeToString() for query in queries]
    return _loaded(
        service,
        seconds,
        lambda for_s: h2load(service.address, METHOD, messages, clients=clients, seconds=for_s, warm_up_s=0),
    )


def _mosec_speed(service: Service, queries: Sequence[str], clients: int, seconds: float) -> Speed:
    url, bodies = f"http://{service.address}/inference", [query.encode() for query in queries]
    return _loaded(service, seconds, lambda for_s: http_load(url, bodies, clients=clients, seconds=for_s, warm_up_s=0))


def _loaded(service: Service, seconds: float, load: Callable[[float], LoadReport]) -> Speed:
    """The second of two loads, so that its calls and the CPU time are of the same seconds."""
    load(SETTLE_S)
    before = _cpu_s(service)
    report = load(seconds)
    cpu_s = _cpu_s(service) - before
    if report.codes["failed"]:
        raise LoadError(f"{report.codes['failed']} of {report.calls} calls to {service.address} failed")
    return Speed(report.goodput, report.percentile(50), 1000 * cpu_s / max(1, report.calls))


def _cpu_s(service: Service) -> float:
    """CPU time of a server's processes since their start."""
    first = psutil.Process(service.process.pid)
    times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def _floor_speed(encoder: TextEncoder, queries: Sequence[str], batch: int, seconds: float) -> Speed:
    """Batches one after the other, in this process."""
    endless = itertools.cycle([Text(query) for query in queries])
    times: list[float] = []
    began, cpu_s = time.perf_counter(), time.process_time()
    while (started := time.perf_counter()) < began + seconds:
        encoder.encode([next(endless) for _ in range(batch)])
        times.append(time.perf_counter() - started)
    took, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    done = batch * len(times)
    return Speed(done / took, 1000 * statistics.median(times), 1000 * cpu_s / done)


def _add_figures(setup: Setup, clients: int, batches: Sequence[float], speeds: dict[str, list[Speed]]) -> None:
    def add(name: str, unit: str, values: Sequence[float], *, goal: str = "", note: str = "") -> None:
        title = f"{clients} {'clients' if clients > 1 else 'client'}: {name}"
        setup.figures.add("encoder_service", title, unit, values, goal=goal, note=note)

    rates = {side: [speed.rate for speed in measured] for side, measured in speeds.items()}
    add("mean batch, Aisle", "queries", batches)
    for side in speeds:
        note = "in process, at that batch" if side == "floor" else ""
        add(f"throughput, {side}", "queries/s", rates[side], note=note)
    add(
        "throughput, Aisle / floor",
        "ratio",
        ratios(rates["Aisle"], rates["floor"]),
        goal=">= 0.85" if clients > 1 else "",
    )
    if "mosec" in rates:
        add("throughput, mosec / floor", "ratio", ratios(rates["mosec"], rates["floor"]))
        add("throughput, Aisle / mosec", "ratio", ratios(rates["Aisle"], rates["mosec"]), goal="> 1")
    for side, measured in speeds.items():
        add(f"p50, {side}", "ms", [speed.p50_ms for speed in measured], note="of a batch" if side == "floor" else "")
    for side, measured in speeds.items():
        add(f"CPU time of a query, {side}", "core-ms", [speed.core_ms for speed in measured])


def _mosec_answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("POST", "/inference", b"sofa")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
