"""Filters hold in searches, identifiers come first, and the order is the same every time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.arrays import Progress
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import VECTORS, Bundle
from models.bundles.manifest import Manifest
from models.bundles.source import Source
from models.bundles.work_folder import WorkFolder
from models.products.product import Product
from models.products.product_table import ProductTable
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.embed_products import TextEmbedding
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.catalogue.open_catalogue import Catalogue
from serving.catalogue.stages import load_retriever, open_retriever
from serving.compute.filter_masks import NO_FILTER, ProductFilter
from serving.compute.retrieval import Candidates, EncodedQuery, Retrieved, SearchItem, Subject
from serving.compute.retriever import Retriever


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


def item(vector: np.ndarray, query: str = "", **fields: Any) -> SearchItem:
    return SearchItem(subject=Subject(query=EncodedQuery(query, vector=vector)), **fields)


def retrieve(retriever: Retriever, item: SearchItem) -> Candidates:
    (result,) = retriever.compute([item])
    assert isinstance(result, Retrieved)
    return result.candidates


@pytest.fixture(scope="module")
def ask(bundle: Bundle) -> Callable[..., Candidates]:
    encoder, retriever = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu"), load_retriever(bundle.folder, "cpu")

    def ask(query: str, k: int = 6, wanted: ProductFilter = NO_FILTER, lexical_weight: float = 1.0) -> Candidates:
        vector = encoder.encode([Text(query)])[0]
        return retrieve(retriever, item(vector, query, k=k, filter=wanted, lexical_weight=lexical_weight))

    return ask


Ask = Callable[..., Candidates]


def test_candidates_are_the_nearest_best_first(ask: Ask, bundle: Bundle) -> None:
    found = ask("a velvet sofa", lexical_weight=0)
    exact = (
        np.asarray(bundle.vectors(), np.float32)
        @ TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu").encode([Text("a velvet sofa")])[0]
    )
    assert found.rows == np.argsort(-exact).tolist()
    assert found.scores == pytest.approx(exact[found.rows].tolist(), abs=1e-3)
    assert found.scores == found.similarities
    assert ask("a velvet sofa", 2, lexical_weight=0).rows == found.rows[:2]
    assert found.vector_ranks == [1, 2, 3, 4, 5, 6]
    assert found.lexical_ranks == [0] * 6


def test_words_add_to_the_similarity_of_the_products_that_hold_them(ask: Ask, bundle: Bundle) -> None:
    found, without = ask("velvet lamp"), ask("velvet lamp", lexical_weight=0)
    titles = [bundle.products().string("title", row).casefold() for row in found.rows]
    holds = ["velvet" in title or "lamp" in title for title in titles]
    assert holds == sorted(holds, reverse=True)
    assert any(holds)
    for at, row in enumerate(found.rows):
        assert (found.coverages[at] > 0) == (found.lexical_ranks[at] > 0) or not holds[at]
        assert found.scores[at] == pytest.approx(found.similarities[at] + found.lexical_boosts[at], abs=1e-6)
        assert found.similarities[at] == pytest.approx(without.similarities[without.rows.index(row)], abs=1e-6)
    half = ask("velvet lamp", lexical_weight=0.5)
    assert half.lexical_boosts[0] == pytest.approx(found.lexical_boosts[found.rows.index(half.rows[0])] / 2, abs=1e-6)


def test_excluded_words_are_in_no_hit(ask: Ask, bundle: Bundle) -> None:
    found = ask("sofa", wanted=ProductFilter(excluded_words=("velvet",)))
    assert found.rows
    assert all("velvet" not in bundle.products().string("title", row).casefold() for row in found.rows)


def test_a_product_with_the_querys_identifier_comes_first(ask: Ask) -> None:
    found = ask("hx4210 velvet")
    assert found.rows[0] == 2
    assert found.matched == {2: ["hx4210"]}
    assert found.identifier_boosts[0] == pytest.approx(0.6)
    assert found.scores[0] == pytest.approx(found.similarities[0] + found.lexical_boosts[0] + 0.6)
    assert found.identifier_boosts[1:] == [0.0] * 5


def test_two_identifiers_of_one_product_add_up(ask: Ask) -> None:
    found = ask("A-1003 HX-4210")
    assert found.matched == {2: ["A-1003", "HX-4210"]}
    assert found.identifier_boosts[0] == pytest.approx(1.2)


def test_an_identifier_does_not_get_past_a_filter(ask: Ask) -> None:
    assert ask("HX-4210", wanted=ProductFilter(brands=("Nord",))).rows[0] == 2
    found = ask("HX-4210", wanted=ProductFilter(brands=("Halden",)))
    assert sorted(found.rows) == [0, 1]
    assert found.matched == {}


def test_a_filter_that_nothing_passes_finds_nothing(ask: Ask) -> None:
    for query in ("sofa", "HX-4210"):
        assert ask(query, wanted=ProductFilter(brands=("nobody",))).rows == []


def test_queries_of_one_batch_do_not_mix(bundle: Bundle) -> None:
    encoder, retriever = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu"), load_retriever(bundle.folder, "cpu")
    queries = ["velvet sofa", "lamp", "HX-4210", "polish", "café"]
    wanted = [NO_FILTER, ProductFilter(in_stock_only=True), NO_FILTER, ProductFilter(brands=("nord",)), NO_FILTER]
    vectors = encoder.encode([Text(query) for query in queries])
    items = [
        item(vector, query, k=1 + n, filter=filter_)
        for n, (vector, filter_, query) in enumerate(zip(vectors, wanted, queries, strict=True))
    ]
    together = retriever.compute(items)
    for alone, result in zip(items, together, strict=True):
        assert isinstance(result, Retrieved)
        assert retrieve(retriever, alone) == result.candidates


@pytest.fixture(scope="module")
def twins(build_tiny: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """300 products with the same text, so the same vector, as shops list the sizes of one shoe."""
    folder = tmp_path_factory.mktemp("twins") / "bundle"
    build_tiny(folder, [Product(f"id-{n:04}", "Velvet Sofa") for n in range(300)])
    return load_retriever(folder, "cpu")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "id-0007",
    ],
    ids=["similar only", "with an identifier"],
)
def test_equal_scores_keep_one_order_from_page_to_page(twins: Retriever, query: str) -> None:
    vector = np.asarray(twins._search._nearest._vectors.base[0], np.float32)
    pages = [retrieve(twins, item(vector, query, k=k)) for k in (10, 24, 33, 90, 300)]
    for shorter, longer in itertools.pairwise(pages):
        assert longer.rows[: len(shorter.rows)] == shorter.rows
    assert sorted(pages[-1].rows) == list(range(300))


FEATURES = np.array([[0.5, 1], [1, 0], [0, 0], [0.25, 0], [0.75, 1], [0, 0.5]], np.float16)  # of the shop's products


class FeaturedEmbedding(TextEmbedding):
    """The text encoder's vectors with two features behind them."""

    boosts = ("popularity", "new")

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        stated = super().embed(table, work, progress)
        vectors = np.load(work.folder / VECTORS)
        np.save(work.folder / VECTORS, np.concatenate([vectors, FEATURES, np.zeros((6, 14), np.float16)], axis=1))
        return stated


@pytest.fixture(scope="module")
def featured(
    make_source: Callable[..., Source],
    exported_encoder: Path,
    shop: list[Product],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    folder = tmp_path_factory.mktemp("featured") / "bundle"
    embedding = FeaturedEmbedding(str(exported_encoder), ("care",))
    build_bundle(make_source(shop), Recipe(name="shop"), folder, lambda *_: None, embedding=embedding)
    return Bundle(folder)


def test_a_bundle_with_features_says_so_and_is_as_wide(featured: Bundle) -> None:
    featured.verify()
    assert (featured.manifest.boosts, featured.manifest.dim) == (("popularity", "new"), 32)
    assert (featured.vectors().shape, featured.unit_vectors().shape) == ((6, 48), (6, 32))
    np.testing.assert_allclose(np.linalg.norm(featured.unit_vectors().astype(np.float32), axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("query", ["velvet sofa", "hx4210 velvet"], ids=["similar only", "with an identifier"])
def test_weights_add_features_to_the_score_and_leave_the_similarity(featured: Bundle, ask: Ask, query: str) -> None:
    vector = TextEncoder(TEXT_ENCODER_PART.open(featured), "cpu").encode([Text(query)])[0]
    retriever, plain = load_retriever(featured.folder, "cpu"), ask(query)
    unweighed, zero, weighed = (
        retrieve(retriever, item(vector, query, k=6, boosts=weights)) for weights in ((), (0.0, 0.0), (0.5, -0.25))
    )
    assert unweighed == plain
    assert (zero.rows, zero.scores, zero.similarities) == (plain.rows, plain.scores, plain.similarities)
    similarity = dict(zip(plain.rows, plain.similarities, strict=True))
    identifier = dict(zip(plain.rows, plain.identifier_boosts, strict=True))
    lexical = dict(zip(plain.rows, plain.lexical_boosts, strict=True))
    added = FEATURES.astype(np.float32) * np.array([0.5, -0.25], np.float32)
    scores = {row: similarity[row] + identifier[row] + lexical[row] + float(added[row].sum()) for row in range(6)}
    assert weighed.rows == sorted(range(6), key=lambda row: -scores[row]) != plain.rows
    assert weighed.scores == pytest.approx([scores[row] for row in weighed.rows], abs=1e-5)
    assert weighed.similarities == pytest.approx([similarity[row] for row in weighed.rows], abs=1e-5)
    assert weighed.feature_boosts == [tuple(added[row].tolist()) for row in weighed.rows]
    assert weighed.identifier_boosts == [identifier[row] for row in weighed.rows]


def test_it_warms_up_between_changes(bundle: Bundle) -> None:
    """A stage in a process of its own follows the log before it warms up."""
    catalogue = Catalogue.open(bundle)
    warming = threading.Thread(target=open_retriever(catalogue).warm_up)
    with catalogue.live.lock:
        warming.start()
        warming.join(0.3)
        assert warming.is_alive()
    warming.join()
