"""Search over real gRPC, held against brute force over the bundle's own files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc import Channel
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from typer.testing import CliRunner

from aisle.v1 import info_pb2, info_pb2_grpc, product_pb2, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service
from models.bundles.bundle import Bundle
from models.studies.search.evaluate_search import BM25
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.cli.main import app

Stub = search_pb2_grpc.SearchServiceStub
REQUEST = search_pb2.SearchRequest


@pytest.fixture(scope="module")
def encoder(bundle: Bundle) -> TextEncoder:
    return TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu")


def ids(answer: search_pb2.SearchResponse) -> list[str]:
    return [hit.product_id for hit in answer.hits]


def brute_force(bundle: Bundle, encoder: TextEncoder, query: str, mask: np.ndarray | None = None) -> np.ndarray:
    """Similarities of all products (those that `mask` leaves out at -inf), by NumPy."""
    scores = np.asarray(bundle.vectors(), np.float32) @ encoder.encode([Text(query)])[0]
    return scores if mask is None else np.where(mask, scores, -np.inf)


def test_the_hits_are_those_that_brute_force_finds(search: Stub, bundle: Bundle, encoder: TextEncoder) -> None:
    for query in ("red velvet sofa", "running shoes", "something warm for my dog", "coffee"):
        answer = search.Search(REQUEST(query=query, page_size=50, lexical_weight=0), timeout=60)
        scores = brute_force(bundle, encoder, query)
        best = {bundle.products().id(int(row)) for row in np.argsort(-scores)[:50]}
        assert len(best & set(ids(answer))) >= 49  # two near-equal scores may change places in bf16
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)


def test_a_hit_is_the_product_of_the_catalogue(search: Stub, bundle: Bundle) -> None:
    table = bundle.products()
    rows = {table.id(row): row for row in range(len(table))}
    for hit in search.Search(REQUEST(query="dining table"), timeout=60).hits:
        product = table.product(rows[hit.product_id])
        assert (hit.product.title, hit.product.brand, hit.product.category) == (
            product.title,
            product.brand,
            product.category,
        )
        assert hit.product.price_minor == product.price_minor
        assert hit.product.in_stock == product.in_stock
        assert dict(hit.product.attributes) == dict(product.attributes)


def test_the_sensible_product_comes_first(search: Stub) -> None:
    answer = search.Search(REQUEST(query="couch", page_size=5), timeout=60)
    assert sum("Sofa" in hit.product.category or "sofa" in hit.product.title.lower() for hit in answer.hits) >= 3


def test_only_the_asked_fields_come(search: Stub) -> None:
    answer = search.Search(REQUEST(query="lamp", product_fields=["title", "price_minor"]), timeout=60)
    for hit in answer.hits:
        assert hit.product.title
        assert not hit.product.brand
        assert not hit.product.attributes
        assert not hit.product.HasField("in_stock")


def test_pages_make_the_whole_list_without_gap_or_repeat(search: Stub) -> None:
    whole = ids(search.Search(REQUEST(query="blue dress", page_size=100), timeout=60))
    request, paged = REQUEST(query="blue dress", page_size=17), []
    while True:
        answer = search.Search(request, timeout=60)
        paged += ids(answer)
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert len(paged) == len(set(paged)) == 1000
    assert paged[:100] == whole


@pytest.mark.parametrize("query", ["red velvet sofa", "gift", "shoes"])
def test_filters_are_exact(search: Stub, bundle: Bundle, encoder: TextEncoder, query: str) -> None:
    table = bundle.products()
    products = list(table.products())
    brand = products[7].brand
    top = products[11].category.split(" > ")[0]
    cases = [
        (product_pb2.ProductFilter(in_stock_only=True), lambda p: p.in_stock),
        (product_pb2.ProductFilter(brands=[brand.upper()]), lambda p: p.brand == brand),
        (product_pb2.ProductFilter(categories=[top]), lambda p: p.category.startswith(top)),
        (
            product_pb2.ProductFilter(min_price_minor=2000, max_price_minor=5000, in_stock_only=True),
            lambda p: p.price_minor is not None and 2000 <= p.price_minor <= 5000 and p.in_stock,
        ),
        (
            product_pb2.ProductFilter(brands=[brand], categories=[products[7].category], max_price_minor=10**9),
            lambda p: p.brand == brand and p.category == products[7].category and p.price_minor is not None,
        ),
    ]
    for wanted, passes in cases:
        mask = np.array([passes(product) for product in products])
        scores = brute_force(bundle, encoder, query, mask)
        best = [table.id(int(row)) for row in np.argsort(-scores)[: min(100, int(mask.sum()))]]
        passing = {table.id(int(row)) for row in np.flatnonzero(mask)}
        for lexical_weight in (0, 1):
            request = REQUEST(query=query, page_size=100, filter=wanted, lexical_weight=lexical_weight)
            answer = search.Search(request, timeout=60)
            assert len(answer.hits) == len(best) > 0
            assert set(ids(answer)) <= passing
            if not lexical_weight:
                assert len(set(ids(answer)) & set(best)) >= len(best) - 1


def test_a_filter_on_what_does_not_exist_finds_nothing_and_says_so(search: Stub) -> None:
    wanted = product_pb2.ProductFilter(brands=["Nobody"], categories=["Nowhere"])
    answer = search.Search(REQUEST(query="sofa", filter=wanted), timeout=60)
    assert not answer.hits
    assert ["Nobody" in answer.warnings[0], "Nowhere" in answer.warnings[1]] == [True, True]


def test_a_product_id_or_model_number_finds_its_product_first(search: Stub, bundle: Bundle) -> None:
    table = bundle.products()
    for row in (3, 444, 999):
        answer = search.Search(REQUEST(query=table.id(row), explain=True), timeout=60)
        assert answer.hits[0].product_id == table.id(row)
        assert answer.hits[0].explanation.matched_identifiers == [table.id(row)]


def test_a_misspelt_word_is_mended_and_the_answer_says_so(search: Stub) -> None:
    answer = search.Search(REQUEST(query="red velvte sofaa", page_size=5), timeout=60)
    assert answer.corrected_query.startswith("red velvet ")
    assert ids(answer)[0] == ids(search.Search(REQUEST(query=answer.corrected_query, page_size=5), timeout=60))[0]
    assert not search.Search(REQUEST(query="red velvet sofa"), timeout=60).corrected_query
    assert not search.Search(REQUEST(query="red velvte sofaa", verbatim=True), timeout=60).corrected_query


def test_an_explanation_adds_up(search: Stub) -> None:
    answer = search.Search(REQUEST(query="AS-0000003 chair", explain=True), timeout=60)
    for rank, hit in enumerate(answer.hits, 1):
        why = hit.explanation
        parts = why.similarity + why.identifier_boost + why.lexical_boost
        assert hit.score == pytest.approx(parts, abs=1e-6)
        assert why.rank == rank
    assert not search.Search(REQUEST(query="chair"), timeout=60).hits[0].HasField("explanation")


def test_the_answer_names_versions_times_and_the_callers_request_id(search: Stub, bundle: Bundle) -> None:
    answer, call = search.Search.with_call(REQUEST(query="sofa"), timeout=60, metadata=(("x-request-id", "abc-123"),))
    assert answer.bundle_version == answer.index_version == bundle.manifest.version
    assert answer.request_id == "abc-123"
    assert ("x-request-id", "abc-123") in [(key, value) for key, value in call.trailing_metadata()]
    assert [phase.name for phase in answer.timing.phases] == ["encode", "retrieve", "fetch"]
    assert 0 < sum(p.queue_ms + p.compute_ms for p in answer.timing.phases) <= answer.timing.total_ms + 1
    unnamed = [search.Search(REQUEST(query="sofa"), timeout=60).request_id for _ in range(2)]
    assert len(set(unnamed)) == 2


def test_info_tells_what_is_served(info: info_pb2_grpc.InfoServiceStub, bundle: Bundle) -> None:
    told = info.GetInfo(info_pb2.GetInfoRequest(), timeout=60)
    assert told.bundle_version == bundle.manifest.version
    assert (told.catalogue.products, list(told.catalogue.locales)) == (1000, ["en-US", "en-GB"])
    assert list(told.encoder.dimensions) == [128, 384]
    assert told.limits.max_page_size == 100
    assert "attributes.description" in told.catalogue.product_fields


def test_stats_count_what_was_done(search: Stub, info: info_pb2_grpc.InfoServiceStub) -> None:
    before = info.GetStats(info_pb2.GetStatsRequest(), timeout=60)
    for _ in range(5):
        search.Search(REQUEST(query="sofa"), timeout=60)
    after = info.GetStats(info_pb2.GetStatsRequest(), timeout=60)
    assert [stage.stage for stage in after.stages] == ["encoder", "retriever"]
    for old, new in zip(before.stages, after.stages, strict=True):
        assert new.items == old.items + 5
        assert new.compute_ms_p50 > 0


def test_a_client_that_knows_only_reflection_can_search(channel: Channel) -> None:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName("aisle.v1.SearchService").FindMethodByName("Search")
    request = GetMessageClass(method.input_type)(query="sofa")
    call = channel.unary_unary(
        "/aisle.v1.SearchService/Search",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    assert len(call(request, timeout=60).hits) == 24


def test_health_is_serving_for_each_service(channel: Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "aisle.v1.SearchService", "aisle.v1.EmbeddingService", "aisle.v1.InfoService"):
        status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status
        assert status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("query", ["مصباح", "!!!", "ソファ"])
def test_a_query_that_nobody_understands_has_no_hits_and_says_why(
    search: search_pb2_grpc.SearchServiceStub, query: str
) -> None:
    answer = search.Search(search_pb2.SearchRequest(query=query), timeout=10)
    assert not answer.hits
    assert answer.total == 0
    assert [part.kind for part in answer.understood] == [search_pb2.QUERY_PART_KIND_UNKNOWN]


def test_a_shops_own_judgements_measure_each_way_to_search(
    service: Service, bundle: Bundle, bundle_folder: Path, tmp_path: Path
) -> None:
    table = bundle.products()
    judged = [
        json.dumps({"q": table.string("title", row), "product_id": table.id(row), "rating": 3})
        for row in range(0, 60, 3)
    ]
    (tmp_path / "judged.jsonl").write_text("\n".join(judged))
    command = ["evaluate", "search", "--bundle", bundle_folder, "--judgements", tmp_path / "judged.jsonl"]
    command += ["--server", service.address, "--query-column", "q", "--out", tmp_path / "report"]
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    full = {name: cells[0]["value"] for name, cells in report["sections"][0]["tables"][0]["rows"]}
    assert full.keys() == {"vectors alone", "words and vectors", BM25}
    assert all(value > 0.5 for value in full.values())
