"""What the ranker's features need of every product, as arrays: read once from a bundle, then only indexed.

In addition to its memory-mapped vector a product takes 24 bytes of numbers, 2 or 4 bytes for each of 12 attributes, 6 bytes to locate its
words, and 4 bytes for each word: up to 24 words of the title and 96 of other fields, in steps of 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Float16s, Floats, Ints, UInt64s
from models.bundles.bundle import Bundle
from models.products.product import Product
from models.products.product_table import ATTRIBUTE, ProductTable
from models.ranking.baseline_shares import BaselineShares
from models.ranking.product_words import PRICE_AT, TYPE_AT, ProductWords, Text
from models.ranking.taste import NO_KEY, OTHER, category_key, price_key
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.static_feature_names import STATIC_FEATURES

NO_BAND = -1
NUMBERS = ("price_ratio", *STATIC_FEATURES, "price_band")  # columns of numbers
_READ_AT_ONCE = 4_096  # products
_MOST_RATIO = 3.0  # bound on the log of a price over its category's median


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """The inputs to the features of n products, in the catalogue or not."""

    numbers: Floats  # (n, NUMBERS)
    attribute_ids: npt.NDArray[
        np.unsignedinteger
    ]  # (n, NUM_ATTRIBUTES) in the catalogue's vocabulary, from 1; 0 is none
    words: npt.NDArray[np.uint32]  # (steps, 8) word hashes, each word of a product once; 0 is no word
    holders: Ints  # (steps,) ascending: 2 * product for words of its title, 2 * product + 1 for other words

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class ProductColumns:
    """Arrays by row of the catalogue; see `Facts`."""

    vectors: Float16s  # (products, columns) memory-mapped: unit vectors in the first `dim` columns
    dim: int
    numbers: Floats
    attribute_ids: npt.NDArray[np.unsignedinteger]
    words: npt.NDArray[np.uint32]
    starts: Codes  # (products,) the first step of each product's words
    lengths: npt.NDArray[np.uint8]  # (products, 2) steps of the title, then of the other fields
    vocabulary: (
        UInt64s  # (attributes,) ascending keys; without "other" attributes of a single product, which no product shares
    )
    baseline: BaselineShares
    attribute_names: tuple[str, ...]
    bands: PriceBands
    medians: dict[str, float]  # category -> median of the logarithms of its prices

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> ProductColumns:
        """Takes the price bands of the unified model; without one it computes them from the catalogue."""
        table = bundle.products()
        bands = (
            PriceBands.load(UNIFIED_PART.open(bundle))
            if UNIFIED_PART.is_in(bundle)
            else PriceBands.from_products(table.products())
        )
        texts = ProductWords()
        for batch in _text_batches(table):
            texts.extend(batch)
        numbers = np.zeros((len(table), len(NUMBERS)), np.float32)
        medians = _fill_prices(numbers, table, bands)
        _fill_static(numbers, bundle, table)
        keys = texts.keys()
        keys[:, PRICE_AT] = _price_keys(numbers)
        vocabulary = _shared_keys(keys)
        attribute_ids = vocabulary_ids(vocabulary, keys)
        codes, categories = table.distinct("category")
        category_ids = vocabulary_ids(vocabulary, np.array([category_key(name) for name in categories], np.uint64))
        lengths = texts.lengths()
        starts = np.cumsum(lengths.sum(axis=1, dtype=np.int64))
        return cls(
            vectors=np.asarray(bundle.vectors()),  # still mapped, and faster to index
            dim=bundle.manifest.dim,
            numbers=numbers,
            attribute_ids=attribute_ids,
            words=texts.steps(),
            starts=np.concatenate(([0], starts[:-1])).astype(np.int32),
            lengths=lengths,
            vocabulary=vocabulary,
            baseline=BaselineShares.from_products(categories, codes, attribute_ids[:, TYPE_AT + 1 :], category_ids),
            attribute_names=table.attributes,
            bands=bands,
            medians=medians,
        )

    def take(self, rows: Ints) -> Facts:
        lengths = self.lengths.take(rows, axis=0)
        steps = np.add(lengths[:, 0], lengths[:, 1], dtype=np.int64)
        before = np.cumsum(steps)
        before -= steps
        at = np.repeat(self.starts.take(rows) - before, steps)
        at += np.arange(len(at))
        return Facts(
            numbers=self.numbers.take(rows, axis=0),
            attribute_ids=self.attribute_ids.take(rows, axis=0),
            words=self.words.take(at, axis=0),
            holders=np.repeat(np.arange(2 * len(rows)), lengths.ravel()),
        )

    def facts_for(self, products: Sequence[Product]) -> Facts:
        """Computes the facts of products that need not be in the catalogue, as if they were in it.

        Attributes that the catalogue does not keep are ignored. Static features other than `in_stock` are NaN. In a category that is not
        in the catalogue every price counts as the median.
        """
        texts = ProductWords()
        texts.extend(
            (p.title, p.brand, p.category, {n: v for n in self.attribute_names if (v := p.attributes.get(n, ""))})
            for p in products
        )
        numbers = np.zeros((len(products), len(NUMBERS)), np.float32)
        numbers[:, [NUMBERS.index(name) for name in STATIC_FEATURES]] = np.nan
        numbers[:, NUMBERS.index("in_stock")] = [product.in_stock for product in products]
        for at, product in enumerate(products):
            band = self.bands.band(product)
            numbers[at, NUMBERS.index("price_band")] = NO_BAND if band is None else min(band, NUM_BANDS - 1)
            numbers[at, NUMBERS.index("price_ratio")] = self._price_ratio(product)
        keys = texts.keys()
        keys[:, PRICE_AT] = _price_keys(numbers)
        holders = np.repeat(np.arange(2 * len(products)), texts.lengths().ravel())
        return Facts(numbers, vocabulary_ids(self.vocabulary, keys), texts.steps(), holders)

    def _price_ratio(self, product: Product) -> float:
        median = self.medians.get(product.category)
        if median is None or not product.price_minor or product.price_minor < 0:
            return 0.0
        return float(np.clip(np.log(product.price_minor) - median, -_MOST_RATIO, _MOST_RATIO))


def vocabulary_ids(vocabulary: UInt64s, keys: UInt64s) -> npt.NDArray[np.unsignedinteger]:
    """Returns the id of each key, from 1; 0 for a key that the vocabulary does not have."""
    at = np.searchsorted(vocabulary, keys)
    is_known = vocabulary.take(at, mode="clip") == keys if len(vocabulary) else np.zeros(keys.shape, np.bool_)
    return np.where(is_known, at + 1, 0).astype(np.min_scalar_type(len(vocabulary)))


def _text_batches(table: ProductTable) -> Iterator[Iterator[Text]]:
    fields = ("title", "brand", "category", *(ATTRIBUTE + name for name in table.attributes))
    for start in range(0, len(table), _READ_AT_ONCE):
        stop = min(start + _READ_AT_ONCE, len(table))
        title, brand, category, *others = (table.strings(field, start, stop) for field in fields)
        attributes = (
            {name: value for name, value in zip(table.attributes, values, strict=True) if value}
            for values in (zip(*others, strict=True) if others else ((),) * (stop - start))
        )
        yield zip(title, brand, category, attributes, strict=True)


def _price_keys(numbers: Floats) -> UInt64s:
    """Returns (products,) the keys of the products' price bands."""
    keys = np.array([price_key(band) for band in range(NO_BAND, NUM_BANDS)], np.uint64)
    return keys[numbers[:, NUMBERS.index("price_band")].astype(np.int64) - NO_BAND]


def _shared_keys(keys: UInt64s) -> UInt64s:
    """Returns the distinct keys, ascending, without "other" attributes of a single product."""
    distinct, counts = np.unique(keys, return_counts=True)
    is_other = distinct >> np.uint64(32) == OTHER >> 32
    return distinct[(distinct != NO_KEY) & ~(is_other & (counts < 2))]


def _fill_static(numbers: Floats, bundle: Bundle, table: ProductTable) -> None:
    """Writes the bundle's static features; 0 for those that it lacks, except `in_stock`, which the catalogue has."""
    dim, boosts = bundle.manifest.dim, bundle.manifest.boosts
    numbers[:, NUMBERS.index("in_stock")] = table.in_stock
    for name in STATIC_FEATURES:
        if name in boosts:
            numbers[:, NUMBERS.index(name)] = bundle.vectors()[:, dim + boosts.index(name)]


def _fill_prices(numbers: Floats, table: ProductTable, bands: PriceBands) -> dict[str, float]:
    """Writes the band of each price, and the log of its ratio to the category's median. Returns the medians of the logs."""
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
