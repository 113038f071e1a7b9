"""A query with several readings, and a query in the order of a value, over real gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.products.product import Product
from serving.cli.main import app

COUNT = 12
PRODUCTS = [
    Product(f"{brand}-{n}", f"Kettle {n} by {brand}", brand, "Kitchen > Kettles", 100 * n + place)
    for place, brand in enumerate(("Nikora", "Nokira"))
    for n in range(1, COUNT + 1)
] + [Product(f"cup-{n}", f"Cup {n} for a kettle by Halden", "Halden", "Kitchen > Cups", n) for n in range(1, 30)]
REQUEST = search_pb2.SearchRequest


@pytest.fixture(scope="module")
def service(build_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("kettles") / "bundle"
    build_tiny(folder, PRODUCTS)
    with served(folder) as running:
        yield running


@pytest.fixture(scope="module")
def search(service: Service) -> Iterator[search_pb2_grpc.SearchServiceStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield search_pb2_grpc.SearchServiceStub(channel)


def pages(search: search_pb2_grpc.SearchServiceStub, request: search_pb2.SearchRequest) -> list[str]:
    ids: list[str] = []
    while True:
        answer = search.Search(request, timeout=60)
        ids += [hit.product_id for hit in answer.hits]
        request.page_token = answer.next_page_token
        if not answer.next_page_token:
            return ids


def test_both_readings_of_a_query_are_searched_and_take_turns(search: search_pb2_grpc.SearchServiceStub) -> None:
    answer = search.Search(REQUEST(query="nokora kettle", page_size=10, explain=True), timeout=60)
    assert set(answer.searched_queries) == {"nikora kettle", "nokira kettle"}
    assert [hit.explanation.query for hit in answer.hits] == list(answer.searched_queries) * 5
    for hit in answer.hits:
        assert hit.product.brand.lower() in hit.explanation.query
    ids = pages(search, REQUEST(query="nokora kettle", page_size=7))
    assert ids[:10] == [hit.product_id for hit in answer.hits]
    assert sorted(ids) == sorted(product.id for product in PRODUCTS)
    verbatim = search.Search(REQUEST(query="nokora kettle", verbatim=True, explain=True), timeout=60)
    assert not verbatim.searched_queries
    assert not verbatim.hits[0].explanation.query


def test_an_order_by_value_holds_what_matches_alone_to_its_last_page(search: search_pb2_grpc.SearchServiceStub) -> None:
    facets = [search_pb2.FacetRequest(name="brand")]
    for query, expected in {
        "nikora kettle": ("Nikora",),
        "nokora kettle": ("Nikora", "Nokira"),
    }.items():
        request = REQUEST(query=query, page_size=5, sort=search_pb2.Sort(by="price"), facets=facets)
        answer = search.Search(request, timeout=60)
        assert answer.sorted_over == search_pb2.FACET_SCOPE_MATCHING
        matching = [product for product in PRODUCTS if product.brand in expected]
        assert (answer.total, answer.total_meaning) == (len(matching), search_pb2.TOTAL_MEANING_EXACT)
        assert {value.value: value.count for value in answer.facets[0].values} == dict.fromkeys(expected, COUNT)
        assert answer.facets[0].counted_over == search_pb2.FACET_SCOPE_MATCHING
        in_order = sorted(matching, key=lambda product: product.price_minor or 0)
        assert pages(search, request) == [product.id for product in in_order]


def test_a_terminal_tells_of_readings_orders_and_why_there_are_no_hits(service: Service) -> None:
    def shown(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["search", *arguments, "--server", service.address])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    assert "which take turns" in shown("nokora kettle")
    assert f"sorted: all {COUNT} products that match the query" in shown("nikora kettle", "--sort=-price")
    assert "no product passes the whole filter" in shown("kettle", "--brand", "Nikora", "--max-price", "1")
