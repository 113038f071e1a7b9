"""A mask is the contract of a filter, applied to each product."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.products.attributes.collector import AttributeCollector
from models.products.attributes.columns import AttributeColumns
from models.products.attributes.spec import AttributeSpec, AttributeType
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from serving.compute.filter_masks import MAX_CACHED_MASKS, NO_FILTER, AttributeClause, FilterMasks, ProductFilter

BRANDS = ("Halden", "HALDEN", "halden", "Nord", "Straße", "STRASSE", "")
TAGS = ("red", "Red", "soft")
STEPS = ("Furniture", "furniture", "Furniture Care", "Sofas", "")


def passes_clause(product: Product, clause: AttributeClause) -> bool:
    """The contract of `AttributeFilter`, for the attributes of `products` below."""
    if clause.name == "tags":
        tags = {tag.casefold() for tag in product.lists.get("tags", ())}
        return bool(tags & {keyword.casefold() for keyword in clause.keywords})
    size = product.attributes.get("size")
    low, high = (-np.inf if clause.low is None else clause.low), (np.inf if clause.high is None else clause.high)
    return size is not None and low <= float(size) <= high


def passes(product: Product, product_filter: ProductFilter) -> bool:
    """The contract of `ProductFilter` in the proto, word by word."""
    paths = [[step.casefold() for step in path.split(" > ")] for path in (product.category, *product.other_categories)]
    asked = [[step.casefold() for step in category.split(" > ")] for category in product_filter.categories]
    price = product.price_minor
    return (
        (not product_filter.brands or product.brand.casefold() in {brand.casefold() for brand in product_filter.brands})
        and (not asked or any(path[: len(steps)] == steps for steps in asked for path in paths))
        and (product_filter.min_price_minor is None or (price is not None and price >= product_filter.min_price_minor))
        and (product_filter.max_price_minor is None or (price is not None and price <= product_filter.max_price_minor))
        and (product.in_stock or not product_filter.in_stock_only)
        and all(passes_clause(product, clause) for clause in product_filter.attributes)
    )


prices = st.none() | st.integers(0, 5)
paths = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map(" > ".join)
products = st.builds(
    lambda tags, size, **fields: Product(
        "id",
        "T",
        **fields,
        attributes=({"tags": ", ".join(tags)} if tags else {}) | ({"size": size} if size else {}),
        lists={"tags": tuple(tags)} if tags else {},
    ),
    brand=st.sampled_from(BRANDS),
    category=paths,
    price_minor=prices,
    in_stock=st.booleans(),
    other_categories=st.just(()) | st.lists(paths.filter(bool), max_size=2).map(tuple),
    tags=st.lists(st.sampled_from(TAGS), max_size=2),
    size=st.sampled_from(["", "1.5", "2", "-3"]),
)
sizes = st.none() | st.sampled_from([-3.0, 0.0, 1.5, 2.0])
clauses = st.builds(
    lambda keywords, low, high: (
        ((AttributeClause("tags", keywords=tuple(keywords)),) if keywords else ())
        + ((AttributeClause("size", low=low, high=high),) if low is not None or high is not None else ())
    ),
    st.lists(st.sampled_from((*TAGS, "unknown")), max_size=2),
    sizes,
    sizes,
)
filters = st.builds(
    ProductFilter,
    brands=st.lists(st.sampled_from((*BRANDS, "unknown")), max_size=2).map(tuple),
    categories=st.lists(paths, max_size=2).map(tuple),
    min_price_minor=prices,
    max_price_minor=prices,
    in_stock_only=st.booleans(),
    attributes=clauses,
)


def masks_of(folder: Path, rows: Sequence[Product]) -> FilterMasks:
    collector = AttributeCollector(
        (AttributeSpec("tags", AttributeType.KEYWORDS), AttributeSpec("size", AttributeType.NUMBER))
    )
    for product in rows:
        collector.add(product)
    collector.save(folder / "attributes")
    return FilterMasks(table_of(folder, rows), AttributeColumns.load(folder / "attributes", len(rows)))


def table_of(folder: Path, rows: Sequence[Product]) -> ProductTable:
    write_products(folder / "products.arrow", rows, ())
    return ProductTable(folder / "products.arrow")


@settings(max_examples=100)
@given(rows=st.lists(products, min_size=1, max_size=12), filters_=st.lists(filters, min_size=1, max_size=4))
def test_a_mask_is_the_contract_applied_to_each_product(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Product], filters_: list[ProductFilter]
) -> None:
    masks = masks_of(tmp_path_factory.mktemp("x"), rows)
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


def test_every_prefix_of_every_path_is_a_value_of_the_category(tmp_path: Path) -> None:
    rows = [
        Product("1", "T", category="A > B", other_categories=("A > C", "a > b")),
        Product("2", "T", category="A > B"),
        Product("3", "T"),
    ]
    masks = FilterMasks(table_of(tmp_path, rows))
    column = masks.column("category")
    assert column is not None
    counts = {column.value(number): count for number, count in enumerate(column.counts().tolist())}
    assert counts == {"A": 2, "A > B": 2, "A > C": 1}
    assert masks.type_boosts([("A > C", 0.5), ("A > B", 0.2)], np.array([0, 1, 2])).tolist() == [0.5, 0.2, 0.0]
    assert masks.rows_of_category("a > c").tolist() == [0]


def test_a_filter_without_a_field_keeps_the_others() -> None:
    clauses = (AttributeClause("size", low=1.0), AttributeClause("tags", ("red",)))
    full = ProductFilter(("Nord",), ("A",), 1, 2, True, clauses)
    assert full.without("brand") == ProductFilter((), ("A",), 1, 2, True, clauses)
    assert full.without("category") == ProductFilter(("Nord",), (), 1, 2, True, clauses)
    assert full.without("price") == ProductFilter(("Nord",), ("A",), None, None, True, clauses)
    assert full.without("size") == ProductFilter(("Nord",), ("A",), 1, 2, True, clauses[1:])
    assert full.without("other") == full
