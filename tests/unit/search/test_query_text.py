"""What is searched for a query, and what its conditions are taken for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.bundles.manifest import Manifest
from models.products.changes import AddedProducts, RemovedProducts
from models.products.product import Product
from models.products.scripts import KnownScripts
from serving.compute.filter_masks import NO_FILTER, ProductFilter
from serving.search.query_text import Negations, PartKind, QueryText, QueryTexts, reworded
from serving.search.request import Search, TypeUse

NAMES = ("dress", "shirt", "coat", "blouse", "jumper", "cardigan")


@pytest.fixture(scope="module")
def texts(build_tiny: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> QueryTexts:
    folder = tmp_path_factory.mktemp("clothes") / "bundle"
    products = [Product(f"id-{n}", f"Cotton {name} with long sleeves") for n, name in enumerate(NAMES)]
    products += [
        Product(f"mouse-{n}", f"Souris sans fil {color}") for n, color in enumerate(("rouge", "bleue", "noire"))
    ]
    products += [Product("hx", "Lamp HX-under-20")]
    build_tiny(folder, products)
    bundle = Bundle(folder)
    lexical = bundle.lexical()
    assert lexical
    negations = Negations(bundle.products(), lexical)
    speller = load_speller(bundle)
    scripts = KnownScripts(speller.counts, ("en-US",))
    return QueryTexts(speller, bundle.identifiers(), "en-US", "USD", negations, scripts)


class Shop:
    """Structures that grow together, and the queries that are read with them."""

    def __init__(self, folder: Path) -> None:
        bundle = Bundle(folder)
        lexical = bundle.lexical()
        assert lexical
        self.lexical, self.identifiers, self.speller = lexical, bundle.identifiers(), load_speller(bundle)
        self.products = bundle.products()
        self._num_products = len(self.products)
        self.texts = QueryTexts(self.speller, self.identifiers, "en-US", "USD", Negations(self.products, lexical))

    def append(self, *products: Product) -> None:
        added = AddedProducts(self._num_products, products, np.zeros((0, 0), np.float16))
        for structure in (self.lexical, self.identifiers, self.speller):
            structure.append(added)
        self._num_products += len(products)

    def remove(self, *rows: int) -> None:
        removed = RemovedProducts(np.array(rows), [self.products.product(row) for row in rows])
        for structure in (self.lexical, self.identifiers, self.speller):
            structure.remove(removed)


@pytest.fixture
def shop(build_tiny: Callable[..., Manifest], tmp_path: Path) -> Shop:
    build_tiny(
        tmp_path / "bundle",
        [
            *(Product(f"id-{n}", f"Cotton {name} with long sleeves") for n, name in enumerate(NAMES)),
            *(Product(f"mouse-{n}", f"Souris sans fil {color}") for n, color in enumerate(("rouge", "bleue", "noire"))),
        ],
    )
    return Shop(tmp_path / "bundle")


def test_a_query_is_read_anew_when_a_product_brings_its_word(shop: Shop) -> None:
    before = read(shop.texts, "cardigann")
    assert before.corrected == "cardigan"
    shop.append(Product("new", "Lamp", "Cardigann"))
    assert read(shop.texts, "cardigann") == QueryText(text="cardigann", filter=NO_FILTER)


def test_a_query_is_read_anew_when_a_product_brings_an_identifier_that_looks_like_a_condition(shop: Shop) -> None:
    assert read(shop.texts, "dress under $50").filter == ProductFilter(max_price_minor=4999)
    shop.append(Product("new", "Dress under $50"))
    found = read(shop.texts, "dress under $50")
    assert (found.text, found.filter) == ("dress under $50", NO_FILTER)


def test_a_negation_is_read_anew_when_the_products_have_changed(shop: Shop) -> None:
    assert read(shop.texts, "souris sans fil", "fr-FR").filter == NO_FILTER
    shop.append(Product("cable", "Souris avec fil"))  # which the table cannot show yet
    assert read(shop.texts, "souris sans fil", "fr-FR").filter == NO_FILTER
    shop.remove(6, 7, 8)
    assert read(shop.texts, "souris sans fil", "fr-FR").filter == ProductFilter(excluded_words=("fil",))


def read(texts: QueryTexts, query: str, locale: str = "", wanted: ProductFilter = NO_FILTER) -> QueryText:
    return texts.read(query, locale, wanted)


def test_a_price_becomes_a_filter_and_leaves_the_text(texts: QueryTexts) -> None:
    found = read(texts, "cotton dress under $50")
    assert (found.text, found.filter) == ("cotton dress", ProductFilter(max_price_minor=4999))
    (part,) = found.parts
    assert (part.kind, part.text, part.max_price_minor, part.reason) == (PartKind.PRICE, "under $50", 4999, "")
    assert "cotton dress under $50"[part.start : part.end] == part.text
    assert found.is_conditional


def test_the_filter_of_the_request_goes_before_a_price_of_the_query(texts: QueryTexts) -> None:
    wanted = ProductFilter(min_price_minor=100)
    found = read(texts, "dress under $50", wanted=wanted)
    assert found.filter == wanted
    assert [part.reason for part in found.parts] == ["the request filters by price itself"]
    assert not found.is_conditional


def test_what_is_not_wanted_is_excluded(texts: QueryTexts) -> None:
    found = read(texts, "cotton dress without sleeves")
    assert (found.text, found.filter) == ("cotton dress", ProductFilter(excluded_words=("sleeves",)))
    assert [(part.kind, part.words) for part in found.parts] == [(PartKind.NEGATION, ("sleeves",))]


def test_what_products_are_said_to_be_is_no_negation(texts: QueryTexts) -> None:
    found = read(texts, "souris sans fil", "fr-FR")
    assert (found.text, found.filter, found.parts) == ("souris sans fil", NO_FILTER, ())


def test_conditions_that_leave_nothing_are_told_and_dropped(texts: QueryTexts) -> None:
    found = read(texts, "dress without sleeves under $50").unconditional(NO_FILTER)
    assert found.filter == NO_FILTER
    assert [part.reason for part in found.parts] == ["no product with a word of the query fulfils it"] * 2
    assert not found.is_conditional


def test_a_corrected_query_says_so_and_keeps_its_conditions(texts: QueryTexts) -> None:
    found = read(texts, "cotton cardigann under $50")
    assert found.text == found.corrected == "cotton cardigan"
    assert {part.kind for part in found.parts} == {PartKind.CORRECTION, PartKind.PRICE}
    assert found.filter == ProductFilter(max_price_minor=4999)


def test_a_correction_makes_no_condition_that_is_not_applied(texts: QueryTexts) -> None:
    found = read(texts, "cotton dress withuot sleeves")
    assert "sleeves" in found.text
    assert {part.kind for part in found.parts} <= {PartKind.CORRECTION}


def test_the_currency_of_a_catalogue_may_be_in_any_case(texts: QueryTexts) -> None:
    lower = QueryTexts(texts._speller, texts._identifiers, "en-US", "usd", texts._negations)
    assert lower.read("dress under $50", "", NO_FILTER).filter == ProductFilter(max_price_minor=4999)


@pytest.mark.parametrize("query", ["dress", "-", "without", "under", "€", "😀", "a" * 512, "no no no", "under $ under"])
def test_a_query_without_conditions_stays_as_it_is(texts: QueryTexts, query: str) -> None:
    found = read(texts, query)
    assert (found.text, found.filter) == (query, NO_FILTER)


@pytest.mark.parametrize("query", ["مصباح", "!!!", "ソファ", "🛋️"])
def test_a_query_in_letters_that_the_catalogue_never_uses_is_searched_by_its_words_alone(
    texts: QueryTexts, query: str
) -> None:
    read = texts.read(query, "en-US", NO_FILTER)
    (part,) = read.parts
    assert (part.kind, part.text, part.start, part.end, part.reason) == (PartKind.UNKNOWN, query, 0, len(query), "")
    search = reworded(Search(query=query, page_size=10, type_use=TypeUse.FILTER), read)
    assert (search.query, search.words_only, search.type_use) == (query, True, TypeUse.OFF)
    assert not read.is_conditional
