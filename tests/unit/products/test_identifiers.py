"""Model numbers and product ids are found exactly, however they are written, and words are not taken for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.identifiers import FULL_BOOST, MAX_PRODUCTS, SPECIFIC, IdentifierIndex, identifiers_in
from models.products.product import Product

PRODUCTS = [
    Product("SKU-0001", "Sofa HX-4210"),
    Product("SKU-0002", "Sofa HX-4120"),
    Product("0815/47-11", "Drill GSR 18V-60"),
    Product("Ä-2000", "Regal №4711X"),
    Product("a b#c9999", "Odd id"),
    Product("plain", "Chair"),
]


@pytest.fixture(scope="module")
def index() -> IdentifierIndex:
    return IdentifierIndex.build(PRODUCTS)


def rows(index: IdentifierIndex, query: str) -> list[list[int]]:
    return [match.rows.tolist() for match in index.find(query)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("sofa HX-4210", {"hx4210": "HX-4210"}),
        ("(HX-4210),", {"hx4210": "HX-4210"}),
        ("hx4210 HX-4210", {"hx4210": "hx4210"}),
        ("0815/47-11", {"08154711": "0815/47-11"}),
        ("18V", {}),
        ("red velvet sofa", {}),
        ("a-b-c", {}),
        ("", {}),
    ],
)
def test_a_word_with_a_digit_and_four_characters_is_an_identifier(text: str, found: dict[str, str]) -> None:
    assert identifiers_in(text) == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("HX-4210", [[0]]),
        ("hx4210", [[0]]),
        ("Hx.4210 sofa", [[0]]),
        ("HX-4120", [[1]]),
        ("HX-4211", []),
        ("sku-0002", [[1]]),
        ("0815/47-11", [[2]]),
        ("081547-11", [[2]]),
        ("ä2000", [[3]]),
        ("c9999", [[4]]),
        ("plain", []),
        ("compare HX-4210 with HX-4120", [[0], [1]]),
    ],
)
def test_it_is_found_without_case_and_punctuation_and_no_neighbour_is(
    index: IdentifierIndex, query: str, found: list[list[int]]
) -> None:
    assert sorted(rows(index, query)) == found


def test_the_fewer_products_hold_it_the_more_it_says() -> None:
    index = IdentifierIndex.build(
        Product(f"id{n:06}", f"Sofa {'ONE1 ' * (n == 0)}{'FEW2 ' * (n < SPECIFIC)}{'MANY3 ' * (n < 4 * SPECIFIC)}")
        for n in range(500)
    )
    matches = index.find("many3 few2 one1")
    assert [(match.identifier, len(match.rows)) for match in matches] == [("one1", 1), ("few2", 16), ("many3", 64)]
    assert [match.boost for match in matches] == pytest.approx([FULL_BOOST, FULL_BOOST, FULL_BOOST / 4])
    assert all(np.all(np.diff(match.rows) > 0) for match in matches)


def test_what_many_products_hold_is_no_model_number() -> None:
    index = IdentifierIndex.build(Product(f"id{n:06}", "Sofa 2024") for n in range(MAX_PRODUCTS + 1))
    assert index.find("2024") == []


def test_one_product_counts_once_for_an_identifier_in_its_id_and_title() -> None:
    assert rows(IdentifierIndex.build([Product("HX-4210", "Sofa HX-4210 (HX4210)")]), "hx4210") == [[0]]


@pytest.mark.parametrize("products", [PRODUCTS, PRODUCTS[-1:]], ids=["some", "no identifier at all"])
def test_saved_and_mapped_it_finds_the_same(tmp_path: Path, products: list[Product]) -> None:
    built = IdentifierIndex.build(products)
    built.save(tmp_path)
    loaded = IdentifierIndex.load(tmp_path)
    for product in products:
        assert rows(loaded, product.id) == rows(built, product.id)


@given(st.text())
def test_no_query_breaks_it(query: str) -> None:
    IdentifierIndex.build(PRODUCTS).find(query)
