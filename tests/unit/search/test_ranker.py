"""A search is ranked by what there is: the teacher, else the student, else as it was retrieved, and it says which."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.text_encoder.spec import EncoderSpec
from serving.compute.filter_masks import FilterMasks
from serving.compute.order import (
    Diversity,
    GivenCandidates,
    Ranking,
    RankInput,
    RankModel,
    ScoredCandidates,
    by_student,
)
from serving.compute.retriever import NO_CANDIDATES, Candidates, Retrieval
from serving.compute.teacher import Chunk
from serving.errors import AisleError, DeadlineExceeded, Unavailable
from serving.search.pipeline import Results, Search, SearchPipeline
from serving.search.ranker import CandidateRanker, TeacherStage
from serving.stages.batcher import Batcher, Outcome

CLICKS = (1.0, 0.0, 0.0)
FOUND = 6  # candidates of every search: rows 0 to 5 in this order, of similarity 0.9, 0.8, ...


def nested(clicks: Any) -> np.ndarray:
    return np.stack([np.asarray(clicks, np.float32)] * 3, axis=1)


class Stage:
    """Answers with what `work` makes of each item, or raises."""

    def __init__(self, work: Callable[[Any], Any], delay_s: float = 0.0) -> None:
        self.work, self.delay_s = work, delay_s
        self.asked: list[Any] = []

        async def compute(items: list[Any]) -> list[Any]:
            return items

        self.batcher: Batcher[Any, Any] = Batcher(compute, max_batch_cost=64)

    async def __call__(self, item: Any, **_: object) -> Outcome[Any]:
        self.asked.append(item)
        await asyncio.sleep(self.delay_s)
        return Outcome(self.work(item), 0.0, 1.0, 1)

    def replicas(self) -> int:
        return 1


class Costs:
    """Of every pair 100 tokens."""

    def of(self, _: str, candidates: GivenCandidates) -> np.ndarray:
        return np.full(len(candidates), 100)


def retrieve(item: Retrieval) -> Candidates:
    """The student likes the later rows better."""
    if item.picked is not None:
        rows = item.picked.rows
        features = np.stack([rows, rows], axis=1).astype(np.float32)
        explained = features if item.ranking and item.ranking.explains else None
        return Candidates(
            **fields_of(NO_CANDIDATES), judged=ScoredCandidates(nested(rows / 10), features, features >= 0, explained)
        )
    rows = list(range(min(FOUND, item.k)))
    scores = [0.9 - row / 10 for row in rows]
    boosts = [0.0] * len(rows)
    judged, ranked = None, None
    if item.ranking:
        judged = ScoredCandidates(nested(np.array(rows[: item.ranking.depth]) / 10))
        ranked = by_student(judged.chances, item.ranking.weights, boosts)
    return Candidates(rows, scores, scores, boosts, {}, [()] * len(rows), judged=judged, ranked=ranked)


def fields_of(found: Candidates) -> dict[str, Any]:
    names = ("rows", "scores", "similarities", "identifier_boosts", "matched", "feature_boosts")
    return {name: getattr(found, name) for name in names}


def read(chunk: Chunk) -> np.ndarray:
    """The teacher likes the earlier rows better."""
    return nested(1 - chunk.candidates.rows / 10)


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture
def teacher() -> Stage:
    return Stage(read)


@pytest.fixture
def pipeline(bundle: Bundle, teacher: Stage) -> SearchPipeline:
    return SearchPipeline(
        Stage(lambda _: np.zeros(32, np.float32)),  # type: ignore[arg-type]
        Stage(retrieve),  # type: ignore[arg-type]
        EncoderSpec(**bundle.manifest.encoder),
        load_speller(bundle),
        50,
        masks=FilterMasks(bundle.products()),
        language="en-US",
        teacher=TeacherStage(teacher, Costs(), 3),  # type: ignore[arg-type]
    )


async def ask(pipeline: SearchPipeline, seconds: float = 10, **fields: Any) -> Results:
    ranking = Ranking(
        fields.pop("model", RankModel.STUDENT), fields.pop("depth", 4), CLICKS, fields.pop("diversity", None)
    )
    stated = {"page_size": FOUND, "verbatim": True, "locale": "en-US", "ranking": ranking} | fields
    return await pipeline.search(Search("sofa", **stated), time.monotonic() + seconds)


async def test_the_student_orders_what_is_within_the_depth(pipeline: SearchPipeline) -> None:
    found = await ask(pipeline)
    assert found.candidates.rows == [3, 2, 1, 0, 4, 5]
    assert found.ranked
    assert (found.ranked.by, len(found.ranked.chances), found.ranked.lesser) == (RankModel.STUDENT, 4, ())
    plain = await ask(pipeline, model=RankModel.NONE)
    assert plain.candidates.rows == [0, 1, 2, 3, 4, 5]


async def test_the_teacher_reads_the_student_s_best(pipeline: SearchPipeline, teacher: Stage) -> None:
    found = await ask(pipeline, model=RankModel.TEACHER)
    assert found.candidates.rows == [1, 2, 3, 0, 4, 5]
    assert found.ranked
    assert found.ranked.by is RankModel.TEACHER
    (chunk,) = teacher.asked
    assert chunk.candidates.rows.tolist() == [3, 2, 1]
    assert chunk.features.tolist() == [[3, 3], [2, 2], [1, 1]]
    assert [phase.name for phase in found.phases] == ["encode", "retrieve", "teacher"]


async def test_pages_have_every_hit_once_whatever_orders_them(pipeline: SearchPipeline) -> None:
    for model in RankModel:
        for diversity in (None, Diversity(1, 3)):
            whole = (await ask(pipeline, model=model, diversity=diversity)).candidates.rows
            for size in (1, 2, 3):
                paged = []
                for offset in range(0, FOUND, size):
                    page = await ask(pipeline, model=model, diversity=diversity, offset=offset, page_size=size)
                    paged += page.candidates.rows[offset:]
                    assert page.has_more == (offset + size < FOUND)
                assert paged == whole
                assert sorted(whole) == list(range(FOUND))


async def test_what_is_not_similar_is_left_out_before_it_is_ordered(pipeline: SearchPipeline) -> None:
    found = await ask(pipeline, min_similarity=0.75, model=RankModel.TEACHER)
    assert found.candidates.rows == [0, 1]
    assert found.ranked
    assert found.ranked.chances[:, 0].tolist() == pytest.approx([1.0, 0.9])
    assert (await ask(pipeline, min_similarity=0.95)).candidates.rows == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("the teacher stage lost a replica"), "the teacher stage failed: the teacher stage lost a replica"),
        (DeadlineExceeded("late"), "the teacher stage failed: late"),
        (RuntimeError("secret/path"), "the teacher stage failed; the server's log says why"),
    ],
)
async def test_where_the_teacher_fails_the_student_orders(
    pipeline: SearchPipeline, teacher: Stage, error: Exception, said: str
) -> None:
    def fail(_: Chunk) -> None:
        raise error

    teacher.work = fail
    found = await ask(pipeline, model=RankModel.TEACHER)
    assert found.candidates.rows == [3, 2, 1, 0, 4, 5]
    assert found.ranked
    assert found.ranked.by is RankModel.STUDENT
    assert [(one.part, one.reason) for one in found.ranked.lesser] == [("teacher", said)]


async def test_a_teacher_that_is_late_is_not_waited_for(pipeline: SearchPipeline, teacher: Stage) -> None:
    teacher.delay_s = 5
    found = await ask(pipeline, seconds=0.2, model=RankModel.TEACHER)
    assert found.candidates.rows == [3, 2, 1, 0, 4, 5]
    assert found.ranked
    (less,) = found.ranked.lesser
    assert "did not answer within" in less.reason


async def test_a_teacher_that_would_be_late_is_not_asked(pipeline: SearchPipeline, teacher: Stage) -> None:
    teacher.batcher._batch_s = 1.0  # as it measured
    found = await ask(pipeline, seconds=0.5, model=RankModel.TEACHER)
    assert not teacher.asked
    assert found.ranked
    assert "it takes about 1000 ms" in found.ranked.lesser[0].reason


async def test_where_the_student_fails_hits_stay_as_retrieved(pipeline: SearchPipeline, teacher: Stage) -> None:
    def fail(item: Retrieval) -> Candidates:
        found = retrieve(item)
        return Candidates(**fields_of(found), rank_failed="the ranker failed")

    pipeline.retriever.work = fail  # type: ignore[attr-defined]
    found = await ask(pipeline, model=RankModel.TEACHER)
    assert found.candidates.rows == [0, 1, 2, 3, 4, 5]
    assert found.ranked
    assert (found.ranked.by, len(found.ranked.chances)) == (RankModel.NONE, 0)
    assert [(one.part, one.reason) for one in found.ranked.lesser] == [("rank", "the ranker failed")]
    assert not teacher.asked


async def test_with_too_little_time_nothing_is_ranked(pipeline: SearchPipeline) -> None:
    pipeline.retriever.batcher._batch_s = 1.0
    found = await ask(pipeline, seconds=3)
    assert found.candidates.rows == [0, 1, 2, 3, 4, 5]
    assert found.ranked
    assert [one.part for one in found.ranked.lesser] == ["rank"]
    assert pipeline.retriever.asked[-1].ranking is None  # type: ignore[attr-defined]


async def test_an_explained_page_tells_what_moved_its_hits(pipeline: SearchPipeline) -> None:
    found = await ask(pipeline, explain=True, offset=2, page_size=3)
    assert sorted(found.factors) == [0, 1]  # of the page those within the depth
    assert found.factors[1].values.tolist() == [1, 1]
    assert found.ranked


async def test_candidates_of_a_caller_are_judged_in_parts_and_come_in_order(bundle: Bundle) -> None:
    retriever = Stage(retrieve)
    ranker = CandidateRanker(retriever, FilterMasks(bundle.products()))  # type: ignore[arg-type]
    rows = np.arange(1000)
    wanted = Retrieval(None, 0, query="sofa", ranking=RankInput())
    soon = time.monotonic() + 10
    told = await ranker.rank(GivenCandidates(rows), wanted, Ranking(RankModel.STUDENT, 0, CLICKS), 5, soon)
    assert told.ranked.order.tolist() == rows[::-1].tolist()
    assert [factors.values.tolist() for factors in told.factors] == [[row, row] for row in (999, 998, 997, 996, 995)]
    assert [len(item.picked) for item in retriever.asked] == [400, 400, 200, 5]

    def fail(_: Retrieval) -> Candidates:
        return Candidates(**fields_of(NO_CANDIDATES), rank_failed="the ranker failed")

    retriever.work = fail
    with pytest.raises(AisleError, match="the ranker failed"):
        await ranker.rank(GivenCandidates(rows), wanted, Ranking(RankModel.STUDENT, 0, CLICKS), 0, soon)


async def test_without_the_teacher_s_replicas_it_is_ready_all_the_same(
    pipeline: SearchPipeline, teacher: Stage
) -> None:
    teacher.replicas = lambda: 0  # type: ignore[method-assign]
    assert pipeline.is_ready()
    assert pipeline.stages[-1] is teacher
    pipeline.retriever.replicas = lambda: 0  # type: ignore[method-assign]
    assert not pipeline.is_ready()
