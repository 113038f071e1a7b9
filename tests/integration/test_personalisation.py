"""The unified model served over real gRPC: who is searching changes what is found, says why, and never makes a search fail."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from typer.testing import CliRunner

from aisle.v1 import (
    embedding_pb2,
    embedding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
    shopper_pb2_grpc,
)
from loadtest.benchmarks.redis_server import redis_is_installed, redis_server
from loadtest.benchmarks.service import Service, served
from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.sample_store import EVENTS
from serving.cli.main import app
from serving.cli.record_log import busiest_shoppers

SEARCH = search_pb2.SearchRequest
STORED, REQUEST, NONE = (
    search_pb2.PERSONALISATION_SOURCE_STORED,
    search_pb2.PERSONALISATION_SOURCE_REQUEST,
    search_pb2.PERSONALISATION_SOURCE_NONE,
)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def folder(personal_folder: Path) -> Path:
    return personal_folder


@pytest.fixture(scope="module")
def personal(folder: Path) -> Iterator[Service]:
    with served(
        folder, "[shoppers]\nmax_wait_ms = 10000\n"
    ) as service:  # a slow machine reads no shopper in the usual 50 ms
        yield service


@pytest.fixture(scope="module")
def opened(personal: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(personal.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(opened: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(opened)


@pytest.fixture(scope="module")
def recorder(opened: grpc.Channel) -> shopper_pb2_grpc.ShopperServiceStub:
    return shopper_pb2_grpc.ShopperServiceStub(opened)


@pytest.fixture
def ann() -> str:
    return f"ann-{next(_numbers)}"


@pytest.fixture(scope="module")
def product_ids(folder: Path) -> list[str]:
    table = Bundle(folder).products()
    return [table.id(row) for row in range(40)]


def event(shopper: str, number: int, product_id: str, **changes: object) -> shopper_pb2.Event:
    fields: dict[str, object] = {
        "id": f"e{number}", "time_ms": time.time_ns() // 1_000_000 - 1_000_000 + number, "shopper_id": shopper,
        "session_id": "s", "kind": shopper_pb2.EVENT_KIND_PURCHASE, "product_id": product_id,
    }  # fmt: skip
    return shopper_pb2.Event(**{**fields, **changes})  # type: ignore[arg-type]


def found(answer: search_pb2.SearchResponse) -> list[tuple[str, float]]:
    return [(hit.product_id, round(hit.score, 5)) for hit in answer.hits]


def test_the_next_search_knows_what_was_acknowledged(
    stub: search_pb2_grpc.SearchServiceStub,
    recorder: shopper_pb2_grpc.ShopperServiceStub,
    ann: str,
    product_ids: list[str],
) -> None:
    plain = stub.Search(SEARCH(query="sofa"))
    before = stub.Search(SEARCH(query="sofa", shopper_id=ann))
    assert before.personalisation.source == NONE
    assert before.personalisation.reason == "nothing is known of the shopper"
    assert found(before) == found(plain)
    for number in range(3):
        recorder.RecordEvents(shopper_pb2.RecordEventsRequest(events=[event(ann, number, product_ids[number])]))
        after = stub.Search(SEARCH(query="sofa", shopper_id=ann))
        assert (after.personalisation.source, after.personalisation.events) == (STORED, number + 1)
        assert found(after) != found(plain)
        again = stub.Search(SEARCH(query="sofa", shopper_id=ann))  # from the cache
        assert found(again) == found(after)
        assert "shopper" in [phase.name for phase in after.timing.phases]
        assert "shopper" not in [phase.name for phase in again.timing.phases]
    off = stub.Search(SEARCH(query="sofa", shopper_id=ann, personalisation=0))
    assert found(off) == found(plain)
    assert off.personalisation.reason == "the call asks for a plain result"
    recorder.ForgetShopper(shopper_pb2.ForgetShopperRequest(shopper_id=ann))
    forgotten = stub.Search(SEARCH(query="sofa", shopper_id=ann))
    assert forgotten.personalisation.source == NONE
    assert found(forgotten) == found(plain)


def test_events_of_the_request_count_as_stored_ones_do_and_go_before_them(
    stub: search_pb2_grpc.SearchServiceStub,
    recorder: shopper_pb2_grpc.ShopperServiceStub,
    ann: str,
    product_ids: list[str],
) -> None:
    told = [event(ann, number, product_ids[number]) for number in range(4)]
    recorder.RecordEvents(shopper_pb2.RecordEventsRequest(events=told))
    stored = stub.Search(SEARCH(query="lamp", shopper_id=ann))
    sent = stub.Search(SEARCH(query="lamp", recent_events=told))
    assert (sent.personalisation.source, sent.personalisation.events) == (REQUEST, 4)
    assert found(sent) == found(stored)
    others = [event(ann, number, product_ids[number]) for number in range(20, 24)]
    both = stub.Search(SEARCH(query="lamp", shopper_id=ann, recent_events=others))
    assert found(both) == found(stub.Search(SEARCH(query="lamp", recent_events=others))) != found(stored)


def test_strength_moves_the_result_by_degrees(
    stub: search_pb2_grpc.SearchServiceStub, ann: str, product_ids: list[str]
) -> None:
    told = [event(ann, number, product_ids[number]) for number in range(4)]

    plain = {hit.product_id for hit in stub.Search(SEARCH(query="lamp", page_size=100)).hits}

    def kept(strength: float) -> int:
        answer = stub.Search(SEARCH(query="lamp", recent_events=told, personalisation=strength, page_size=100))
        assert answer.personalisation.strength == pytest.approx(strength)
        return len(plain & {hit.product_id for hit in answer.hits})

    assert len(plain) >= kept(0.02) >= kept(0.2) >= kept(1.0)
    assert kept(0.02) > kept(1.0)


def test_an_explained_hit_says_what_history_added_and_which_events(
    stub: search_pb2_grpc.SearchServiceStub, ann: str, product_ids: list[str]
) -> None:
    told = [event(ann, 0, product_ids[0]), event(ann, 1, product_ids[1]), event(ann, 2, "sold-out", query="lamp")]
    answer = stub.Search(SEARCH(query="lamp", recent_events=told, explain=True))
    moved = [hit for hit in answer.hits if hit.explanation.moved_by]
    assert moved
    named = {by.event_id: by for hit in moved for by in hit.explanation.moved_by}
    assert named.keys() <= {"e0", "e1", "e2"}
    for by in named.values():
        if by.event_id == "e2":
            assert (by.product_id, by.title, by.query) == ("", "", "lamp")
        else:
            assert by.product_id == product_ids[int(by.event_id[1])]
            assert by.title
    plain = stub.Search(SEARCH(query="lamp", explain=True))
    assert not any(hit.explanation.personal_gain or hit.explanation.moved_by for hit in plain.hits)


def test_a_history_of_products_that_are_gone_is_none(stub: search_pb2_grpc.SearchServiceStub, ann: str) -> None:
    answer = stub.Search(SEARCH(query="lamp", recent_events=[event(ann, 0, "gone"), event(ann, 1, "gone too")]))
    assert answer.personalisation.source == NONE
    assert answer.personalisation.reason == "the shopper's events name no product of this catalogue"
    assert not answer.degradations


def test_what_is_less_similar_than_asked_is_left_out(
    stub: search_pb2_grpc.SearchServiceStub, opened: grpc.Channel
) -> None:
    everything = stub.Search(SEARCH(query="lamp", page_size=100, explain=True))
    middle = float(np.median([hit.explanation.similarity for hit in everything.hits]))
    similar = stub.Search(SEARCH(query="lamp", page_size=100, explain=True, min_similarity=middle))
    assert found(similar) == [
        pair
        for pair, hit in zip(found(everything), everything.hits, strict=True)
        if hit.explanation.similarity >= middle
    ]
    threshold = (
        info_pb2_grpc.InfoServiceStub(opened).GetInfo(info_pb2.GetInfoRequest()).shopper_model.relevance_threshold
    )
    assert found(stub.Search(SEARCH(query="lamp", page_size=100, relevant_only=True))) == found(
        stub.Search(SEARCH(query="lamp", page_size=100, min_similarity=threshold))
    )
    assert not stub.Search(SEARCH(query="lamp", min_similarity=1)).hits


def test_pages_of_a_personalised_search_follow_each_other(
    stub: search_pb2_grpc.SearchServiceStub, ann: str, product_ids: list[str]
) -> None:
    told = [event(ann, number, product_ids[number]) for number in range(4)]
    whole = stub.Search(SEARCH(query="lamp", recent_events=told, page_size=40))
    first = stub.Search(SEARCH(query="lamp", recent_events=told, page_size=20))
    second = stub.Search(SEARCH(query="lamp", recent_events=told, page_size=20, page_token=first.next_page_token))
    assert found(first) + found(second) == found(whole)
    with pytest.raises(grpc.RpcError, match="page_token"):
        stub.Search(SEARCH(query="lamp", page_size=20, page_token=first.next_page_token))


def test_a_weight_on_popularity_moves_popular_products_up(
    stub: search_pb2_grpc.SearchServiceStub, opened: grpc.Channel, folder: Path
) -> None:
    bundle = Bundle(folder)
    boosts = info_pb2_grpc.InfoServiceStub(opened).GetInfo(info_pb2.GetInfoRequest()).index.boosts
    assert tuple(boosts) == bundle.manifest.boosts == ("popularity", "new", "in_stock", "value")
    table, features = bundle.products(), bundle.vectors()[:, 256:260].astype(np.float32)
    np.testing.assert_array_equal(features[:, 2], table.in_stock)
    assert ((features[:, 0] == 0) | (features[:, 1] == 0)).all()

    def popularity(weight: float) -> float:
        answer = stub.Search(SEARCH(query="lamp", boosts={"popularity": weight}, page_size=50))
        rows = [table.row_of(hit.product_id) for hit in answer.hits]
        return float(np.mean([features[row, 0] for row in rows]))

    plain = stub.Search(SEARCH(query="lamp", page_size=50))
    assert found(stub.Search(SEARCH(query="lamp", boosts={"popularity": 0}, page_size=50))) == found(plain)
    assert popularity(-0.5) < popularity(0) < popularity(0.1) < popularity(0.5)


def test_boosts_go_with_history_and_are_told_apart_from_similarity(
    stub: search_pb2_grpc.SearchServiceStub, folder: Path, ann: str, product_ids: list[str]
) -> None:
    told = [event(ann, number, product_ids[number]) for number in range(4)]
    asked = {"query": "lamp", "recent_events": told, "explain": True, "page_size": 100}
    weights = {"popularity": 0.2, "value": -0.1}
    plain, boosted = stub.Search(SEARCH(**asked)), stub.Search(SEARCH(**asked, boosts=weights))
    assert boosted.personalisation.source == REQUEST
    table, features = Bundle(folder).products(), Bundle(folder).vectors()[:, 256:260].astype(np.float32)
    similarities = {hit.product_id: hit.explanation.similarity for hit in plain.hits}
    gains = {hit.product_id: hit.explanation.personal_gain for hit in plain.hits}
    for hit in boosted.hits:
        why, row = hit.explanation, table.row_of(hit.product_id)
        parts = why.similarity + why.identifier_boost + why.lexical_boost + sum(why.boosts.values())
        assert hit.score == pytest.approx(parts, abs=1e-5)
        assert why.boosts.get("popularity", 0) == pytest.approx(0.2 * features[row, 0], abs=1e-5)
        assert why.boosts.get("value", 0) == pytest.approx(-0.1 * features[row, 3], abs=1e-5)
        if hit.product_id in similarities:
            assert why.similarity == pytest.approx(similarities[hit.product_id], abs=1e-5)
            assert why.personal_gain == pytest.approx(gains[hit.product_id], abs=1e-5)


def test_pages_of_boosted_hits_that_are_similar_enough_miss_none(stub: search_pb2_grpc.SearchServiceStub) -> None:
    everything = stub.Search(SEARCH(query="lamp", page_size=100, explain=True))
    middle = float(np.median([hit.explanation.similarity for hit in everything.hits]))
    asked = SEARCH(query="lamp", page_size=20, explain=True, min_similarity=middle, boosts={"popularity": 1})
    hits: list[search_pb2.Hit] = []
    while True:
        page = stub.Search(asked)
        hits.extend(page.hits)
        if not page.next_page_token:
            break
        asked.page_token = page.next_page_token
    similar = {hit.product_id for hit in everything.hits if hit.explanation.similarity > middle + 1e-5}
    assert similar <= {hit.product_id for hit in hits}
    assert all(hit.explanation.similarity >= middle for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_command_of_the_documentation_weighs_features(personal: Service) -> None:
    page = (Path(__file__).parents[2] / "docs/personalisation.md").read_text(encoding="utf-8")
    (command,) = [
        line.split("aisle ", 1)[1] for line in page.splitlines() if line.startswith("    ") and "--boost" in line
    ]
    shown = CliRunner().invoke(app, [*shlex.split(command), "--server", personal.address], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert ", popularity +0." in shown.output
    for option, says in (
        ("popularity", "say how much, as in --boost popularity=0.2"),
        ("fresh=0.1", "known are popularity"),
    ):
        refused = CliRunner().invoke(app, ["search", "lamp", "--boost", option, "--server", personal.address])
        assert refused.exit_code == 1
        assert says in refused.output


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SEARCH(query="x", boosts={"popularity": 1.5}), 'boosts["popularity"]'),
        (SEARCH(query="x", boosts={"x": 0.5}), 'boosts["x"]'),
        (SEARCH(query="x", personalisation=1.5), "personalisation"),
        (SEARCH(query="x", personalisation=-0.1), "personalisation"),
        (SEARCH(query="x", personalisation=float("nan")), "personalisation"),
        (SEARCH(query="x", min_similarity=2), "min_similarity"),
        (SEARCH(query="x", min_similarity=0.5, relevant_only=True), "relevant_only"),
        (SEARCH(query="x", recent_events=[shopper_pb2.Event()] * 201), "recent_events"),
        (SEARCH(query="x", recent_events=[event("a", 0, "p", kind=0)]), "recent_events[0].kind"),
        (SEARCH(query="x", recent_events=[event("a", 0, "p"), event("a", 1, "")]), "recent_events[1].product_id"),
        (SEARCH(query="x", recent_events=[event("a", 0, "p", time_ms=2**50)]), "recent_events[0].time_ms"),
        (SEARCH(query="x", recent_events=[event("a", 0, "p", query="a\0b")]), "recent_events[0].query"),
    ],
)
def test_a_bad_field_is_named(stub: search_pb2_grpc.SearchServiceStub, request_: SEARCH, field: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Search(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(caught.value)
    bad = error_details_pb2.BadRequest()
    assert status is not None
    assert any(detail.Unpack(bad) for detail in status.details)
    assert field in [violation.field for violation in bad.field_violations]


def test_the_parts_can_be_had_by_themselves(opened: grpc.Channel, ann: str, product_ids: list[str]) -> None:
    stub = embedding_pb2_grpc.EmbeddingServiceStub(opened)
    told = [event(ann, number, product_ids[number]) for number in range(4)]
    shopper = stub.EmbedShopper(embedding_pb2.EmbedShopperRequest(recent_events=told))
    vector = np.frombuffer(shopper.vectors.data, "<f4")
    assert (vector.shape, shopper.events) == ((256,), 4)
    assert vector.any()
    unknown = stub.EmbedShopper(embedding_pb2.EmbedShopperRequest(shopper_id=ann))
    assert unknown.events == 0
    assert not np.frombuffer(unknown.vectors.data, "<f4").any()
    queries = stub.EmbedQueries(embedding_pb2.EmbedQueriesRequest(queries=["red sofa", "lamp"], dimensions=64))
    np.testing.assert_allclose(
        np.linalg.norm(np.frombuffer(queries.vectors.data, "<f4").reshape(2, 64), axis=1), 1, atol=1e-5
    )
    with pytest.raises(grpc.RpcError, match="shopper_id"):
        stub.EmbedShopper(embedding_pb2.EmbedShopperRequest())


def test_a_log_is_recorded_and_two_results_are_shown_side_by_side(personal: Service, folder: Path) -> None:
    events = folder.parent / "store" / EVENTS
    (busiest,) = busiest_shoppers(events, 1)
    arguments = ["record", str(events), "--as-of-now", "--server", personal.address]
    first, second = (CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert " 0 were known, 0 refused" in first.output
    old = CliRunner().invoke(app, arguments[:2] + arguments[3:])
    assert "time_ms" in old.output  # two years old: more than is kept
    shown = CliRunner().invoke(
        app, ["search", "lamp", "--shopper", busiest, "--compare", "--server", personal.address], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0, shown.output
    assert "stored history" in shown.output
    assert "purchase of" in shown.output or "click of" in shown.output or "click after" in shown.output
    alone = CliRunner().invoke(app, ["search", "lamp", "--compare", "--server", personal.address])
    assert alone.exit_code == 1
    assert "--compare needs --shopper" in alone.output


def test_a_dead_store_costs_the_shopper_not_the_search(folder: Path, product_ids: list[str]) -> None:
    if not redis_is_installed():
        pytest.skip("redis-server is not installed")
    with redis_server() as redis:
        config = f'[shoppers]\nstore = "redis"\nurl = "{redis.url}"\nmax_wait_ms = 5000\n'
        with served(folder, config) as service, grpc.insecure_channel(service.address) as channel:
            stub, recorder = search_pb2_grpc.SearchServiceStub(channel), shopper_pb2_grpc.ShopperServiceStub(channel)
            recorder.RecordEvents(shopper_pb2.RecordEventsRequest(events=[event("ann", 0, product_ids[0])]))
            assert stub.Search(SEARCH(query="lamp", shopper_id="ann")).personalisation.source == STORED
            plain = stub.Search(SEARCH(query="lamp"))
            redis.stop()
            answer = stub.Search(SEARCH(query="lamp", shopper_id="ann"), timeout=60)
            assert found(answer) == found(plain)
            assert answer.personalisation.source == NONE
            assert [part.part for part in answer.degradations] == ["shopper"]
            assert answer.degradations[0].reason == answer.personalisation.reason != ""
            redis.start()
            give_up = time.monotonic() + 240
            while stub.Search(SEARCH(query="lamp", shopper_id="ann")).personalisation.source != STORED:
                assert time.monotonic() < give_up
                time.sleep(0.1)


def test_a_bundle_without_a_shopper_model_answers_everybody_alike_and_says_so(
    search: search_pb2_grpc.SearchServiceStub, embedding: embedding_pb2_grpc.EmbeddingServiceStub
) -> None:
    answer = search.Search(SEARCH(query="lamp", shopper_id="ann"))
    assert answer.personalisation.source == NONE
    assert answer.personalisation.reason == "the served bundle has no shopper model"
    assert not answer.degradations
    with pytest.raises(grpc.RpcError, match="relevant_only"):
        search.Search(SEARCH(query="lamp", relevant_only=True))
    with pytest.raises(grpc.RpcError, match="the served bundle has no boosts"):
        search.Search(SEARCH(query="lamp", boosts={"popularity": 0.2}))
    with pytest.raises(grpc.RpcError, match="no shopper model") as caught:
        embedding.EmbedShopper(embedding_pb2.EmbedShopperRequest(shopper_id="ann"))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_towers_that_disagree_are_refused_with_both_numbers(folder: Path, tmp_path: Path) -> None:
    from models.bundles.files import record_files
    from models.bundles.manifest import MANIFEST, Manifest, content_version

    copy = tmp_path / "bundle"
    copy.mkdir()
    for path in folder.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    spec = json.loads((copy / "unified" / "spec.json").read_text())
    spec["recipe"]["sizes"]["dim"] = 128
    (copy / "unified" / "spec.json").write_text(json.dumps(spec))
    manifest = Manifest.from_json((copy / MANIFEST).read_text())
    manifest = dataclasses.replace(manifest, files=record_files(copy))
    (copy / MANIFEST).write_text(dataclasses.replace(manifest, version=content_version(manifest)).to_json())
    with pytest.raises(BundleError, match=r"the search tower makes 128 dimensions, the product vectors have 256"):
        verify_bundle(Bundle(copy))
