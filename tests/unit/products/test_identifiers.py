"""Model numbers and product ids match exactly, however they are written, and words are not taken for them."""

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
    ("text", "identifiers"),
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
def test_a_word_with_a_digit_and_four_characters_is_an_identifier(text: str, identifiers: dict[str, str]) -> None:
    assert identifiers_in(text) == identifiers


@pytest.mark.parametrize(
    ("query", "matches"),
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
def test_an_identifier_matches_without_case_and_punctuation_and_a_similar_one_does_not(
    index: IdentifierIndex, query: str, matches: list[list[int]]
) -> None:
    assert sorted(rows(index, query)) == matches


def test_the_fewer_products_contain_an_identifier_the_higher_its_boost() -> None:
    index = IdentifierIndex.build(
        Product(f"id{n:06}", f"Sofa {'ONE1 ' * (n == 0)}{'FEW2 ' * (n < SPECIFIC)}{'MANY3 ' * (n < 4 * SPECIFIC)}")
        for n in range(500)
    )
    matches = index.find("many3 few2 one1")
    assert [(match.identifier, len(match.rows)) for match in matches] == [("one1", 1), ("few2", 16), ("many3", 64)]
    assert [match.boost for match in matches] == pytest.approx([FULL_BOOST, FULL_BOOST, FULL_BOOST / 4])
    assert all(np.all(np.diff(match.rows) > 0) for match in matches)


def test_an_identifier_of_too_many_products_matches_nothing() -> None:
    index = IdentifierIndex.build(Product(f"id{n:06}", "Sofa 2024") for n in range(MAX_PRODUCTS + 1))
    assert index.find("2024") == []


def test_a_product_matches_once_if_its_id_and_title_contain_the_identifier() -> None:
    assert rows(IdentifierIndex.build([Product("HX-4210", "Sofa HX-4210 (HX4210)")]), "hx4210") == [[0]]


@pytest.mark.parametrize("products", [PRODUCTS, PRODUCTS[-1:]], ids=["some", "no identifier at all"])
def test_a_saved_index_matches_the_same_products(tmp_path: Path, products: list[Product]) -> None:
    built = IdentifierIndex.build(products)
    built.save(tmp_path)
    loaded = IdentifierIndex.load(tmp_path)
    for product in products:
        assert rows(loaded, product.id) == rows(built, product.id)


@given(st.text())
def test_no_query_raises(query: str) -> None:
    IdentifierIndex.build(PRODUCTS).find(query)
