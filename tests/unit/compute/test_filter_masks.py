"""A mask is the contract of a filter, applied to each product."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from serving.compute.filter_masks import MAX_CACHED_MASKS, NO_FILTER, FilterMasks, ProductFilter

BRANDS = ("Halden", "HALDEN", "halden", "Nord", "Straße", "STRASSE", "")
STEPS = ("Furniture", "furniture", "Furniture Care", "Sofas", "")


def passes(product: Product, product_filter: ProductFilter) -> bool:
    """The contract of `ProductFilter` in the proto, word by word."""
    path = [step.casefold() for step in product.category.split(" > ")]
    asked = [[step.casefold() for step in category.split(" > ")] for category in product_filter.categories]
    price = product.price_minor
    return (
        (not product_filter.brands or product.brand.casefold() in {brand.casefold() for brand in product_filter.brands})
        and (not asked or any(path[: len(steps)] == steps for steps in asked))
        and (product_filter.min_price_minor is None or (price is not None and price >= product_filter.min_price_minor))
        and (product_filter.max_price_minor is None or (price is not None and price <= product_filter.max_price_minor))
        and (product.in_stock or not product_filter.in_stock_only)
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
@given(rows=st.lists(products, min_size=1, max_size=12), filters_=st.lists(filters, min_size=1, max_size=4))
def test_a_mask_is_the_contract_applied_to_each_product(
    tmp_path: Path, rows: list[Product], filters_: list[ProductFilter]
) -> None:
    masks = FilterMasks(table_of(tmp_path, rows))
    for one in (*filters_, *filters_):  # computed, then cached
        mask = masks.mask(one)
        expected = [passes(product, one) for product in rows]
        assert (mask.tolist() if mask is not None else [True] * len(rows)) == expected


@pytest.fixture
def masks(tmp_path: Path, shop: list[Product]) -> FilterMasks:
    return FilterMasks(table_of(tmp_path, shop))


@pytest.mark.parametrize(
    ("product_filter", "rows"),
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
def test_filters_of_the_shop(masks: FilterMasks, product_filter: ProductFilter, rows: list[int]) -> None:
    mask = masks.mask(product_filter)
    assert mask is not None
    assert np.flatnonzero(mask).tolist() == rows


def test_the_empty_filter_needs_no_mask_and_old_masks_are_let_go(masks: FilterMasks) -> None:
    assert masks.mask(NO_FILTER) is None
    first = masks.mask(ProductFilter(min_price_minor=0))
    assert masks.mask(ProductFilter(min_price_minor=0)) is first
    for price in range(1, MAX_CACHED_MASKS + 1):
        masks.mask(ProductFilter(min_price_minor=price))
    assert masks.mask(ProductFilter(min_price_minor=0)) is not first


def test_masks_tell_what_the_catalogue_holds(masks: FilterMasks) -> None:
    assert masks.holds("brand", "hALDEN")
    assert not masks.holds("brand", "Hald")
    assert masks.holds("category", "furniture > SOFAS")
    assert not masks.holds("category", "Sofas")
