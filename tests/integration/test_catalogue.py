"""The living catalogue from outside: a real service, changes over gRPC, and what every surface then says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from aisle.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    product_pb2,
    ranking_pb2,
    ranking_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from loadtest.benchmarks.service import Service, served

NEW = product_pb2.Product(
    id="new-1",
    title="Quokka Zephyr hammock tent QZ-77120",
    brand="Quokka",
    category="Outdoor > Tents",
    price_minor=12_900,
    in_stock=True,
    attributes={"colour": "ultraviolet"},
)


@pytest.fixture(scope="module", params=["text", "unified"])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = request.getfixturevalue("bundle_folder" if request.param == "text" else "ranked_folder")
    log = tmp_path_factory.mktemp("log") / "changes.db"
    with served(
        folder, f'[catalogue]\npath = "{log}"\nmax_wait_ms = 9000\n[server]\nmax_message_bytes = 2000000\n'
    ) as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def channel(shop: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(shop.address) as opened:
        yield opened


@pytest.fixture
def catalogue(channel: grpc.Channel) -> catalogue_pb2_grpc.CatalogueServiceStub:
    return catalogue_pb2_grpc.CatalogueServiceStub(channel)


@pytest.fixture
def search(channel: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(channel)


def ids(answer: search_pb2.SearchResponse) -> list[str]:
    return [hit.product_id for hit in answer.hits]


def find(stub: search_pb2_grpc.SearchServiceStub, query: str, **fields: object) -> search_pb2.SearchResponse:
    return stub.Search(search_pb2.SearchRequest(query=query, **fields), timeout=10)  # type: ignore[arg-type]


def test_a_new_product_is_found_by_the_next_search_on_every_surface(
    catalogue: catalogue_pb2_grpc.CatalogueServiceStub, search: search_pb2_grpc.SearchServiceStub, channel: grpc.Channel
) -> None:
    answer = catalogue.UpsertProducts(catalogue_pb2.UpsertProductsRequest(products=[NEW]), timeout=10)
    assert (answer.accepted, answer.refused, answer.is_visible) == (1, 0, True)
    found = find(search, "quokka zephyr hammock tent")
    assert ids(found)[0] == "new-1"
    assert found.catalogue_sequence >= answer.sequence
    assert found.hits[0].product == NEW
    assert ids(find(search, "QZ-77120"))[0] == "new-1"
    assert not find(search, "quokka").corrected_query
    by_brand = find(search, "", filter=product_pb2.ProductFilter(brands=["quokka"]))
    assert ids(by_brand) == ["new-1"]
    facets = find(
        search,
        "",
        filter=product_pb2.ProductFilter(categories=["Outdoor"]),
        facets=[search_pb2.FacetRequest(name="brand")],
    )
    assert [(value.value, value.count) for value in facets.facets[0].values] == [("Quokka", 1)]
    read = catalogue.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=["new-1", "nobody"]), timeout=10)
    assert list(read.products) == [NEW]
    assert list(read.unknown_product_ids) == ["nobody"]


def test_an_offer_changes_price_and_stock_in_place(
    catalogue: catalogue_pb2_grpc.CatalogueServiceStub, search: search_pb2_grpc.SearchServiceStub
) -> None:
    (hit, *_) = find(search, "rug").hits
    offer = catalogue_pb2.Offer(product_id=hit.product_id, price_minor=7, in_stock=False)
    answer = catalogue.UpdateOffers(catalogue_pb2.UpdateOffersRequest(offers=[offer]), timeout=10)
    assert answer.is_visible
    cheap = find(search, "", filter=product_pb2.ProductFilter(max_price_minor=7))
    assert hit.product_id in ids(cheap)
    changed = next(hit for hit in cheap.hits if hit.product_id == offer.product_id).product
    assert (changed.price_minor, changed.in_stock) == (7, False)
    in_stock = find(search, "", filter=product_pb2.ProductFilter(max_price_minor=7, in_stock_only=True))
    assert hit.product_id not in ids(in_stock)


def test_a_deleted_product_is_gone_from_every_surface(
    catalogue: catalogue_pb2_grpc.CatalogueServiceStub, search: search_pb2_grpc.SearchServiceStub, channel: grpc.Channel
) -> None:
    first = find(search, "lamp", page_size=5)
    gone = [hit.product_id for hit in find(search, "lamp", page_size=10).hits][6]
    answer = catalogue.DeleteProducts(catalogue_pb2.DeleteProductsRequest(product_ids=[gone, "never-was"]), timeout=10)
    assert (answer.accepted, answer.is_visible) == (2, True)
    assert gone not in ids(find(search, "lamp", page_size=100))
    assert gone not in ids(find(search, gone, page_size=100))
    second = find(search, "lamp", page_size=5, page_token=first.next_page_token)
    assert gone not in ids(second)
    assert not set(ids(first)) & set(ids(second))
    read = catalogue.GetProducts(catalogue_pb2.GetProductsRequest(product_ids=[gone]), timeout=10)
    assert list(read.unknown_product_ids) == [gone]
    info = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=10)
    if info.HasField("ranker"):
        request = ranking_pb2.RankRequest(query="lamp", product_ids=[gone])
        ranked = ranking_pb2_grpc.RankingServiceStub(channel).Rank(request, timeout=10)
        assert list(ranked.unknown_product_ids) == [gone]


def test_one_bad_item_is_refused_alone(catalogue: catalogue_pb2_grpc.CatalogueServiceStub) -> None:
    products = [
        product_pb2.Product(id="good-1", title="a fine lamp"),
        product_pb2.Product(id="", title="no id"),
        product_pb2.Product(id="x" * 10_000, title="long id"),
        product_pb2.Product(id="bad-title", title=""),
        product_pb2.Product(id="bad-price", title="t", price_minor=-1),
        product_pb2.Product(id="bad-text", title="t", attributes={"description": "x" * 1_000_000}),
        product_pb2.Product(id="bad-number", title="t", attributes={f"a{n}": "x" for n in range(2_000)}),
        product_pb2.Product(id="good-1", title="again"),
    ]
    answer = catalogue.UpsertProducts(catalogue_pb2.UpsertProductsRequest(products=products), timeout=10)
    assert (answer.accepted, answer.refused) == (1, 7)
    refused = {refusal.index: (refusal.field, refusal.reason) for refusal in answer.refusals}
    assert refused[1] == ("id", "must not be empty")
    assert refused[2] == ("id", "has 10,000 characters; at most 256")
    assert refused[3] == ("title", "must not be empty")
    assert refused[4][0] == "price_minor"
    assert refused[5][0].startswith("attributes['description']")
    assert refused[6] == ("attributes", "has 2,000 entries; at most 1,000")
    assert refused[7] == ("", "has the id of products[0]; name each product once")


def test_a_change_id_makes_a_call_repeatable(catalogue: catalogue_pb2_grpc.CatalogueServiceStub) -> None:
    request = catalogue_pb2.UpsertProductsRequest(
        products=[product_pb2.Product(id="again", title="one")], change_id="c-1"
    )
    first = catalogue.UpsertProducts(request, timeout=10)
    second = catalogue.UpsertProducts(request, timeout=10)
    assert (first.was_repeated, second.was_repeated) == (False, True)
    assert first.sequence == second.sequence
    request.products[0].title = "two"
    with pytest.raises(grpc.RpcError) as caught:
        catalogue.UpsertProducts(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_sequence_that_is_not_there_degrades_the_search(search: search_pb2_grpc.SearchServiceStub) -> None:
    answer = find(search, "lamp", min_sequence=10**9)
    assert answer.hits
    assert [degradation.part for degradation in answer.degradations] == ["catalogue"]


def test_the_status_counts(catalogue: catalogue_pb2_grpc.CatalogueServiceStub) -> None:
    status = catalogue.GetCatalogueStatus(catalogue_pb2.GetCatalogueStatusRequest(), timeout=10)
    assert status.applied_sequence == status.logged_sequence > 0
    assert status.added_rows >= 3
    assert [replica.lag for replica in status.replicas] == [0]
