"""Filters are exact, identifiers come first, and the order is the same every time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import Progress
from models.bundle_parts import verify_bundle
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import VECTORS, Bundle
from models.bundles.manifest import Manifest
from models.bundles.source import Source
from models.bundles.work_folder import WorkFolder
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.embed_products import TextEmbedding
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from serving.compute.filter_masks import MAX_CACHED_MASKS, NO_FILTER, FilterMasks, ProductFilter
from serving.compute.retriever import Candidates, Retrieval, Retriever

BRANDS = ("Halden", "HALDEN", "halden", "Nord", "Straße", "STRASSE", "")
STEPS = ("Furniture", "furniture", "Furniture Care", "Sofas", "")


def passes(product: Product, wanted: ProductFilter) -> bool:
    """The contract of `ProductFilter` in the proto, word by word."""
    path = [step.casefold() for step in product.category.split(" > ")]
    asked = [[step.casefold() for step in category.split(" > ")] for category in wanted.categories]
    price = product.price_minor
    return (
        (not wanted.brands or product.brand.casefold() in {brand.casefold() for brand in wanted.brands})
        and (not asked or any(path[: len(steps)] == steps for steps in asked))
        and (wanted.min_price_minor is None or (price is not None and price >= wanted.min_price_minor))
        and (wanted.max_price_minor is None or (price is not None and price <= wanted.max_price_minor))
        and (product.in_stock or not wanted.in_stock_only)
    )


prices = st.none() | st.integers(0, 5)
paths = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map(" > ".join)
products = st.builds(
    Product, st.just("id"), st.just("T"), st.sampled_from(BRANDS), paths, price_minor=prices, in_stock=st.booleans()
)
filters = st.builds(
    ProductFilter,
    brands=st.lists(st.sampled_from((*BRANDS, "unknown")), max_size=2).map(tuple),
    categories=st.lists(paths, max_size=2).map(tuple),
    min_price_minor=prices,
    max_price_minor=prices,
    in_stock_only=st.booleans(),
)


def table_of(folder: Path, rows: Sequence[Product]) -> ProductTable:
    write_products(folder / "products.arrow", rows, ())
    return ProductTable(folder / "products.arrow")


@settings(max_examples=100)
@given(rows=st.lists(products, min_size=1, max_size=12), wanted=st.lists(filters, min_size=1, max_size=4))
def test_a_mask_is_the_contract_applied_to_each_product(
    tmp_path: Path, rows: list[Product], wanted: list[ProductFilter]
) -> None:
    masks = FilterMasks(table_of(tmp_path, rows))
    for one in (*wanted, *wanted):  # made, then kept
        mask = masks.mask(one)
        expected = [passes(product, one) for product in rows]
        assert (mask.tolist() if mask is not None else [True] * len(rows)) == expected


@pytest.fixture
def masks(tmp_path: Path, shop: list[Product]) -> FilterMasks:
    return FilterMasks(table_of(tmp_path, shop))


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (ProductFilter(brands=("HALDEN",)), [0, 1]),
        (ProductFilter(brands=("nord", "glanz")), [2, 3, 4]),
        (ProductFilter(categories=("furniture",)), [0, 1, 2, 3]),
        (ProductFilter(categories=("Furniture > sofas",)), [0, 2]),
        (ProductFilter(categories=("Furn",)), []),
        (ProductFilter(categories=("Sofas",)), []),
        (ProductFilter(min_price_minor=9_900, max_price_minor=49_900), [0, 1, 3]),
        (ProductFilter(min_price_minor=0), [0, 1, 3, 4, 5]),
        (ProductFilter(max_price_minor=0), [5]),
        (ProductFilter(in_stock_only=True), [0, 2, 3, 4, 5]),
        (ProductFilter(brands=("Halden",), in_stock_only=True, max_price_minor=20_000), []),
    ],
)
def test_filters_of_the_shop(masks: FilterMasks, wanted: ProductFilter, rows: list[int]) -> None:
    mask = masks.mask(wanted)
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == rows


def test_the_empty_filter_needs_no_mask_and_old_masks_are_let_go(masks: FilterMasks) -> None:
    assert masks.mask(NO_FILTER) is None
    first = masks.mask(ProductFilter(min_price_minor=0))
    assert masks.mask(ProductFilter(min_price_minor=0)) is first
    for price in range(1, MAX_CACHED_MASKS + 1):
        masks.mask(ProductFilter(min_price_minor=price))
    assert masks.mask(ProductFilter(min_price_minor=0)) is not first


def test_it_knows_what_the_catalogue_holds(masks: FilterMasks) -> None:
    assert masks.knows("brand", "hALDEN")
    assert not masks.knows("brand", "Hald")
    assert masks.knows("category", "furniture > SOFAS")
    assert not masks.knows("category", "Sofas")


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


@pytest.fixture(scope="module")
def ask(bundle: Bundle) -> Callable[..., Candidates]:
    encoder, retriever = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu"), Retriever(bundle, "cpu")

    def ask(query: str, k: int = 6, wanted: ProductFilter = NO_FILTER) -> Candidates:
        (found,) = retriever.compute([Retrieval(encoder.encode([Text(query)])[0], k, wanted, query)])
        assert isinstance(found, Candidates)
        return found

    return ask


Ask = Callable[..., Candidates]


def test_candidates_are_the_nearest_best_first(ask: Ask, bundle: Bundle) -> None:
    found = ask("velvet sofa")
    exact = (
        np.asarray(bundle.vectors(), np.float32)
        @ TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu").encode([Text("velvet sofa")])[0]
    )
    assert found.rows == np.argsort(-exact).tolist()
    assert found.scores == pytest.approx(exact[found.rows].tolist(), abs=1e-3)
    assert found.scores == found.similarities
    assert ask("velvet sofa", 2).rows == found.rows[:2]


def test_a_product_with_the_querys_identifier_comes_first(ask: Ask) -> None:
    found = ask("hx4210 velvet")
    assert found.rows[0] == 2
    assert found.matched == {2: ["hx4210"]}
    assert found.identifier_boosts[0] == pytest.approx(0.6)
    assert found.scores[0] == pytest.approx(found.similarities[0] + 0.6)
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
    encoder, retriever = TextEncoder(TEXT_ENCODER_PART.open(bundle), "cpu"), Retriever(bundle, "cpu")
    queries = ["velvet sofa", "lamp", "HX-4210", "polish", "café"]
    wanted = [NO_FILTER, ProductFilter(in_stock_only=True), NO_FILTER, ProductFilter(brands=("nord",)), NO_FILTER]
    vectors = encoder.encode([Text(query) for query in queries])
    items = [
        Retrieval(vector, 1 + n, filter_, query)
        for n, (vector, filter_, query) in enumerate(zip(vectors, wanted, queries, strict=True))
    ]
    together = retriever.compute(items)
    for item, found in zip(items, together, strict=True):
        assert retriever.compute([item]) == [found]


@pytest.fixture(scope="module")
def twins(build_tiny: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    """300 products with the same text, so the same vector, as shops list the sizes of one shoe."""
    folder = tmp_path_factory.mktemp("twins") / "bundle"
    build_tiny(folder, [Product(f"id-{n:04}", "Velvet Sofa") for n in range(300)])
    return Retriever(Bundle(folder), "cpu")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "id-0007",
    ],
    ids=["similar only", "with an identifier"],
)
def test_equal_scores_keep_one_order_from_page_to_page(twins: Retriever, query: str) -> None:
    vector = np.asarray(twins._vectors[0], np.float32)
    pages = [twins.compute([Retrieval(vector, k, NO_FILTER, query)])[0] for k in (10, 24, 33, 90, 300)]
    for shorter, longer in itertools.pairwise(pages):
        assert isinstance(shorter, Candidates)
        assert isinstance(longer, Candidates)
        assert longer.rows[: len(shorter.rows)] == shorter.rows
    assert sorted(pages[-1].rows) == list(range(300))  # type: ignore[union-attr]


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
    verify_bundle(featured)
    assert (featured.manifest.boosts, featured.manifest.dim) == (("popularity", "new"), 32)
    assert (featured.vectors().shape, featured.unit_vectors().shape) == ((6, 48), (6, 32))
    np.testing.assert_allclose(np.linalg.norm(featured.unit_vectors().astype(np.float32), axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("query", ["velvet sofa", "hx4210 velvet"], ids=["similar only", "with an identifier"])
def test_weights_add_features_to_the_score_and_leave_the_similarity(featured: Bundle, ask: Ask, query: str) -> None:
    vector = TextEncoder(TEXT_ENCODER_PART.open(featured), "cpu").encode([Text(query)])[0]
    retriever, plain = Retriever(featured, "cpu"), ask(query)
    unweighed, zero, weighed = (
        retriever.compute([Retrieval(vector, 6, NO_FILTER, query, weights)])[0]
        for weights in ((), (0.0, 0.0), (0.5, -0.25))
    )
    assert unweighed == plain
    assert isinstance(zero, Candidates)
    assert isinstance(weighed, Candidates)
    assert (zero.rows, zero.scores, zero.similarities) == (plain.rows, plain.scores, plain.similarities)
    similarity = dict(zip(plain.rows, plain.similarities, strict=True))
    identifier = dict(zip(plain.rows, plain.identifier_boosts, strict=True))
    added = FEATURES.astype(np.float32) * np.array([0.5, -0.25], np.float32)
    scores = {row: similarity[row] + identifier[row] + float(added[row].sum()) for row in range(6)}
    assert weighed.rows == sorted(range(6), key=lambda row: -scores[row]) != plain.rows
    assert weighed.scores == pytest.approx([scores[row] for row in weighed.rows], abs=1e-5)
    assert weighed.similarities == pytest.approx([similarity[row] for row in weighed.rows], abs=1e-5)
    assert weighed.feature_boosts == [tuple(added[row].tolist()) for row in weighed.rows]
    assert weighed.identifier_boosts == [identifier[row] for row in weighed.rows]
