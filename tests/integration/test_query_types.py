"""The classifier of queries over real gRPC: by itself, and inside a search as facets, boost and filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from aisle.v1 import info_pb2, info_pb2_grpc, product_pb2, query_pb2, query_pb2_grpc, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.bundles.bundle import Bundle
from models.sample_store import write_sample_log
from serving.cli.main import app

SEARCH = search_pb2.SearchRequest
OFF, FACETS, BOOST, FILTER = (
    search_pb2.PRODUCT_TYPE_USE_OFF,
    search_pb2.PRODUCT_TYPE_USE_FACETS,
    search_pb2.PRODUCT_TYPE_USE_BOOST,
    search_pb2.PRODUCT_TYPE_USE_FILTER,
)
TROUSERS, UNDERWEAR = "Clothing > Trousers > Chinos & Trousers", "Clothing > Underwear > Briefs"


@pytest.fixture(scope="module")
def typed_folder(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the other tests, with a classifier that a command has trained on a simulated log of its products."""
    work = tmp_path_factory.mktemp("typed")
    write_sample_log(work / "store", 1000, 200, 120_000, 0, lambda *_: None)
    told = CliRunner().invoke(
        app,
        [
            "train",
            "types",
            "--bundle",
            str(bundle_folder),
            "--store",
            str(work / "store"),
            "--out",
            str(work / "typed"),
        ],
    )
    assert told.exit_code == 0, told.output
    return work / "typed"


@pytest.fixture(scope="module")
def typed(typed_folder: Path) -> Iterator[Service]:
    with served(typed_folder, '[log]\nrequests = "failed"\n') as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def typed_channel(typed: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(typed.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def queries(typed_channel: grpc.Channel) -> query_pb2_grpc.QueryServiceStub:
    return query_pb2_grpc.QueryServiceStub(typed_channel)


@pytest.fixture(scope="module")
def search(typed_channel: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(typed_channel)


def classify(
    queries: query_pb2_grpc.QueryServiceStub, *asked: tuple[str, str], **fields: int
) -> list[query_pb2.QueryTypes]:
    request = query_pb2.ClassifyRequest(
        queries=[query_pb2.LocaleQuery(query=query, locale=locale) for query, locale in asked], **fields
    )
    return list(queries.Classify(request, timeout=60).results)


def violations(error: grpc.RpcError) -> dict[str, str]:
    status = rpc_status.from_call(error)
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    return {one.field: one.description for one in bad.field_violations}


class TestClassify:
    def test_the_same_words_mean_other_things_elsewhere(self, queries: query_pb2_grpc.QueryServiceStub) -> None:
        american, british, german = classify(queries, ("pants", "en-US"), ("pants", "en-GB"), ("sofa", "de-DE"))
        assert american.types[0].type == TROUSERS
        assert british.types[0].type == UNDERWEAR
        assert german.types[0].type == "Furniture > Living Room > Sofas"
        assert [one.locale_used for one in (american, british, german)] == ["en-US", "en-GB", "de-DE"]
        assert not any(one.abstained for one in (american, british, german))

    def test_an_unknown_locale_is_read_as_all_together(self, queries: query_pb2_grpc.QueryServiceStub) -> None:
        unknown, none = classify(queries, ("sofa", "xx-XX"), ("sofa", ""))
        assert (unknown.locale_used, none.locale_used) == ("", "")
        assert unknown.types == none.types
        assert unknown.types[0].type == "Furniture > Living Room > Sofas"

    def test_what_means_nothing_here_is_not_acted_upon(self, queries: query_pb2_grpc.QueryServiceStub) -> None:
        assert all(one.abstained for one in classify(queries, ("🛋", "en-US"), ("qzxv wvkk", "en-US"), ("!!", "de-DE")))

    def test_any_script_is_read(self, queries: query_pb2_grpc.QueryServiceStub) -> None:
        mixed = classify(
            queries, ("sofa ソファ софа أريكة", "en-US"), ("赤いソファ", "ja-JP"), ("\uff33\uff2f\uff26\uff21", "en-US")
        )
        assert len(mixed) == 3
        assert mixed[2].types[0].type == "Furniture > Living Room > Sofas"

    @pytest.mark.parametrize(
        ("request_", "field", "said"),
        [
            (query_pb2.ClassifyRequest(), "queries", "1 to 256"),
            (query_pb2.ClassifyRequest(queries=[{"query": "a"}] * 257), "queries", "257"),
            (query_pb2.ClassifyRequest(queries=[{"query": "sofa"}, {"query": " "}]), "queries[1].query", "empty"),
            (query_pb2.ClassifyRequest(queries=[{"query": "x" * 10_000}]), "queries[0].query", "10000 characters"),
            (query_pb2.ClassifyRequest(queries=[{"query": "a\0b"}]), "queries[0].query", "U+0000"),
            (
                query_pb2.ClassifyRequest(queries=[{"query": "a", "locale": "x" * 36}]),
                "queries[0].locale",
                "at most 35",
            ),
            (query_pb2.ClassifyRequest(queries=[{"query": "a"}], max_types=0), "max_types", "1 to 20"),
            (query_pb2.ClassifyRequest(queries=[{"query": "a"}], max_types=21), "max_types", "1 to 20"),
        ],
    )
    def test_a_bad_call_names_the_field_and_the_limit(
        self, queries: query_pb2_grpc.QueryServiceStub, request_: query_pb2.ClassifyRequest, field: str, said: str
    ) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            queries.Classify(request_, timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert said in violations(caught.value)[field]

    def test_the_bundle_without_a_classifier_says_so(self, channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            classify(query_pb2_grpc.QueryServiceStub(channel), ("sofa", "en-US"))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


class TestSearch:
    def ask(
        self, search: search_pb2_grpc.SearchServiceStub, query: str, locale: str, **fields: object
    ) -> search_pb2.SearchResponse:
        request = SEARCH(query=query, locale=locale, page_size=20, explain=True, **fields)  # type: ignore[arg-type]
        return search.Search(request, timeout=60)

    def test_a_filter_leaves_products_of_the_types(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        for locale, kind in (("en-US", TROUSERS), ("en-GB", UNDERWEAR)):
            answer = self.ask(search, "pants", locale, product_types=FILTER)
            assert answer.product_types.used == FILTER
            types = [one.type for one in answer.product_types.query.types]
            assert types[0] == kind
            assert answer.hits
            assert {hit.product.category for hit in answer.hits} <= set(types)  # a page of twenty need not hold each

    def test_a_boost_adds_what_it_says(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        plain = self.ask(search, "pants", "en-GB", product_types=OFF)
        assert not plain.HasField("product_types")
        answer = self.ask(search, "pants", "en-GB", product_types=BOOST, product_type_boost=0.5)
        chances = {one.type: one.probability for one in answer.product_types.query.types}
        for hit in answer.hits:
            why = hit.explanation
            assert why.type_boost == pytest.approx(0.5 * chances.get(hit.product.category, 0), abs=1e-5)
            parts = why.similarity + why.type_boost + why.identifier_boost + why.lexical_boost
            assert hit.score == pytest.approx(parts, abs=1e-5)
        wanted = [Counter(hit.product.category for hit in one.hits)[UNDERWEAR] for one in (plain, answer)]
        assert wanted[0] < wanted[1]

    def test_a_boost_of_nothing_changes_nothing(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        plain = self.ask(search, "red velvet sofa", "en-US", product_types=OFF)
        answer = self.ask(search, "red velvet sofa", "en-US", product_types=BOOST, product_type_boost=0)
        assert [hit.product_id for hit in answer.hits] == [hit.product_id for hit in plain.hits]

    def test_facets_count_and_change_nothing(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        plain = self.ask(search, "sofa", "en-US", product_types=OFF)
        answer = self.ask(search, "sofa", "en-US", product_types=FACETS)
        assert [hit.product_id for hit in answer.hits] == [hit.product_id for hit in plain.hits]
        facets = {one.category: one.hits for one in answer.product_types.facets}
        assert sum(facets.values()) <= 100
        assert (
            facets["Furniture > Living Room > Sofas"]
            >= Counter(hit.product.category for hit in plain.hits)["Furniture > Living Room > Sofas"]
        )

    def test_pages_of_a_boosted_search_are_one_list(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        request = SEARCH(query="pants", locale="en-GB", page_size=30, product_types=BOOST)
        whole = [hit.product_id for hit in search.Search(request, timeout=60).hits]
        request.page_size, paged = 7, []
        while len(paged) < 28:
            answer = search.Search(request, timeout=60)
            paged += [hit.product_id for hit in answer.hits]
            request.page_token = answer.next_page_token
        assert paged == whole[:28]

    def test_the_filter_of_the_caller_holds_as_well(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        wanted = product_pb2.ProductFilter(in_stock_only=True, max_price_minor=8000)
        answer = self.ask(search, "pants", "en-US", product_types=FILTER, filter=wanted)
        assert answer.hits
        assert all(hit.product.in_stock and hit.product.price_minor <= 8000 for hit in answer.hits)
        assert {hit.product.category for hit in answer.hits} <= {one.type for one in answer.product_types.query.types}

    def test_a_filter_that_leaves_nothing_is_not_applied(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        wanted = product_pb2.ProductFilter(categories=["Furniture"])
        answer = self.ask(search, "pants", "en-US", product_types=FILTER, filter=wanted)
        assert answer.product_types.used == FACETS
        assert all(hit.product.category.startswith("Furniture") for hit in answer.hits)

    def test_where_the_classifier_abstains_the_result_is_the_plain_one(
        self, search: search_pb2_grpc.SearchServiceStub
    ) -> None:
        plain = self.ask(search, "qzxv wvkk", "en-US", product_types=OFF, verbatim=True)
        answer = self.ask(search, "qzxv wvkk", "en-US", product_types=FILTER, verbatim=True)
        assert answer.product_types.query.abstained
        assert answer.product_types.used == FACETS
        assert not answer.product_types.facets
        assert [hit.product_id for hit in answer.hits] == [hit.product_id for hit in plain.hits]

    def test_other_languages_are_not_mended_with_english_words(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        assert self.ask(search, "velvett sofa", "en-GB").corrected_query == "velvet sofa"
        assert not self.ask(search, "velvett sofa", "de-DE").corrected_query

    def test_bad_fields_are_named(self, search: search_pb2_grpc.SearchServiceStub, channel: grpc.Channel) -> None:
        for fields, field in (
            ({"product_types": 99}, "product_types"),
            ({"product_type_boost": 1.5}, "product_type_boost"),
            ({"product_type_boost": float("nan")}, "product_type_boost"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                self.ask(search, "sofa", "en-US", **fields)
            assert field in violations(caught.value)
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(search_pb2_grpc.SearchServiceStub(channel), "sofa", "en-US", product_types=FILTER)
        assert "no classifier" in violations(caught.value)["product_types"]


def test_info_and_stats_tell_of_the_classifier(
    typed_channel: grpc.Channel, channel: grpc.Channel, typed_folder: Path
) -> None:
    info = info_pb2_grpc.InfoServiceStub(typed_channel)
    told = info.GetInfo(info_pb2.GetInfoRequest(), timeout=60)
    assert told.type_model.default_use == BOOST
    assert set(told.type_model.locales) <= set(told.catalogue.locales)
    assert len(told.type_model.locales) >= 20
    assert told.bundle_version == Bundle(typed_folder).manifest.version
    stages = info.GetStats(info_pb2.GetStatsRequest(), timeout=60).stages
    assert next(stage for stage in stages if stage.stage == "types").items > 0
    plain = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=60)
    assert not plain.HasField("type_model")


def test_the_commands_show_the_difference_and_why(typed: Service) -> None:
    shown = CliRunner().invoke(
        app, ["classify", "pants", "--locale", "en-US", "--locale", "en-GB", "--server", typed.address]
    )
    assert shown.exit_code == 0, shown.output
    assert TROUSERS.rsplit(" > ", maxsplit=1)[-1] in shown.output
    assert UNDERWEAR.rsplit(" > ", maxsplit=1)[-1] in shown.output
    outputs = [
        CliRunner().invoke(app, ["search", "pants", "--locale", locale, "--explain", "--server", typed.address]).output
        for locale in ("en-US", "en-GB")
    ]
    assert "Chinos" in outputs[0]
    assert "Briefs" in outputs[1]
    assert all("used as boost" in " ".join(output.split()) for output in outputs)
    refused = CliRunner().invoke(app, ["search", "pants", "--types", "sometimes", "--server", typed.address])
    assert refused.exit_code == 1


def test_a_bundle_whose_classifier_has_an_encoder_serves(
    bundle_folder: Path, typed_folder: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    train = ["train", "types", "--bundle", str(bundle_folder), "--store", str(typed_folder.with_name("store"))]
    for given, said in (
        (["--encoder", "/nowhere"], "there is no directory '/nowhere'"),
        (["--encoder", "minilm", "--recipe", "large"], "starter, small, full"),
        (["--device", "cuda"], "--device cuda needs --encoder"),
    ):
        refused = CliRunner().invoke(app, [*train, *given, "--out", str(tmp_path / "none")])
        assert refused.exit_code == 1
        assert said in " ".join(refused.output.split())
    told = CliRunner().invoke(app, [*train, "--encoder", str(tiny_encoder), "--out", str(tmp_path / "tuned")])
    assert told.exit_code == 0, told.output
    with served(tmp_path / "tuned", '[log]\nrequests = "failed"\n') as running:
        with grpc.insecure_channel(running.address) as opened:
            known, unknown = classify(query_pb2_grpc.QueryServiceStub(opened), ("sofa", "en-US"), ("sofa", "xx-XX"))
            assert (known.locale_used, unknown.locale_used) == ("en-US", "")
            assert known.types[0].probability > 0
            request = SEARCH(query="red sofa", locale="en-US", page_size=5, product_types=BOOST)
            answer = search_pb2_grpc.SearchServiceStub(opened).Search(request, timeout=60)
            assert len(answer.hits) == 5
            assert answer.HasField("product_types")
        assert running.process.poll() is None
