"""The living catalogue: changes a second, when they are visible, what searches pay for them, and how long a start takes to replay them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from aisle.v1 import catalogue_pb2, product_pb2
from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.jittered_vectors import jitter
from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, QUIET, Setup, differences, ratios
from loadtest.h2load import h2load
from loadtest.report import LoadReport
from models.arrays import Float16s
from models.bundles.bundle import Bundle
from models.bundles.extend import link_folder
from models.next_generation import Living, build_next
from models.products.product import Product
from serving.catalogue.change import ChangeBatch, LoggedBatch, Upsert
from serving.catalogue.open_catalogue import shared_catalogue
from serving.catalogue.open_log import open_log
from serving.catalogue.stages import load_retriever
from serving.compute.retrieval import Query, SearchItem, Subject
from serving.compute.retriever import Retriever
from serving.config import CatalogueConfig
from serving.gateway.messages.products import ProductMessages

WITHOUT_HURRY = PATIENT + "[server]\nmax_deadline_ms = 60000\n"  # hundreds of products may wait for the text encoder
WITHOUT_BUILDS = "[catalogue]\ncompact_after = 0\n"
UPSERT = "/aisle.v1.CatalogueService/UpsertProducts"
OFFER = "/aisle.v1.CatalogueService/UpdateOffers"
UPSERTS, OFFERS = 100, 500  # of a call
CALLS_IN_FLIGHT = 4
RATE = 200  # upserts a second beside searches, in calls of STEADY
STEADY = 20
AGAIN_S = 0.1
ONE_EVERY_S = 0.05  # calls of one product
CLIENTS = 32
BUILT_AFTER = 2_000  # changes
SEARCHES_S = 100.0  # searches a second beside a build: what leaves both cores time
LOGGED = 50_000
LOGGED_AT_ONCE = 500
SIZES = 1_000_000, 50_000  # products of a generation, and changed ones over it
DEPTH = 200


def bench_catalogue(setup: Setup) -> None:
    """Half of the upserted products are new, half replace a product of the bundle. Every call waits until its changes are visible."""
    goals = {"text": ">= 150", "personal": ">= 500"}
    with ExitStack() as running:
        config = WITHOUT_HURRY + WITHOUT_BUILDS
        targets = {
            name: _Target(running.enter_context(served(folder, config)), _Changes(folder))
            for name, folder in setup.bundles.items()
        }
        for number in range(setup.rounds):
            for name, target in targets.items():
                setup.say(f"{name}, changes, round {number + 1}")
                asyncio.run(_measure(target, 2 * setup.seconds))
    for name, target in targets.items():
        _add_figures(setup, name, target, goals[name])
    if setup.personal is None:
        setup.leave_out("searches beside changes, starts, an overlay: no --personal bundle")
        return
    _bench_searches(setup, setup.personal)
    _bench_build(setup, setup.personal)
    _bench_start(setup, setup.personal)
    _bench_overlay(setup, setup.personal)


class _Changes:
    """Changes of one catalogue without end: its products with their words in another order and another price."""

    def __init__(self, folder: Path) -> None:
        self.table = Bundle(folder).products()
        self._messages = ProductMessages(self.table)
        self._rng = random.Random(0)
        self._numbers = itertools.count()

    def upsert(self, count: int) -> bytes:
        """Returns a call of this many products."""
        products = []
        for number in itertools.islice(self._numbers, count):
            row = self._rng.randrange(len(self.table))
            product = product_pb2.Product()
            product.CopyFrom(self._messages.write(row, self._messages.fields))
            product.title = shuffled(product.title, self._rng)
            product.price_minor = self._rng.randrange(100, 100_000)
            product.id = f"bench-{number}" if number % 2 else product.id
            products.append(product)
        unique = {product.id: product for product in products}
        return catalogue_pb2.UpsertProductsRequest(products=unique.values()).SerializeToString()

    def offer(self, count: int) -> bytes:
        """Returns a call of at most this many offers."""
        rows = self._rng.sample(range(len(self.table)), min(count, len(self.table)))
        offers = [
            catalogue_pb2.Offer(
                product_id=self.table.id(row),
                price_minor=self._rng.randrange(100, 100_000),
                in_stock=self._rng.random() < 0.8,
            )
            for row in rows
        ]
        return catalogue_pb2.UpdateOffersRequest(offers=offers).SerializeToString()


def shuffled(title: str, rng: random.Random) -> str:
    words = title.split()
    rng.shuffle(words)
    return " ".join(words)


@dataclass(frozen=True, slots=True)
class _Target:
    """A service and what was measured of it, round by round."""

    service: Service
    changes: _Changes
    upserts: list[float] = field(default_factory=list)
    offers: list[float] = field(default_factory=list)
    visible_ms: list[list[float]] = field(default_factory=list)


async def _measure(target: _Target, seconds: float) -> None:
    changes, address = target.changes, target.service.address
    upserts = [changes.upsert(UPSERTS) for _ in range(round(20 * seconds) + CALLS_IN_FLIGHT)]
    target.upserts.append(await _rate(address, UPSERT, upserts, seconds))
    offers = [changes.offer(OFFERS) for _ in range(round(60 * seconds) + CALLS_IN_FLIGHT)]
    target.offers.append(await _rate(address, OFFER, offers, seconds))
    calls = [changes.upsert(1) for _ in range(round(seconds / ONE_EVERY_S))]
    target.visible_ms.append(await _paced(address, calls, ONE_EVERY_S))


async def _rate(address: str, method: str, calls: Sequence[bytes], seconds: float) -> float:
    """Returns the changes that are visible a second."""
    left = iter(calls)
    changed = 0
    async with grpc.aio.insecure_channel(address) as channel:
        started = time.perf_counter()

        async def send() -> None:
            nonlocal changed
            while time.perf_counter() - started < seconds and (call := next(left, None)) is not None:
                accepted = await _send(channel, method, call)
                changed += accepted  # not with the wait in between: others add to it

        await asyncio.gather(*(send() for _ in range(CALLS_IN_FLIGHT)))
        return changed / (time.perf_counter() - started)


async def _paced(
    address: str, calls: Sequence[bytes], every_s: float, during: asyncio.Future[Any] | None = None
) -> list[float]:
    """Sends a call at each planned time, until `during` is done. Returns the milliseconds from the planned times to the answers."""
    times: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        started = time.perf_counter()

        async def send(call: bytes, planned: float) -> None:
            await asyncio.sleep(planned - time.perf_counter())
            await _send(channel, UPSERT, call)
            times.append((time.perf_counter() - planned) * 1000)

        sending = []
        for number, call in enumerate(calls):
            planned = started + number * every_s
            await asyncio.sleep(max(0.0, planned - time.perf_counter() - every_s))
            if during is not None and during.done():
                break
            sending.append(asyncio.ensure_future(send(call, planned)))
        await asyncio.gather(*sending)
    return times


async def _send(channel: grpc.aio.Channel, method: str, message: bytes) -> int:
    """Sends one call, again while the service has too much to do. Returns how many changes it made. Raises RuntimeError if it refused
    one."""
    call: Any = channel.unary_unary(method)
    while True:
        try:
            answer = catalogue_pb2.ChangeResponse.FromString(await call(message, timeout=60))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            await asyncio.sleep(AGAIN_S)
            continue
        if answer.refused:
            raise RuntimeError(f"{answer.refused} changes were refused: {answer.refusals[:1]}")
        return answer.accepted


def _add_figures(setup: Setup, bundle: str, target: _Target, goal: str) -> None:
    def add(name: str, unit: str, values: Sequence[float], goal: str, note: str = "") -> None:
        setup.figures.add("catalogue", f"{bundle}: {name}", unit, values, goal=goal, note=note)

    in_flight = f"{CALLS_IN_FLIGHT} calls in flight"
    add("upserts", "products/s", target.upserts, goal, f"batches of {UPSERTS}, {in_flight}")
    add("offers", "offers/s", target.offers, ">= 5,000", f"batches of {OFFERS}, {in_flight}")
    for q, limit in ((50, "< 30"), (99, "< 150")):
        times = [float(np.percentile(values, q)) for values in target.visible_ms]
        add(f"one product is visible, p{q}", "ms", times, limit, f"{1 / ONE_EVERY_S:.0f} calls a second")


def _bench_searches(setup: Setup, folder: Path) -> None:
    """Saturated searches, beside upserts and without."""
    messages = search_messages(bundle_queries(folder, 2000))
    quiet: list[LoadReport] = []
    beside: list[LoadReport] = []
    sent: list[float] = []
    with served(folder, PATIENT + WITHOUT_BUILDS) as service:
        changes = _Changes(folder)
        h2load(service.address, METHOD, messages[:8], clients=CLIENTS, seconds=setup.seconds)  # reaches its speed
        for number in range(setup.rounds):
            setup.say(f"searches, round {number + 1}")
            some = [messages[(8 * number + n) % len(messages)] for n in range(8)]
            quiet.append(h2load(service.address, METHOD, some, clients=CLIENTS, seconds=setup.seconds))
            report, rate = asyncio.run(_search_and_upsert(service, changes, some, setup.seconds))
            beside.append(report)
            sent.append(rate)
    add = setup.figures.add
    note = f"calls of {STEADY}, {CLIENTS} clients search"
    add("catalogue", "upserts beside searches", "products/s", sent, goal=f">= {RATE}", note=note)
    for name, reports in (("quiet", quiet), ("beside upserts", beside)):
        add("catalogue", f"searches, {name}", "queries/s", [report.goodput for report in reports])
        add("catalogue", f"searches, {name}, p99", "ms", [report.percentile(99) for report in reports])
    share = ratios([report.goodput for report in beside], [report.goodput for report in quiet])
    add("catalogue", "searches, beside upserts / quiet", "ratio", share, goal=">= 0.85")
    slower = ratios([report.percentile(99) for report in beside], [report.percentile(99) for report in quiet])
    add("catalogue", "searches, beside upserts / quiet, p99", "ratio", slower, goal="<= 1.5")


async def _search_and_upsert(
    service: Service, changes: _Changes, messages: Sequence[bytes], seconds: float
) -> tuple[LoadReport, float]:
    calls = [changes.upsert(STEADY) for _ in range(round((seconds + 30) * RATE / STEADY))]
    started = time.perf_counter()
    searching = asyncio.ensure_future(
        asyncio.to_thread(h2load, service.address, METHOD, messages, clients=CLIENTS, seconds=seconds)
    )
    times = await _paced(service.address, calls, STEADY / RATE, searching)
    return await searching, len(times) * STEADY / (time.perf_counter() - started)


def _bench_build(setup: Setup, folder: Path) -> None:
    """Searches at a constant rate while a generation is built and takes the place of the bundle, and without. Round by round: as many
    changes as start a build."""
    messages = search_messages(bundle_queries(folder, 2000))
    quiet: list[float] = []
    beside: list[float] = []
    builds: list[float] = []
    failed: list[float] = []
    with tempfile.TemporaryDirectory(prefix="aisle-generations-") as name:
        mine = Path(name) / "mine"
        link_folder(folder, mine)
        config = f'{PATIENT}[catalogue]\ncompact_after = {BUILT_AFTER}\npath = "{name}/changes.db"\n'
        with served(mine, config) as service:
            changes = _Changes(folder)
            for number in range(1 if setup.quick else setup.rounds):
                setup.say(f"builds, round {number + 1}")
                until = asyncio.sleep(2 * setup.seconds)
                times, _ = asyncio.run(_search_during(service.address, messages, until))
                quiet.append(float(np.percentile(times, 99)))
                asyncio.run(_upsert_until(service.address, changes, BUILT_AFTER))
                started = time.perf_counter()
                rolled_out = asyncio.to_thread(service.wait_for, "rolled out", number + 1)
                times, codes = asyncio.run(_search_during(service.address, messages, rolled_out))
                builds.append(time.perf_counter() - started)
                beside.append(float(np.percentile(times, 99)))
                failed.append(float(codes.total()))
    add = setup.figures.add
    note = f"{SEARCHES_S:.0f} searches a second"
    add("catalogue", "build and swap of a generation beside searches", "s", builds, note=f"{BUILT_AFTER:,} changes")
    add("catalogue", "searches that failed during a build and swap", "calls", failed, goal="0", note=note)
    add("catalogue", "searches without a build, p99", "ms", quiet, note=note)
    add("catalogue", "searches during a build and swap, p99", "ms", beside, note=note)
    add("catalogue", "searches during a build / without, p99", "ratio", ratios(beside, quiet), goal="<= 2")


async def _search_during(
    address: str, messages: Sequence[bytes], during: Coroutine[Any, Any, Any]
) -> tuple[list[float], Counter[str]]:
    """Sends a search at each planned time until `during` has ended. Returns the milliseconds from the planned times to the answers, and how
    many calls failed, by code."""
    times: list[float] = []
    failed: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(METHOD)
        waiting = asyncio.ensure_future(during)
        started = time.perf_counter()

        async def send(message: bytes, planned: float) -> None:
            try:
                await call(message, timeout=60)
            except grpc.aio.AioRpcError as error:
                failed[error.code().name] += 1
            times.append((time.perf_counter() - planned) * 1000)

        sending = []
        for number in itertools.count():
            planned = started + number / SEARCHES_S
            await asyncio.sleep(max(0.0, planned - time.perf_counter()))
            if waiting.done():
                break
            sending.append(asyncio.ensure_future(send(messages[number % len(messages)], planned)))
        await asyncio.gather(waiting, *sending)
    return times, failed


async def _upsert_until(address: str, changes: _Changes, count: int) -> None:
    """Upserts at least this many products."""
    async with grpc.aio.insecure_channel(address) as channel:
        while count > 0:
            count -= await _send(channel, UPSERT, changes.upsert(UPSERTS))


def _bench_start(setup: Setup, folder: Path) -> None:
    """How much longer a gateway takes until it is ready if the log holds changes that its bundle has not."""
    logged = 2_000 if setup.quick else LOGGED
    plain, replayed = [], []
    with tempfile.TemporaryDirectory(prefix="aisle-changes-") as name:
        path = Path(name) / "changes.db"
        setup.say(f"log {logged:,} changes")
        asyncio.run(_log(Bundle(folder), path, logged))
        for number in range(1 if setup.quick else 3):
            setup.say(f"starts, round {number + 1}")
            plain.append(_start_s(folder, '[catalogue]\nlog = "off"\n'))
            replayed.append(_start_s(folder, f'[catalogue]\npath = "{path}"\n'))
    add = setup.figures.add
    add("catalogue", "start of a gateway without changes", "s", plain)
    add(
        "catalogue", "replay of logged changes at the start", "s", differences(replayed, plain),
        goal="<= 15", note=f"{logged:,} upserts",
    )  # fmt: skip


def _start_s(folder: Path, config: str) -> float:
    with served(folder, QUIET + config) as service:
        (ready,) = service.wait_for("gateway ready", 1)
        return float(ready["seconds"])


async def _log(bundle: Bundle, path: Path, count: int) -> None:
    log = open_log(CatalogueConfig(path=path), bundle.manifest.name, bundle.manifest.line)
    if log is None:
        raise RuntimeError("the configuration logs no changes")
    vectors = np.asarray(bundle.vectors())[:, : bundle.manifest.dim]
    for batch in _batches(bundle, vectors, count, LOGGED_AT_ONCE):
        await log.append(batch)
    await log.close()


def _batches(bundle: Bundle, vectors: Float16s, count: int, size: int) -> Iterator[ChangeBatch]:
    """Yields upserts; a product has its words in another order, and the vector of a product of the bundle."""
    table, encoder = bundle.products(), bundle.manifest.encoder_version
    rng = random.Random(1)
    for start in range(0, count, size):
        rows = rng.sample(range(len(table)), min(size, count - start, len(table)))
        products = [
            varied(table.product(row), f"bench-{start + n}" if n % 2 else "", rng) for n, row in enumerate(rows)
        ]
        rng.shuffle(rows)
        yield ChangeBatch(changes=tuple(map(Upsert, products)), vectors=vectors[rows], encoder=encoder)


def varied(product: Product, new_id: str, rng: random.Random) -> Product:
    """Returns a product with the words of its title in another order."""
    return dataclasses.replace(product, id=new_id or product.id, title=shuffled(product.title, rng))


def _bench_overlay(setup: Setup, folder: Path) -> None:
    """One search in process over a generation that has changed, and over the same as it was built: products as the bundle's, with their
    words in another order, and vectors near the bundle's."""
    size, changed = (2_000, 100) if setup.quick else SIZES
    bundle = Bundle(folder)
    with tempfile.TemporaryDirectory(prefix="aisle-generation-") as name:
        built, other = Path(name) / "built", Path(name) / "other"
        _build(setup, bundle, built, size)
        link_folder(built, other)
        frozen, living = load_retriever(built), load_retriever(other)
        setup.say(f"change {changed:,} products")
        catalogue = shared_catalogue(other)
        vectors = np.asarray(catalogue.bundle.vectors())[:, : bundle.manifest.dim]
        first = catalogue.live.sequence + 1
        started = time.perf_counter()
        for batch in _batches(catalogue.bundle, vectors, changed, UPSERTS):
            catalogue.live.apply([LoggedBatch(first=first, batch=batch)])
            first += len(batch.changes)
        took_us = 1e6 * (time.perf_counter() - started) / changed
        frozen.warm_up()
        living.warm_up()
        without, with_changes = [], []
        items = _items(folder, 50 if setup.quick else 400)
        for number in range(setup.rounds + 1):
            setup.say(f"overlay, round {number + 1}")
            without.append(_p50_ms(frozen, items))
            with_changes.append(_p50_ms(living, items))
    add = setup.figures.add
    note = f"{changed:,} changed of {size:,} products, {bundle.manifest.dim} dimensions, {DEPTH} candidates ranked"
    add("catalogue", "applying an upsert in process", "us", [took_us], note=note)
    add("catalogue", "search in process, as built, p50", "ms", without[1:])  # the first round fills caches
    add("catalogue", "search in process, changed - as built, p50", "ms",
        differences(with_changes, without)[1:], goal="<= 1", note=note)  # fmt: skip


def _build(setup: Setup, bundle: Bundle, folder: Path, size: int) -> None:
    table = bundle.products()
    setup.say(f"{size:,} vectors")
    vectors = jitter(np.asarray(bundle.vectors())[:, : bundle.manifest.dim], size)
    rng = random.Random(2)

    def products() -> Iterator[Product]:
        for row in range(size):
            yield varied(table.product(row % len(table)), f"grown-{row}", rng)

    living = Living(
        num_products=size,
        products=products,
        unit_vectors=lambda: iter(np.array_split(vectors, max(1, size // 16_384))),
        sequence=0,
    )
    build_next(bundle, living, folder, lambda stage, done, total: setup.say(f"{stage} {done:,} of {total or 1:,}"))


def _items(folder: Path, count: int) -> list[SearchItem]:
    locale = Bundle(folder).manifest.locales[0]
    return [
        SearchItem(subject=Subject(query=Query(text, locale)), k=DEPTH, depth=DEPTH)
        for text in bundle_queries(folder, count)
    ]


def _p50_ms(retriever: Retriever, items: Sequence[SearchItem]) -> float:
    times = []
    for item in items:
        started = time.perf_counter()
        retriever.compute([item])
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000
