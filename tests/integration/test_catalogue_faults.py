"""What the living catalogue does when something fails, and with calls that mean harm or harm each other: each has a defined behaviour, and
searches go on."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import catalogue_pb2, catalogue_pb2_grpc, product_pb2, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, is_serving, served
from loadtest.errors import LoadError
from models.bundles.bundle import Bundle
from models.products.product import Product
from serving.catalogue.change import ChangeBatch, Upsert
from serving.catalogue.sqlite_log import SqliteLog
from tests.faults.crasher import crash

DISK_MB = 48
MESSAGE_BYTES = 2_000_000
UPSERTS = catalogue_pb2.UpsertProductsRequest
DELETES = catalogue_pb2.DeleteProductsRequest
OFFERS = catalogue_pb2.UpdateOffersRequest
OFFER = catalogue_pb2.Offer
PRODUCT = product_pb2.Product
Stub = catalogue_pb2_grpc.CatalogueServiceStub


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def shop(personal_folder: Path, small_disk: Path) -> Iterator[Service]:
    """Two gateways, a stage of its own for products, and a log on a small disk."""
    config = f"""
    [server]
    replicas = 2
    max_message_bytes = {MESSAGE_BYTES}
    [product_encoder]
    placement = "remote"
    num_cpus = 0.1
    [catalogue]
    path = "{small_disk}/changes.db"
    max_wait_ms = 5000
    [log]
    requests = "off"
    """
    with served(personal_folder, config) as running:
        running.wait_for("gateway ready", 2)
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def channel(shop: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(shop.address) as opened:
        yield opened


@pytest.fixture
def catalogue(channel: grpc.Channel) -> Stub:
    return Stub(channel)


@pytest.fixture
def search(channel: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(channel)


def failed(call: Any, request: object, code: grpc.StatusCode, **options: Any) -> str:
    """Makes a call that must fail with `code`; returns the reason that it states."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **{"timeout": 20, **options})
    assert caught.value.code() is code, (caught.value.code(), caught.value.details())
    status = rpc_status.from_call(caught.value)
    for detail in status.details if status else ():
        about = error_details_pb2.ErrorInfo()
        if detail.Unpack(about):
            return str(about.reason)
    return ""


def has(stub: Stub, *ids: str) -> list[str]:
    """Returns which of the products the catalogue has, as every gateway says that is asked."""
    answers = [stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20) for _ in range(4)]
    found = {tuple(product.id for product in answer.products) for answer in answers}
    assert len(found) == 1
    return list(found.pop())


def logged(stub: Stub) -> int:
    answer = stub.GetCatalogueStatus(catalogue_pb2.GetCatalogueStatusRequest(), timeout=20)
    return int(answer.logged_sequence)


def finds_something(stub: search_pb2_grpc.SearchServiceStub) -> bool:
    return bool(stub.Search(search_pb2.SearchRequest(query="lamp"), timeout=20).hits)


def upsert(*ids: str, **fields: Any) -> catalogue_pb2.UpsertProductsRequest:
    return UPSERTS(products=[PRODUCT(id=one, title=f"a lamp {one}") for one in ids], **fields)


class TestStage:
    def test_while_it_does_not_answer_nothing_is_logged_and_everything_else_works(
        self, shop: Service, catalogue: Stub, search: search_pb2_grpc.SearchServiceStub
    ) -> None:
        catalogue.UpsertProducts(upsert("before-stage"), timeout=20)
        stage = next(int(one["pid"]) for one in shop.events("stage ready") if one["stage"] == "products")
        before = logged(catalogue)
        os.kill(stage, signal.SIGSTOP)
        try:
            failed(catalogue.UpsertProducts, upsert("late"), grpc.StatusCode.DEADLINE_EXCEEDED, timeout=1.5)
            assert logged(catalogue) == before
            assert finds_something(search)
            offer = catalogue.UpdateOffers(OFFERS(offers=[OFFER(product_id="before-stage", price_minor=5)]), timeout=20)
            gone = catalogue.DeleteProducts(DELETES(product_ids=["before-stage"]), timeout=20)
            assert (offer.accepted, offer.is_visible, gone.accepted, gone.is_visible) == (1, True, 1, True)
        finally:
            os.kill(stage, signal.SIGCONT)
        assert logged(catalogue) == before + 2
        assert has(catalogue, "late", "before-stage") == []

    def test_after_its_death_calls_are_unavailable_until_another_is_there(
        self, shop: Service, catalogue: Stub, search: search_pb2_grpc.SearchServiceStub
    ) -> None:
        started = [int(one["pid"]) for one in shop.events("stage ready") if one["stage"] == "products"]
        os.kill(started[-1], signal.SIGKILL)
        ended: Counter[str] = Counter()
        give_up = time.monotonic() + 120
        number = in_a_row = 0
        while in_a_row < 10 and time.monotonic() < give_up:  # each gateway learns by itself that there is another
            try:
                catalogue.UpsertProducts(upsert(f"stage-{number}"), timeout=3)
            except grpc.RpcError as error:
                ended[error.code().name] += 1
                assert finds_something(search)
                assert has(catalogue, f"stage-{number}") == []
                in_a_row = 0
                time.sleep(0.2)
            else:
                assert has(catalogue, f"stage-{number}") == [f"stage-{number}"]
                in_a_row += 1
            number += 1
        assert set(ended) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
        assert in_a_row == 10


def test_a_full_disk_refuses_changes_and_searches_go_on(
    catalogue: Stub, search: search_pb2_grpc.SearchServiceStub, small_disk: Path
) -> None:
    catalogue.UpsertProducts(upsert("on-disk"), timeout=20)
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize)
    try:
        large = UPSERTS(
            products=[PRODUCT(id=f"large-{n}", title="a lamp", attributes={"note": "x" * 19_000}) for n in range(50)]
        )
        reasons = [failed(catalogue.UpsertProducts, large, grpc.StatusCode.RESOURCE_EXHAUSTED) for _ in range(3)]
        assert reasons == ["STORE_FULL"] * 3
        assert finds_something(search)
        assert has(catalogue, "on-disk", "large-1") == ["on-disk"]
    finally:
        filler.unlink()
    assert catalogue.DeleteProducts(DELETES(product_ids=["on-disk"]), timeout=20).is_visible
    assert catalogue.UpsertProducts(large, timeout=20).accepted == 50
    assert has(catalogue, "on-disk", "large-1") == ["large-1"]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys/kernel").exists(), reason="needs a Linux")
def test_a_log_that_cannot_be_written_ends_the_start_with_the_field(personal_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(folder)], check=False)
    if made.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        with (
            pytest.raises(LoadError, match=r"catalogue\.path"),
            served(personal_folder, f'[catalogue]\npath = "{folder}/changes.db"\n'),
        ):
            pass
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestContent:
    """Items that break rules are refused alone."""

    def test_products(self, catalogue: Stub) -> None:
        products = [
            PRODUCT(id="fine", title="a lamp"),
            PRODUCT(id="text", title="a lamp", attributes={"description": "x" * 1_000_000}),
            PRODUCT(id="attributes", title="a lamp", attributes={f"a{n}": "x" for n in range(40_000)}),
            PRODUCT(id="i" * 10_000, title="a lamp"),
        ]
        answer = catalogue.UpsertProducts(UPSERTS(products=products), timeout=20)
        assert (answer.accepted, sorted(refusal.index for refusal in answer.refusals)) == (1, [1, 2, 3])
        assert has(catalogue, "fine", "text", "attributes") == ["fine"]

    def test_a_hundred_thousand_attributes_are_more_than_a_message_may_hold(self, catalogue: Stub) -> None:
        before = logged(catalogue)
        request = UPSERTS(
            products=[
                PRODUCT(id="much", title="a lamp", attributes={f"attribute {n}": "x" * 8 for n in range(100_000)})
            ]
        )
        assert request.ByteSize() > MESSAGE_BYTES
        failed(catalogue.UpsertProducts, request, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert logged(catalogue) == before

    def test_offers(self, catalogue: Stub) -> None:
        catalogue.UpsertProducts(upsert("offered"), timeout=20)
        offers = [
            OFFER(product_id="offered", price_minor=7),
            OFFER(product_id="nobody", price_minor=7),
            OFFER(product_id="offered-2", price_minor=-1),
            OFFER(product_id="o" * 10_000, price_minor=7),
            OFFER(product_id="offered", price_minor=10**17),
            *(OFFER(product_id="offered", numbers={"weight": one}) for one in (math.nan, math.inf, -math.inf)),
            OFFER(product_id="offered", numbers={"no such attribute": 1.0}),
            OFFER(product_id="offered"),
            OFFER(product_id="offered", price_minor=1, removes_price=True),
        ]
        answer = catalogue.UpdateOffers(OFFERS(offers=offers), timeout=20)
        assert (answer.accepted, answer.refused) == (1, len(offers) - 1)
        assert {refusal.index for refusal in answer.refusals} == set(range(1, len(offers)))
        (product,) = catalogue.GetProducts(
            catalogue_pb2.GetProductsRequest(product_ids=["offered"]), timeout=20
        ).products
        assert product.price_minor == 7

    def test_deletes(self, catalogue: Stub) -> None:
        answer = catalogue.DeleteProducts(DELETES(product_ids=["d" * 10_000, "", " x", "fine-too"]), timeout=20)
        assert (answer.accepted, sorted({refusal.index for refusal in answer.refusals})) == (1, [0, 1, 2])

    @pytest.mark.parametrize("method", ["UpsertProducts", "DeleteProducts", "UpdateOffers"])
    def test_text_that_is_no_utf8_is_refused_as_a_whole(
        self, channel: grpc.Channel, catalogue: Stub, method: str
    ) -> None:
        before = logged(catalogue)
        whole: dict[str, Message] = {
            "UpsertProducts": UPSERTS(products=[PRODUCT(id="utf", title="QQQQ")]),
            "DeleteProducts": DELETES(product_ids=["QQQQ"]),
            "UpdateOffers": OFFERS(offers=[OFFER(product_id="QQQQ", price_minor=1)]),
        }
        raw = whole[method].SerializeToString().replace(b"QQQQ", b"\xff\xfe\xfd\xfc")
        call: Any = channel.unary_unary(f"/aisle.v1.CatalogueService/{method}")
        failed(call, raw, grpc.StatusCode.INVALID_ARGUMENT)
        assert logged(catalogue) == before


class TestAtOnce:
    async def test_an_upsert_and_a_delete_of_one_product_have_one_order_everywhere(self, shop: Service) -> None:
        async with grpc.aio.insecure_channel(shop.address) as channel:
            stub, found = Stub(channel), search_pb2_grpc.SearchServiceStub(channel)
            ids = [f"both-{number}" for number in range(30)]
            calls = [
                call
                for one in ids
                for call in (
                    stub.UpsertProducts(UPSERTS(products=[PRODUCT(id=one, title="a lamp", brand="Both")]), timeout=60),
                    stub.DeleteProducts(DELETES(product_ids=[one]), timeout=60),
                )
            ]
            random.Random(0).shuffle(calls)
            answers = await asyncio.gather(*calls)
            assert all(answer.is_visible for answer in answers)
            read = [stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20) for _ in range(6)]
            living = {tuple(product.id for product in (await one).products) for one in read}
            assert len(living) == 1
            request = search_pb2.SearchRequest(filter=product_pb2.ProductFilter(brands=["Both"]), page_size=100)
            hits = [hit.product_id for hit in (await found.Search(request, timeout=20)).hits]
            assert sorted(hits) == sorted(living.pop())

    async def test_of_two_contents_with_one_change_id_one_is_logged(self, shop: Service) -> None:
        async with grpc.aio.insecure_channel(shop.address) as channel:
            stub = Stub(channel)
            for number in range(10):
                ids = [f"twice-{number}-{content}" for content in range(6)]
                calls = [stub.UpsertProducts(upsert(one, change_id=f"twice-{number}"), timeout=60) for one in ids]
                ended = await asyncio.gather(*calls, return_exceptions=True)
                codes = Counter(one.code().name if isinstance(one, grpc.aio.AioRpcError) else "OK" for one in ended)
                assert codes == {"OK": 1, "FAILED_PRECONDITION": 5}
                answer = await stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20)
                (kept,) = answer.products
                assert isinstance(ended[ids.index(kept.id)], catalogue_pb2.ChangeResponse)

    async def test_a_call_that_is_cancelled_is_logged_whole_or_not_at_all(self, shop: Service) -> None:
        rng = random.Random(1)
        async with grpc.aio.insecure_channel(shop.address) as channel:
            stub = Stub(channel)
            calls = [[f"cancelled-{number}-{n}" for n in range(5)] for number in range(60)]

            async def cancel(ids: list[str]) -> bool:
                call = stub.UpsertProducts(upsert(*ids), timeout=60)
                await asyncio.sleep(rng.uniform(0, 0.03))
                call.cancel()
                try:
                    await call
                except asyncio.CancelledError:
                    return False
                return True

            was_answered = [await cancel(ids) for ids in calls]
            await stub.UpsertProducts(upsert("after-cancelled"), timeout=20)  # logged after whatever was logged of them
            survived = []
            for ids in calls:
                answer = await stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20)
                assert len(answer.products) in (0, 5)
                survived.append(len(answer.products) == 5)
            assert all(kept for kept, answered in zip(survived, was_answered, strict=True) if answered)


def test_a_call_that_is_sent_again_is_the_same_call_whatever_happened_meanwhile(catalogue: Stub) -> None:
    catalogue.UpsertProducts(upsert("again-1", "again-2"), timeout=20)
    offers = [OFFER(product_id=one, price_minor=3) for one in ("again-1", "again-2", "again-3")]
    request = OFFERS(offers=offers, change_id="again")
    first = catalogue.UpdateOffers(request, timeout=20)
    assert (first.accepted, first.refused, [refusal.index for refusal in first.refusals]) == (2, 1, [2])
    catalogue.DeleteProducts(DELETES(product_ids=["again-1"]), timeout=20)
    second = catalogue.UpdateOffers(request, timeout=20)
    assert (second.accepted, second.refused, second.was_repeated) == (2, 1, True)
    assert second.sequence == first.sequence
    gone = DELETES(product_ids=["again-2"], change_id="again")
    assert failed(catalogue.DeleteProducts, gone, grpc.StatusCode.FAILED_PRECONDITION) == "CHANGE_ID_REUSED"


class TestStream:
    def test_batches_before_one_that_is_refused_stay(self, catalogue: Stub) -> None:
        batches = [upsert("stream-1"), upsert("stream-2"), UPSERTS(), upsert("stream-4")]
        failed(catalogue.StreamProducts, iter(batches), grpc.StatusCode.INVALID_ARGUMENT)
        assert has(catalogue, "stream-1", "stream-2", "stream-4") == ["stream-1", "stream-2"]

    async def test_batches_before_the_stream_breaks_stay(self, shop: Service) -> None:
        async with grpc.aio.insecure_channel(shop.address) as channel:
            stub = Stub(channel)
            stream = stub.StreamProducts(timeout=60)
            for number in range(3):
                await stream.write(upsert(f"broken-{number}"))
            ids = [f"broken-{number}" for number in range(3)]
            give_up = time.monotonic() + 30
            found: list[str] = []
            while len(found) < 3 and time.monotonic() < give_up:
                answer = await stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20)
                found = [product.id for product in answer.products]
                await asyncio.sleep(0.05)
            stream.cancel()
            assert found == ids
            await stub.UpsertProducts(upsert("after-broken"), timeout=20)
            answer = await stub.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=ids), timeout=20)
            assert [product.id for product in answer.products] == ids


async def test_kills_lose_nothing_that_was_acknowledged(shop: Service) -> None:
    result = await crash(shop, kills=2, seed=3, num_gateways=2)
    assert result.lost == 0, result.broken
    assert result.acknowledged > 0


def test_a_change_that_cannot_be_applied_stops_the_service_and_is_named(
    personal_folder: Path, shop: Service, catalogue: Stub, small_disk: Path
) -> None:
    """The last test of this service. The change is made by hand: calls that could bring one are refused."""
    bundle = Bundle(personal_folder)
    log = SqliteLog(small_disk / "changes.db", bundle.manifest.line, "full")
    changes = (Upsert(Product("poison", "a lamp", price_minor=2**70)),)
    vectors = np.zeros((1, bundle.manifest.dim), np.float16)
    batch = ChangeBatch(changes=changes, vectors=vectors, encoder=bundle.manifest.encoder_version)
    before = logged(catalogue)
    appended = asyncio.run(log.append(batch))
    (said, *_) = shop.wait_for("catalogue cannot be changed", 2, 30)
    assert f"one of the changes {before + 1} to {appended.last} cannot be applied" in str(said)
    while is_serving(shop.address):  # nothing is read from structures that may contradict each other
        time.sleep(0.1)
    failed(catalogue.UpsertProducts, upsert("after-poison"), grpc.StatusCode.UNAVAILABLE)
    kept = log.read(before, 10)
    assert [dataclasses.astuple(change)[0][0] for change in kept[0].batch.changes] == ["poison"]
    asyncio.run(log.close())
