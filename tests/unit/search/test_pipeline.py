"""A search calls its stages side by side, and does not fail if an optional one does."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pytest

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.products.spelling import Correction, Mending, Speller
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import Text
from serving.catalogue.stages import load_retriever
from serving.compute.facets import FacetQuestion, Scope
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.query_typer import TypeQuestion
from serving.compute.retrieval import EncodedQuery, Retrieved, SearchItem
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.compute.value_order import SortBy
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

    def may_need_mending(self, query: str, language: str) -> bool:  # noqa: ARG002
        return True

    def mend(self, query: str, language: str, spared: Sequence[tuple[int, int]] = ()) -> Mending:  # noqa: ARG002
        word = Correction(query, 0, len(query), (f"{query}n",), certain=True)
        return Mending(f"{query}n", (word,))


@pytest.fixture
def retriever(bundle: Bundle) -> RetrieverStage:
    retriever = load_retriever(bundle.folder, threads=1)

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
    return time.monotonic() + 300


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
    typer.gate.clear()
    lamp_encoder.gate.clear()
    searching = asyncio.ensure_future(pipeline.search(search(TypeUse.BOOST), soon()))
    while not (typer.items and lamp_encoder.items):  # noqa: ASYNC110 - neither is answered before both are asked
        await asyncio.sleep(0)
    typer.gate.set()
    lamp_encoder.gate.set()
    assert (await searching).type_use is TypeUse.BOOST


@pytest.mark.parametrize("use", [TypeUse.FACETS, TypeUse.BOOST, TypeUse.FILTER])
async def test_an_unsure_classifier_changes_nothing(pipeline: SearchPipeline, typer: Typer, use: TypeUse) -> None:
    typer.work = unsure
    plain = await pipeline.search(search(TypeUse.OFF), soon())
    results = await pipeline.search(search(use), soon())
    assert results.hits == plain.hits
    assert (results.type_use, results.type_facets) == (TypeUse.FACETS, ())


async def test_an_answer_without_a_shard_says_so(pipeline: SearchPipeline, retriever: RetrieverStage) -> None:
    whole = await pipeline.search(search(TypeUse.OFF), soon())
    assert (whole.coverage, whole.degradations, whole.total_is_exact) == (1, (), True)
    retrieve = retriever.work

    def without_a_shard(item: RetrieverItem) -> RetrieverResult:
        result = retrieve(item)
        assert isinstance(result, Retrieved)
        return dataclasses.replace(result, coverage=0.75, num_lost=1)

    retriever.work = without_a_shard
    results = await pipeline.search(search(TypeUse.OFF), soon())
    assert results.hits == whole.hits
    assert (results.coverage, results.total, results.total_is_exact) == (0.75, whole.total, False)
    (degradation,) = results.degradations
    assert degradation.part == "shards"
    assert "75.0% of the products were searched" in degradation.reason


async def test_facets_count_the_categories_of_the_hits(pipeline: SearchPipeline) -> None:
    results = await pipeline.search(search(TypeUse.FACETS), soon())
    assert dict(results.type_facets)["Furniture > Tables"] == 1
    assert sum(count for _, count in results.type_facets) == 5  # one product has no category


async def test_a_filter_by_types_that_leaves_nothing_is_taken_back(
    pipeline: SearchPipeline, masks: FilterMasks
) -> None:
    polish = ProductFilter(brands=("Glanz",))
    results = await pipeline.search(search(TypeUse.FILTER, filter=polish), soon())
    assert results.type_use is TypeUse.FACETS
    assert masks.categories(results.hits.rows) == ["Furniture Care"]
    assert results.type_facets == (("Furniture Care", 1),)


async def test_a_failed_encoder_ends_the_search_and_its_background_work(
    pipeline: SearchPipeline, lamp_encoder: Encoder, typer: Typer
) -> None:
    typer.gate.clear()
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


async def test_a_search_without_a_query_reads_none_and_returns_all_that_pass(
    make_pipeline: MakePipeline, retriever: RetrieverStage
) -> None:
    def read(_: Text) -> Floats:
        pytest.fail("a query was encoded")

    pipeline = make_pipeline(FakeStage(read), retriever)
    wanted = Search(query="", page_size=2, filter=ProductFilter(in_stock_only=True), sort=SortBy("price"))
    results = await pipeline.search(wanted, soon())
    assert results.hits.rows == [5, 4]
    assert (results.total, results.total_is_exact, results.has_more) == (5, True, True)
    second = await pipeline.search(dataclasses.replace(wanted, offset=4), soon())
    assert (second.hits.rows, second.has_more) == ([2], False)  # no price: last


async def test_a_query_with_facets_has_them_counted_over_its_best(pipeline: SearchPipeline) -> None:
    results = await pipeline.search(search(TypeUse.OFF, facets=(FacetQuestion("colour", 5),)), soon())
    (colours,) = results.facets
    assert dict(colours.values) == {"red": 1, "blue": 1, "grün": 1}
    assert (colours.scope, results.total, results.total_is_exact) == (Scope.BEST, 6, True)


@pytest.mark.parametrize(
    ("query", "applied", "reason"),
    [
        ("sofa under $500", True, ""),
        ("sofa under $1", False, "no product with a word of the query fulfils it"),
        ("sofa under 200 euro", False, "prices are in USD, not EUR"),
        ("sofa over $50 under $20", False, "the conditions contradict each other"),
    ],
)
async def test_a_price_in_the_query_filters_and_falls_away_where_it_leaves_nothing(
    make_pipeline: MakePipeline,
    lamp_encoder: Encoder,
    retriever: RetrieverStage,
    bundle: Bundle,
    query: str,
    applied: bool,
    reason: str,
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever)
    results = await pipeline.search(Search(query=query, page_size=10), soon())
    assert results.hits.rows
    (part, *_) = results.understood
    assert (part.reason == "", part.reason) == (applied, reason)
    prices = [bundle.products().price_minor(row) for row in results.hits.rows]
    if applied:
        assert all(price is not None and price < 50_000 for price in prices)
    else:
        assert len(results.hits.rows) == len(bundle.products())
    assert lamp_encoder.items[0].text == "sofa"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"filter": ProductFilter(brands=("Nord",), max_price_minor=1)}, "no product passes the whole filter"),
        ({"query": "", "filter": ProductFilter(brands=("nobody",))}, "no product passes the whole filter"),
        ({"min_similarity": 1.5}, "has a similarity of 1.5 or more"),
        ({"min_similarity": 1.5, "sort": SortBy("price")}, "has a similarity of 1.5 or more"),
        ({"min_similarity": 1.5, "filter": ProductFilter(brands=("nobody",))}, "no product passes the whole filter"),
        ({}, ""),
    ],
)
async def test_where_there_are_no_hits_the_answer_says_why(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage, fields: dict[str, Any], why: str
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever)
    results = await pipeline.search(Search(**({"query": "sofa", "page_size": 3} | fields)), soon())
    assert bool(results.notice) == (not results.hits.rows) == bool(why)
    assert why in results.notice


@pytest.mark.parametrize(
    ("query", "weight", "is_told"), [("sofa", 1.0, False), ("xylophone", 1.0, True), ("xylophone", 0.0, False)]
)
async def test_hits_that_hold_no_word_of_the_query_are_called_so(
    make_pipeline: MakePipeline,
    lamp_encoder: Encoder,
    retriever: RetrieverStage,
    query: str,
    weight: float,
    is_told: bool,
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever)
    results = await pipeline.search(Search(query=query, page_size=3, lexical_weight=weight), soon())
    assert results.hits.rows
    assert ("no product holds a word" in results.notice) == is_told


async def test_a_sorted_query_is_paged_to_its_end_with_each_product_once(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage, bundle: Bundle
) -> None:
    pipeline = make_pipeline(lamp_encoder, retriever)
    for query in ("sofa", "unheard sofa"):
        wanted = Search(query=query, page_size=1, sort=SortBy("price", descending=True))
        whole = await pipeline.search(dataclasses.replace(wanted, page_size=50), soon())
        assert (len(whole.hits.rows), whole.has_more) == (whole.total, False)
        paged: list[int] = []
        while len(paged) < whole.total:
            page = await pipeline.search(dataclasses.replace(wanted, offset=len(paged)), soon())
            paged += page.hits.rows
            assert page.has_more == (len(paged) < whole.total)
            assert page.total == whole.total
        assert paged == whole.hits.rows
        assert len(set(paged)) == len(paged) > 1
        prices = [bundle.products().price_minor(row) or -1 for row in paged]
        assert prices == sorted(prices, reverse=True)


async def test_pages_of_hits_that_are_similar_enough_miss_none(
    make_pipeline: MakePipeline, lamp_encoder: Encoder, retriever: RetrieverStage
) -> None:
    """Words move products of little similarity between the others."""
    pipeline = make_pipeline(lamp_encoder, retriever)
    everything = await pipeline.search(Search(query="velvet sofa table", page_size=10), soon())
    threshold = sorted(everything.hits.similarities)[2]
    above = [
        row
        for row, similarity in zip(everything.hits.rows, everything.hits.similarities, strict=True)
        if similarity >= threshold
    ]
    found: list[int] = []
    for offset in range(len(above)):
        search = Search(query="velvet sofa table", page_size=1, offset=offset, min_similarity=threshold)
        page = await pipeline.search(search, soon())
        found += page.hits.rows
        assert page.has_more == (offset < len(above) - 1)
    assert found == above
