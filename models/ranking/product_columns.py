"""What the ranker's features need of every product, as columns: read once from a bundle, then only indexed."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.catalogue import Product
from models.product_table import ProductTable
from models.unified.history import MAX_TERMS
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.static_features import STATIC_FEATURES
from models.unified.words import words_of

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint32]

MAX_TITLE_WORDS = 24
MAX_WORDS = 96  # of the other fields together
NO_BAND = -1
_LONGEST_TERM_CHARS = 24  # an attribute that a history remembers: see `models.unified.history.product_terms`
_COLOURS = ("colour", "color")
_MAX_COLOUR_WORDS = 4


def word_hash(word: str) -> int:
    """CRC-32: among the 100,000 words of a large catalogue two are expected to share one."""
    return zlib.crc32(word.encode())


def hashes(words: Iterable[str]) -> Words:
    return np.fromiter((word_hash(word) for word in words), np.uint32)


class WordOf(IntFlag):
    """Where a product has a word, beside having it at all."""

    TITLE = 1
    TRAIT = 2  # a short attribute: what a history tells of the products in it
    COLOUR = 4


@dataclass(frozen=True, slots=True)
class SomeWords:
    """Words of some products, one product after the other."""

    values: Words  # (words,)
    of: npt.NDArray[np.uint8]  # (words,) WordOf
    owners: npt.NDArray[np.int64]  # (words,) whose each is, 0 to the number of products - 1


@dataclass(frozen=True, slots=True)
class WordRows:
    """The distinct words of every product: those of product p are values[offsets[p]:offsets[p + 1]]."""

    values: Words
    of: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]  # (products + 1,)

    @classmethod
    def read(cls, products: Iterable[Product]) -> WordRows:
        values, kinds, offsets = array("I"), array("B"), array("q", [0])  # 5 bytes a word
        for product in products:
            words = _words_of(product)
            values.extend(map(word_hash, words))
            kinds.extend(words.values())
            offsets.append(len(values))
        return cls(np.frombuffer(values, np.uint32), np.frombuffer(kinds, np.uint8), np.frombuffer(offsets, np.int64))

    def take(self, products: npt.NDArray[np.int64]) -> SomeWords:
        starts = self.offsets[products]
        lengths = self.offsets[products + 1] - starts
        owners = np.repeat(np.arange(len(products)), lengths)
        at = np.arange(len(owners)) + (starts - np.cumsum(lengths) + lengths)[owners]
        return SomeWords(self.values[at], self.of[at], owners)


def _words_of(product: Product) -> dict[str, int]:
    others = " ".join((product.brand, product.category, *product.attributes.values()))
    short = " ".join(value for value in product.attributes.values() if len(value) <= _LONGEST_TERM_CHARS)
    colour = next((value for name in _COLOURS if (value := product.attributes.get(name))), "")
    found = dict.fromkeys(words_of(others, MAX_WORDS), 0)
    for kind, words in (
        (WordOf.TITLE, words_of(product.title, MAX_TITLE_WORDS)),
        (WordOf.TRAIT, words_of(short, MAX_TERMS)),
        (WordOf.COLOUR, words_of(colour, _MAX_COLOUR_WORDS)),
    ):
        for word in words:
            found[word] = found.get(word, 0) | kind.value
    return found


@dataclass(frozen=True, slots=True, eq=False)
class ProductColumns:
    """Arrays by row of the catalogue."""

    vectors: npt.NDArray[np.float16]  # (products, dim) unit vectors, mapped
    static: Floats  # (products, STATIC_FEATURES)
    words: WordRows
    brand: Codes  # numbers in `brands`
    brands: dict[str, int]  # in lower case; "" is no brand
    category: Codes  # numbers in `categories`
    categories: dict[str, int]
    price_band: npt.NDArray[np.int8]  # 0 (cheap among its category) to 4, NO_BAND without a price
    price_ratio: Floats  # log of price over the category's median; 0 without a price

    def __len__(self) -> int:
        return len(self.brand)

    @classmethod
    def of(cls, bundle: Bundle) -> ProductColumns:
        """1.6 s for 20,000 products. Without the unified model there are no price bands of its own: the catalogue's stand in."""
        table = bundle.products()
        bands = PriceBands.load(bundle.unified_folder) if bundle.is_unified else PriceBands.of(table.products())
        price_band = np.full(len(table), NO_BAND, np.int8)
        for row, product in enumerate(table.products()):
            band = bands.band(product)
            price_band[row] = NO_BAND if band is None else min(band, NUM_BANDS - 1)
        brand, brands = _folded(*table.distinct("brand"))
        category, names = table.distinct("category")
        return cls(
            vectors=np.asarray(bundle.unit_vectors()),  # still mapped, and faster to index
            static=_static(bundle, table),
            words=WordRows.read(table.products()),
            brand=brand,
            brands=brands,
            category=category,
            categories={name: at for at, name in enumerate(names)},
            price_band=price_band,
            price_ratio=_price_ratios(table, category, len(names)),
        )


def _folded(codes: Codes, names: list[str]) -> tuple[Codes, dict[str, int]]:
    """Names that differ in case and spaces only as one, as marks of words have them."""
    folded = [name.strip().casefold() for name in names]
    numbers = {name: at for at, name in enumerate(dict.fromkeys(folded))}
    return np.array([numbers[name] for name in folded], np.int32)[codes], numbers


def _static(bundle: Bundle, table: ProductTable) -> Floats:
    """The bundle's static features; 0 for those that it does not have, but whether something is in stock is always known."""
    dim, boosts = bundle.manifest.dim, bundle.manifest.boosts
    static = np.zeros((len(table), len(STATIC_FEATURES)), np.float32)
    static[:, STATIC_FEATURES.index("in_stock")] = table.in_stock
    for at, name in enumerate(STATIC_FEATURES):
        if name in boosts:
            static[:, at] = bundle.vectors()[:, dim + boosts.index(name)]
    return static


def _price_ratios(table: ProductTable, category: Codes, num_categories: int) -> Floats:
    ratios = np.zeros(len(table), np.float32)
    priced = np.flatnonzero(table.has_price & (table.prices > 0))
    order = priced[np.lexsort((table.prices[priced], category[priced]))]
    ends = np.searchsorted(category[order], np.arange(num_categories + 1))
    for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        prices = np.log(table.prices[order[start:stop]])
        ratios[order[start:stop]] = prices - np.median(prices) if len(prices) else 0
    return np.clip(ratios, -3, 3)
