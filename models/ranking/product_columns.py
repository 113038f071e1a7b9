"""What the ranker's features need of every product, as arrays: read once from a bundle, then indexed and appended to.

What is learned from all products together is the bundle's and stays so: the vocabulary of attributes, how common each is, the price bands
and the median prices. So an attribute that only appended products share has the id 0, as one that no product shares.

In addition to its memory-mapped vector a product takes 4 bytes of its id, 24 bytes of numbers, 2 or 4 bytes for each of 12 attributes,
6 bytes to locate its words, and 4 bytes for each word: up to 24 words of the title and 96 of other fields, in steps of 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.arrays import Float16s, Floats, Ints, UInt32s, UInt64s
from models.bundles.bundle import Bundle
from models.index.product_vectors import ProductVectors
from models.products.changes import AddedProducts, ChangedOffers, Offered, Prepared, RemovedProducts
from models.products.growing_rows import GrowingRows
from models.products.product import Product
from models.products.product_table import ProductTable
from models.ranking.baseline_shares import BaselineShares
from models.ranking.column_files import ColumnArrays, find_columns
from models.ranking.product_words import PRICE_AT, TYPE_AT, ProductWords, Text, TextHashes
from models.ranking.taste import NO_KEY, OTHER, category_key, name_hash, price_key
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.static_feature_names import STATIC_FEATURES

NO_BAND = -1
NUMBERS = ("price_ratio", *STATIC_FEATURES, "price_band")  # columns of numbers
_READ_AT_ONCE = 4_096  # products
_OF_OFFER = ("price_ratio", "in_stock", "value", "price_band")  # what price and stock change
_MOST_RATIO = 3.0  # bound on the log of a price over its category's median


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """The inputs to the features of n products, in the catalogue or not."""

    ids: UInt32s  # (n,) `name_hash` of each id
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
    """Arrays by row of the catalogue; see `Facts`. It is parallel by row: appended to after `vectors`."""

    vectors: ProductVectors
    ids: GrowingRows[np.uint32]
    numbers: GrowingRows[np.float32]
    attribute_ids: GrowingRows[np.unsignedinteger]
    words: GrowingRows[np.uint32]
    starts: GrowingRows[np.int32]  # (products,) the first step of each product's words
    lengths: GrowingRows[np.uint8]  # (products, 2) steps of the title, then of the other fields
    vocabulary: (
        UInt64s  # (attributes,) ascending keys; without "other" attributes of a single product, which no product shares
    )
    baseline: BaselineShares
    attribute_places: dict[str, int]  # name -> place among the catalogue's attributes
    bands: PriceBands
    medians: dict[str, float]  # category -> median of the logarithms of its prices
    boosts: tuple[str, ...]  # static features of the vectors, in the order of their columns
    _hashes: TextHashes = field(default_factory=TextHashes)
    _new: Prepared[tuple[Facts, npt.NDArray[np.uint8]]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_new", Prepared(self._read))

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def from_bundle(cls, bundle: Bundle, vectors: ProductVectors | None = None) -> ProductColumns:
        """Maps the bundle's columns; computes them for a bundle without, or with those of an earlier format.

        `vectors` are the bundle's, if they were opened before.
        """
        table, manifest = bundle.products(), bundle.manifest
        bands = price_bands(bundle, table)
        arrays = find_columns(bundle)
        if arrays is None:
            arrays = compute_columns(table, bands, bundle.vectors()[:, manifest.dim :], manifest.boosts)
        return cls(
            vectors=bundle.product_vectors() if vectors is None else vectors,
            ids=GrowingRows(arrays.ids),
            numbers=GrowingRows(arrays.numbers),
            attribute_ids=GrowingRows(arrays.attribute_ids),
            words=GrowingRows(arrays.words),
            starts=GrowingRows(arrays.starts),
            lengths=GrowingRows(arrays.lengths),
            vocabulary=arrays.vocabulary,
            baseline=arrays.baseline,
            attribute_places={name: at for at, name in enumerate(table.attributes)},
            bands=bands,
            medians=arrays.medians,
            boosts=tuple(manifest.boosts),
        )

    def take(self, rows: Ints) -> Facts:
        lengths = self.lengths.take(rows)
        steps = np.add(lengths[:, 0], lengths[:, 1], dtype=np.int64)
        before = np.cumsum(steps)
        before -= steps
        at = np.repeat(self.starts.take(rows) - before, steps)
        at += np.arange(len(at))
        return Facts(
            ids=self.ids.take(rows),
            numbers=self.numbers.take(rows),
            attribute_ids=self.attribute_ids.take(rows),
            words=self.words.take(at),
            holders=np.repeat(np.arange(2 * len(rows)), lengths.ravel()),
        )

    def prepare(self, added: AddedProducts) -> None:
        """Computes the facts of products before they are appended. Searches may run meanwhile."""
        self._new.prepare(added)

    def _read(self, added: AddedProducts) -> tuple[Facts, npt.NDArray[np.uint8]]:
        """Returns the facts of products, and the lengths of their words."""
        texts, numbers = self._texts(added.products), self._numbers(added.products)
        self._fill_static(numbers, added.vectors[:, self.vectors.dim :])
        return self._facts(added.products, texts, numbers), texts.lengths()

    def append(self, added: AddedProducts) -> None:
        facts, lengths = self._new.take(added)
        steps = lengths.sum(axis=1, dtype=np.int64)
        starts = len(self.words) + np.cumsum(steps) - steps
        self.words.append(facts.words)
        self.starts.append(starts)
        self.ids.append(facts.ids)
        self.numbers.append(facts.numbers)
        self.attribute_ids.append(facts.attribute_ids)
        self.lengths.append(lengths)  # last: it is what counts

    def remove(self, removed: RemovedProducts) -> None:
        """Rows stay: the baseline is the bundle's."""

    def change_offers(self, changed: ChangedOffers) -> None:
        numbers = self._numbers(changed.products)
        self._fill_static(numbers, changed.features)
        for name in _OF_OFFER:
            at = NUMBERS.index(name)
            self.numbers.put(changed.rows, numbers[:, at], at)
        keys = _price_keys(numbers)
        self.attribute_ids.put(changed.rows, vocabulary_ids(self.vocabulary, keys), PRICE_AT)

    def facts_for(self, products: Sequence[Product]) -> Facts:
        """Computes the facts of products that need not be in the catalogue, as if they were in it.

        Attributes that the catalogue does not keep are ignored. Static features other than `in_stock` are NaN. In a category that is not
        in the catalogue every price counts as the median.
        """
        texts, numbers = self._texts(products), self._numbers(products)
        unknown = [NUMBERS.index(name) for name in STATIC_FEATURES if name != "in_stock"]
        numbers[:, unknown] = np.nan
        return self._facts(products, texts, numbers)

    def _facts(self, products: Sequence[Product], texts: ProductWords, numbers: Floats) -> Facts:
        lengths = texts.lengths()
        return Facts(
            _id_hashes(product.id for product in products),
            numbers,
            self._attribute_ids(texts, numbers),
            texts.steps(),
            np.repeat(np.arange(lengths.size), lengths.ravel()),
        )

    def _texts(self, products: Sequence[Product]) -> ProductWords:
        self._hashes.bound()
        texts, place = ProductWords(self._hashes), self.attribute_places
        for product in products:
            kept = sorted(
                (name for name, text in product.attributes.items() if text and name in place), key=place.__getitem__
            )
            texts.extend(
                [(product.title, product.brand, product.category, {name: product.attributes[name] for name in kept})]
            )
        return texts

    def _attribute_ids(self, texts: ProductWords, numbers: Floats) -> npt.NDArray[np.unsignedinteger]:
        keys = texts.keys()
        keys[:, PRICE_AT] = _price_keys(numbers)
        return vocabulary_ids(self.vocabulary, keys)

    def _numbers(self, products: Sequence[Offered]) -> Floats:
        """Returns (products, NUMBERS), of the static features `in_stock` alone."""
        numbers = np.zeros((len(products), len(NUMBERS)), np.float32)
        numbers[:, NUMBERS.index("in_stock")] = [product.in_stock for product in products]
        for at, product in enumerate(products):
            band = self.bands.band(product)
            numbers[at, NUMBERS.index("price_band")] = NO_BAND if band is None else min(band, NUM_BANDS - 1)
            numbers[at, NUMBERS.index("price_ratio")] = self._price_ratio(product)
        return numbers

    def _fill_static(self, numbers: Floats, features: Float16s) -> None:
        """Writes those of the static features (products, boosts) that the ranker reads."""
        for at, name in enumerate(self.boosts):
            if name in STATIC_FEATURES:
                numbers[:, NUMBERS.index(name)] = features[:, at]

    def _price_ratio(self, product: Offered) -> float:
        median = self.medians.get(product.category)
        if median is None or not product.price_minor or product.price_minor < 0:
            return 0.0
        return float(np.clip(np.log(product.price_minor) - median, -_MOST_RATIO, _MOST_RATIO))


def price_bands(bundle: Bundle, table: ProductTable) -> PriceBands:
    """Returns the price bands of the unified model; without one those of the catalogue."""
    if UNIFIED_PART.is_in(bundle):
        return PriceBands.load(UNIFIED_PART.open(bundle))
    return PriceBands.from_products(table.products())


def compute_columns(table: ProductTable, bands: PriceBands, features: Float16s, boosts: Sequence[str]) -> ColumnArrays:
    """Computes the columns of a catalogue. `features` (products, columns) begin with the static features that `boosts` names."""
    texts = ProductWords()
    for batch in _text_batches(table):
        texts.extend(batch)
    numbers = np.zeros((len(table), len(NUMBERS)), np.float32)
    medians = _fill_prices(numbers, table, bands)
    numbers[:, NUMBERS.index("in_stock")] = table.in_stock
    for at, name in enumerate(boosts):
        if name in STATIC_FEATURES:
            numbers[:, NUMBERS.index(name)] = features[:, at]
    keys = texts.keys()
    keys[:, PRICE_AT] = _price_keys(numbers)
    vocabulary = _shared_keys(keys)
    attribute_ids = vocabulary_ids(vocabulary, keys)
    codes, categories = table.distinct("category")
    category_ids = vocabulary_ids(vocabulary, np.array([category_key(name) for name in categories], np.uint64))
    lengths = texts.lengths()
    starts = np.cumsum(lengths.sum(axis=1, dtype=np.int64))
    return ColumnArrays(
        ids=_id_hashes(table.strings("id", 0, len(table))),
        numbers=numbers,
        attribute_ids=attribute_ids,
        words=texts.steps(),
        starts=np.concatenate(([0], starts[:-1])).astype(np.int32),
        lengths=lengths,
        vocabulary=vocabulary,
        baseline=BaselineShares.from_products(categories, codes, attribute_ids[:, TYPE_AT + 1 :], category_ids),
        medians=medians,
    )


def vocabulary_ids(vocabulary: UInt64s, keys: UInt64s) -> npt.NDArray[np.unsignedinteger]:
    """Returns the id of each key, from 1; 0 for a key that the vocabulary does not have."""
    at = np.searchsorted(vocabulary, keys)
    is_known = vocabulary.take(at, mode="clip") == keys if len(vocabulary) else np.zeros(keys.shape, np.bool_)
    return np.where(is_known, at + 1, 0).astype(np.min_scalar_type(len(vocabulary)))


def _id_hashes(ids: Iterable[str]) -> UInt32s:
    return np.fromiter(map(name_hash, ids), np.uint32)


def _text_batches(table: ProductTable) -> Iterator[Iterator[Text]]:
    for start in range(0, len(table), _READ_AT_ONCE):
        stop = min(start + _READ_AT_ONCE, len(table))
        title, brand, category = (table.strings(field, start, stop) for field in ("title", "brand", "category"))
        yield zip(title, brand, category, table.attributes_between(start, stop), strict=True)


def _price_keys(numbers: Floats) -> UInt64s:
    """Returns (products,) the keys of the products' price bands."""
    keys = np.array([price_key(band) for band in range(NO_BAND, NUM_BANDS)], np.uint64)
    return keys[numbers[:, NUMBERS.index("price_band")].astype(np.int64) - NO_BAND]


def _shared_keys(keys: UInt64s) -> UInt64s:
    """Returns the distinct keys, ascending, without "other" attributes of a single product."""
    distinct, counts = np.unique(keys, return_counts=True)
    is_other = distinct >> np.uint64(32) == OTHER >> 32
    return distinct[(distinct != NO_KEY) & ~(is_other & (counts < 2))]


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
