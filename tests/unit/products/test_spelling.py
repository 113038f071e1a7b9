"""Typing errors are corrected with the catalogue's words, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.product import Product
from models.products.spelling import Speller

COUNTS = {"samsung": 40, "headphones": 30, "noise": 20, "canceling": 12, "samson": 3, "panasonic": 9, "rarity": 1}


@pytest.fixture
def speller() -> Speller:
    return Speller(COUNTS, vocabulary=["couch", "voice", "house"])


@pytest.mark.parametrize(
    ("query", "corrected"),
    [
        ("samsnug tv", "samsung tv"),
        ("Samsnug TV", "samsung TV"),
        ("noize canceling hedphones", "noise canceling headphones"),
        ("pansonic, phone", "panasonic, phone"),
        ("headhpones", "headphones"),
    ],
)
def test_an_unknown_word_is_replaced_by_a_near_word_of_the_catalogue(
    speller: Speller, query: str, corrected: str
) -> None:
    assert speller.needs_correction(query)
    assert speller.correct(query) == corrected


@pytest.mark.parametrize(
    "query",
    [
        "samsung headphones",  # in the catalogue
        "couch voice house",  # in the vocabulary
        "rarityy",  # its only neighbour is too rare to be trusted
        "tvs nois",  # too short
        "HX-4210 MG5220",  # no words
        "zzzzzzzz",  # near nothing
        "",
    ],
)
def test_a_correct_word_a_short_word_and_a_word_near_nothing_stay(speller: Speller, query: str) -> None:
    assert speller.correct(query) == query


@given(st.text(max_size=60))
def test_any_text_is_corrected_without_error_and_correcting_twice_changes_nothing_more(text: str) -> None:
    speller = Speller(COUNTS)
    once = speller.correct(text)
    assert speller.correct(once) == once
    if not speller.needs_correction(text):
        assert once == text


def test_words_are_counted_once_per_product_and_survive_saving(tmp_path: Path) -> None:
    products = [
        Product(id=str(n), title="Velvet velvet Sofa", brand="Halden", category="Living Room") for n in range(4)
    ]
    Speller.build(products).save(tmp_path)
    loaded = Speller.load(tmp_path)
    assert loaded.correct("velvte sofa by haldne") == "velvet sofa by halden"
    assert not loaded.needs_correction("living")


def test_words_of_the_same_count_are_stored_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    words = ["pear", "fig", "apple", "quince", "cherry", "plum", "lime", "grape"]
    Speller.build([Product("1", " ".join(words)), Product("2", "quince")]).save(tmp_path)
    (stored,) = tmp_path.iterdir()
    assert list(json.loads(stored.read_text())) == ["quince", *sorted(set(words) - {"quince"})]
