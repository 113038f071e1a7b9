"""A table returns what was written, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.product import MAX_PRICE_MINOR, Product
from models.products.product_table import BLOCK, ProductList, ProductTable, write_products

ATTRIBUTES = ("colour", "größe", "a.b", "title")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
products = st.builds(
    Product,
    id=texts,
    title=texts,
    brand=texts,
    category=texts,
    price_minor=st.none() | st.integers(0, MAX_PRICE_MINOR),
    in_stock=st.booleans(),
    attributes=st.dictionaries(st.sampled_from(ATTRIBUTES), texts.filter(bool)),
)


def written(path: Path, rows: Sequence[Product], attributes: Sequence[str] = ATTRIBUTES) -> ProductTable:
    assert write_products(path, rows, attributes) == len(rows)
    return ProductTable(path)


@settings(max_examples=60)
@given(rows=st.lists(products, min_size=1, max_size=8))
def test_every_field_of_every_row_is_what_was_written(tmp_path: Path, rows: list[Product]) -> None:
    table = written(tmp_path / "products.arrow", rows)
    assert list(table.products()) == rows
    for row, product in enumerate(rows):
        assert table.id(row) == product.id
        assert table.price_minor(row) == product.price_minor
        assert [table.string(name, row) for name in ("title", "brand", "category")] == [
            product.title,
            product.brand,
            product.category,
        ]
        for name in ATTRIBUTES:
            assert table.string(f"attributes.{name}", row) == product.attributes.get(name, "")


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_rows_around_the_end_of_a_block_are_read_right(tmp_path: Path, count: int) -> None:
    rows = [
        Product(f"id-{n}", "ü" * (n % 7), price_minor=n if n % 3 else None, in_stock=n % 2 == 0) for n in range(count)
    ]
    table = written(tmp_path / "products.arrow", rows, ())
    assert len(table) == count
    assert all(table.product(row) == rows[row] for row in range(count))
    assert list(table.products(BLOCK - 2, BLOCK - 1)) == rows[BLOCK - 2 : BLOCK - 1]
    assert table.has_price.tolist() == [n % 3 != 0 for n in range(count)]
    assert table.in_stock.tolist() == [n % 2 == 0 for n in range(count)]


def test_an_attribute_that_a_product_lacks_is_absent(tmp_path: Path) -> None:
    table = written(
        tmp_path / "products.arrow", [Product("1", "Sofa", attributes={"colour": "red"}), Product("2", "Lamp")]
    )
    assert table.product(0).attributes == {"colour": "red"}
    assert table.product(1).attributes == {}


def test_the_fields_of_a_table_are_its_columns(tmp_path: Path) -> None:
    table = written(tmp_path / "products.arrow", [Product("1", "Sofa")], ("colour",))
    assert table.fields == ("title", "brand", "category", "price_minor", "in_stock", "attributes.colour")


def test_attributes_that_are_not_named_are_not_written(tmp_path: Path) -> None:
    table = written(tmp_path / "products.arrow", [Product("1", "Sofa", attributes={"colour": "red", "x": "y"})], ("x",))
    assert table.product(0).attributes == {"x": "y"}


def test_rare_attributes_share_a_column(tmp_path: Path) -> None:
    rows = [
        Product(str(n), "T", attributes={"colour": "red", f"key {n}": f"größe {n}"} if n % 7 == 0 else {})
        for n in range(BLOCK + 20)
    ]
    write_products(tmp_path / "products.arrow", rows, ("colour",), keeps_rare=True)
    table = ProductTable(tmp_path / "products.arrow")
    assert table.attributes == ("colour", *(f"key {n}" for n in range(0, len(rows), 7)))
    for row in (0, 1, 7, BLOCK - 5, BLOCK + 10, BLOCK + 19):
        assert table.product(row) == rows[row]
        assert (
            table.string(f"attributes.key {row}", row) == rows[row].attributes.get(f"key {row}", "")
            if row % 7 == 0
            else True
        )
    assert table.strings("attributes.key 7", 6, 9) == ["", "größe 7", ""]
    assert table.lengths("attributes.key 7")[[6, 7]].tolist() == [0, len("größe 7".encode())]
    assert list(table.attributes_between(0, 9)) == [row.attributes for row in rows[:9]]
    with pytest.raises(KeyError):
        table.string("attributes.none", 0)


def test_several_categories_are_kept(tmp_path: Path) -> None:
    rows = [
        Product(str(n), "T", category="A", other_categories=("B > C", "D") if n % 3 == 1 else ())
        for n in range(BLOCK + 5)
    ]
    table = written(tmp_path / "products.arrow", rows, ())
    assert [table.other_categories(row) for row in (0, 1, BLOCK + 3)] == [
        rows[row].other_categories for row in (0, 1, BLOCK + 3)
    ]
    assert table.rows_in_several_categories().tolist() == [n for n in range(BLOCK + 5) if n % 3 == 1]
    assert table.product(1) == rows[1]


def test_an_empty_table_is_read(tmp_path: Path) -> None:
    table = written(tmp_path / "products.arrow", [])
    assert (len(table), list(table.products()), table.prices.size) == (0, [], 0)


@settings(max_examples=30)
@given(brands=st.lists(texts, min_size=1, max_size=20))
def test_distinct_values_and_codes_reproduce_the_column(tmp_path: Path, brands: list[str]) -> None:
    table = written(tmp_path / "products.arrow", [Product(str(n), "T", brand) for n, brand in enumerate(brands)])
    codes, values = table.distinct("brand")
    assert [values[code] for code in codes] == brands
    assert len(set(values)) == len(values)


def test_distinct_values_are_shared_by_all_blocks(tmp_path: Path) -> None:
    rows = [Product(str(n), "T", f"brand {n % 5}") for n in range(BLOCK + 10)]
    codes, values = written(tmp_path / "products.arrow", rows, ()).distinct("brand")
    assert len(values) == 5
    assert codes.dtype == np.int32
    assert [values[code] for code in codes[-10:]] == [row.brand for row in rows[-10:]]


@given(ids=st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=40), other=st.text(max_size=4))
def test_a_product_is_found_by_its_id(tmp_path: Path, ids: list[str], other: str) -> None:
    storable = [product_id for product_id in ids if product_id.isprintable()]
    write_products(tmp_path / "products.arrow", [Product(product_id, "x") for product_id in storable], ())
    table = ProductTable(tmp_path / "products.arrow")
    assert [table.row_of(product_id) for product_id in storable] == list(range(len(storable)))
    if other not in storable:
        assert table.row_of(other) is None
        assert table.product_of(other) is None
    for product_id in storable:
        found = table.product_of(product_id)
        assert found is not None
        assert found.id == product_id


@settings(max_examples=40)
@given(rows=st.lists(products, min_size=1, max_size=8))
def test_a_product_list_reads_as_a_table_does(tmp_path: Path, rows: list[Product]) -> None:
    table, loose = written(tmp_path / "products.arrow", rows), ProductList(rows)
    assert len(loose) == len(table)
    for field in ("id", "title", "brand", "category", *(f"attributes.{name}" for name in ATTRIBUTES)):
        read = [table.string(field, row) for row in range(len(rows))]
        assert [loose.string(field, row) for row in range(len(rows))] == read
        assert table.lengths(field).tolist() == [len(text.encode()) for text in read]
    assert [loose.product(row) for row in range(len(rows))] == rows
    assert table.lengths("attributes.none").tolist() == [0] * len(rows)


def added(start: int, *rows: Product) -> AddedProducts:
    return AddedProducts(start, rows, np.zeros((len(rows), 4), np.float16))


class TestChanges:
    """`tests/unit/compute/test_catalogue_changes.py` compares a table after random changes with one that is built of the living."""

    def test_appended_products_are_read_as_others_are(self, tmp_path: Path) -> None:
        first = Product("1", "Sofa", "Nord", "A", attributes={"colour": "red"})
        rest = [
            Product("2", "Lämp", "Nord", "B", 5, False, {"colour": "blue", "watts": "9", "empty": ""}, ("C > D",)),
            Product("1", "Couch", "Halden", "A"),
        ]
        table = written(tmp_path / "products.arrow", [first], ("colour",))
        assert table.row_of("1") == 0
        table.append(added(1, *rest))
        assert (len(table), table.num_alive, list(table.products(0, 1))) == (3, 3, [first])
        assert table.product(1).attributes == {"colour": "blue", "watts": "9"}
        assert [table.id(row) for row in range(3)] == ["1", "2", "1"]
        assert table.strings("title") == ["Sofa", "Lämp", "Couch"]
        assert table.strings("title", 1, 2) == ["Lämp"]
        assert table.strings("attributes.watts") == ["", "9", ""]
        assert table.lengths("title").tolist() == [4, 5, 5]
        assert table.fields[-2:] == ("attributes.colour", "attributes.watts")
        assert table.attributes == ("colour", "watts")
        assert list(table.attributes_between(0, 3)) == [{"colour": "red"}, {"colour": "blue", "watts": "9"}, {}]
        assert table.rows_in_several_categories().tolist() == [1]
        codes, brands = table.distinct("brand")
        assert [brands[code] for code in codes] == ["Nord", "Nord", "Halden"]
        with pytest.raises(KeyError):
            table.string("attributes.none", 0)
        with pytest.raises(ValueError, match="row 1 and on, but there are 3 rows"):
            table.append(added(1, first))

    def test_the_newest_living_row_is_found_and_removed_ones_can_be_read(self, tmp_path: Path) -> None:
        old, new = Product("1", "Old", category="A"), Product("1", "New", category="B")
        table = written(tmp_path / "products.arrow", [old, Product("2", "Other", category="C")], ())
        table.append(added(2, new))
        assert table.row_of("1") == 2
        table.remove(RemovedProducts(np.array([0]), [old]))
        assert (table.row_of("1"), table.product_of("1"), table.num_alive) == (2, new, 2)
        assert table.category_by_id() == {"1": "B", "2": "C"}
        table.remove(RemovedProducts(np.array([2, 1]), [new, table.product(1)]))
        assert (table.row_of("1"), table.row_of("2"), table.alive.tolist()) == (None, None, [False] * 3)
        assert [table.product(0), table.product(2)] == [old, new]

    def test_offers_change_in_place(self, tmp_path: Path) -> None:
        rows = [Product("1", "T", price_minor=5), Product("2", "T", price_minor=6)]
        table = written(tmp_path / "products.arrow", rows[:1], ())
        table.append(added(1, rows[1]))
        held = table.prices
        offers = [Product("1", "T", in_stock=False), Product("2", "T", price_minor=7)]
        table.change_offers(ChangedOffers(np.array([0, 1]), offers, np.zeros((2, 0), np.float16)))
        assert list(table.products()) == offers
        assert (table.prices.tolist(), table.has_price.tolist()) == ([0, 7], [False, True])
        assert len(held) == 2


def test_filled_cells_are_those_of_strings_that_are_not_empty(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rare = [f"r{n}" for n in range(40)]
    products = [
        Product(
            f"p{n}",
            "T",
            attributes={
                "plain": "x" * int(rng.integers(2)),
                **{name: f"{name} of {n}" for name in rare if rng.random() < 0.1},
            },
        )
        for n in range(BLOCK + 300)
    ]
    path = tmp_path / "products.arrow"
    write_products(path, products, ("plain",), keeps_rare=True)
    table = ProductTable(path)
    for field in ("title", "brand", *(f"attributes.{name}" for name in ("plain", *rare[:5]))):
        for start, stop in ((0, None), (5, 90), (BLOCK - 7, BLOCK + 9), (BLOCK + 3, BLOCK + 3)):
            texts = [table.string(field, row) for row in range(start, len(table) if stop is None else stop)]
            rows, filled = table.filled(field, start, stop)
            assert filled == [text for text in texts if text]
            assert rows.tolist() == [start + at for at, text in enumerate(texts) if text]
            assert table.strings(field, start, stop) == texts
