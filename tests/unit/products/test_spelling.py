"""Typing errors are mended with the catalogue's words, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.product import Product
from models.products.spelling import Speller

COUNTS = {"samsung": 40, "headphones": 30, "noise": 20, "canceling": 12, "samson": 3, "panasonic": 9, "rarity": 1}


@pytest.fixture
def speller() -> Speller:
    return Speller(COUNTS, usual=["couch", "voice", "house"])


@pytest.mark.parametrize(
    ("query", "mended"),
    [
        ("samsnug tv", "samsung tv"),
        ("Samsnug TV", "samsung TV"),
        ("noize canceling hedphones", "noise canceling headphones"),
        ("pansonic, phone", "panasonic, phone"),
        ("headhpones", "headphones"),
    ],
)
def test_a_near_word_of_the_catalogue_takes_the_place(speller: Speller, query: str, mended: str) -> None:
    assert speller.needs_mending(query)
    assert speller.mend(query) == mended


@pytest.mark.parametrize(
    "query",
    [
        "samsung headphones",  # known to the catalogue
        "couch voice house",  # known to the encoder
        "rarityy",  # its only neighbour is too rare to be trusted
        "tvs nois",  # too short
        "HX-4210 MG5220",  # no words
        "zzzzzzzz",  # near nothing
        "",
    ],
)
def test_what_is_known_short_or_near_nothing_stays(speller: Speller, query: str) -> None:
    assert speller.mend(query) == query


@given(st.text(max_size=60))
def test_any_text_is_mended_without_error_and_twice_is_the_same_as_once(text: str) -> None:
    speller = Speller(COUNTS)
    once = speller.mend(text)
    assert speller.mend(once) == once
    if not speller.needs_mending(text):
        assert once == text


def test_the_words_of_products_are_counted_once_a_product_and_survive_saving(tmp_path: Path) -> None:
    products = [
        Product(id=str(n), title="Velvet velvet Sofa", brand="Halden", category="Living Room") for n in range(4)
    ]
    Speller.build(products).save(tmp_path)
    loaded = Speller.load(tmp_path)
    assert loaded.mend("velvte sofa by haldne") == "velvet sofa by halden"
    assert not loaded.needs_mending("living")
