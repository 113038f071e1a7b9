"""The compute behind a ranked search, in this process: a real bundle, a real ranker, a real teacher."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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
from serving.app import check, plan_stages
from serving.compute.order import GivenCandidates, RankInput, ScoredCandidates
from serving.compute.retriever import Candidates, Retrieval, Retriever
from serving.compute.teacher import Chunk, PairCosts, TeacherReader
from serving.config import AisleConfig, ConfigError, RankerConfig, ShoppersConfig
from serving.stages.lone_calls import LoneCalls
from serving.stages.stage import LocalStage

TASTE = Taste.from_history(
    [HistoryItem(HistoryKind.CLICK, 1, terms="velvet sofa", brand="Halden", category="Furniture")]
)
SHORT = TypePrediction((("Furniture > Living Room > Sofas", 0.9),), False, "en-US")


@pytest.fixture(scope="module")
def retriever(ranked_folder: Path) -> Retriever:
    return Retriever(Bundle(ranked_folder), "cpu", 1)


@pytest.fixture(scope="module")
def reader(ranked_folder: Path) -> TeacherReader:
    return TeacherReader(ranked_folder, "cpu", 1, 2048)


def told(found: Candidates | Exception) -> ScoredCandidates:
    assert isinstance(found, Candidates)
    assert found.judged is not None, found.rank_failed
    return found.judged


def items() -> list[Retrieval]:
    shopper = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    return [
        Retrieval(None, 50, query="velvet sofa", locale="en-US", ranking=RankInput(50)),
        Retrieval(
            None, 20, query="lamp", locale="en-US", shopper=shopper, ranking=RankInput(10, taste=TASTE, types=SHORT)
        ),
        Retrieval(None, 30, query="lamp", locale="en-US"),
        Retrieval(
            None,
            0,
            query="sofa",
            ranking=RankInput(weights=(0, 0, 1), explains=True),
            picked=GivenCandidates(np.array([5, 3])),
        ),
    ]


def test_searches_of_one_batch_do_not_mix(retriever: Retriever) -> None:
    together = retriever.compute(items())
    for item, found in zip(items(), together, strict=True):
        (alone,) = retriever.compute([item])
        assert isinstance(found, Candidates)
        assert isinstance(alone, Candidates)
        assert found.rows == alone.rows
        if item.ranking:
            assert np.allclose(told(found).chances, told(alone).chances, atol=1e-5)
    assert [len(told(together[at]).chances) for at in (0, 1, 3)] == [50, 10, 2]
    assert isinstance(together[2], Candidates)
    assert together[2].judged is None


def test_what_is_asked_and_told_travels_between_processes(retriever: Retriever) -> None:
    here = retriever.compute(items())
    there = pickle.loads(pickle.dumps(retriever.compute(pickle.loads(pickle.dumps(items())))))  # noqa: S301
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Candidates)
        assert one.rows == other.rows
        if one.judged:
            assert np.array_equal(one.judged.chances, other.judged.chances)


def test_ranking_leaves_the_order_of_the_retrieval(retriever: Retriever) -> None:
    for item in items()[:2]:
        ranked, plain = retriever.compute([item, dataclasses.replace(item, ranking=None)])
        assert isinstance(ranked, Candidates)
        assert isinstance(plain, Candidates)
        assert (ranked.rows, ranked.scores) == (plain.rows, plain.scores)
        assert plain.ranked is None
        assert ranked.ranked is not None
        assert sorted(ranked.ranked.order.tolist()) == list(range(len(ranked.rows)))
        told_blends = ranked.ranked.blends.tolist()
        assert told_blends == sorted(told_blends, reverse=True)


def test_what_cannot_be_ranked_fails_alone_and_is_still_found(retriever: Retriever) -> None:
    unknown = Retrieval(None, 0, query="sofa", ranking=RankInput(), picked=GivenCandidates(np.array([10**6])))
    broken = dataclasses.replace(items()[0], ranking=RankInput(50, taste="no taste"))  # type: ignore[arg-type]
    found = retriever.compute([items()[0], unknown, broken, items()[1]])
    assert isinstance(found[1], Candidates)
    assert isinstance(found[2], Candidates)
    for failed in found[1:3]:
        assert isinstance(failed, Candidates)
        assert failed.judged is None
        assert failed.rank_failed == "the ranker failed; the server's log says why"
    assert found[2].rows == retriever.compute([items()[0]])[0].rows  # type: ignore[union-attr]
    assert len(told(found[0]).chances) == 50
    assert len(told(found[3]).chances) == 10


def test_picked_candidates_are_told_as_the_search_tells_them(retriever: Retriever) -> None:
    (found,) = retriever.compute([items()[1]])
    assert isinstance(found, Candidates)
    picked = GivenCandidates(np.array(found.rows[:10]), (Product("new", "Velvet Lamp", "Halden"),))
    known = dataclasses.replace(items()[1].ranking, weights=(1.0, 4.0, 16.0), explains=True)  # type: ignore[type-var]
    judged = told(retriever.compute([dataclasses.replace(items()[1], ranking=known, picked=picked)])[0])
    assert np.allclose(judged.chances[:10], told(found).chances, atol=1e-5)
    assert judged.features is not None
    assert judged.is_known is not None
    assert judged.contributions is not None
    assert judged.features.shape == judged.is_known.shape == judged.contributions.shape == (11, len(FEATURES))
    assert judged.is_known[:10].all()
    unknown = {FEATURES[at] for at in np.flatnonzero(~judged.is_known[10])}
    assert {"query_cosine", "search_cosine", "shopper_cosine"} <= unknown
    assert np.isfinite(judged.features).all()


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

    plans = {plan.name: plan for plan in plan_stages(ranked_folder, AisleConfig())}
    stage = await LocalStage.start(plans["teacher"], LoneCalls())
    features = np.zeros((8, len(FEATURES)), np.float32)
    asked = [Chunk(query, "en-US", GivenCandidates(np.arange(8)), features) for query in ("sofa", "lamp", "rug", "mug")]
    soon = time.monotonic() + 60
    outcomes = await asyncio.gather(*(stage(chunk, cost=200, deadline=soon) for chunk in asked))
    assert {outcome.batch_size for outcome in outcomes} == {4}
    assert stage.batcher.stats().mean_batch_cost == 800
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
