"""The compute behind a ranked search, in this process: a real bundle, a real ranker, a real teacher."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.bundles.files import record_files
from models.bundles.manifest import MANIFEST, BundleError, content_version
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.ranking.bundle_part import RANKER_PART
from models.ranking.feature_names import FEATURES
from models.ranking.ranker import Ranker
from models.ranking.taste import Taste
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.unified.history import HistoryItem, HistoryKind
from serving.app import plan_stages, wire
from serving.catalogue.stages import load_retriever
from serving.cluster import check
from serving.compute.retrieval import (
    GivenCandidates,
    Query,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    SearchItem,
    Subject,
)
from serving.compute.retriever import Retriever
from serving.compute.student import ScoringFailed
from serving.compute.teacher import Chunk, PairCosts, TeacherReader
from serving.config import AisleConfig, ConfigError, RankerConfig, ShoppersConfig
from serving.edge.call_log import CallLog
from serving.gateway.rpc import Guard
from serving.search.request import Ranking, RankModel, Search
from serving.stages.local import LocalStage
from serving.stages.lone_calls import LoneCalls
from serving.stages.stage import Stage
from tests.fake_stage import FakeStage

TASTE = Taste.from_history(
    [HistoryItem(HistoryKind.CLICK, 1, terms="velvet sofa", brand="Halden", category="Furniture")]
)
SHORT = TypePrediction((("Furniture > Living Room > Sofas", 0.9),), False, "en-US")


@pytest.fixture(scope="module")
def retriever(ranked_folder: Path) -> Retriever:
    return load_retriever(ranked_folder, "cpu", 1)


@pytest.fixture(scope="module")
def reader(ranked_folder: Path) -> TeacherReader:
    return TeacherReader(ranked_folder, "cpu", 1, 2048)


def retrieved(result: Retrieved | ScoredCandidates | Exception) -> Retrieved:
    assert isinstance(result, Retrieved)
    return result


def scored(result: Retrieved | ScoredCandidates | Exception) -> ScoredCandidates:
    assert isinstance(result, ScoredCandidates)
    return result


def subject(query: str, **fields: Any) -> Subject:
    return Subject(query=Query(query, "en-US"), **fields)


def known_shopper() -> Subject:
    shopper = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    return subject("lamp", shopper=shopper, taste=TASTE, types=SHORT)


def items() -> list[SearchItem | ScoreItem]:
    return [
        SearchItem(subject=subject("velvet sofa"), k=50, depth=50),
        SearchItem(subject=known_shopper(), k=20, depth=10, keeps_features=True),
        SearchItem(subject=subject("lamp"), k=30),
        ScoreItem(
            subject=subject("sofa"), candidates=GivenCandidates(np.array([5, 3])), weights=(0, 0, 1), explains=True
        ),
    ]


def chances(result: Retrieved | ScoredCandidates | Exception) -> Floats:
    assert not isinstance(result, Exception)
    return result.scores.chances if isinstance(result, Retrieved) else result.chances


def test_searches_of_one_batch_do_not_mix(retriever: Retriever) -> None:
    together = retriever.compute(items())
    for item, result in zip(items(), together, strict=True):
        (alone,) = retriever.compute([item])
        if isinstance(item, SearchItem):
            assert retrieved(result).candidates.rows == retrieved(alone).candidates.rows
        assert np.allclose(chances(result), chances(alone), atol=1e-5)
    assert [len(chances(result)) for result in together] == [50, 10, 0, 2]


def test_items_and_results_travel_between_processes(retriever: Retriever) -> None:
    here = retriever.compute(items())
    there = pickle.loads(pickle.dumps(retriever.compute(pickle.loads(pickle.dumps(items())))))  # noqa: S301
    for one, other in zip(here, there, strict=True):
        if isinstance(one, Retrieved):
            assert one.candidates == retrieved(other).candidates
        assert np.array_equal(chances(one), chances(other))
    failed = pickle.loads(pickle.dumps(ScoringFailed()))  # noqa: S301
    assert failed.message == ScoringFailed().message


def test_a_search_keeps_the_features_that_its_candidates_have_by_themselves(retriever: Retriever) -> None:
    (result,) = retriever.compute([SearchItem(subject=known_shopper(), k=20, depth=10, keeps_features=True)])
    rows = np.array(retrieved(result).candidates.rows[:10])
    (alone,) = retriever.compute([ScoreItem(subject=known_shopper(), candidates=GivenCandidates(rows))])
    assert isinstance(alone, ScoredCandidates)
    kept = retrieved(result).scores.features
    assert kept is not None
    assert np.array_equal(~np.isnan(kept), alone.is_known)
    assert np.allclose(kept[alone.is_known], alone.features[alone.is_known], atol=1e-4)


def test_scores_leave_the_order_of_the_retrieval(retriever: Retriever) -> None:
    for item in items()[:2]:
        assert isinstance(item, SearchItem)
        ranked, plain = map(retrieved, retriever.compute([item, dataclasses.replace(item, depth=0)]))
        assert ranked.candidates == plain.candidates
        assert (len(plain.scores), len(ranked.scores)) == (0, item.depth)
        blends = ranked.scores.blends[ranked.scores.by_blend].tolist()
        assert blends == sorted(blends, reverse=True)


def test_candidates_that_cannot_be_scored_fail_alone_and_are_still_found(retriever: Retriever) -> None:
    unknown = ScoreItem(subject=subject("sofa"), candidates=GivenCandidates(np.array([10**6])))
    broken = SearchItem(subject=subject("velvet sofa", taste="no taste"), k=50, depth=50)
    results = retriever.compute([items()[0], unknown, broken, items()[1]])
    assert isinstance(results[1], ScoringFailed)
    failed = retrieved(results[2])
    assert (len(failed.scores), failed.scores.failure) == (0, "the ranker failed; the server's log says why")
    assert failed.candidates.rows == retrieved(retriever.compute([items()[0]])[0]).candidates.rows
    assert [len(chances(results[at])) for at in (0, 3)] == [50, 10]


def test_given_candidates_are_scored_as_the_search_scores_them(retriever: Retriever) -> None:
    (found,) = retriever.compute([items()[1]])
    rows = np.array(retrieved(found).candidates.rows[:10])
    given = GivenCandidates(rows, (Product("new", "Velvet Lamp", "Halden"),))
    (result,) = retriever.compute([ScoreItem(subject=known_shopper(), candidates=given, explains=True)])
    detail = scored(result)
    assert np.allclose(detail.chances[:10], chances(found), atol=1e-5)
    assert detail.features.shape == detail.is_known.shape == detail.contributions.shape == (11, len(FEATURES))
    assert detail.is_known[:10].all()
    unknown = {FEATURES[at] for at in np.flatnonzero(~detail.is_known[10])}
    assert {"query_cosine", "search_cosine", "shopper_cosine"} <= unknown
    assert np.isfinite(detail.features).all()


def test_chunks_of_several_calls_are_read_together(reader: TeacherReader) -> None:
    features = np.random.default_rng(0).normal(size=(12, len(FEATURES))).astype(np.float32)
    stated = (Product("new", "Velvet Sofa", "Halden", price_minor=100), Product("empty", ""))
    chunks = [
        Chunk("velvet sofa", "en-US", GivenCandidates(np.arange(6)), features[:6]),
        Chunk("lamp", "xx-XX", GivenCandidates(np.array([3, 900]), stated), features[6:10]),
        Chunk("lamp", "", GivenCandidates(np.array([], np.int64), stated), features[10:]),
    ]
    together = reader.compute(chunks)
    for chunk, chances in zip(chunks, together, strict=True):
        assert isinstance(chances, np.ndarray)
        assert chances.shape == (len(chunk.candidates), 3)
        assert np.allclose(chances, reader.compute([chunk])[0], atol=0.02)  # bf16 sums in another order
        assert (np.diff(chances, axis=1) <= 0).all()


def test_the_cost_of_pairs_is_about_their_tokens(ranked_folder: Path, reader: TeacherReader) -> None:
    bundle = Bundle(ranked_folder)
    costs = PairCosts(TEACHER_PART.open(bundle), bundle.products())
    rows = np.arange(200)
    texts = reader._teacher.texts
    asked = texts.queries(["velvet sofa"], ["en-US"]).lengths[0]
    real = asked + texts.products(bundle.products(), reader._bands, rows).lengths
    about = costs.of("velvet sofa", GivenCandidates(rows))
    # The letters of this tiny tokenizer make far more tokens than a real one, up to the fields' limits.
    assert (about <= texts.spec.max_tokens).all()
    assert (about >= 0.3 * real).all()
    product = bundle.products().product(7)
    inline = costs.of("velvet sofa", GivenCandidates(rows[:0], (product,)))
    assert inline[0] == about[7]


async def test_candidates_of_concurrent_calls_share_batches(ranked_folder: Path) -> None:
    import asyncio

    plans = {plan.name: plan for plan in plan_stages(Bundle(ranked_folder), AisleConfig())}
    stage = await LocalStage.start(plans["teacher"], LoneCalls())
    features = np.zeros((8, len(FEATURES)), np.float32)
    asked = [Chunk(query, "en-US", GivenCandidates(np.arange(8)), features) for query in ("sofa", "lamp", "rug", "mug")]
    soon = time.monotonic() + 300
    outcomes = await asyncio.gather(*(stage(chunk, cost=200, deadline=soon) for chunk in asked))
    assert {outcome.batch_size for outcome in outcomes} == {4}
    assert stage.batcher.stats().mean_batch_cost == 800
    await stage.close()


async def test_a_teacher_that_is_late_leaves_the_student_s_order(ranked_folder: Path) -> None:
    """The whole search path over real stages, but for a teacher that takes longer than any call has."""
    config = AisleConfig(shoppers=ShoppersConfig(store="off"))
    guard = Guard(CallLog(config.log))
    local = {
        plan.name: await LocalStage.start(plan, guard.lone_calls)
        for plan in plan_stages(Bundle(ranked_folder), config)
        if plan.name != "teacher"
    }
    teacher: FakeStage[Chunk, Floats] = FakeStage(lambda chunk: np.zeros((len(chunk.candidates), 3), np.float32))
    teacher.gate.clear()
    stages: dict[str, Stage[Any, Any]] = {**local, "teacher": teacher}
    pipeline = wire(ranked_folder, config, stages, None, guard, "replica").pipeline
    rows = {}
    for model, seconds in ((RankModel.STUDENT, 300), (RankModel.TEACHER, 5)):
        ranking = Ranking(model=model, depth=50, weights=(1, 4, 16))
        search = Search(query="velvet sofa", page_size=20, locale="en-US", ranking=ranking)
        results = await pipeline.search(search, time.monotonic() + seconds)
        assert results.ranked_by is RankModel.STUDENT
        rows[model] = results.hits.rows
    assert rows[RankModel.TEACHER] == rows[RankModel.STUDENT]
    assert teacher.items
    (degradation,) = results.degradations
    assert degradation.part == "teacher"
    assert "did not answer within" in degradation.reason
    for stage in local.values():
        await stage.close()


@pytest.fixture
def altered(ranked_folder: Path, tmp_path: Path) -> Callable[[str, Callable[[dict], None]], Path]:  # type: ignore[type-arg]
    def make(name: str, change: Callable[[dict], None]) -> Path:  # type: ignore[type-arg]
        """A bundle whose file of this name says something else, and whose manifest vouches for it."""
        copy = shutil.copytree(ranked_folder, tmp_path / "altered")
        values = json.loads((copy / name).read_text())
        change(values)
        (copy / name).unlink()  # not the file that it is linked with
        (copy / name).write_text(json.dumps(values))
        manifest = dataclasses.replace(Bundle(ranked_folder).manifest, files=record_files(copy))
        (copy / MANIFEST).write_text(dataclasses.replace(manifest, version=content_version(manifest)).to_json())
        return copy

    return make


@pytest.mark.parametrize("name", [f"{RANKER_PART.name}/ranker.json", f"{TEACHER_PART.name}/teacher.json"])
def test_a_bundle_of_other_features_is_refused_at_start(
    altered: Callable[..., Path], ranked_folder: Path, name: str
) -> None:
    config = AisleConfig(shoppers=ShoppersConfig(store="off"))
    check(ranked_folder, config)

    def change(values: dict) -> None:  # type: ignore[type-arg]
        values["features"][values["features"].index("popularity")] = "star_rating"

    with pytest.raises(BundleError) as caught:
        check(altered(name, change), config)
    assert "popularity" in str(caught.value)
    assert "star_rating" in str(caught.value)


def test_a_configuration_that_wants_a_teacher_is_refused_where_there_is_none(
    personal_folder: Path, ranked_folder: Path
) -> None:
    config = AisleConfig(shoppers=ShoppersConfig(store="off"), ranker=RankerConfig(model="teacher"))
    check(ranked_folder, config)
    with pytest.raises(ConfigError, match="'teacher', and .* holds none"):
        check(personal_folder, config)


def test_the_ranker_of_the_bundle_is_the_one_that_was_trained(ranked_folder: Path) -> None:
    assert isinstance(RANKER_PART.open(Bundle(ranked_folder)), Ranker)
    assert Bundle(ranked_folder).manifest.ranker["recipe"] == "tiny"
