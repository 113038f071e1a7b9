"""The index on several processes and nodes: real Ray, a real service, real losses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

from aisle.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    product_pb2,
    ranking_pb2,
    ranking_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
)
from loadtest.benchmarks.service import Service, free_port, is_serving, served
from models.bundles.bundle import Bundle
from models.shards import shard_of
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import open_retriever
from tests.shards import LocalShards, batches, differences, retrieved, searches

CONFIG = """
[server]
num_cpus = 0.1
[retriever]
placement = "remote"
num_cpus = {cpus}
shards = {shards}
[shoppers]
store = "off"
[catalogue]
max_wait_ms = 30000
"""
NUM_REQUESTS = 60
PATIENCE_S = 60
# A service, and its answers before and after the index was divided.
Served = tuple[Service, list[list[search_pb2.SearchResponse]], list[ranking_pb2.RankResponse]]


def requests(bundle: Bundle) -> list[search_pb2.SearchRequest]:
    """Searches of most kinds that the contract has."""
    rng, table = np.random.default_rng(3), bundle.products()
    found = []
    for number in range(NUM_REQUESTS):
        product = table.product(int(rng.integers(len(table))))
        category = product.category.split(" > ")
        request = search_pb2.SearchRequest(page_size=20, explain=number % 3 == 0)
        if number % 5:
            request.query = (" ".join(product.title.split()[:2]), category[-1], product.id)[number % 3]
        else:
            request.sort.by, request.sort.descending = "price", bool(number % 2)
            request.query = category[-1] if number % 10 else ""
        if number % 4 == 0:
            request.filter.categories.append(category[0])
        if number % 3 == 1:
            request.facets.add(name="brand", max_values=10)
            request.facets.add(name="category", max_values=10)
        if number % 7 == 1 and request.query and not request.HasField("sort"):
            request.recent_events.add(product_id=table.id(number), kind=shopper_pb2.EVENT_KIND_CLICK, time_ms=1)
        found.append(request)
    return found


def answers(address: str, asked: Sequence[search_pb2.SearchRequest]) -> list[search_pb2.SearchResponse]:
    """Returns the first page of each search, and the second where there is one."""
    with grpc.insecure_channel(address) as channel:
        stub, found = search_pb2_grpc.SearchServiceStub(channel), []
        for request in asked:
            first = stub.Search(request, timeout=20)
            found.append(first)
            if first.next_page_token:
                following = search_pb2.SearchRequest()
                following.CopyFrom(request)
                following.page_token = first.next_page_token
                found.append(stub.Search(following, timeout=20))
        return found


def ranked(address: str, bundle: Bundle) -> ranking_pb2.RankResponse:
    table = bundle.products()
    request = ranking_pb2.RankRequest(query="sofa", product_ids=[table.id(row) for row in range(0, 200, 3)])
    request.products.add(id="new", title="Velvet Sofa")
    with grpc.insecure_channel(address) as channel:
        answer: ranking_pb2.RankResponse = ranking_pb2_grpc.RankingServiceStub(channel).Rank(request, timeout=20)
        return answer


class Load:
    """Searches without pause, and what became of them."""

    def __init__(self, address: str) -> None:
        self.coverages: list[float] = []
        self.failures: list[str] = []
        self.slowest_s = 0.0
        self._stub = search_pb2_grpc.SearchServiceStub(grpc.insecure_channel(address))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._search) for _ in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _search(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                answer = self._stub.Search(search_pb2.SearchRequest(query="velvet sofa"), timeout=10)
                partial = [one.reason for one in answer.degradations if one.part == "shards"]
                assert bool(partial) == (answer.coverage < 1)
                if partial:
                    assert answer.total_meaning == search_pb2.TOTAL_MEANING_AT_LEAST
                self.coverages.append(answer.coverage)
            except Exception as error:
                self.failures.append(str(error))
            self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def wait_for(self, complete: bool) -> None:
        """Waits until a search was answered from all shards, or from some."""
        give_up, start = time.monotonic() + PATIENCE_S, len(self.coverages)
        while time.monotonic() < give_up:
            if any((coverage == 1) == complete for coverage in self.coverages[start:]):
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.coverages[-5:]}, {self.failures[-5:]}")


@pytest.fixture(scope="module")
def bundle(ranked_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle(shutil.copytree(ranked_folder, tmp_path_factory.mktemp("sharded") / "bundle"))


@pytest.mark.parametrize("count", [2, 4])
def test_all_shards_rank_as_the_whole_does(bundle: Bundle, count: int) -> None:
    whole, shards = open_retriever(Catalogue.open(bundle), threads=1), LocalShards(Catalogue.open(bundle), count)
    num_ranked = 0
    for batch in batches(searches(bundle, None, 120, ranks=True, seed=count), 8):
        for item, one, other in zip(batch, whole.compute(batch), shards.compute(batch), strict=True):
            assert differences(retrieved(one), retrieved(other)) == [], item
            num_ranked += len(retrieved(other).scores) > 0
    assert num_ranked > 20


@pytest.fixture(scope="module")
def before_and_after(bundle: Bundle) -> Iterator[Served]:
    """A service goes over from one index to two shards of it."""
    asked = requests(bundle)
    shutil.rmtree(bundle.folder / "shards", ignore_errors=True)
    with served(bundle.folder, CONFIG.format(shards=1, cpus=0.5)) as service:
        found, orders = [answers(service.address, asked)], [ranked(service.address, bundle)]
        service.config.write_text(CONFIG.format(shards=2, cpus=0.5))
        service.update()
        assert service.events("shards cut")
        found.append(answers(service.address, asked))
        orders.append(ranked(service.address, bundle))
        yield service, found, orders
        assert service.process.poll() is None


def test_answers_stay(before_and_after: Served) -> None:
    _, (before, after), orders = before_and_after
    assert len(before) == len(after) > NUM_REQUESTS
    num_moved = 0
    for one, other in zip(before, after, strict=True):
        assert other.coverage == 1
        assert not other.degradations
        assert (one.total, one.total_meaning, one.ranked_depth) == (
            other.total,
            other.total_meaning,
            other.ranked_depth,
        )
        assert list(one.facets) == list(other.facets)
        ids = [[hit.product_id for hit in answer.hits] for answer in (one, other)]
        if ids[0] != ids[1]:  # only equals may change places: the last bits of a chance depend on its batch
            num_moved += 1
            blends = [sorted(hit.score for hit in answer.hits) for answer in (one, other)]
            assert np.allclose(*blends, atol=1e-4)
    assert num_moved <= len(before) / 20
    assert [hit.product_id for hit in orders[0].products] == [hit.product_id for hit in orders[1].products]


def test_changes_reach_the_shards_of_their_products(before_and_after: Served) -> None:
    service = before_and_after[0]
    new = {f"quokka-{number}": f"Quokka hammock {number}" for number in range(6)}
    assert {shard_of(product_id, 2) for product_id in new} == {0, 1}
    with grpc.insecure_channel(service.address) as channel:
        stub, search = catalogue_pb2_grpc.CatalogueServiceStub(channel), search_pb2_grpc.SearchServiceStub(channel)
        products = [product_pb2.Product(id=product_id, title=title) for product_id, title in new.items()]
        stub.UpsertProducts(catalogue_pb2.UpsertProductsRequest(products=products), timeout=60)
        last = stub.DeleteProducts(catalogue_pb2.DeleteProductsRequest(product_ids=["quokka-3"]), timeout=60)
        request = search_pb2.SearchRequest(query="quokka hammock", min_sequence=last.sequence)
        answer = search.Search(request, timeout=20)
        assert answer.catalogue_sequence == last.sequence == 7
        assert {hit.product_id for hit in answer.hits[:5]} == new.keys() - {"quokka-3"}


def test_a_killed_shard_costs_its_part_alone(before_and_after: Served) -> None:
    service = before_and_after[0]
    (shard,) = {line["pid"] for line in service.events("stage ready") if line["stage"] == "retriever-1"}
    with Load(service.address) as load:
        load.wait_for(complete=True)
        os.kill(shard, signal.SIGKILL)
        load.wait_for(complete=False)
        load.wait_for(complete=True)
        with grpc.insecure_channel(service.address) as channel:
            request = search_pb2.SearchRequest(query="quokka hammock")
            answer = search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=20)
        assert {hit.product_id for hit in answer.hits[:5]} == {f"quokka-{number}" for number in (0, 1, 2, 4, 5)}
    assert load.failures == []
    assert 0.3 < min(load.coverages) < 0.7
    assert load.slowest_s < 5
    assert service.events("shard lost")
    assert service.events("shard is back")


@contextmanager
def joined(bundle: Path, address: str, config: str, folder: Path) -> Iterator[Service]:
    """A service in somebody's cluster."""
    (folder / "aisle.toml").write_text(config)
    port = free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--port", str(port)]
    command += ["--config", str(folder / "aisle.toml"), "--log-format", "json", "--ray-address", address]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder), "NO_COLOR": "1"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    service = Service(f"127.0.0.1:{port}", process, folder / "log", folder / "aisle.toml")
    try:
        give_up = time.monotonic() + 240
        while not is_serving(service.address) and time.monotonic() < give_up and process.poll() is None:
            time.sleep(0.2)
        yield service
    finally:
        service.stop()


def test_a_lost_node_costs_its_shard_alone(bundle: Bundle, tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]  # one shard each, and the gateway beside one of them
        config = CONFIG.format(shards=2, cpus=0.9)
        with joined(bundle.folder, cluster.address, config, tmp_path) as service, Load(service.address) as load:
            load.wait_for(complete=True)
            raylets = [node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in nodes]
            (gateway,) = {line["pid"] for line in service.events("gateway ready")}
            at = raylets.index(psutil.Process(gateway).ppid())
            cluster.remove_node(nodes[1 - at], allow_graceful=False)
            load.wait_for(complete=False)
            cluster.add_node(num_cpus=1)
            load.wait_for(complete=True)
            assert load.failures == []
            assert load.slowest_s < 5
    finally:
        cluster.shutdown()


def test_more_shards_than_products_are_refused_before_anything_starts(shop_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(shop_bundle, tmp_path / "bundle")
    (tmp_path / "aisle.toml").write_text(CONFIG.format(shards=7, cpus=0.5))
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--port", str(free_port())]
    ended = subprocess.run(
        [*command, "--config", str(tmp_path / "aisle.toml")], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "retriever.shards is 7" in ended.stdout + ended.stderr
    assert "6 products, too few for 7 shards" in " ".join((ended.stdout + ended.stderr).split())
