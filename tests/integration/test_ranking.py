"""The ranker over real gRPC: inside a search, by itself, and with less than was asked for."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from typer.testing import CliRunner

from aisle.v1 import (
    info_pb2,
    info_pb2_grpc,
    product_pb2,
    ranking_pb2,
    ranking_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
)
from loadtest.benchmarks.service import Service, served
from models.bundles.bundle import Bundle
from models.products.product_table import ProductTable
from models.ranking.feature_names import FEATURES
from models.ranking.features import QueryInput
from serving.cli.main import app
from serving.cli.served_search import ServedSearch

SEARCH, RANK = search_pb2.SearchRequest, ranking_pb2.RankRequest
NONE, STUDENT, TEACHER = search_pb2.RANK_MODEL_NONE, search_pb2.RANK_MODEL_STUDENT, search_pb2.RANK_MODEL_TEACHER
PURCHASES = search_pb2.RankWeights(purchase=1)


@pytest.fixture(scope="module")
def ranked(ranked_folder: Path) -> Iterator[Service]:
    with served(ranked_folder, '[shoppers]\nstore = "off"\n') as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="module")
def opened(ranked: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(ranked.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def search(opened: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(opened)


@pytest.mark.parametrize("locale", ["en-US", "en-GB"])
def test_the_report_of_a_training_measures_what_is_served(
    search: search_pb2_grpc.SearchServiceStub, ranked_folder: Path, locale: str
) -> None:
    bundle = Bundle(ranked_folder)
    table, nobody = bundle.products(), np.zeros(bundle.manifest.dim, np.float32)
    stated = locale if locale in bundle.manifest.locales else ""  # another one would be refused
    queries = ["velvet sofa", "lamp", "velvte sofa", "lamp under 50", "rug without pattern", table.product(3).title]
    measured = ServedSearch(bundle)([QueryInput(query, locale, nobody, None, nobody) for query in queries])
    for query, rows in zip(queries, measured, strict=True):
        answer = search.Search(SEARCH(query=query, locale=stated, page_size=50), timeout=30)
        assert [hit.product_id for hit in answer.hits] == [table.id(row) for row in rows[:50].tolist()]


@pytest.fixture(scope="module")
def ranking(opened: grpc.Channel) -> ranking_pb2_grpc.RankingServiceStub:
    return ranking_pb2_grpc.RankingServiceStub(opened)


@pytest.fixture(scope="module")
def table(ranked_folder: Path) -> ProductTable:
    return Bundle(ranked_folder).products()


def event(number: int, product_id: str) -> shopper_pb2.Event:
    now = time.time_ns() // 1_000_000
    kind = shopper_pb2.EVENT_KIND_PURCHASE
    return shopper_pb2.Event(
        id=f"e{number}", time_ms=now - 1000 * number, shopper_id="a", kind=kind, product_id=product_id
    )


def violations(error: grpc.RpcError) -> dict[str, str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
    status = rpc_status.from_call(error)
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    return {one.field: one.description for one in bad.field_violations}


def ids(answer: search_pb2.SearchResponse) -> list[str]:
    return [hit.product_id for hit in answer.hits]


class TestSearch:
    def test_hits_are_ordered_by_blend_and_say_what_it_is_made_of(
        self, search: search_pb2_grpc.SearchServiceStub
    ) -> None:
        answer = search.Search(SEARCH(query="sofa", page_size=50, explain=True), timeout=60)
        assert (answer.ranked_by, answer.ranked_depth) == (STUDENT, 200)
        assert not answer.degradations
        keys = [hit.blend * math.exp(8 * hit.explanation.asked) for hit in answer.hits]
        assert keys == pytest.approx(sorted(keys, reverse=True), rel=1e-4)
        by_blend = search.Search(SEARCH(query="sofa", page_size=50, asked_weight=0), timeout=60)
        blends = [hit.blend for hit in by_blend.hits]
        assert blends == sorted(blends, reverse=True)
        for hit in answer.hits:
            told = hit.chances
            assert 1 >= told.click >= told.cart >= told.purchase >= 0
            assert hit.blend == pytest.approx(told.click + 4 * told.cart + 16 * told.purchase, rel=1e-4)

    def test_without_ranking_hits_are_as_retrieved(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        plain = search.Search(SEARCH(query="sofa", page_size=50, rank_model=NONE), timeout=60)
        assert (plain.ranked_by, plain.ranked_depth) == (NONE, 0)
        assert not any(hit.HasField("chances") for hit in plain.hits)
        scores = [hit.score for hit in plain.hits]
        assert scores == sorted(scores, reverse=True)
        unranked = search.Search(SEARCH(query="sofa", page_size=50, rank_depth=0), timeout=60)
        assert ids(unranked) == ids(plain)
        by_hand = search.Search(SEARCH(query="sofa", page_size=50, boosts={"popularity": 0.1}), timeout=60)
        assert by_hand.ranked_by == NONE
        ranked = search.Search(SEARCH(query="sofa", page_size=50), timeout=60)
        assert ids(ranked) != ids(plain)

    @pytest.mark.parametrize("model", [STUDENT, TEACHER])
    def test_pages_have_every_hit_once(
        self, search: search_pb2_grpc.SearchServiceStub, model: search_pb2.RankModel.ValueType
    ) -> None:
        fields = {
            "query": "lamp",
            "rank_depth": 60,
            "rank_model": model,
            "diversity": {"max_each_brand": 2, "among": 20},
        }
        whole = search.Search(SEARCH(**fields, page_size=100), timeout=60)  # type: ignore[arg-type]
        plain = search.Search(SEARCH(query="lamp", page_size=100, rank_model=NONE), timeout=60)
        assert set(ids(whole)) == set(ids(plain))
        assert ids(whole)[60:] == ids(plain)[60:]
        request, paged = SEARCH(**fields, page_size=13), []  # type: ignore[arg-type]
        while len(paged) < 91:
            answer = search.Search(request, timeout=60)
            assert answer.ranked_by == model, answer.degradations
            paged += ids(answer)
            request.page_token = answer.next_page_token
        assert paged == ids(whole)[:91]

    def test_no_brand_comes_too_often(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        for model in (NONE, STUDENT):
            request = SEARCH(query="sofa", rank_model=model, diversity={"max_each_brand": 1, "among": 8}, page_size=8)
            brands = Counter(hit.product.brand.casefold() for hit in search.Search(request, timeout=60).hits)
            assert len(brands) == 8

    def test_what_holds_an_identifier_stays_on_top(
        self, search: search_pb2_grpc.SearchServiceStub, table: ProductTable
    ) -> None:
        for row in (3, 500):
            answer = search.Search(SEARCH(query=table.id(row), explain=True), timeout=60)
            assert answer.ranked_by == STUDENT
            assert answer.hits[0].product_id == table.id(row)
            assert answer.hits[0].explanation.retrieval_rank == 1

    def test_the_shopper_s_taste_counts(self, search: search_pb2_grpc.SearchServiceStub, table: ProductTable) -> None:
        told = [event(number, table.id(number)) for number in range(6)]
        answer = search.Search(SEARCH(query="sofa", recent_events=told, explain=True), timeout=60)
        factors = {one.feature: one.value for one in answer.hits[0].explanation.rank_factors}
        assert factors["shopper_known"] == 1
        assert factors["engaged"] == pytest.approx(math.log1p(6), rel=1e-3)
        plain = search.Search(SEARCH(query="sofa", explain=True), timeout=60)
        assert {one.feature: one.value for one in plain.hits[0].explanation.rank_factors}["engaged"] == 0

    def test_an_explained_hit_names_all_that_moved_it(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        answer = search.Search(SEARCH(query="sofa", explain=True, rank_depth=10, page_size=12), timeout=60)
        assert [len(hit.explanation.rank_factors) for hit in answer.hits] == [len(FEATURES)] * 10 + [0] * 2
        assert sorted(hit.explanation.retrieval_rank for hit in answer.hits[:10]) == list(range(1, 11))
        for hit in answer.hits[:10]:
            factors = hit.explanation.rank_factors
            assert {one.feature for one in factors} == set(FEATURES)
            strengths = [abs(one.contribution) for one in factors]
            assert strengths == sorted(strengths, reverse=True)
            assert strengths[0] > 0
        assert not answer.hits[0].explanation.moved_by

    def test_the_teacher_orders_the_student_s_best_again(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        asked = {"query": "sofa", "page_size": 50, "asked_weight": 0}
        student = search.Search(SEARCH(**asked, rank_model=STUDENT), timeout=60)
        teacher = search.Search(SEARCH(**asked, rank_model=TEACHER, explain=True), timeout=60)
        assert teacher.ranked_by == TEACHER, teacher.degradations
        assert set(ids(teacher)[:32]) == set(ids(student)[:32])
        assert ids(teacher)[32:] == ids(student)[32:]
        blends = [hit.blend for hit in teacher.hits[:32]]
        assert blends == sorted(blends, reverse=True)
        assert "teacher" in [phase.name for phase in teacher.timing.phases]
        assert all(hit.explanation.rank_factors for hit in teacher.hits)

    def test_types_of_errors_are_named(self, search: search_pb2_grpc.SearchServiceStub) -> None:
        request = SEARCH(
            query="sofa",
            rank_depth=1001,
            rank_weights={"click": -1, "cart": math.nan},
            diversity={"max_each_brand": 0, "among": 2000},
        )
        with pytest.raises(grpc.RpcError) as caught:
            search.Search(request, timeout=60)
        assert set(violations(caught.value)) == {
            "rank_depth", "rank_weights.click", "rank_weights.cart", "diversity.max_each_brand", "diversity.among",
        }  # fmt: skip

    def test_a_bundle_without_a_ranker_says_so(self, channel: grpc.Channel) -> None:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        assert stub.Search(SEARCH(query="sofa"), timeout=60).ranked_by == NONE
        with pytest.raises(grpc.RpcError) as caught:
            stub.Search(SEARCH(query="sofa", rank_model=STUDENT), timeout=60)
        assert "no ranker" in violations(caught.value)["rank_model"]
        with pytest.raises(grpc.RpcError) as caught:
            ranking_pb2_grpc.RankingServiceStub(channel).Rank(RANK(query="sofa", product_ids=["a"]), timeout=60)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


class TestRank:
    def test_it_tells_of_candidates_what_a_search_tells(
        self,
        search: search_pb2_grpc.SearchServiceStub,
        ranking: ranking_pb2_grpc.RankingServiceStub,
        table: ProductTable,
    ) -> None:
        told = [event(number, table.id(number)) for number in range(4)]
        for model in (STUDENT, TEACHER):
            found = search.Search(
                SEARCH(query="sofa", page_size=30, rank_depth=30, rank_model=model, recent_events=told), timeout=60
            )
            candidates = sorted(ids(found))
            answer = ranking.Rank(
                RANK(query="sofa", product_ids=candidates, model=model, recent_events=told), timeout=60
            )
            assert answer.ranked_by == model, answer.degradations
            assert [one.rank for one in answer.products] == list(range(1, 31))
            blends = {hit.product_id: hit.blend for hit in found.hits}
            for one in answer.products:
                assert one.blend == pytest.approx(blends[one.product_id], rel=0.02)
            assert not answer.unknown_product_ids

    @pytest.mark.parametrize("model", [STUDENT, TEACHER])
    def test_the_order_follows_what_was_asked_for_where_the_call_says_so(
        self,
        ranking: ranking_pb2_grpc.RankingServiceStub,
        table: ProductTable,
        model: search_pb2.RankModel.ValueType,
    ) -> None:
        lamp = next(row for row in range(len(table)) if "lamp" in table.string("title", row).casefold())
        others = [row for row in range(40) if "lamp" not in table.string("title", row).casefold()][:20]
        inline = product_pb2.Product(id="inline", title="A lamp", brand="Nobody")
        request = RANK(
            query="lamp", product_ids=[table.id(row) for row in (*others, lamp)], products=[inline], model=model
        )
        plain = ranking.Rank(request, timeout=60)
        request.asked_weight = 10
        asked = ranking.Rank(request, timeout=60)
        assert {one.product_id for one in asked.products[:2]} == {table.id(lamp), "inline"}
        blends = {one.product_id: one.blend for one in plain.products}
        assert {one.product_id: one.blend for one in asked.products} == pytest.approx(blends, rel=0.02)
        with pytest.raises(grpc.RpcError) as refused:
            ranking.Rank(RANK(query="lamp", product_ids=["x"], asked_weight=10.5), timeout=60)
        assert "asked_weight" in refused.value.details()

    def test_unknown_ids_are_told_and_the_others_ranked(
        self, ranking: ranking_pb2_grpc.RankingServiceStub, table: ProductTable
    ) -> None:
        request = RANK(query="sofa", product_ids=["gone", table.id(1), "never was", table.id(2)])
        answer = ranking.Rank(request, timeout=60)
        assert list(answer.unknown_product_ids) == ["gone", "never was"]
        assert {one.product_id for one in answer.products} == {table.id(1), table.id(2)}
        nothing = ranking.Rank(RANK(query="sofa", product_ids=["gone"]), timeout=60)
        assert not nothing.products
        assert list(nothing.unknown_product_ids) == ["gone"]

    @pytest.mark.parametrize("model", [STUDENT, TEACHER])
    def test_products_that_are_only_stated_are_ranked_beside_the_known(
        self,
        ranking: ranking_pb2_grpc.RankingServiceStub,
        table: ProductTable,
        model: search_pb2.RankModel.ValueType,
    ) -> None:
        stated = product_pb2.Product(id="new", title="Velvet Sofa", brand="Nobody", price_minor=10_000, in_stock=True)
        empty = product_pb2.Product(id="empty")
        request = RANK(
            query="velvet sofa", product_ids=[table.id(0)], products=[stated, empty], explain=True, model=model
        )
        answer = ranking.Rank(request, timeout=60)
        assert answer.ranked_by == model, answer.degradations
        by_id = {one.product_id: one for one in answer.products}
        assert set(by_id) == {table.id(0), "new", "empty"}
        assert not by_id[table.id(0)].unknown_features
        for name in ("new", "empty"):
            assert {"query_cosine", "search_cosine", "shopper_cosine"} <= set(by_id[name].unknown_features)
            factors = {one.feature: one for one in by_id[name].factors}
            assert math.isnan(factors["query_cosine"].value)
            assert factors["query_cosine"].contribution == 0
        assert {one.feature: one.value for one in by_id["new"].factors}["title_match"] == 1
        assert {one.feature: one.value for one in by_id["empty"].factors}["title_match"] == 0

    def test_ten_thousand_are_ranked_and_one_more_is_refused(
        self, ranking: ranking_pb2_grpc.RankingServiceStub, table: ProductTable
    ) -> None:
        many = [table.id(row) for row in range(len(table))] + [f"unknown {n}" for n in range(9_000)]
        answer = ranking.Rank(RANK(query="sofa", product_ids=many, explain=True), timeout=60)
        assert len(answer.products) == 1000
        assert len(answer.unknown_product_ids) == 9000
        assert sum(bool(one.factors) for one in answer.products) == 100
        blends = [one.blend for one in answer.products]
        assert blends == sorted(blends, reverse=True)
        with pytest.raises(grpc.RpcError) as caught:
            ranking.Rank(RANK(query="sofa", product_ids=[*many, "one more"]), timeout=60)
        assert "10,001 candidates; they must hold 1 to 10,000" in violations(caught.value)["product_ids"]

    @pytest.mark.parametrize(
        ("request_", "field", "said"),
        [
            (RANK(query="sofa"), "product_ids", "hold 0 candidates"),
            (RANK(query="", product_ids=["a"]), "query", "empty"),
            (RANK(query="sofa", product_ids=["a", "b", "a"]), "product_ids[2]", "as product_ids[0] is"),
            (RANK(query="sofa", product_ids=["a"], products=[{"id": "a"}]), "products[0].id", "as product_ids[0] is"),
            (RANK(query="sofa", product_ids=[""]), "product_ids[0]", "1 to 256"),
            (RANK(query="sofa", products=[{"title": "x"}]), "products[0].id", "1 to 256"),
            (RANK(query="sofa", products=[{"id": "x", "price_minor": -1}]), "products[0].price_minor", "0 or more"),
            (RANK(query="sofa", product_ids=["a"], model=NONE), "model", "STUDENT or TEACHER"),
            (RANK(query="sofa", product_ids=["a"], weights={}), "weights", "must not be 0"),
            (RANK(query="sofa", product_ids=["a"], weights={"cart": -1}), "weights.cart", "0 to 1,000,000"),
            (RANK(query="sofa", product_ids=["a"], weights={"purchase": math.nan}), "weights.purchase", "nan"),
            (RANK(query="sofa", product_ids=["a"], diversity={"among": 3}), "diversity.max_each_brand", "1 to 1000"),
        ],
    )
    def test_a_bad_call_names_the_field_and_the_limit(
        self, ranking: ranking_pb2_grpc.RankingServiceStub, request_: ranking_pb2.RankRequest, field: str, said: str
    ) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            ranking.Rank(request_, timeout=60)
        assert said in violations(caught.value)[field]

    def test_weights_and_diversity_decide_the_order(
        self, ranking: ranking_pb2_grpc.RankingServiceStub, table: ProductTable
    ) -> None:
        request = RANK(query="lamp", product_ids=[table.id(row) for row in range(40)], weights=PURCHASES)
        answer = ranking.Rank(request, timeout=60)
        purchases = [one.chances.purchase for one in answer.products]
        assert purchases == sorted(purchases, reverse=True)
        request.diversity.CopyFrom(search_pb2.Diversity(max_each_brand=1, among=5))
        spread = [one.product_id for one in ranking.Rank(request, timeout=60).products]
        rows = {table.id(row): row for row in range(40)}
        assert len({table.string("brand", rows[one]).casefold() for one in spread[:5]}) == 5
        assert sorted(spread) == sorted(one.product_id for one in answer.products)


def test_info_stats_and_reflection_tell_of_the_ranker(opened: grpc.Channel, channel: grpc.Channel) -> None:
    stub = info_pb2_grpc.InfoServiceStub(opened)
    told = stub.GetInfo(info_pb2.GetInfoRequest(), timeout=60)
    assert tuple(told.ranker.features) == FEATURES
    assert told.ranker.teacher
    assert (told.ranker.default_model, told.ranker.default_depth, told.ranker.teacher_depth) == (STUDENT, 200, 32)
    assert told.ranker.default_weights == search_pb2.RankWeights(click=1, cart=4, purchase=16)
    assert (told.limits.max_rank_depth, told.limits.max_rank_candidates) == (1000, 10_000)
    stages = {stage.stage: stage for stage in stub.GetStats(info_pb2.GetStatsRequest(), timeout=60).stages}
    assert stages["teacher"].items > 0
    assert stages["teacher"].mean_batch_cost > 0
    assert "aisle.v1.RankingService" in ProtoReflectionDescriptorDatabase(opened).get_services()
    plain = info_pb2_grpc.InfoServiceStub(channel).GetInfo(info_pb2.GetInfoRequest(), timeout=60)
    assert not plain.HasField("ranker")


def test_the_commands_show_chances_and_what_moved_hits(ranked: Service, table: ProductTable) -> None:
    environment = {"COLUMNS": "200"}
    run = CliRunner(env=environment).invoke
    shown = run(app, ["search", "sofa", "--rank", "teacher", "--rank-depth", "50", "--weights", "1,0,0",
                      "--max-each-brand", "2/10", "--explain", "--server", ranked.address])  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "the top 50 candidates, ranked by the teacher" in " ".join(shown.output.split())
    plain = run(app, ["search", "sofa", "--rank", "none", "--server", ranked.address])
    assert "click %" not in plain.output
    names = [part for row in range(3) for part in ("--product", table.id(row))]
    judged = run(app, ["rank", "sofa", *names, "--title", "Velvet Sofa", "--explain", "--server", ranked.address])
    assert judged.exit_code == 0, judged.output
    assert "new-1" in judged.output
    assert "unknown outside the catalogue, so average: " in judged.output
    assert "query_cosine" in judged.output
    for wrong in (["--rank", "best"], ["--weights", "1,2"], ["--max-each-brand", "x"]):
        assert run(app, ["search", "sofa", *wrong, "--server", ranked.address]).exit_code == 1


def test_a_teacher_replica_that_dies_mid_batch_costs_only_its_order(ranked_folder: Path) -> None:
    config = """
    [teacher]
    placement = "remote"
    num_cpus = 0.1
    threads = 1
    [shoppers]
    store = "off"
    """
    with served(ranked_folder, config) as service, grpc.insecure_channel(service.address) as channel:
        stub = search_pb2_grpc.SearchServiceStub(channel)
        request = SEARCH(query="sofa", rank_model=TEACHER, page_size=50)
        assert stub.Search(request, timeout=60).ranked_by == TEACHER
        student = ids(stub.Search(SEARCH(query="sofa", rank_model=STUDENT, page_size=50), timeout=60))
        lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
        (pid,) = [int(line["pid"]) for line in lines if line["event"] == "stage ready" and line["stage"] == "teacher"]
        os.kill(pid, signal.SIGSTOP)  # the batch is on its way, and the replica in the middle of it
        threading.Timer(1.0, os.kill, (pid, signal.SIGKILL)).start()
        answer = stub.Search(request, timeout=3)
        if answer.ranked_by == STUDENT:
            assert [one.part for one in answer.degradations] == ["teacher"]
            assert ids(answer) == student
        else:  # where Serve starts another in no time, that one takes over the batch
            assert answer.ranked_by == TEACHER
        end = time.monotonic() + 600
        while (answer := stub.Search(request, timeout=60)).ranked_by != TEACHER:  # Serve starts another
            assert time.monotonic() < end, answer.degradations
            time.sleep(0.5)
