"""Model numbers, GTINs, ids and titles match exactly, however they are written, and words and measures are not taken for them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.changes import AddedProducts, RemovedProducts
from models.products.identifiers import (
    FULL_BOOST,
    MAX_PRODUCTS,
    OWN_BOOST,
    SPECIFIC,
    IdentifierIndex,
    product_keys,
)
from models.products.measures import is_measure
from models.products.product import Product

PRODUCTS = [
    Product("SKU-0001", "Sofa HX-4210"),
    Product("SKU-0002", "Sofa HX-4120"),
    Product("0815/47-11", "Drill GSR 18V-60"),
    Product("Ä-2000", "Regal №4711X"),
    Product("a b#c9999", "Odd id"),
    Product("plain", "Chair"),
    Product("p6", "Toner", attributes={"mpn": "X1234/Y1234", "gtin": "012345678905"}),
    Product("p7", "Toner", attributes={"mpn": "X1234"}),
    Product("p8", "Camera DSC W830, silver", attributes={"gtin": "4006381333931|9780306406157"}),
    Product("p9", "Velvet Sofa 1000", attributes={"mpn": "Große Serie"}),
    Product("q10", "Case for HX-4210 or MG 5220", attributes={"mpn": "C3"}),
    Product("q11", "Printer", attributes={"mpn": "MG5220", "gtin": "96385074"}),
    Product("1000", "Bracket"),
    Product("q13", "Drive 500GB"),
]
COLUMNS = ("gtin", "mpn")
NO_VECTORS = np.zeros((0, 0), np.float16)
ICECAT = "icecat_products.parquet"


def full_width(text: str) -> str:
    """Returns ASCII in the wide forms that East Asian keyboards make."""
    return "".join("\u3000" if c == " " else chr(ord(c) + 0xFEE0) for c in text)


@pytest.fixture(scope="module")
def index() -> IdentifierIndex:
    return IdentifierIndex.build(PRODUCTS, COLUMNS)


def rows(index: IdentifierIndex, query: str) -> list[list[int]]:
    return [match.rows.tolist() for match in index.find(query)]


def first(index: IdentifierIndex, query: str) -> list[int]:
    """The products that the identifiers of a query raise most."""
    boosts: dict[int, float] = {}
    for match in index.find(query):
        for row, boost in zip(match.rows.tolist(), match.boosts.tolist(), strict=True):
            boosts[row] = boosts.get(row, 0.0) + boost
    return [row for row, boost in boosts.items() if boost == max(boosts.values())]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("HX-4120", [[1]]),
        ("HX-4211", []),
        ("hx4120", [[1]]),
        ("Hx.4120 sofa", [[1]]),
        ("(HX-4120),", [[1]]),
        ("sku-0002", [[1]]),
        ("0815/47-11", [[2]]),
        ("081547-11", [[2]]),
        ("ä2000", [[3]]),
        ("4711x", [[3]]),
        ("c9999", [[4]]),
        ("compare HX-4210 with HX-4120", [[1], [0, 10]]),
        ("red velvet sofa", []),
        ("", []),
        ("--- ///", []),
    ],
)
def test_an_identifier_matches_without_case_and_punctuation_and_a_similar_one_does_not(
    index: IdentifierIndex, query: str, matches: list[list[int]]
) -> None:
    assert rows(index, query) == matches


@pytest.mark.parametrize(
    "query",
    [
        "HX 4120",
        "hx 4120",
        "H X 4120",
        "HX 4 120",
        "buy HX 4120 cheap",
        "HX4-120",
        *(f"HX{dash}4120" for dash in "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"),
        "sofa HX\u20134120 blue",
        full_width("HX-4120"),
        full_width("hx4120 blue"),
        "HX-41\u00ad20",
        "HX\u200b-4120",
        "HX/4120",
        "HX_4120",
        "hx.4120",
    ],
)
def test_a_model_number_is_found_in_every_form(index: IdentifierIndex, query: str) -> None:
    assert rows(index, query) == [[1]]


@pytest.mark.parametrize("query", ["DSC-W830", "dscw830", "DSC W830", "dsc w830 camera"])
def test_a_prefix_in_capitals_belongs_to_the_number_behind_it(index: IdentifierIndex, query: str) -> None:
    assert rows(index, query) == [[8]]


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("012345678905", 6),  # as it stands
        ("0012345678905", 6),  # UPC as EAN-13
        ("00012345678905", 6),  # as GTIN-14
        ("12345678905", 6),  # without its leading zero
        ("0 12345 67890 5", 6),
        ("0-12345-67890-5", 6),
        ("toner 012345678905 black", 6),
        ("toner 0 12345 67890 5 black", 6),
        ("4006381333931", 8),
        ("04006381333931", 8),
        ("978-0-306-40615-7", 8),  # the second of the cell
        ("96385074", 11),
        ("00000096385074", 11),
    ],
)
def test_a_gtin_is_found_in_every_length(index: IdentifierIndex, query: str, row: int) -> None:
    assert rows(index, query) == [[row]]


def test_a_number_of_another_gtin_is_not_found(index: IdentifierIndex) -> None:
    assert [rows(index, query) for query in ("012345678906", "40063813339310", "381333931")] == [[], [], []]


def test_two_identifiers_in_one_word_are_two(index: IdentifierIndex) -> None:
    assert {row for match in index.find("X1234/Y1234") for row in match.rows.tolist()} == {6, 7}
    assert sorted(rows(index, "toner X1234/Y1234")) == [[6], [6, 7]]
    assert first(index, "X1234/Y1234") == [6]
    assert rows(index, "y1234") == [[6]]
    assert rows(index, "toner X1234Y1234") == [[6]]
    assert sorted(rows(index, "x1234+hx4120")) == [[1], [6, 7]]


@pytest.mark.parametrize(
    ("query", "row"), [("plain", 5), ("PLAIN", 5), ("c3", 10), ("C-3", 10), ("große serie", 9), ("GROSSE-SERIE", 9)]
)
def test_an_identifier_without_digits_or_a_short_one_is_found_if_the_query_is_just_that(
    index: IdentifierIndex, query: str, row: int
) -> None:
    assert rows(index, query) == [[row]]
    assert rows(index, f"{query} table") == []


@pytest.mark.parametrize("query", ["velvet sofa 1000", "sofa 1000 blue", "1000 blue velvet", "wardrobe 100 0"])
def test_a_bare_number_among_other_words_is_no_model_number(index: IdentifierIndex, query: str) -> None:
    assert 12 not in {row for match in index.find(query) for row in match.rows.tolist()}


def test_a_bare_number_alone_is_one(index: IdentifierIndex) -> None:
    assert first(index, "1000") == [12]


def test_a_measure_is_no_identifier(index: IdentifierIndex) -> None:
    assert [rows(index, query) for query in ("500gb", "500 GB disk", "blue drive 500GB")] == [[], [], []]
    assert all(map(is_measure, ["500gb", "1080p", "10x15cm", "1920x1080", "2000mm", "230v"]))
    assert not any(map(is_measure, ["504a", "hx4210", "gb500", "1000", "x230v", "500gbx", ""]))


def test_an_exact_title_comes_first(index: IdentifierIndex) -> None:
    assert first(index, "velvet sofa 1000") == [9]
    assert first(index, "case for hx-4210 or mg 5220") == [10]
    assert first(index, "Sofa HX-4210") == [0]
    assert first(index, "CHAIR") == [5]


def test_the_product_whose_own_number_it_is_comes_before_those_that_name_it(index: IdentifierIndex) -> None:
    (match,) = index.find("cartridge for MG5220")
    assert match.rows.tolist() == [10, 11]
    assert match.boosts.tolist() == pytest.approx([FULL_BOOST, FULL_BOOST + OWN_BOOST])
    assert (match.identifier, match.start, match.end) == ("MG5220", 14, 20)


def test_of_identifiers_that_overlap_the_longest_counts() -> None:
    index = IdentifierIndex.build([Product("HX-4210", "a"), Product("HX-4210-B", "b"), Product("HX-4210-BK", "c")])
    assert rows(index, "HX 4210 B sofa") == [[1]]
    assert rows(index, "HX 4210 black sofa") == [[0]]


def test_one_of_similar_numbers_is_found() -> None:
    index = IdentifierIndex.build(Product(f"CHAIX-{n}", "Chair") for n in (2001, 2002, 2003))
    for query in ("chaix2003", "CHAIX 2003", "lounge chaix 2003", "Chaix\u20132003"):
        assert rows(index, query) == [[2]], query


def test_the_fewer_products_contain_an_identifier_the_higher_its_boost() -> None:
    index = IdentifierIndex.build(
        Product(f"id{n:06}", f"Sofa {n} {'ONE1 ' * (n == 0)}{'FEW2 ' * (n < SPECIFIC)}{'MANY3 ' * (n < 4 * SPECIFIC)}")
        for n in range(500)
    )
    matches = index.find("many3 few2 one1")
    assert [(match.identifier, len(match.rows)) for match in matches] == [("one1", 1), ("few2", 16), ("many3", 64)]
    assert [match.boosts[0] for match in matches] == pytest.approx([FULL_BOOST, FULL_BOOST, FULL_BOOST / 4])
    assert all(np.all(np.diff(match.rows) > 0) for match in matches)


def test_an_identifier_of_too_many_products_matches_nothing() -> None:
    index = IdentifierIndex.build(Product(f"id{n:06}", "Sofa 2024X") for n in range(MAX_PRODUCTS + 1))
    assert index.find("2024X") == index.find("sofa 2024x") == []
    assert "2024x" not in index.specific_keys("2024X")


def test_a_product_matches_once_if_its_id_and_title_contain_the_identifier() -> None:
    assert rows(IdentifierIndex.build([Product("HX-4210", "Sofa HX-4210 (HX4210)")]), "hx4210") == [[0]]


def test_columns_that_are_not_named_are_not_looked_up() -> None:
    assert IdentifierIndex.build(PRODUCTS).find("012345678905") == []


def test_a_product_outside_the_catalogue_is_compared_by_its_keys(index: IdentifierIndex) -> None:
    new = Product("n1", "Lamp ZX-77", attributes={"mpn": "LMP-9"})
    assert not index.specific_keys("zx 77 lamp").isdisjoint(product_keys(new))
    assert index.specific_keys("lmp9 lamp").isdisjoint(product_keys(new))
    assert not index.specific_keys("lmp9 lamp").isdisjoint(product_keys(new, COLUMNS))
    assert index.specific_keys("zx 78 lamp").isdisjoint(product_keys(new, COLUMNS))


@pytest.mark.parametrize("products", [PRODUCTS, [Product("", "")]], ids=["some", "no identifier at all"])
def test_a_saved_index_matches_the_same_products(tmp_path: Path, products: list[Product]) -> None:
    built = IdentifierIndex.build(products)
    built.save(tmp_path)
    loaded = IdentifierIndex.load(tmp_path, num_products=100)
    for product in products:
        assert rows(loaded, product.id) == rows(built, product.id)


def changed(index: IdentifierIndex, start: int, products: list[Product], dead: list[int]) -> IdentifierIndex:
    index.append(AddedProducts(start, products, NO_VECTORS))
    index.remove(RemovedProducts(np.array(dead, np.int64), [Product("", "")] * len(dead)))
    return index


@pytest.mark.parametrize("seed", range(20))
def test_changes_give_what_a_rebuild_gives(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    products = [*PRODUCTS, *rng.choices(PRODUCTS, k=10)]
    IdentifierIndex.build(products, COLUMNS).save(tmp_path)
    index = IdentifierIndex.load(tmp_path, len(products), COLUMNS)
    queries = [text for product in PRODUCTS for text in (product.id, product.title, *product.attributes.values())]
    living = list(range(len(products)))
    for _ in range(6):
        start = len(products)
        products += rng.choices(PRODUCTS, k=rng.choice((1, 1, 30)))
        living += range(start, len(products))
        dead = rng.sample(living, rng.randint(0, min(20, len(living))))
        changed(index, start, products[start:], dead)
        living = [row for row in living if row not in set(dead)]
        anew = IdentifierIndex.build([products[row] for row in living], COLUMNS)
        for query in (*queries, "hx 4210 or mg 5220", "buy 12345678905 now", "nothing 4711"):
            here, there = index.find(query), anew.find(query)
            assert [(m.identifier, m.start, m.end) for m in here] == [(m.identifier, m.start, m.end) for m in there]
            for match, expected in zip(here, there, strict=True):
                assert match.rows.tolist() == [living[row] for row in expected.rows.tolist()]
                assert match.boosts.tolist() == expected.boosts.tolist()
            assert index.specific_keys(query) == anew.specific_keys(query)


def test_an_identifier_is_specific_by_the_products_that_are_left() -> None:
    index = IdentifierIndex.build(Product(f"id{n:06}", "Sofa 2024X") for n in range(MAX_PRODUCTS))
    assert len(first(index, "2024x")) == MAX_PRODUCTS
    changed(index, MAX_PRODUCTS, [Product("new", "Sofa 2024X")], [])
    assert index.find("2024x") == []
    assert index.specific_keys("2024x").isdisjoint(product_keys(Product("other", "Sofa 2024X")) - {"=sofa2024x"})
    changed(index, MAX_PRODUCTS + 1, [], list(range(MAX_PRODUCTS)))
    assert first(index, "2024x") == [MAX_PRODUCTS]
    assert index.find("2024x")[0].boosts.tolist() == [FULL_BOOST]


def test_an_index_without_an_identifier_grows() -> None:
    assert first(changed(IdentifierIndex.build([]), 0, [Product("HX-4210", "Lamp")], []), "hx4210") == [0]


def test_an_index_that_has_changed_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has changed since it was built"):
        changed(IdentifierIndex.build(PRODUCTS), len(PRODUCTS), [Product("HX-1", "Lamp")], []).save(tmp_path)


@given(st.one_of(st.text(max_size=512), st.text(st.sampled_from("hx4210-/ +.\u2013\uff10\uff19"), max_size=512)))
def test_no_query_raises_and_places_lie_in_it(query: str) -> None:
    for match in IdentifierIndex.build(PRODUCTS, COLUMNS).find(query):
        assert 0 <= match.start < match.end <= len(query)
        assert match.identifier == query[match.start : match.end]
        assert len(match.rows) == len(match.boosts) > 0


def written(model: str) -> Iterator[str]:
    """The forms in which people write a model number."""
    yield from (model, model.lower(), model.upper(), re.sub(r"[\W_]", "", model), f"{model[:3]}\u00ad{model[3:]}")
    yield from (model.replace("-", dash) for dash in "\u2010\u2013\u2212\uff0d")
    yield full_width(model)
    yield re.sub(r"[-/.]+", " ", model)
    yield re.sub(r"(?<=[A-Za-z])(?=\d)", " ", model, count=1)
    yield re.sub(r"(?<=[A-Za-z])(?=\d)", "-", model, count=1)


def test_model_numbers_and_gtins_of_a_real_catalogue_come_first_in_every_form(real_data: Callable[[str], Path]) -> None:
    table = pq.read_table(real_data(ICECAT), columns=["id", "title", "model", "ean"]).to_pylist()
    products = [
        Product(row["id"], row["title"] or "x", attributes={"mpn": row["model"] or "", "gtin": row["ean"] or ""})
        for row in table
    ]
    index = IdentifierIndex.build(products, COLUMNS)
    models = [
        (row["model"], at) for at, row in enumerate(table) if re.fullmatch(r"(?=\S*\d)\S{4,}", row["model"] or "")
    ]
    gtins = [(ean, at) for at, row in enumerate(table) for ean in (row["ean"] or "").split("|") if ean]
    chosen = random.Random(0).sample(models, 100)
    for forms in zip(*(list(written(model)) for model, _ in chosen), strict=True):
        found = sum(at in first(index, form) for form, (_, at) in zip(forms, chosen, strict=True))
        assert found >= 99, forms[:3]
    for gtin, at in random.Random(0).sample(gtins, 100):
        assert at in first(index, gtin)
        assert at in first(index, gtin.lstrip("0"))
        assert at in first(index, f"buy {gtin.zfill(14)} now")
