"""`aisle bench`: every claim of the README as a ratio measured in one run, rounds of both sides in turn."""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from ray import serve
from rich.console import Console
from rich.status import Status

from aisle.v1 import info_pb2, info_pb2_grpc
from loadtest.benchmarks import batching, echo
from loadtest.benchmarks.figures import Figures
from loadtest.benchmarks.jittered_vectors import jitter
from loadtest.benchmarks.search import METHOD, Floor, search_messages
from loadtest.benchmarks.service import bundle_queries, free_port, served
from loadtest.h2load import h2load, raw_call
from models.bundle import Bundle
from models.index_tuner import IndexTarget, p50_ms, recall_of, tune
from models.text_encoder import PaddedBatch, Text, TextEncoder
from models.vector_index import IndexSpec, VectorIndex
from serving import app

P99_LIMITS_MS = (25, 50, 100, 200)
LADDER = (1, 2, 4, 8, 16, 32, 64)
INDEX_SIZES = (45_000, 200_000, 1_000_000)
CALLER_PAUSE_S = 0.001  # about what passes at the server between an answer and the next call of one client
QUIET = '[log]\nrequests = "off"\n'


@dataclass(frozen=True, slots=True)
class Setup:
    """What all benchmarks share."""

    bundle: Path
    rounds: int
    seconds: float  # of one measurement
    vectors: Path | None
    quick: bool
    figures: Figures
    say: Callable[[str], None]


def run_benchmarks(
    bundle: Path,
    *,
    only: Sequence[str],
    rounds: int,
    json_file: Path,
    vectors: Path | None,
    quick: bool,
    console: Console,
) -> None:
    """Runs the benchmarks named in `only`, or all, prints a table for each and writes all figures as JSON."""
    unknown = set(only) - set(BENCHMARKS)
    if unknown:
        raise ValueError(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    Bundle(bundle).verify()
    figures = Figures()
    for name in only or BENCHMARKS:
        with console.status(name) as status:
            setup = Setup(
                bundle, rounds, 0.5 if quick else 4.0, vectors, quick, figures, functools.partial(_say, status, name)
            )
            BENCHMARKS[name](setup)
        figures.print(console, name)
        figures.write(json_file)
    console.print(f"figures in {json_file}")


def bench_echo(setup: Setup) -> None:
    """The gateway's listener and guard inside Ray Serve, against bare `grpc.aio`, with the same messages."""
    with _echo_server("bare") as bare, _echo_server("gateway") as gateway:
        throughput, p50 = _pairs(), _pairs()
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            for side, address in (("bare", bare), ("gateway", gateway)):
                many = h2load(address, echo.METHOD, [echo.REQUEST], clients=32, seconds=setup.seconds)
                one = h2load(address, echo.METHOD, [echo.REQUEST], clients=1, seconds=setup.seconds / 2)
                throughput[side].append(many.goodput)
                p50[side].append(one.percentile(50))
    add = setup.figures.add
    add("echo", "throughput, bare grpc.aio, 32 clients", "calls/s", throughput["bare"])
    add("echo", "throughput, gateway, 32 clients", "calls/s", throughput["gateway"])
    add(
        "echo",
        "throughput, gateway / bare",
        "ratio",
        _ratios(throughput["gateway"], throughput["bare"]),
        wanted=">= 0.60",
    )
    add("echo", "p50, bare, 1 client", "ms", p50["bare"])
    add("echo", "p50, gateway / bare, 1 client", "ratio", _ratios(p50["gateway"], p50["bare"]))


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
                before = _encoder_stats(service.address)
                found = h2load(service.address, METHOD, some, clients=clients, seconds=setup.seconds)
                after = _encoder_stats(service.address)
                mean_batch = (after.items - before.items) / max(1, after.batches - before.batches)
                rates.append(found.goodput)
                batches[clients].append(mean_batch)
                floors[clients].append(floor.throughput(some, max(1, round(mean_batch)), setup.seconds))
    add = setup.figures.add
    add("search", "p50, floor in process", "ms", floor_p50)
    add("search", "p50, Search, 1 client", "ms", p50)
    add("search", "p50, Search / floor", "ratio", _ratios(p50, floor_p50), wanted="<= 1.3")
    pause = f"{CALLER_PAUSE_S * 1000:g} ms pause before each call"
    add("search", "p50, floor at a caller's pace", "ms", paced_p50, note=pause)
    add("search", "p50, Search / floor at a caller's pace", "ratio", _ratios(p50, paced_p50), wanted="<= 1.3")
    for clients, rates in saturated.items():
        add("search", f"mean batch, {clients} clients", "queries", batches[clients])
        add("search", f"throughput, floor at that batch, {clients}", "queries/s", floors[clients])
        add("search", f"throughput, Search, {clients} clients", "queries/s", rates)
        ratio = _ratios(rates, floors[clients])
        add("search", f"throughput, Search / floor, {clients} clients", "ratio", ratio, wanted=">= 0.70")


def bench_stock(setup: Setup) -> None:
    """Aisle against the same search behind Serve's gRPC proxy and `@serve.batch`: most throughput within a p99."""
    messages = search_messages(bundle_queries(setup.bundle, 2000))
    best: dict[str, dict[int, list[float]]] = {
        side: {limit: [] for limit in P99_LIMITS_MS} for side in ("aisle", "stock")
    }
    with served(setup.bundle, QUIET) as service, _stock_server(setup.bundle) as stock_address:
        for number in range(setup.rounds):
            some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
            for side, address in (("aisle", service.address), ("stock", stock_address)):
                setup.say(f"round {number + 1}, {side}")
                reached = dict.fromkeys(P99_LIMITS_MS, 0.0)
                for clients in LADDER[:: 3 if setup.quick else 1]:
                    found = h2load(address, METHOD, some, clients=clients, seconds=setup.seconds / 2, warm_up_s=0.5)
                    for limit in P99_LIMITS_MS:
                        if found.percentile(99) <= limit:
                            reached[limit] = max(reached[limit], found.goodput)
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
            setup.figures.add(
                "stock", f"Aisle / stock, p99 <= {limit} ms", "ratio", _ratios(ours, theirs), wanted=">= 4"
            )


def bench_batcher(setup: Setup) -> None:
    """The pull batcher against `@serve.batch` with its defaults, on one simulated device; and its cost when idle."""
    ours, theirs, idle = [], [], []
    app.start_ray()
    try:
        # Not held back by Serve's own limit of calls in progress, which `@serve.batch` asks for.
        replica = serve.deployment(
            batching.BatchingReplica, ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100_000
        )
        handle = serve.run(replica.bind(), route_prefix=None)
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            ours.append(handle.pulled.remote(setup.seconds).result())
            theirs.append(handle.stock.remote(setup.seconds).result())
            idle.append(handle.idle_wait_ms.remote(2000).result())
    finally:
        app.stop()
    add = setup.figures.add
    note = f"simulated device, {batching.DEVICE_MS:.0f} ms a batch, {batching.RATE:.0f} calls/s"
    add("batcher", "mean batch, pulled", "items", [r.mean_batch for r in ours], note=note)
    add("batcher", "mean batch, @serve.batch", "items", [r.mean_batch for r in theirs], note="defaults")
    ratio = _ratios([r.mean_batch for r in ours], [r.mean_batch for r in theirs])
    add("batcher", "mean batch, pulled / @serve.batch", "ratio", ratio, wanted=">= 3")
    add("batcher", "p50, pulled", "ms", [r.p50_ms for r in ours])
    add("batcher", "p50, @serve.batch", "ms", [r.p50_ms for r in theirs], note="grows with the run: it cannot keep up")
    add("batcher", "wait added when idle", "ms", idle, wanted="< 0.2")


def bench_encoder(setup: Setup) -> None:
    """The encoder from text to vectors, against the bare model call on the same tokens, ready and padded."""
    encoder = TextEncoder(Bundle(setup.bundle).encoder_folder, "auto")
    queries = bundle_queries(setup.bundle, 2000)
    rng = np.random.default_rng(0)
    for batch in (1, 8, 32):
        texts, bare = [], []
        for number in range(setup.rounds):
            setup.say(f"batch {batch}, round {number + 1}")
            groups = [[Text(queries[i]) for i in rng.integers(0, len(queries), batch)] for _ in range(64)]
            ready = [encoder.prepare(group) for group in groups]
            for b in [batch for prepared in ready for batch in prepared]:
                encoder.backend(b.ids, b.mask)  # both sides run with shapes that were seen
            texts.append(_rate(functools.partial(_encode_one, encoder, groups), batch, setup.seconds / 2))
            bare.append(_rate(functools.partial(_run_one, encoder, ready), batch, setup.seconds / 2))
        add = setup.figures.add
        add("encoder", f"texts to vectors, batch {batch}", "queries/s", texts, note=encoder.backend.name)
        add("encoder", f"bare model call, batch {batch}", "queries/s", bare)
        add("encoder", f"encoder / bare, batch {batch}", "ratio", _ratios(texts, bare))


def bench_index(setup: Setup) -> None:
    """Latency of one query on one thread, recall and memory, against exact search, on real vectors jittered to each size."""
    if setup.vectors:
        real = np.load(setup.vectors).astype(np.float32)
        source = setup.vectors.name
    else:
        real = np.asarray(Bundle(setup.bundle).vectors(), np.float32)
        source = f"{setup.bundle.name}'s vectors"
    rng = np.random.default_rng(0)
    encoder = TextEncoder(Bundle(setup.bundle).encoder_folder, "auto")
    short = encoder.encode([Text(query) for query in bundle_queries(setup.bundle, 300)])
    for size in (5_000, 10_000) if setup.quick else INDEX_SIZES:
        setup.say(f"{size:,} vectors: jitter")
        grown = jitter(real, size + 300, seed=1)
        held = rng.permutation(len(grown))[:300]
        kept = np.setdiff1d(np.arange(len(grown)), held)
        vectors, near = grown[kept], grown[held].astype(np.float32)
        queries = np.concatenate([near, short])
        exact = VectorIndex.build(vectors, IndexSpec("exact"))
        report = tune(vectors, queries, IndexTarget(recall=0.95), setup.say)
        truth = exact.search(near, 100, num_threads=2)
        found = report.index.search(near, 100)
        exact_ms, index_ms = [], []
        for _ in range(setup.rounds):
            exact_ms.append(p50_ms(exact, near, 100))
            index_ms.append(p50_ms(report.index, near, 100))
        add, label = setup.figures.add, f"{size // 1000:,}k"
        spec = report.chosen.spec
        kind = spec.kind if spec.kind == "exact" else f"ivf, {spec.num_lists} lists, margin {spec.margin:g}"
        add(
            "index",
            f"{label}: exact, p50",
            "ms",
            exact_ms,
            note=f"{exact.bytes_per_product:.0f} bytes a product; {source}",
        )
        add(
            "index", f"{label}: tuned, p50", "ms", index_ms, wanted="< 1" if size == max(INDEX_SIZES) else "", note=kind
        )
        add("index", f"{label}: recall@100 of product vectors", "share", [recall_of(found, truth)], wanted=">= 0.95")
        short_truth = exact.search(short, 100, num_threads=2)
        add(
            "index",
            f"{label}: recall@100 of short queries",
            "share",
            [recall_of(report.index.search(short, 100), short_truth)],
        )
        add(
            "index",
            f"{label}: memory",
            "bytes/product",
            [report.chosen.bytes_per_product],
            note=f"built in {report.build_s:.0f} s",
        )


def bench_overload(setup: Setup) -> None:
    """Four times the capacity: what is refused, how fast, and what becomes of the calls that are answered."""
    messages = search_messages(bundle_queries(setup.bundle, 2000))[:8]
    peaks, goodputs, kept, refused_ms = [], [], [], []
    with served(setup.bundle, QUIET) as service:
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            peak = h2load(service.address, METHOD, messages, clients=32, seconds=setup.seconds)
            before = _search_calls(service.address)
            warm_up_s = 1.0
            h2load(
                service.address, METHOD, messages, clients=64, seconds=setup.seconds, warm_up_s=warm_up_s,
                rate=4 * peak.goodput, deadline_ms=1000,
            )  # fmt: skip
            after = _search_calls(service.address)
            took = setup.seconds + warm_up_s
            goodput = (after.get("OK", 0) - before.get("OK", 0)) / took
            peaks.append(peak.goodput)
            goodputs.append(goodput)
            kept.append(goodput / peak.goodput)
            refused_ms.append((after.get("RESOURCE_EXHAUSTED", 0) - before.get("RESOURCE_EXHAUSTED", 0)) / took)
    add = setup.figures.add
    add("overload", "peak goodput, 32 clients", "queries/s", peaks)
    add("overload", "goodput at 4 times that rate", "queries/s", goodputs, note="by the service's own count of OK")
    add("overload", "goodput kept", "ratio", kept, wanted=">= 0.80")
    add("overload", "refused with RESOURCE_EXHAUSTED", "calls/s", refused_ms)


BENCHMARKS: dict[str, Callable[[Setup], None]] = {
    "echo": bench_echo,
    "search": bench_search,
    "stock": bench_stock,
    "batcher": bench_batcher,
    "encoder": bench_encoder,
    "overload": bench_overload,
    "index": bench_index,
}


def _say(status: Status, name: str, step: str) -> None:
    status.update(f"{name}: {step}")


def _pairs() -> dict[str, list[float]]:
    return {"bare": [], "gateway": []}


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: both sides of a round ran under the same conditions."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _encode_one(encoder: TextEncoder, groups: Sequence[Sequence[Text]], number: int) -> None:
    encoder.encode(groups[number % len(groups)])


def _run_one(encoder: TextEncoder, groups: Sequence[Sequence[PaddedBatch]], number: int) -> None:
    for batch in groups[number % len(groups)]:
        encoder.backend(batch.ids, batch.mask)


def _rate(call: Callable[[int], object], items: int, seconds: float) -> float:
    """Items a second of `call`, which does `items` of them."""
    number, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        call(number)
        number += 1
    return number * items / (time.perf_counter() - started)


def _encoder_stats(address: str) -> info_pb2.StageStats:
    return _stats(address).stages[0]


def _search_calls(address: str) -> dict[str, int]:
    return {count.code: count.count for count in _stats(address).calls if count.method == "Search"}


def _stats(address: str) -> info_pb2.GetStatsResponse:
    with grpc.insecure_channel(address) as channel:
        stub = info_pb2_grpc.InfoServiceStub(channel)
        answer: info_pb2.GetStatsResponse = stub.GetStats(info_pb2.GetStatsRequest(), timeout=10)
        return answer


@contextmanager
def _echo_server(kind: str) -> Iterator[str]:
    with _module_server("loadtest.benchmarks.echo", [kind]) as address:
        yield address


@contextmanager
def _stock_server(bundle: Path) -> Iterator[str]:
    with _module_server("loadtest.benchmarks.stock", [str(bundle)]) as address:
        yield address


@contextmanager
def _module_server(module: str, arguments: Sequence[str]) -> Iterator[str]:
    """A server process of this package; it gets its port as the last argument and is ready when its port is open."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments, str(port)], stdout=log, stderr=log)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=120)
            if "stock" in module:
                _wait_for_stock(f"127.0.0.1:{port}")
            yield f"127.0.0.1:{port}"
        except grpc.FutureTimeoutError:
            log.seek(0)
            raise RuntimeError(f"{module} did not start:\n{log.read()[-2000:].decode(errors='replace')}") from None
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


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
    raise RuntimeError("the stock service did not become ready")
