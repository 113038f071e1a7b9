"""Generations of a real service: built beside it, taken in and rolled back under writes and searches, without a failed call or a lost
change."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from aisle.client import connect
from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc, product_pb2, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.arrays import silent
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError, Manifest
from serving.catalogue.generation import previous_of
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.sqlite_log import SqliteLog
from serving.cli.generations import alone, compact
from tests.generations import assert_holds, logged, random_changes

COMPACT_AFTER = 150
GONE = 40  # products of the first rows, whose rows the next generation gives to others
WAIT_S = 10


def test_a_generation_of_the_unified_model_with_a_ranker_holds_the_same(ranked_folder: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(ranked_folder, tmp_path / "mine"))
    before = Bundle(mine)
    log = SqliteLog(tmp_path / "changes.db", before.manifest.line, "normal")
    ids = [before.products().id(row) for row in range(0, 1000, 20)]
    logged(log, random_changes(random.Random(0), ids, 120), before)
    live = Catalogue.open(before)
    live.live.apply(log.read(0, 1000))
    compact(mine, log, silent)
    before.folder = previous_of(mine)
    assert_holds(mine, live)
    log._close()


@pytest.fixture(scope="module")
def mine(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path_factory.mktemp("generations") / "mine"))


@pytest.fixture(scope="module")
def shop(mine: Path) -> Iterator[Service]:
    log = f'[catalogue]\npath = "{mine.parent / "changes.db"}"\ncompact_after = {COMPACT_AFTER}\nmax_wait_ms = 5000\n'
    log += '[retriever]\nplacement = "remote"\nmin_replicas = 1\nmax_replicas = 1\nnum_cpus = 0.1\n'
    with served(mine, log) as running:
        yield running
        assert running.process.poll() is None


class Traffic:
    """Writes and searches, one of each after the other, and what was acknowledged: the title of each product, None for a deleted one."""

    def __init__(self, address: str, ids: Sequence[str]) -> None:
        """`ids` are those of products that stay; each is searched for."""
        self._ids = ids
        self.wrong: list[str] = []  # that was found in place of what was searched for
        self.acknowledged: dict[str, str | None] = {}
        self.failures: list[str] = []
        self.unseen: list[str] = []  # that a call missed after it was acknowledged as visible
        self.writes = self.searches = 0
        self._channel = connect(address)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._write, self._search)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _run(self, work) -> None:  # type: ignore[no-untyped-def]
        while not self._ended.is_set():
            try:
                work()
            except grpc.RpcError as error:
                self.failures.append(f"{error.code()}: {error.details()}")
            time.sleep(0.02)

    def _write(self) -> None:
        catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self._channel)
        number = self.writes
        title = f"Quokka {number} hammock"
        products = [
            product_pb2.Product(id=f"q-{(number + at) % 60}", title=title, price_minor=number) for at in (0, 7, 20)
        ]
        answer = catalogue.UpsertProducts(catalogue_pb2.UpsertProductsRequest(products=products), timeout=WAIT_S)
        self.acknowledged |= {product.id: title for product in products}
        if answer.is_visible:
            self._see({product.id: title for product in products}, answer.sequence)
        if number % 5 == 0:
            gone = f"q-{number % 60}"
            answer = catalogue.DeleteProducts(catalogue_pb2.DeleteProductsRequest(product_ids=[gone]), timeout=WAIT_S)
            self.acknowledged[gone] = None
            if answer.is_visible:
                self._see({gone: None}, answer.sequence)
        self.writes += 1

    def _see(self, expected: dict[str, str | None], sequence: int) -> None:
        if found := missing(self._channel, expected):
            self.unseen.append(f"change {sequence}: {found}")

    def _search(self) -> None:
        search = search_pb2_grpc.SearchServiceStub(self._channel)
        wanted = self._ids[self.searches % len(self._ids)]
        found = [hit.product.id for hit in search.Search(search_pb2.SearchRequest(query=wanted), timeout=WAIT_S).hits]
        if found[:1] != [wanted]:
            self.wrong.append(f"{wanted}: {found[:3]}")
        self.searches += 1


def missing(channel: grpc.Channel, expected: dict[str, str | None]) -> dict[str, str]:
    """Products that are not as they were acknowledged."""
    stub = catalogue_pb2_grpc.CatalogueServiceStub(channel)
    answer = stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=list(expected)), timeout=WAIT_S)
    found = {product.id: product.title for product in answer.products}
    return {key: str(found.get(key)) for key, title in expected.items() if found.get(key) != title}


def status(channel: grpc.Channel) -> catalogue_pb2.GetCatalogueStatusResponse:
    stub = catalogue_pb2_grpc.CatalogueServiceStub(channel)
    return stub.GetCatalogueStatus(catalogue_pb2.GetCatalogueStatusRequest(), timeout=WAIT_S)


def in_step(channel: grpc.Channel) -> catalogue_pb2.GetCatalogueStatusResponse:
    """The status once every process has applied every change, and those that were replaced are gone."""
    give_up = time.monotonic() + 60
    while True:
        now = status(channel)
        if [replica.lag for replica in now.replicas] == [0, 0]:  # the gateway and the retriever
            return now
        assert time.monotonic() < give_up, now
        time.sleep(0.1)


def dropped(mine: Path, first: Manifest) -> int:
    """The last change that the log has forgotten, once it has."""
    log = SqliteLog(mine.parent / "changes.db", first.line, "normal", first.sequence)
    give_up = time.monotonic() + 60
    try:
        while True:
            with log._reading:
                last = int(log._reader.execute("SELECT dropped FROM state").fetchone()[0])
            if last or time.monotonic() > give_up:
                return last
            time.sleep(0.1)
    finally:
        log._close()


@contextmanager
def held(mine: Path) -> Iterator[None]:
    """Keeps the service from building, once it does not."""
    with ExitStack() as lock:
        while True:
            try:
                lock.enter_context(alone(mine))
                break
            except BundleError:
                time.sleep(0.2)
        yield


def test_a_service_builds_takes_in_and_rolls_back_generations_under_traffic(shop: Service, mine: Path) -> None:
    first, table = Bundle(mine).manifest, Bundle(mine).products()
    ids = table.strings("id")
    with connect(shop.address) as channel:
        gone = catalogue_pb2.DeleteProductsRequest(product_ids=ids[:GONE])
        assert catalogue_pb2_grpc.CatalogueServiceStub(channel).DeleteProducts(gone, timeout=WAIT_S).is_visible
    with connect(shop.address) as channel, Traffic(shop.address, ids[GONE:]) as traffic:
        shop.wait_for("rolled out", 2)
        after = in_step(channel)
        assert 0 < first.sequence + COMPACT_AFTER <= after.bundle_sequence
        assert Bundle(previous_of(mine)).manifest.sequence < after.bundle_sequence
        # Everybody has what both generations have, so the log forgets it.
        assert 0 < dropped(mine, first) <= Bundle(previous_of(mine)).manifest.sequence
        with held(mine):  # the next build is refused, and is said to be; then there are no more
            refused = shop.wait_for("no new generation; serving as before", 1)
            assert "another process builds or swaps generations of" in refused[-1]["error"]
            shop.config.write_text(
                shop.config.read_text().replace(f"compact_after = {COMPACT_AFTER}", "compact_after = 0")
            )
            shop.update()
        options = ["--bundle", str(mine), "--config", str(shop.config)]
        rollback = [sys.executable, "-m", "serving.cli", "catalogue", "rollback", *options]
        older = Bundle(previous_of(mine)).manifest
        rolled_back = subprocess.run(rollback, check=False, capture_output=True, text=True)
        assert rolled_back.returncode == 0, rolled_back.stderr
        shop.update()
        now = in_step(channel)
        assert (now.bundle_version, now.bundle_sequence) == (older.version, older.sequence)
        assert now.added_rows > 0
    assert traffic.failures == []
    assert traffic.unseen == []
    assert traffic.wrong == []
    assert traffic.writes > COMPACT_AFTER / 4
    assert traffic.searches > traffic.writes / 2
    with connect(shop.address) as channel:
        in_step(channel)
        assert missing(channel, traffic.acknowledged) == {}
        assert status(channel).products == first.products - GONE + sum(
            title is not None for title in traffic.acknowledged.values()
        )
