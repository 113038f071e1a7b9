"""Processes that are killed while the catalogue changes: what was acknowledged is there, what was deleted stays away, nothing is doubled.

Writers send numbered changes to products of their own, each writer one call after the other, and send a call that failed again, unchanged.
So what survives of a writer must be a prefix of the changes that it sent, at least as long as what was acknowledged. Searchers browse the
products of one writer: each answer must be the state after some number of its changes, at least those that were acknowledged as visible
before the search was sent. Times are random, and a writer always has a call in flight: kills hit every moment of a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from rich.console import Console

from aisle.client import channel_options
from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc, product_pb2, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service
from tests.faults.updates import counts

NUM_WRITERS = 4
NUM_PRODUCTS = 12  # of a writer
NUM_SEARCHERS = 2
MOST_CHANGES = 5  # of a call
CALL_S = 5.0
SETTLE_S = 60.0
LONGEST_S = 240.0  # for a killed process to be replaced
MOST_TOLD = 20  # broken promises
REMOTE_RETRIEVER = """
[retriever]
placement = "remote"
min_replicas = 2
max_replicas = 2
num_cpus = 0.1
threads = 1
"""
Held = frozenset[tuple[str, str]]  # id and title of each product


@dataclass(slots=True)
class Writer:
    """One writer, and what its products are after each of its changes. `sent`, `acknowledged` and `visible` count changes."""

    name: str
    rng: random.Random
    held: list[Held] = field(default_factory=lambda: [frozenset()])
    prices: list[dict[str, int]] = field(default_factory=lambda: [{}])
    sent: int = 0
    acknowledged: int = 0
    visible: int = 0

    @property
    def ids(self) -> list[str]:
        return [f"{self.name}-{number:04}" for number in range(NUM_PRODUCTS)]

    def upserts(self) -> catalogue_pb2.UpsertProductsRequest:
        products = []
        for product_id in self._some_ids():
            self.sent += 1
            title, price = f"crash test change {self.sent}", self.sent
            others = frozenset(one for one in self.held[-1] if one[0] != product_id)
            self._note(others | {(product_id, title)}, {**self.prices[-1], product_id: price})
            products.append(product_pb2.Product(id=product_id, title=title, brand=self.name, price_minor=price))
        return catalogue_pb2.UpsertProductsRequest(products=products, change_id=self._change_id())

    def deletes(self) -> catalogue_pb2.DeleteProductsRequest:
        ids = self._some_ids()
        for product_id in ids:
            self.sent += 1
            self._note(frozenset(one for one in self.held[-1] if one[0] != product_id), self.prices[-1])
        return catalogue_pb2.DeleteProductsRequest(product_ids=ids, change_id=self._change_id())

    def offers(self) -> catalogue_pb2.UpdateOffersRequest | None:
        """Returns None if there is no product: an offer for an unknown one is refused."""
        known = [product_id for product_id, _ in self.held[-1]]
        ids = sorted(self.rng.sample(known, min(len(known), self.rng.randint(1, MOST_CHANGES))))
        for product_id in ids:
            self.sent += 1
            self._note(self.held[-1], {**self.prices[-1], product_id: self.sent})
        offers = [catalogue_pb2.Offer(product_id=one, price_minor=self.prices[-1][one]) for one in ids]
        return catalogue_pb2.UpdateOffersRequest(offers=offers, change_id=self._change_id()) if offers else None

    def is_after_some(self, found: Iterable[product_pb2.Product], least: int, most: int) -> bool:
        """Says whether the products are those after `least` to `most` changes. Which products there are, and their titles, are of one
        moment; prices change in place, and may be newer."""
        products = list(found)
        held = frozenset((product.id, product.title) for product in products)
        prices = self.prices[least : most + 1]
        return (
            len(held) == len(products)
            and held in self.held[least : most + 1]
            and all(any(one.get(p.id) == p.price_minor for one in prices) for p in products)
        )

    def _some_ids(self) -> list[str]:
        return self.rng.sample(self.ids, self.rng.randint(1, MOST_CHANGES))

    def _change_id(self) -> str:
        return f"{self.name}-{self.sent}"

    def _note(self, held: Held, prices: dict[str, int]) -> None:
        self.held.append(held)
        self.prices.append(prices)


@dataclass(slots=True)
class Crashed:
    """`broken` has the promises that were broken, `again_s` the seconds from each kill to the next process in its place."""

    kills: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    searches: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0  # calls that change the catalogue, at a kill
    repeated: int = 0  # calls that were sent again and had been logged before
    invisible: int = 0  # acknowledgements before every replica had applied the changes
    acknowledged: int = 0  # changes
    generations: int = 0  # that were built and rolled out
    again_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return len(self.broken)

    def print(self, console: Console) -> None:
        console.print(f"kills: {counts(self.kills)}, with {self.in_flight:,} changing calls in flight")
        console.print(f"changing calls: {counts(self.writes)}; {self.repeated:,} sent again had been logged")
        console.print(
            f"acknowledged changes: {self.acknowledged:,}; {self.invisible:,} calls answered before all had them"
        )
        console.print(f"searches: {counts(self.searches)}")
        console.print(f"generations built and rolled out: {self.generations:,}")
        if self.again_s:
            ordered = sorted(self.again_s)
            median = ordered[len(ordered) // 2]
            console.print(f"in place again after {median:.1f} s (median), {ordered[-1]:.1f} s at most")
        console.print(f"broken promises: {self.lost:,}")
        for one in self.broken[:MOST_TOLD]:
            console.print(f"  {one}", markup=False)


async def crash(service: Service, *, kills: int, seed: int, num_gateways: int, num_retrievers: int = 0) -> Crashed:
    """Changes and searches while `kills` processes of a service are killed, and half of the builds of generations besides; then compares
    every product with what was acknowledged."""
    drill = _Drill(service, random.Random(seed))
    try:
        await drill.run(kills, num_gateways, num_retrievers)
    finally:
        await drill.close()
    return drill.result


class _Drill:
    def __init__(self, service: Service, rng: random.Random) -> None:
        self.result = Crashed()
        self._service, self._rng = service, rng
        names = [f"Crasher{rng.randrange(10**6):06}" for _ in range(NUM_WRITERS)]
        self._writers = [Writer(name, random.Random(name)) for name in names]
        options = [*channel_options(retries=False), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(service.address, options)
        self._catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self._channel)
        self._search = search_pb2_grpc.SearchServiceStub(self._channel)
        self._in_flight = 0
        self._done = False

    async def close(self) -> None:
        await self._channel.close()

    async def run(self, kills: int, num_gateways: int, num_retrievers: int) -> None:
        writing = [asyncio.create_task(self._write(writer)) for writer in self._writers]
        searching = [asyncio.create_task(self._browse()) for _ in range(NUM_SEARCHERS)]
        killing = asyncio.create_task(self._kill_builds())
        try:
            for _ in range(kills):
                await asyncio.sleep(self._rng.uniform(0.2, 2.0))
                await self._kill(num_gateways, num_retrievers)
                if self.result.broken:
                    break
        finally:
            self._done = True
        await asyncio.gather(*writing, *searching, killing)
        await self._compare()
        self.result.generations = len(self._service.events("rolled out"))
        self.result.acknowledged = sum(writer.acknowledged for writer in self._writers)

    async def _kill(self, num_gateways: int, num_retrievers: int) -> None:
        """Kills a gateway or a retriever, at times all of a kind, and waits until others are in their place."""
        kinds = ["gateway"] + ["retriever"] * bool(num_retrievers)
        kind = self._rng.choice(kinds)
        running = sorted(await asyncio.to_thread(self._running, kind))
        chosen = running if self._rng.random() < 0.2 else self._rng.sample(running, 1)
        self.result.in_flight += self._in_flight
        started = time.monotonic()
        for process in chosen:
            os.kill(process, signal.SIGKILL)
        self.result.kills[kind] += len(chosen)
        wanted = num_gateways if kind == "gateway" else num_retrievers
        while len((await asyncio.to_thread(self._running, kind)) - set(chosen)) < wanted:
            if time.monotonic() - started > LONGEST_S:
                self.result.broken.append(f"a killed {kind} was not replaced in {LONGEST_S:.0f} s")
                return
            await asyncio.sleep(0.1)
        self.result.again_s.append(time.monotonic() - started)

    async def _kill_builds(self) -> None:
        """Kills the first build somewhere in its first seconds, and each later one at an even chance somewhere in what the longest took."""
        rng, longest_s, met = random.Random(self._rng.random()), 5.0, set[int]()
        while not self._done:
            await asyncio.sleep(0.1)
            process = _build_of(self._service.process.pid)
            if process is None or process in met:
                continue
            started, kills_it = time.monotonic(), not met or rng.random() < 0.5
            kills_after_s = rng.uniform(0, longest_s)
            met.add(process)
            while _build_of(self._service.process.pid) == process and not self._done:
                if kills_it and time.monotonic() - started > kills_after_s:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        self.result.kills["build"] += 1
                    break
                await asyncio.sleep(0.02)
            else:
                longest_s = max(longest_s, time.monotonic() - started)

    def _running(self, kind: str) -> set[int]:
        if kind == "gateway":
            return self._service.gateways()
        started = {int(one["pid"]) for one in self._service.events("stage ready") if one["stage"] == "retriever"}
        return {process for process in started if _lives(process)}

    async def _write(self, writer: Writer) -> None:
        while not self._done:
            kind = writer.rng.random()
            request: catalogue_pb2.UpsertProductsRequest | catalogue_pb2.DeleteProductsRequest | None
            request = writer.upserts() if kind < 0.5 else writer.deletes() if kind < 0.7 else None
            if request is None and (offers := writer.offers()):
                await self._send(writer, self._catalogue.UpdateOffers, offers)
            elif request is not None:
                is_upsert = isinstance(request, catalogue_pb2.UpsertProductsRequest)
                call = self._catalogue.UpsertProducts if is_upsert else self._catalogue.DeleteProducts
                await self._send(writer, call, request)

    async def _send(self, writer: Writer, call: object, request: object) -> None:
        """Sends a call until it is acknowledged."""
        waits = writer.rng.random() < 0.8
        level = catalogue_pb2.ACKNOWLEDGEMENT_VISIBLE if waits else catalogue_pb2.ACKNOWLEDGEMENT_LOGGED
        request.acknowledgement = level  # type: ignore[attr-defined]
        last = writer.sent
        give_up = time.monotonic() + LONGEST_S
        while True:
            self._in_flight += 1
            try:
                answer = await call(request, timeout=CALL_S)  # type: ignore[operator]
            except grpc.aio.AioRpcError as error:
                self.result.writes[error.code().name] += 1
                if error.code() not in _EXPECTED or time.monotonic() > give_up:
                    self.result.broken.append(
                        f"{writer.name}: change {last} fails with {error.code()}: {error.details()}"
                    )
                    self._done = True
                    return
                await asyncio.sleep(0.05)
                continue
            finally:
                self._in_flight -= 1
            break
        self.result.writes["OK"] += 1
        self.result.repeated += answer.was_repeated
        if answer.refused:
            self.result.broken.append(f"{writer.name}: change {last} is refused: {answer.refusals}")
            self._done = True
        writer.acknowledged = last
        if answer.is_visible:
            writer.visible = last
        elif waits:
            self.result.invisible += 1

    async def _browse(self) -> None:
        while not self._done:
            writer = self._rng.choice(self._writers)
            request = search_pb2.SearchRequest(
                filter=product_pb2.ProductFilter(brands=[writer.name]), page_size=4 * NUM_PRODUCTS
            )
            least = writer.visible
            try:
                answer = await self._search.Search(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                self.result.searches[error.code().name] += 1
                await asyncio.sleep(0.05)
                continue
            self.result.searches["OK"] += 1
            self._check(writer, [hit.product for hit in answer.hits], least, writer.sent, "a search")
            if answer.total != len(answer.hits):
                self.result.broken.append(f"{writer.name}: {len(answer.hits)} hits of {answer.total}")

    def _check(self, writer: Writer, products: Sequence[product_pb2.Product], least: int, most: int, what: str) -> None:
        if not writer.is_after_some(products, least, most):
            found = sorted((product.id, product.title, product.price_minor) for product in products)
            expected = sorted(writer.held[least])
            self.result.broken.append(
                f"{writer.name}: {what} finds {found}, which is no state after {least} to {most} changes: {expected}"
            )

    async def _compare(self) -> None:
        """Reads every product from every gateway, as far as calls at once reach them all."""
        for writer in self._writers:
            request = catalogue_pb2.GetProductsRequest(product_ids=writer.ids)
            answers = await asyncio.gather(*(self._settled(request, writer) for _ in range(4)))
            for answer in answers:
                self._check(writer, answer.products, writer.acknowledged, writer.sent, "GetProducts")

    async def _settled(
        self, request: catalogue_pb2.GetProductsRequest, writer: Writer
    ) -> catalogue_pb2.GetProductsResponse:
        give_up = time.monotonic() + SETTLE_S
        while True:
            try:
                answer = await self._catalogue.GetProducts(request, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                if time.monotonic() > give_up:
                    raise
            else:
                is_there = writer.is_after_some(answer.products, writer.acknowledged, writer.sent)
                if is_there or time.monotonic() > give_up:
                    return answer
            await asyncio.sleep(0.2)


# To be sent again. A machine on which gateways start has little time for others: RESOURCE_EXHAUSTED.
_EXPECTED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def _build_of(service: int) -> int | None:
    """Returns the process that builds a generation for a service."""
    try:
        children = Path(f"/proc/{service}/task/{service}/children").read_text().split()
        commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    except OSError:  # one has just ended
        return None
    return next((child for child, command in commands.items() if "\0compact\0" in command), None)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
