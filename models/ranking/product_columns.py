"""What the ranker's features need of every product, as arrays: read once from a bundle, then only indexed.

Beside the mapped vectors a product takes 24 bytes of numbers, 2 or 4 for each of 12 marks, 6 to find its words, and 4 for each word, of
which there are up to 24 of the title and 96 of other fields, in steps of 8.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Float16s, Floats, Ints
from models.bundles.bundle import Bundle
from models.products.product import Product
from models.products.product_table import ATTRIBUTE, ProductTable
from models.ranking.baseline_shares import BaselineShares
from models.ranking.taste import (
    NOTHING,
    TRAIT,
    Marks,
    brand_mark,
    category_mark,
    name_hash,
    price_mark,
    trait_mark,
    type_mark,
)
from models.unified.bundle_part import UNIFIED_PART
from models.unified.history import LONGEST_TERM_CHARS, MAX_TRAITS, product_traits
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.static_feature_names import STATIC_FEATURES
from models.unified.words import words_of

MAX_TITLE_WORDS = 24
MAX_WORDS = 96  # of the other fields together
NO_BAND = -1
_STEP = 8  # words are kept by as many
_READ_AT_ONCE = 4_096  # products

NUMBERS = ("price_ratio", *STATIC_FEATURES, "price_band")  # columns of numbers
# Columns of marks: the category as a type, brand, category, price and traits.
TYPE_AT, BRAND_AT, CATEGORY_AT, PRICE_AT, TRAITS_AT = 0, 1, 2, 3, slice(-MAX_TRAITS, None)
NUM_MARKS = 4 + MAX_TRAITS


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Some products (n,), of the catalogue or not, as the features need them."""

    numbers: Floats  # (n, NUMBERS)
    marks: npt.NDArray[np.unsignedinteger]  # (n, NUM_MARKS) places in the catalogue's vocabulary from 1; 0 is no mark
    words: npt.NDArray[np.uint32]  # (steps, 8) hashes, each word of a product once; 0 is no word
    holders: Ints  # (steps,) ascending: 2 * product, 1 more where the title does not have the words

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class ProductColumns:
    """Arrays by row of the catalogue, in the meaning of `Facts`."""

    vectors: Float16s  # (products, columns) mapped: unit vectors in the first `dim`
    dim: int
    numbers: Floats
    marks: npt.NDArray[np.unsignedinteger]
    words: npt.NDArray[np.uint32]
    starts: Codes  # (products,) the first of each one's steps of words
    lengths: npt.NDArray[np.uint8]  # (products, 2) steps of the title, and after them of other fields
    vocabulary: Marks  # (marks,) ascending: all but traits that a single product has, which tell nothing of others
    usual: BaselineShares
    attributes: tuple[str, ...]
    bands: PriceBands
    medians: dict[str, float]  # of the log of price, by category

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> ProductColumns:
        """Without the unified model there are no price bands of its own: the catalogue's stand in."""
        table = bundle.products()
        bands = (
            PriceBands.load(UNIFIED_PART.open(bundle))
            if UNIFIED_PART.is_in(bundle)
            else PriceBands.from_products(table.products())
        )
        texts = _Texts()
        for batch in _text_batches(table):
            texts.extend(batch)
        numbers = np.zeros((len(table), len(NUMBERS)), np.float32)
        medians = _fill_prices(numbers, table, bands)
        _fill_static(numbers, bundle, table)
        named = texts.marks()
        named[:, PRICE_AT] = _price_marks(numbers)
        vocabulary = _shared_marks(named)
        marks = places_of(vocabulary, named)
        codes, categories = table.distinct("category")
        of_categories = places_of(vocabulary, np.array([category_mark(name) for name in categories], np.uint64))
        lengths = texts.lengths()
        starts = np.cumsum(lengths.sum(axis=1, dtype=np.int64))
        return cls(
            vectors=np.asarray(bundle.vectors()),  # still mapped, and faster to index
            dim=bundle.manifest.dim,
            numbers=numbers,
            marks=marks,
            words=texts.steps(),
            starts=np.concatenate(([0], starts[:-1])).astype(np.int32),
            lengths=lengths,
            vocabulary=vocabulary,
            usual=BaselineShares.from_products(categories, codes, marks[:, TYPE_AT + 1 :], of_categories),
            attributes=table.attributes,
            bands=bands,
            medians=medians,
        )

    def take(self, rows: Ints) -> Facts:
        lengths = self.lengths.take(rows, axis=0)
        of_product = np.add(lengths[:, 0], lengths[:, 1], dtype=np.int64)
        before = np.cumsum(of_product)
        before -= of_product
        at = np.repeat(self.starts.take(rows) - before, of_product)
        at += np.arange(len(at))
        return Facts(
            numbers=self.numbers.take(rows, axis=0),
            marks=self.marks.take(rows, axis=0),
            words=self.words.take(at, axis=0),
            holders=np.repeat(np.arange(2 * len(rows)), lengths.ravel()),
        )

    def facts_for(self, products: Sequence[Product]) -> Facts:
        """Of products that need not be in the catalogue, as if they were: attributes that it does not keep count for nothing. What is
        static is NaN but for what is in stock, and a price in a category that the catalogue does not have is the usual one."""
        texts = _Texts()
        texts.extend(
            (p.title, p.brand, p.category, {n: v for n in self.attributes if (v := p.attributes.get(n, ""))})
            for p in products
        )
        numbers = np.zeros((len(products), len(NUMBERS)), np.float32)
        numbers[:, [NUMBERS.index(name) for name in STATIC_FEATURES]] = np.nan
        numbers[:, NUMBERS.index("in_stock")] = [product.in_stock for product in products]
        for at, product in enumerate(products):
            band = self.bands.band(product)
            numbers[at, NUMBERS.index("price_band")] = NO_BAND if band is None else min(band, NUM_BANDS - 1)
            numbers[at, NUMBERS.index("price_ratio")] = self._price_ratio(product)
        marks = texts.marks()
        marks[:, PRICE_AT] = _price_marks(numbers)
        holders = np.repeat(np.arange(2 * len(products)), texts.lengths().ravel())
        return Facts(numbers, places_of(self.vocabulary, marks), texts.steps(), holders)

    def _price_ratio(self, product: Product) -> float:
        median = self.medians.get(product.category)
        if median is None or not product.price_minor or product.price_minor < 0:
            return 0.0
        return float(np.clip(np.log(product.price_minor) - median, -_MOST_RATIO, _MOST_RATIO))


_MOST_RATIO = 3.0  # of the log of a price to its category's median

Text = tuple[str, str, str, dict[str, str]]  # title, brand, category, and attributes that are not empty


def _text_batches(table: ProductTable) -> Iterator[Iterator[Text]]:
    fields = ("title", "brand", "category", *(ATTRIBUTE + name for name in table.attributes))
    for start in range(0, len(table), _READ_AT_ONCE):
        stop = min(start + _READ_AT_ONCE, len(table))
        title, brand, category, *others = (table.strings(field, start, stop) for field in fields)
        told = (
            {name: value for name, value in zip(table.attributes, values, strict=True) if value}
            for values in (zip(*others, strict=True) if others else ((),) * (stop - start))
        )
        yield zip(title, brand, category, told, strict=True)


class _Hashes(dict[str, int]):
    def __missing__(self, word: str) -> int:
        found = self[word] = name_hash(word)
        return found


class _TraitMarks(dict[str, int]):
    def __missing__(self, trait: str) -> int:
        found = self[trait] = trait_mark(trait)
        return found


class _WordsOf(dict[str, tuple[int, ...]]):
    """Text -> hashes of its words. Only short texts are kept: they come again."""

    def __init__(self) -> None:
        self._hashes = _Hashes()

    def __missing__(self, text: str) -> tuple[int, ...]:
        found = tuple(map(self._hashes.__getitem__, words_of(text, MAX_WORDS)))
        if len(text) <= 2 * LONGEST_TERM_CHARS:
            self[text] = found
        return found


class _Texts:
    """Words and marks of products, one after the other."""

    def __init__(self) -> None:
        self._words_of = _WordsOf()
        self._words, self._lengths = array("I"), array("q")  # of each product the title's, then the others'
        self._marks = array("Q")  # NUM_MARKS a product
        self._mark_of = _TraitMarks()

    def extend(self, products: Iterable[Text]) -> None:
        words_of, words, lengths, marks, mark_of = (
            self._words_of,
            self._words,
            self._lengths,
            self._marks,
            self._mark_of,
        )
        for title, brand, category, attributes in products:
            in_title = words_of[title][:MAX_TITLE_WORDS]
            of_values = [words_of[value] for value in attributes.values()]
            others = dict.fromkeys(chain(words_of[brand], words_of[category], *of_values))
            if len(others) > MAX_WORDS:
                others = dict.fromkeys(list(others)[:MAX_WORDS])
            for word in in_title:
                others.pop(word, None)
            words.extend(in_title)
            words.extend(others)
            lengths.extend((len(in_title), len(others)))
            traits = [mark_of[trait] for trait in product_traits(attributes)]
            marks.extend((type_mark(category), brand_mark(brand), category_mark(category), NOTHING))
            marks.extend(traits)
            marks.extend((NOTHING,) * (MAX_TRAITS - len(traits)))

    def marks(self) -> npt.NDArray[np.uint64]:
        """(products, NUM_MARKS) as they are named, without the price's."""
        return np.frombuffer(self._marks, np.uint64).reshape(-1, NUM_MARKS).copy()

    def lengths(self) -> npt.NDArray[np.uint8]:
        """(products, 2) steps."""
        words = np.frombuffer(self._lengths, np.int64).reshape(-1, 2)
        return (-(-words // _STEP)).astype(np.uint8)

    def steps(self) -> npt.NDArray[np.uint32]:
        """(steps, 8) product after product, each one's title before the rest."""
        lengths = np.frombuffer(self._lengths, np.int64)
        ends = _STEP * np.cumsum(-(-lengths // _STEP))
        steps = np.zeros((int(ends[-1]) // _STEP if len(ends) else 0, _STEP), np.uint32)
        shift = ends - _STEP * -(-lengths // _STEP) - np.cumsum(lengths) + lengths
        steps.ravel()[np.arange(len(self._words)) + np.repeat(shift, lengths)] = np.frombuffer(self._words, np.uint32)
        return steps


def _price_marks(numbers: Floats) -> npt.NDArray[np.uint64]:
    """(products,) of the bands."""
    every = np.array([price_mark(band) for band in range(NO_BAND, NUM_BANDS)], np.uint64)
    return every[numbers[:, NUMBERS.index("price_band")].astype(np.int64) - NO_BAND]


def _shared_marks(named: npt.NDArray[np.uint64]) -> Marks:
    """Ascending; of the traits those that more than one product has."""
    every, counts = np.unique(named, return_counts=True)
    is_trait = every >> np.uint64(32) == TRAIT >> 32
    return every[(every != NOTHING) & ~(is_trait & (counts < 2))]


def places_of(vocabulary: Marks, named: npt.NDArray[np.uint64]) -> npt.NDArray[np.unsignedinteger]:
    """Of marks, from 1; 0 of those that the vocabulary does not have."""
    found = np.searchsorted(vocabulary, named)
    is_known = vocabulary.take(found, mode="clip") == named if len(vocabulary) else np.zeros(named.shape, np.bool_)
    return np.where(is_known, found + 1, 0).astype(np.min_scalar_type(len(vocabulary)))


def _fill_static(numbers: Floats, bundle: Bundle, table: ProductTable) -> None:
    """The bundle's static features; 0 for those that it does not have, but whether something is in stock is always known."""
    dim, boosts = bundle.manifest.dim, bundle.manifest.boosts
    numbers[:, NUMBERS.index("in_stock")] = table.in_stock
    for name in STATIC_FEATURES:
        if name in boosts:
            numbers[:, NUMBERS.index(name)] = bundle.vectors()[:, dim + boosts.index(name)]


def _fill_prices(numbers: Floats, table: ProductTable, bands: PriceBands) -> dict[str, float]:
    """Bands, and the log of each price over its category's median. Gives these medians of the log."""
    ratio, band = NUMBERS.index("price_ratio"), NUMBERS.index("price_band")
    numbers[:, band] = NO_BAND
    medians: dict[str, float] = {}
    category, names = table.distinct("category")
    priced = np.flatnonzero(table.has_price)
    order = priced[np.lexsort((table.prices[priced], category[priced]))]
    ends = np.searchsorted(category[order], np.arange(len(names) + 1))
    for name, start, stop in zip(names, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        rows, prices = order[start:stop], table.prices[order[start:stop]]  # ascending
        edges = bands.edges.get(name) or bands.edges.get("")
        if edges is not None:
            numbers[rows, band] = np.minimum(np.searchsorted(edges, prices), NUM_BANDS - 1)
        above = int(np.searchsorted(prices, 0, side="right"))  # free products have no logarithm
        if above < len(prices):
            logs = np.log(prices[above:])
            medians[name] = float(np.median(logs))
            numbers[rows[above:], ratio] = np.clip(logs - medians[name], -_MOST_RATIO, _MOST_RATIO)
    return medians
