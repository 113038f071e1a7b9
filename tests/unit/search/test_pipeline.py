"""A search calls its stages side by side, and does not fail if an optional one does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.products.spelling import Speller
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import Text
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.query_typer import TypeQuestion
from serving.compute.retrieval import EncodedQuery, SearchItem
from serving.compute.retriever import Retriever, RetrieverItem, RetrieverResult
from serving.errors import DeadlineExceeded, NotServed, Overloaded, Unavailable
from serving.search.personaliser import Gain
from serving.search.pipeline import SearchPipeline
from serving.search.readers import TextReader
from serving.search.request import Caller, Search, TypeUse
from tests.fake_stage import FakeStage
from tests.unit.search.conftest import MakePipeline

SOFAS = "Furniture > Sofas"
Encoder = FakeStage[Text, Floats]
Typer = FakeStage[TypeQuestion, tuple[TypePrediction, ...]]
RetrieverStage = FakeStage[RetrieverItem, RetrieverResult]


def sure(question: TypeQuestion) -> tuple[TypePrediction, ...]:
    return tuple(TypePrediction(((SOFAS, 0.9),), False, locale) for _, locale in question.queries)


def unsure(question: TypeQuestion) -> tuple[TypePrediction, ...]:
    return tuple(TypePrediction(((SOFAS, 0.2),), True, locale) for _, locale in question.queries)


class Corrector(Speller):
    """Finds something to correct in every query."""

    def __init__(self) -> None:
        pass

    def needs_correction(self, query: str) -> bool:  # noqa: ARG002
        return True

    def correct(self, query: str) -> str:
        return f"{query}n"


@pytest.fixture
def retriever(bundle: Bundle) -> RetrieverStage:
    retriever = Retriever(bundle, threads=1)

    def retrieve(item: RetrieverItem) -> RetrieverResult:
        (result,) = retriever.compute([item])
        assert not isinstance(result, Exception)
        return result

    return FakeStage(retrieve)


@pytest.fixture
def typer() -> Typer:
    return FakeStage(sure)


@pytest.fixture
def pipeline(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage, typer: Typer
) -> SearchPipeline:
    return make_pipeline(lamp_encoder, retriever, typer=typer)


def search(use: TypeUse, **fields: Any) -> Search:
    return Search(query="sofa", page_size=6, locale="en-US", type_use=use, type_boost=1.0, **fields)


def soon() -> float:
    return time.monotonic() + 10


async def test_a_boost_raises_products_of_the_type(pipeline: SearchPipeline, masks: FilterMasks) -> None:
    results = await pipeline.search(search(TypeUse.BOOST), soon())
    assert results.type_use is TypeUse.BOOST
    are_sofas = [name.startswith(SOFAS) for name in masks.categories(results.hits.rows)]
    assert are_sofas == [True, True, *[False] * 4]
    assert results.hits.type_boosts == [pytest.approx(0.9)] * 2 + [0.0] * 4


@pytest.mark.parametrize("error", [Unavailable("gone"), Overloaded(0.1), RuntimeError("a bug")])
async def test_a_lost_classifier_costs_the_types_and_the_answer_says_so(
    pipeline: SearchPipeline, typer: Typer, error: Exception
) -> None:
    plain = await pipeline.search(search(TypeUse.OFF), soon())
    assert typer.items == []
    typer.error = error
    results = await pipeline.search(search(TypeUse.FILTER), soon())
    assert results.hits.rows == plain.hits.rows
    assert results.type_use is TypeUse.OFF
    (degradation,) = results.degradations
    assert degradation.part == "types"
    assert "types stage failed" in degradation.reason
    assert "a bug" not in degradation.reason  # for the log, not for the caller


async def test_the_classifier_and_the_encoder_work_side_by_side(
    pipeline: SearchPipeline, lamp_encoder: Encoder, typer: Typer
) -> None:
    typer.delay_s = lamp_encoder.delay_s = 0.02
    results = await pipeline.search(search(TypeUse.BOOST), soon())
    assert results.type_use is TypeUse.BOOST
    (first,), (second,) = typer.spans, lamp_encoder.spans
    assert max(first[0], second[0]) < min(first[1], second[1])


@pytest.mark.parametrize("use", [TypeUse.FACETS, TypeUse.BOOST, TypeUse.FILTER])
async def test_an_unsure_classifier_changes_nothing(pipeline: SearchPipeline, typer: Typer, use: TypeUse) -> None:
    typer.work = unsure
    plain = await pipeline.search(search(TypeUse.OFF), soon())
    results = await pipeline.search(search(use), soon())
    assert results.hits == plain.hits
    assert (results.type_use, results.facets) == (TypeUse.FACETS, ())


async def test_facets_count_the_categories_of_the_hits(pipeline: SearchPipeline) -> None:
    results = await pipeline.search(search(TypeUse.FACETS), soon())
    assert dict(results.facets)["Furniture > Tables"] == 1
    assert sum(count for _, count in results.facets) == 5  # one product has no category


async def test_a_filter_by_types_that_leaves_nothing_is_taken_back(
    pipeline: SearchPipeline, masks: FilterMasks
) -> None:
    polish = ProductFilter(brands=("Glanz",))
    results = await pipeline.search(search(TypeUse.FILTER, filter=polish), soon())
    assert results.type_use is TypeUse.FACETS
    assert masks.categories(results.hits.rows) == ["Furniture Care"]
    assert results.facets == (("Furniture Care", 1),)


async def test_a_failed_encoder_ends_the_search_and_its_background_work(
    pipeline: SearchPipeline, lamp_encoder: Encoder, typer: Typer
) -> None:
    typer.delay_s = 5.0
    lamp_encoder.error = Unavailable("gone")
    with pytest.raises(Unavailable, match="gone"):
        await pipeline.search(search(TypeUse.BOOST), soon())
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    ("locale", "searched"), [("en-US", "hosen"), ("en-GB", "hosen"), ("", "hosen"), ("de-DE", "hose")]
)
async def test_queries_in_other_languages_are_not_corrected_with_the_words_of_the_catalogue(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage, locale: str, searched: str
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever, speller=Corrector())
    results = await pipeline.search(Search(query="hose", page_size=3, locale=locale), soon())
    (text,) = lamp_encoder.items
    assert text.text == searched
    assert results.corrected_query == ("" if searched == "hose" else searched)


async def test_a_verbatim_search_is_not_corrected(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever, speller=Corrector())
    await pipeline.search(Search(query="hose", page_size=3, verbatim=True), soon())
    assert [text.text for text in lamp_encoder.items] == ["hose"]


async def test_what_the_bundle_lacks_is_not_served(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever)
    with pytest.raises(NotServed, match="classifier"):
        await pipeline.classify(TypeQuestion((("sofa", "en-US"),)), soon())
    with pytest.raises(NotServed, match="shopper model"):
        await pipeline.read_shopper(Caller(query="", shopper_id="s"), soon())


async def test_a_plain_search_makes_one_retrieval(pipeline: SearchPipeline, retriever: RetrieverStage) -> None:
    await pipeline.search(search(TypeUse.OFF), soon())
    (item,) = retriever.items
    assert isinstance(item, SearchItem)
    assert isinstance(item.subject.query, EncodedQuery)
    assert (item.k, item.depth, item.type_boosts) == (7, 0, ())


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), ValueError("a bug")])
async def test_an_explanation_that_fails_costs_the_search_nothing_else(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage, error: Exception
) -> None:
    class Unexplained(TextReader):
        async def explain(self, *_: object) -> dict[int, Gain]:
            raise error

    pipeline = make_pipeline(lamp_encoder, retriever, reader_type=Unexplained)
    results = await pipeline.search(search(TypeUse.OFF, explain=True), soon())
    assert len(results.hits.rows) == 6
    (degradation,) = results.degradations
    assert degradation.part == "shopper"
    assert "explanation" in degradation.reason
    assert "a bug" not in degradation.reason


async def test_texts_are_embedded_in_their_order(pipeline: SearchPipeline) -> None:
    vectors = await pipeline.embed([Text("a"), Text("b")], soon())
    assert vectors.shape == (2, 32)


async def test_a_pipeline_is_ready_when_its_stages_are(pipeline: SearchPipeline, typer: Typer) -> None:
    assert pipeline.is_ready()
    typer.num_replicas = 0
    assert not pipeline.is_ready()
