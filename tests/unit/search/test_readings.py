"""A query that may mean several is searched as each of them, in one batch, and the answer says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from models.arrays import Floats, Ints
from models.bundles.bundle import Bundle
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import Text
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import load_retriever, open_search
from serving.compute.facets import FacetQuestion, Scope
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.query_typer import TypeQuestion
from serving.compute.retrieval import EncodedQuery, GivenCandidates, ScoredCandidates, SearchItem, Weights
from serving.compute.retriever import Retriever, RetrieverItem, RetrieverResult
from serving.compute.student import ScoringFailed, Student, StudentInput, StudentOutput
from serving.compute.teacher import Chunk
from serving.compute.value_order import SortBy
from serving.errors import Overloaded
from serving.search.pipeline import SearchPipeline
from serving.search.request import Ranking, RankModel, Search, TypeUse
from serving.search.teacher_stage import TeacherStage
from tests.fake_stage import FakeStage
from tests.unit.search.conftest import MakePipeline

TYPED = "nokora kettle"
NIKORA, NOKIRA = "nikora kettle", "nokira kettle"
COUNT = 12  # kettles of each brand
PRODUCTS = [
    Product(f"{brand}-{n}", f"Kettle {n} by {brand}", brand, "Kitchen > Kettles", 100 * n + place)
    for place, brand in enumerate(("Nikora", "Nokira"))
    for n in range(1, COUNT + 1)
] + [Product(f"other-{n}", f"Kettle {n} by Halden", "Halden", "Kitchen > Kettles", n) for n in range(1, 30)]
Encoder = FakeStage[Text, Floats]
RetrieverStage = FakeStage[RetrieverItem, RetrieverResult]


@pytest.fixture(scope="session")
def bundle(build_tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("kettles") / "bundle"
    build_tiny(folder, PRODUCTS)
    return Bundle(folder)


@pytest.fixture(scope="session")
def masks(bundle: Bundle) -> FilterMasks:
    return FilterMasks(bundle.products(), bundle.attributes())


@pytest.fixture
def encoder(bundle: Bundle) -> Encoder:
    """Reads each query as another product."""
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    return FakeStage(lambda text: vectors[{NIKORA: 3, NOKIRA: COUNT + 3}.get(text.text, 2 * COUNT + 3)])


@pytest.fixture
def retriever(bundle: Bundle) -> RetrieverStage:
    retriever = load_retriever(bundle.folder, threads=1)

    def retrieve(item: RetrieverItem) -> RetrieverResult:
        (result,) = retriever.compute([item])
        assert not isinstance(result, Exception)
        return result

    return FakeStage(retrieve)


@pytest.fixture
def pipeline(make_pipeline: MakePipeline, encoder: Encoder, retriever: RetrieverStage) -> SearchPipeline:
    return make_pipeline(encoder, retriever)


def soon() -> float:
    return time.monotonic() + 300


def brands(rows: list[int]) -> list[str]:
    return [PRODUCTS[row].brand for row in rows]


async def test_both_readings_are_searched_and_take_turns(pipeline: SearchPipeline) -> None:
    results = await pipeline.search(Search(query=TYPED, page_size=10), soon())
    first = results.alternative_queries[0].split()[0].capitalize()
    other = {"Nikora": "Nokira", "Nokira": "Nikora"}[first]
    assert brands(results.hits.rows) == [first, other] * 5
    assert results.searched_queries == dict(enumerate(results.alternative_queries, 1))
    assert results.hits.readings == [1, 2] * 5
    assert results.corrected_query == ""


async def test_all_readings_come_to_the_retriever_as_one_item(
    pipeline: SearchPipeline, encoder: Encoder, retriever: RetrieverStage
) -> None:
    await pipeline.search(Search(query=TYPED, page_size=3), soon())
    assert {text.text for text in encoder.items} == {TYPED, NIKORA, NOKIRA}
    (item,) = retriever.items
    assert isinstance(item, SearchItem)
    queries = [reading.subject.query for reading in item.readings]
    assert {query.text for query in queries} == {TYPED, NIKORA, NOKIRA}
    for query in queries:  # each with its own vector
        assert isinstance(query, EncodedQuery)
        np.testing.assert_array_equal(query.vector, encoder.work(Text(query.text)))


@pytest.mark.parametrize("query", [NIKORA, "halden kettle", "kettle"])
async def test_a_query_of_known_words_is_searched_alone(
    pipeline: SearchPipeline, encoder: Encoder, retriever: RetrieverStage, query: str
) -> None:
    results = await pipeline.search(Search(query=query, page_size=3), soon())
    assert [text.text for text in encoder.items] == [query]
    (item,) = retriever.items
    assert isinstance(item, SearchItem)
    assert not item.others
    assert (results.searched_queries, results.hits.readings) == ({}, [])


@pytest.mark.parametrize("refused", [(NOKIRA,), (NIKORA, NOKIRA)])
async def test_a_reading_that_is_refused_is_left_out_and_told(
    pipeline: SearchPipeline, encoder: Encoder, refused: Sequence[str]
) -> None:
    read = encoder.work

    def overloaded(text: Text) -> Floats:
        if text.text in refused:
            raise Overloaded(0.1)
        return read(text)

    encoder.work = overloaded
    results = await pipeline.search(Search(query=TYPED, page_size=6), soon())
    assert len(results.hits.rows) == 6
    assert not set(refused) & set(results.searched_queries.values())
    assert [degradation.part for degradation in results.degradations] == ["readings"]
    assert results.degradations[0].reason.startswith("another reading of the query failed: ")


async def test_a_verbatim_query_is_searched_as_typed(pipeline: SearchPipeline, encoder: Encoder) -> None:
    results = await pipeline.search(Search(query=TYPED, page_size=3, verbatim=True), soon())
    assert [text.text for text in encoder.items] == [TYPED]
    assert (results.searched_queries, results.alternative_queries) == ({}, ())


async def test_pages_of_several_readings_have_each_product_once(pipeline: SearchPipeline) -> None:
    whole = await pipeline.search(Search(query=TYPED, page_size=50), soon())
    paged: list[int] = []
    size = 1
    while len(paged) < len(whole.hits.rows):
        page = await pipeline.search(Search(query=TYPED, page_size=size, offset=len(paged)), soon())
        assert page.searched_queries == whole.searched_queries
        paged += page.hits.rows
        assert page.has_more == (len(paged) < len(whole.hits.rows))
        size = 7
    assert paged == whole.hits.rows
    assert len(set(paged)) == len(paged) == 50  # as many as paging reaches


async def test_a_reading_that_the_filter_leaves_nothing_of_takes_no_part(pipeline: SearchPipeline) -> None:
    wanted = ProductFilter(brands=("Nokira",))
    results = await pipeline.search(Search(query=TYPED, page_size=5, filter=wanted), soon())
    assert set(results.searched_queries.values()) == {NOKIRA}
    assert set(brands(results.hits.rows)) == {"Nokira"}
    assert (results.total, results.total_is_exact) == (COUNT, True)


async def test_conditions_hold_for_every_reading_and_are_searched_in_none(
    pipeline: SearchPipeline, encoder: Encoder
) -> None:
    results = await pipeline.search(Search(query=f"{TYPED} under $3", page_size=50), soon())
    assert {text.text for text in encoder.items} == {TYPED, NIKORA, NOKIRA}
    assert set(results.searched_queries.values()) == {f"{NIKORA} under $3", f"{NOKIRA} under $3"}
    assert all((PRODUCTS[row].price_minor or 0) < 300 for row in results.hits.rows)


async def test_an_order_by_value_and_facets_are_of_all_readings_together(pipeline: SearchPipeline) -> None:
    wanted = Search(
        query=TYPED, page_size=6, sort=SortBy("price"), facets=(FacetQuestion("brand", 9),), explain=True
    )  # fmt: skip
    results = await pipeline.search(wanted, soon())
    assert [PRODUCTS[row].price_minor for row in results.hits.rows] == [100, 101, 200, 201, 300, 301]
    assert (results.total, results.total_is_exact, results.sorted_over) == (2 * COUNT, True, Scope.MATCHING)
    assert dict(results.facets[0].values) == {"Nikora": COUNT, "Nokira": COUNT}
    for row, reading in zip(results.hits.rows, results.hits.readings, strict=True):
        assert results.searched_queries[reading].startswith(PRODUCTS[row].brand.lower())
    alone = await pipeline.search(Search(query=NIKORA, page_size=6, sort=SortBy("price")), soon())
    scores = dict(zip(alone.hits.rows, alone.hits.scores, strict=True))
    for row, score in zip(results.hits.rows, results.hits.scores, strict=True):
        assert score == pytest.approx(scores.get(row, score))


async def test_facets_without_an_order_are_of_all_readings_together(pipeline: SearchPipeline) -> None:
    facets = (FacetQuestion("brand", 9),)
    results = await pipeline.search(Search(query=TYPED, page_size=2, facets=facets), soon())
    assert dict(results.facets[0].values).items() >= {"Nikora": COUNT, "Nokira": COUNT}.items()


async def test_each_reading_has_its_own_types(
    make_pipeline: MakePipeline, encoder: Encoder, retriever: RetrieverStage
) -> None:
    def classify(question: TypeQuestion) -> tuple[TypePrediction, ...]:
        return tuple(
            TypePrediction((("Kitchen > Kettles", 0.8 if query == NIKORA else 0.6),), query == TYPED, locale)
            for query, locale in question.queries
        )

    pipeline = make_pipeline(encoder, retriever, typer=FakeStage(classify))
    search = Search(query=TYPED, page_size=4, type_use=TypeUse.BOOST, type_boost=1.0)
    results = await pipeline.search(search, soon())
    assert results.type_use is TypeUse.BOOST
    boosts = {"Nikora": 0.8, "Nokira": 0.6}
    assert results.hits.type_boosts == pytest.approx([boosts[brand] for brand in brands(results.hits.rows)])
    assert results.prediction.types[0][1] == boosts[brands(results.hits.rows)[0]]


class CheapFirst(Student):
    """Likes cheap products, and remembers for which query it scored which."""

    def __init__(self) -> None:
        self.scored: dict[str, list[int]] = {}

    def score(self, inputs: Sequence[StudentInput]) -> list[StudentOutput | ScoringFailed]:
        outputs: list[StudentOutput | ScoringFailed] = []
        for one in inputs:
            rows = one.candidates.rows.tolist()
            self.scored[one.subject.query.text] = rows
            assert isinstance(one.subject.query, EncodedQuery)
            np.testing.assert_allclose(one.query, one.subject.query.vector)
            chances = np.array([[1 / (PRODUCTS[row].price_minor or 1)] * 3 for row in rows], np.float32).reshape(-1, 3)
            outputs.append(StudentOutput(chances, chances))
        return outputs

    def detail(self, output: StudentOutput, weights: Weights, *, explains: bool) -> ScoredCandidates:  # noqa: ARG002
        known = output.features >= 0
        return ScoredCandidates(
            chances=output.chances, features=output.features, is_known=known, contributions=output.features
        )


class Costs:
    """100 tokens for every pair."""

    def of(self, _: str, candidates: GivenCandidates) -> Ints:
        return np.full(len(candidates), 100)


@pytest.mark.parametrize("model", [RankModel.STUDENT, RankModel.TEACHER])
async def test_ranked_readings_take_turns_and_each_product_is_scored_for_the_query_that_found_it(
    bundle: Bundle, make_pipeline: MakePipeline, encoder: Encoder, model: RankModel
) -> None:
    student = CheapFirst()
    scoring = Retriever(open_search(Catalogue.open(bundle), threads=1), student=student)

    def retrieve(item: RetrieverItem) -> RetrieverResult:
        (result,) = scoring.compute([item])
        assert not isinstance(result, Exception)
        return result

    def read(chunk: Chunk) -> Floats:
        """The teacher likes what is dear."""
        return np.array([[PRODUCTS[row].price_minor or 0] * 3 for row in chunk.candidates.rows.tolist()], np.float32)

    chunks: FakeStage[Chunk, Floats] = FakeStage(read)
    pipeline = make_pipeline(encoder, FakeStage(retrieve), teacher=TeacherStage(chunks, Costs(), 6))
    ranking = Ranking(model=model, depth=10)
    results = await pipeline.search(Search(query=TYPED, page_size=10, ranking=ranking, explain=True), soon())
    assert (results.ranked_by, results.ranked_depth, results.degradations) == (model, 10, ())
    assert results.hits.readings == [1, 2] * 5
    for number, query in results.searched_queries.items():
        own = [row for row, reading in zip(results.hits.rows, results.hits.readings, strict=True) if reading == number]
        assert set(brands(own)) == {query.split()[0].capitalize()}
        cheap_first = sorted(own, key=lambda row: PRODUCTS[row].price_minor or 0)
        first = 3 if model is RankModel.TEACHER else 0  # of each reading, what the teacher has read
        assert own == [*reversed(cheap_first[:first]), *cheap_first[first:]]
        assert set(student.scored[query]) <= set(own)  # the last call was that of the explanation
    assert set(results.factors) == set(results.hits.rows)
    if model is RankModel.TEACHER:
        assert {chunk.query for chunk in chunks.items} == set(results.searched_queries.values())
