"""A pipeline of fake stages over the shop's bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from models.arrays import Floats
from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.products.spelling import Speller
from models.query_types.type_model import TypePrediction
from models.text_encoder.spec import EncoderSpec, Text
from serving.compute.filter_masks import FilterMasks
from serving.compute.query_typer import TypeQuestion
from serving.compute.retriever import RetrieverItem, RetrieverResult
from serving.search.page import Page
from serving.search.pipeline import SearchPipeline
from serving.search.product_vectors import TextProducts
from serving.search.query_text import Negations, QueryTexts
from serving.search.ranker import Ranker
from serving.search.readers import TextReader, TextStage
from serving.search.retrieve import Retrieve
from serving.search.teacher_stage import TeacherStage
from serving.search.understand import Understand
from tests.fake_stage import FakeStage

MAX_RESULTS = 50
Typer = FakeStage[TypeQuestion, tuple[TypePrediction, ...]]
RetrieverFake = FakeStage[RetrieverItem, Any]


class MakePipeline(Protocol):
    def __call__(
        self,
        encoder: FakeStage[Text, Floats],
        retriever: FakeStage[RetrieverItem, RetrieverResult],
        *,
        typer: Typer | None = None,
        speller: Speller | None = None,
        teacher: TeacherStage | None = None,
        reader_type: type[TextReader] = TextReader,
    ) -> SearchPipeline: ...


@pytest.fixture(scope="session")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture(scope="session")
def masks(bundle: Bundle) -> FilterMasks:
    return FilterMasks(bundle.products(), bundle.attributes())


@pytest.fixture
def make_pipeline(bundle: Bundle, masks: FilterMasks) -> MakePipeline:
    def make(
        encoder: FakeStage[Text, Floats],
        retriever: FakeStage[RetrieverItem, RetrieverResult],
        *,
        typer: Typer | None = None,
        speller: Speller | None = None,
        teacher: TeacherStage | None = None,
        reader_type: type[TextReader] = TextReader,
    ) -> SearchPipeline:
        texts = TextStage(encoder, EncoderSpec(**bundle.manifest.encoder))
        retrieve = Retrieve(retriever, MAX_RESULTS)
        reader = reader_type(texts, retrieve.expected_s)
        ranker = Ranker(retrieve, masks, teacher)
        lexical = bundle.lexical()
        assert lexical
        negations = Negations(bundle.products(), lexical)
        query_texts = QueryTexts(speller or load_speller(bundle), bundle.identifiers(), "en-US", "USD", negations)
        understand = Understand(reader, typer, query_texts)
        products = TextProducts(texts, bundle.manifest.text_attributes)
        page = Page(reader, ranker, masks, MAX_RESULTS)
        return SearchPipeline(texts, products, understand, retrieve, ranker, page)

    return make


@pytest.fixture
def lamp_encoder(bundle: Bundle) -> FakeStage[Text, Floats]:
    """Reads every query as the shop's lamp."""
    vector = np.asarray(bundle.unit_vectors()[5], np.float32)
    work: Callable[[Text], Floats] = lambda _: vector  # noqa: E731
    return FakeStage(work)
