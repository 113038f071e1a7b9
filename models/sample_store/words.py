"""The words for colours, materials, styles, audiences and price bands, of sellers and of shoppers; `data/words.toml` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from models.sample_store.data_file import DataTable, read_data_file

ABSENT = -1  # in place of the index of a word: the product does not have the attribute
NUM_PRICE_BANDS = 5
PRICE_STEPS = 64  # to a doubling of the price


@dataclass(frozen=True, slots=True)
class Word:
    """A value of an attribute: the seller's word for it, and the shoppers' words where they differ."""

    seller: str
    shopper: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of all attributes that product types share. Products refer to them by index."""

    colours: tuple[Word, ...]
    materials: tuple[Word, ...]
    styles: tuple[Word, ...]
    audiences: tuple[Word, ...]
    palettes: Mapping[str, tuple[str, ...]]  # name -> colours, the first the most common
    style_families: Mapping[str, tuple[str, ...]]  # name -> styles, the first the most common
    material_premiums: Mapping[str, int]  # what a material adds to a price, in PRICE_STEPS
    price: tuple[tuple[str, ...], ...]  # shoppers' words for each price band, from the cheapest


@cache
def load_words() -> Words:
    """Reads the words, once in a process. Raises DataFileError if the file is wrong."""
    file = read_data_file("words.toml")
    colours, materials, styles, audiences = (
        read_words(file.table(name)) for name in ("colours", "materials", "styles", "audiences")
    )
    words = Words(
        colours=colours,
        materials=materials,
        styles=styles,
        audiences=audiences,
        palettes=file.table("palettes").all_texts(allowed=sellers(colours)),
        style_families=file.table("style_families").all_texts(allowed=sellers(styles)),
        material_premiums=file.table("material_premiums").all_integers(
            -PRICE_STEPS, PRICE_STEPS, names=sellers(materials)
        ),
        price=file.text_lists("price_words", NUM_PRICE_BANDS),
    )
    file.end()
    return words


def read_words(table: DataTable) -> tuple[Word, ...]:
    """Reads a table of seller's word = [shoppers' words]."""
    return tuple(Word(seller, shopper) for seller, shopper in table.all_texts(can_be_empty=True).items())


def sellers(words: tuple[Word, ...]) -> list[str]:
    """Returns the sellers' words in their order."""
    return [word.seller for word in words]
