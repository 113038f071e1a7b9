"""A search asks its stages side by side, and never fails for want of what it can do without."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import EncoderSpec, Text
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.query_typer import TypeQuestion
from serving.compute.retriever import Retrieval, Retriever
from serving.errors import NotServed, Overloaded, Unavailable
from serving.search.pipeline import Search, SearchPipeline
from serving.search.type_use import TypeUse
from serving.stages.batcher import Batcher, Outcome

SOFAS = "Furniture > Sofas"


class FakeStage:
    """Answers with what `work` makes of each item, after a delay, or with an error."""

    def __init__(self, work: Any, delay_s: float = 0.0) -> None:
        self._work = work
        self.delay_s = delay_s
        self.error: Exception | None = None
        self.asked: list[Any] = []
        self.began: list[float] = []
        self.ended: list[float] = []

        async def compute(items: list[Any]) -> list[Any]:
            return [work(item) for item in items]

        self.batcher: Batcher[Any, Any] = Batcher(compute, max_batch_cost=64, slots=lambda: 1, max_wait_s=1)

    async def __call__(self, item: Any, **_: object) -> Outcome[Any]:
        self.asked.append(item)
        self.began.append(time.monotonic())
        await asyncio.sleep(self.delay_s)
        self.ended.append(time.monotonic())
        if self.error:
            raise self.error
        return Outcome(self._work(item), 0.0, 1.0, 1)

    def replicas(self) -> int:
        return 1


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


def sure(question: TypeQuestion) -> tuple[TypePrediction, ...]:
    return tuple(TypePrediction(((SOFAS, 0.9),), False, locale) for _, locale in question.queries)


def unsure(question: TypeQuestion) -> tuple[TypePrediction, ...]:
    return tuple(TypePrediction(((SOFAS, 0.2),), True, locale) for _, locale in question.queries)


class Mender:
    """Finds something to mend in everything."""

    def needs_mending(self, _: str) -> bool:
        return True

    def mend(self, query: str) -> str:
        return f"{query}n"


def pipeline(
    bundle: Bundle, typer: FakeStage | None, encode_s: float = 0.0, speller: Mender | None = None
) -> SearchPipeline:
    retriever = Retriever(bundle, threads=1)
    vector = np.asarray(bundle.unit_vectors()[5], np.float32)  # of the lamp
    return SearchPipeline(
        FakeStage(lambda _: vector, encode_s),  # type: ignore[arg-type]
        FakeStage(lambda item: retriever.compute([item])[0]),  # type: ignore[arg-type]
        EncoderSpec(**bundle.manifest.encoder),
        speller or load_speller(bundle),  # type: ignore[arg-type]
        50,
        None,
        typer,  # type: ignore[arg-type]
        FilterMasks(bundle.products()),
        "en-US",
    )


def search(use: TypeUse, **fields: Any) -> Search:
    return Search("sofa", 6, locale="en-US", type_use=use, type_boost=1.0, **fields)


def soon() -> float:
    return time.monotonic() + 10


def categories(bundle: Bundle, rows: list[int]) -> list[str]:
    return FilterMasks(bundle.products()).categories(rows)


async def test_a_boost_lifts_products_of_the_type(bundle: Bundle) -> None:
    found = await pipeline(bundle, FakeStage(sure)).search(search(TypeUse.BOOST), soon())
    assert found.types.used is TypeUse.BOOST
    assert [name.startswith(SOFAS) for name in categories(bundle, found.candidates.rows)] == [True, True, *[False] * 4]
    assert found.candidates.type_boosts == [pytest.approx(0.9)] * 2 + [0.0] * 4


async def test_a_lost_classifier_costs_the_types_and_says_so(bundle: Bundle) -> None:
    typer = FakeStage(sure)
    plain = await pipeline(bundle, typer).search(search(TypeUse.OFF), soon())
    assert typer.asked == []
    for error in (Unavailable("gone"), Overloaded(0.1)):
        typer.error = error
        found = await pipeline(bundle, typer).search(search(TypeUse.FILTER), soon())
        assert found.candidates.rows == plain.candidates.rows
        assert found.types.used is TypeUse.OFF
        assert "types stage failed" in found.types.failed


async def test_the_classifier_and_the_encoder_work_side_by_side(bundle: Bundle) -> None:
    typer = FakeStage(sure, 0.02)
    asked = pipeline(bundle, typer, 0.02)
    found = await asked.search(search(TypeUse.BOOST), soon())
    assert found.types.used is TypeUse.BOOST
    encoder: Any = asked.encoder
    assert max(typer.began[0], encoder.began[0]) < min(typer.ended[0], encoder.ended[0])


async def test_an_unsure_classifier_changes_nothing(bundle: Bundle) -> None:
    plain = await pipeline(bundle, FakeStage(unsure)).search(search(TypeUse.OFF), soon())
    for use in (TypeUse.FACETS, TypeUse.BOOST, TypeUse.FILTER):
        found = await pipeline(bundle, FakeStage(unsure)).search(search(use), soon())
        assert found.candidates == plain.candidates
        assert (found.types.used, found.types.facets) == (TypeUse.FACETS, ())


async def test_a_filter_that_leaves_nothing_is_taken_back(bundle: Bundle) -> None:
    lamps = ProductFilter(brands=("Glanz",))
    found = await pipeline(bundle, FakeStage(sure)).search(search(TypeUse.FILTER, filter=lamps), soon())
    assert found.types.used is TypeUse.FACETS
    assert categories(bundle, found.candidates.rows) == ["Furniture Care"]


async def test_a_failed_encoder_ends_the_search_and_what_goes_on_beside_it(bundle: Bundle) -> None:
    typer = FakeStage(sure, 5.0)
    asked = pipeline(bundle, typer)
    asked.encoder.error = Unavailable("gone")  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="gone"):
        await asked.search(search(TypeUse.BOOST), soon())
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_other_languages_are_not_mended_with_the_words_of_the_catalogue(bundle: Bundle) -> None:
    asked = pipeline(bundle, None, speller=Mender())
    for locale, searched in (("en-US", "hosen"), ("en-GB", "hosen"), ("", "hosen"), ("de-DE", "hose")):
        await asked.search(Search("hose", 3, locale=locale), soon())
        (text,) = asked.encoder.asked[-1:]  # type: ignore[attr-defined]
        assert isinstance(text, Text)
        assert text.text == searched


async def test_classify_without_a_classifier_is_not_served(bundle: Bundle) -> None:
    with pytest.raises(NotServed):
        await pipeline(bundle, None).classify(TypeQuestion((("sofa", "en-US"),)), soon())


async def test_without_types_one_retrieval_is_asked(bundle: Bundle) -> None:
    asked = pipeline(bundle, None)
    await asked.search(search(TypeUse.OFF), soon())
    (retrieval,) = asked.retriever.asked  # type: ignore[attr-defined]
    assert isinstance(retrieval, Retrieval)
