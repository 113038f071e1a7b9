"""A search is ranked by what there is: the teacher, else the student, else as it was retrieved. The answer says which."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from models.arrays import Floats, Ints
from models.text_encoder.spec import Text
from serving.compute.filter_masks import FilterMasks
from serving.compute.retrieval import (
    NOT_SCORED,
    Candidates,
    GivenCandidates,
    Query,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    StudentScores,
    Subject,
)
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.compute.student import ScoringFailed
from serving.compute.teacher import Chunk
from serving.errors import DeadlineExceeded, Unavailable
from serving.search.pipeline import SearchPipeline
from serving.search.ranker import Ranker
from serving.search.request import Diversity, RankCall, Ranking, RankModel, Search
from serving.search.results import Results
from serving.search.retrieve import Retrieve
from serving.search.teacher_stage import TeacherStage
from serving.stages.batcher import STALE_S
from tests.fake_stage import FakeStage
from tests.unit.search.conftest import MakePipeline

CLICKS = (1.0, 0.0, 0.0)
NUM_CANDIDATES = 6  # of every search: rows 0 to 5 in this order, with the similarities 0.9, 0.8, ...
RetrieverStage = FakeStage[RetrieverItem, RetrieverResult]
Teacher = FakeStage[Chunk, Floats]


def nested(clicks: Any) -> Floats:
    return np.stack([np.asarray(clicks, np.float32)] * 3, axis=1)


class Costs:
    """100 tokens for every pair."""

    def of(self, _: str, candidates: GivenCandidates) -> Ints:
        return np.full(len(candidates), 100)


def retrieve(item: RetrieverItem) -> RetrieverResult:
    """The student likes the later rows better."""
    if isinstance(item, ScoreItem):
        rows = item.candidates.rows
        features = np.stack([rows, rows], axis=1).astype(np.float32)
        contributions = features if item.explains else features[:, :0]
        chances = nested(rows / 10)
        return ScoredCandidates(chances=chances, features=features, is_known=features >= 0, contributions=contributions)
    found = list(range(min(NUM_CANDIDATES, item.k)))
    similarities = [0.9 - row / 10 for row in found]
    scores = NOT_SCORED
    if item.depth:
        scored = np.array(found[: item.depth], np.float32)
        features = np.stack([scored, -scored], axis=1) if item.keeps_features else None
        scores = StudentScores.blend(nested(scored / 10), item.weights, features=features)
    return Retrieved(candidates(found, similarities), scores)


def candidates(rows: list[int], similarities: list[float]) -> Candidates:
    zeros = [0.0] * len(rows)
    return Candidates(
        rows=rows,
        scores=similarities,
        similarities=similarities,
        identifier_boosts=zeros,
        type_boosts=zeros,
        feature_boosts=[()] * len(rows),
        lexical_boosts=zeros,
        coverages=zeros,
        words=np.zeros((len(rows), 2), np.float32),
        click_boosts=zeros,
        vector_ranks=[0] * len(rows),
        lexical_ranks=[0] * len(rows),
        click_ranks=[0] * len(rows),
        matched={},
    )


def read(chunk: Chunk) -> Floats:
    """The teacher likes the earlier rows better."""
    return nested(1 - chunk.candidates.rows / 10)


@pytest.fixture
def teacher() -> Teacher:
    return FakeStage(read)


@pytest.fixture
def retriever() -> RetrieverStage:
    return FakeStage(retrieve)


@pytest.fixture
def pipeline(
    make_pipeline: MakePipeline, lamp_encoder: FakeStage[Text, Floats], retriever: RetrieverStage, teacher: Teacher
) -> SearchPipeline:
    return make_pipeline(lamp_encoder, retriever, teacher=TeacherStage(teacher, Costs(), 3))


async def ask(pipeline: SearchPipeline, seconds: float = 300, **fields: Any) -> Results:
    ranking = Ranking(
        model=fields.pop("model", RankModel.STUDENT),
        depth=fields.pop("depth", 4),
        weights=CLICKS,
        diversity=fields.pop("diversity", None),
    )
    stated = {"page_size": NUM_CANDIDATES, "verbatim": True, "locale": "en-US", "ranking": ranking} | fields
    return await pipeline.search(Search(query="sofa", **stated), time.monotonic() + seconds)


def reasons(results: Results) -> list[tuple[str, str]]:
    return [(degradation.part, degradation.reason) for degradation in results.degradations]


async def test_the_student_orders_what_is_within_the_depth(pipeline: SearchPipeline) -> None:
    results = await ask(pipeline)
    assert results.hits.rows == [3, 2, 1, 0, 4, 5]
    assert (results.ranked_by, results.ranked_depth, reasons(results)) == (RankModel.STUDENT, 4, [])
    assert [chances[0] for chances in results.chances] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    assert results.retrieval_ranks == [4, 3, 2, 1, 5, 6]
    plain = await ask(pipeline, model=RankModel.NONE)
    assert plain.hits.rows == [0, 1, 2, 3, 4, 5]
    assert (plain.ranked_by, plain.ranked_depth, plain.chances) == (RankModel.NONE, 0, [])


async def test_the_teacher_reads_the_student_s_best(pipeline: SearchPipeline, teacher: Teacher) -> None:
    results = await ask(pipeline, model=RankModel.TEACHER)
    assert results.hits.rows == [1, 2, 3, 0, 4, 5]
    assert results.ranked_by is RankModel.TEACHER
    assert [chances[0] for chances in results.chances] == pytest.approx([0.9, 0.8, 0.7, 0.0])
    (chunk,) = teacher.items
    assert chunk.candidates.rows.tolist() == [3, 2, 1]
    assert chunk.features.tolist() == [[3, 3], [2, 2], [1, 1]]
    assert [phase.name for phase in results.phases] == ["encode", "retrieve", "teacher"]


@pytest.mark.parametrize("model", list(RankModel))
@pytest.mark.parametrize("diversity", [None, Diversity(1, 3)])
async def test_pages_have_every_hit_once_whatever_orders_them(
    pipeline: SearchPipeline, model: RankModel, diversity: Diversity | None
) -> None:
    whole = await ask(pipeline, model=model, diversity=diversity)
    assert sorted(whole.hits.rows) == list(range(NUM_CANDIDATES))
    for size in (1, 2, 3):
        rows, chances = [], []
        for offset in range(0, NUM_CANDIDATES, size):
            page = await ask(pipeline, model=model, diversity=diversity, offset=offset, page_size=size)
            rows += page.hits.rows
            chances += page.chances
            assert page.has_more == (offset + size < NUM_CANDIDATES)
        assert rows == whole.hits.rows
        assert chances == whole.chances


async def test_candidates_that_are_not_similar_are_dropped_before_the_rest_is_ordered(
    pipeline: SearchPipeline,
) -> None:
    results = await ask(pipeline, min_similarity=0.75, model=RankModel.TEACHER)
    assert results.hits.rows == [0, 1]
    assert [chances[0] for chances in results.chances] == pytest.approx([1.0, 0.9])
    by_student = await ask(pipeline, min_similarity=0.65)
    assert by_student.hits.rows == [2, 1, 0]
    assert [chances[0] for chances in by_student.chances] == pytest.approx([0.2, 0.1, 0.0])
    assert (await ask(pipeline, min_similarity=0.95)).hits.rows == []


@pytest.mark.parametrize("model", [RankModel.STUDENT, RankModel.TEACHER])
@pytest.mark.parametrize(
    "fields", [{}, {"diversity": Diversity(1, 3)}, {"min_similarity": 0.65}, {"offset": 2, "page_size": 3}]
)
async def test_features_that_are_kept_are_those_of_the_ranked_hits(
    pipeline: SearchPipeline, model: RankModel, fields: dict[str, Any]
) -> None:
    results = await ask(pipeline, model=model, keeps_features=True, **fields)
    assert results.features is not None
    rows = results.hits.rows[: len(results.chances)]
    assert rows
    assert results.features.tolist() == [[row, -row] for row in rows]
    assert results.searched_query == "sofa"
    assert (await ask(pipeline, model=model, **fields)).features is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("the teacher stage lost a replica"), "the teacher stage failed: the teacher stage lost a replica"),
        (DeadlineExceeded("late"), "the teacher stage failed: late"),
        (RuntimeError("secret/path"), "the teacher stage failed; the server's log says why"),
    ],
)
async def test_where_the_teacher_fails_the_student_orders(
    pipeline: SearchPipeline, teacher: Teacher, error: Exception, reason: str
) -> None:
    teacher.error = error
    results = await ask(pipeline, model=RankModel.TEACHER)
    assert results.hits.rows == [3, 2, 1, 0, 4, 5]
    assert results.ranked_by is RankModel.STUDENT
    assert reasons(results) == [("teacher", reason)]


async def test_a_teacher_that_is_late_is_not_waited_for(pipeline: SearchPipeline, teacher: Teacher) -> None:
    teacher.gate.clear()
    results = await ask(pipeline, seconds=1, model=RankModel.TEACHER)
    assert results.hits.rows == [3, 2, 1, 0, 4, 5]
    ((part, reason),) = reasons(results)
    assert part == "teacher"
    assert "did not answer within" in reason


async def test_a_teacher_that_would_be_late_is_not_asked(pipeline: SearchPipeline, teacher: Teacher) -> None:
    teacher.batcher._batch_s, teacher.batcher._idle_since = 1000.0, time.monotonic()  # as it measured
    results = await ask(pipeline, seconds=1000, model=RankModel.TEACHER)
    assert not teacher.items
    ((part, reason),) = reasons(results)
    assert part == "teacher"
    assert "it takes about 1000000 ms" in reason


async def test_a_teacher_that_was_late_long_ago_is_asked_again(pipeline: SearchPipeline, teacher: Teacher) -> None:
    teacher.batcher._batch_s, teacher.batcher._idle_since = 1000.0, time.monotonic() - 2 * STALE_S
    results = await ask(pipeline, seconds=1000, model=RankModel.TEACHER)
    assert teacher.items
    assert not reasons(results)


async def test_where_the_student_fails_hits_stay_as_retrieved(
    pipeline: SearchPipeline, retriever: RetrieverStage, teacher: Teacher
) -> None:
    def fail(item: RetrieverItem) -> RetrieverResult:
        result = retrieve(item)
        assert isinstance(result, Retrieved)
        return Retrieved(result.candidates, StudentScores.missing("the ranker failed"))

    retriever.work = fail
    results = await ask(pipeline, model=RankModel.TEACHER)
    assert results.hits.rows == [0, 1, 2, 3, 4, 5]
    assert (results.ranked_by, results.ranked_depth) == (RankModel.NONE, 0)
    assert reasons(results) == [("rank", "the ranker failed")]
    assert not teacher.items


async def test_with_too_little_time_nothing_is_ranked(pipeline: SearchPipeline, retriever: RetrieverStage) -> None:
    retriever.batcher._batch_s = 1000.0
    results = await ask(pipeline, seconds=2500)
    assert results.hits.rows == [0, 1, 2, 3, 4, 5]
    assert reasons(results) == [("rank", "too little time was left to rank")]
    (item,) = retriever.items
    assert not isinstance(item, ScoreItem)
    assert item.depth == 0


async def test_an_explained_page_has_the_factors_of_its_ranked_hits(pipeline: SearchPipeline) -> None:
    results = await ask(pipeline, explain=True, offset=2, page_size=3)
    assert sorted(results.factors) == [0, 1]  # the hits of the page that are within the depth
    assert results.factors[1].values.tolist() == [1, 1]


async def test_factors_that_fail_cost_the_search_nothing_else(
    pipeline: SearchPipeline, retriever: RetrieverStage
) -> None:
    def fail(item: RetrieverItem) -> RetrieverResult:
        if isinstance(item, ScoreItem):
            raise ScoringFailed
        return retrieve(item)

    retriever.work = fail
    results = await ask(pipeline, explain=True)
    assert results.hits.rows == [3, 2, 1, 0, 4, 5]
    assert [part for part, _ in reasons(results)] == ["rank"]


async def test_a_caller_s_candidates_are_scored_in_chunks_and_come_in_order(
    retriever: RetrieverStage, masks: FilterMasks
) -> None:
    ranker = Ranker(Retrieve(retriever, 50), masks)
    rows = np.arange(1000)
    subject = Subject(query=Query("sofa"))
    call = RankCall(
        query="sofa",
        candidates=GivenCandidates(rows),
        ranking=Ranking(model=RankModel.STUDENT, weights=CLICKS),
        num_explained=5,
    )
    soon = time.monotonic() + 300
    ranked = await ranker.rank(call, subject, soon)
    assert list(ranked.order.places) == rows[::-1].tolist()
    assert [factors.values.tolist() for factors in ranked.factors] == [[row, row] for row in (999, 998, 997, 996, 995)]
    assert [len(item.candidates) for item in retriever.items if isinstance(item, ScoreItem)] == [400, 400, 200, 5]
    retriever.error = ScoringFailed()
    with pytest.raises(ScoringFailed, match="the ranker failed"):
        await ranker.rank(call, subject, soon)


async def test_a_pipeline_is_ready_without_the_teacher_s_replicas(
    pipeline: SearchPipeline, teacher: Teacher, retriever: RetrieverStage
) -> None:
    teacher.num_replicas = 0
    assert pipeline.is_ready()
    assert pipeline.stages[-1] is teacher
    retriever.num_replicas = 0
    assert not pipeline.is_ready()
