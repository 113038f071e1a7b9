"""What the ranker's features need of every product, as arrays: read once from a bundle, then only indexed.

Beside the mapped vectors a product takes 32 bytes of numbers, 2 or 4 for each of 23 marks, 6 to find its words, and 4 for each word, of
which there are up to 24 of the title and 116 of other fields, in steps of 8.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.catalogue import Product
from models.product_table import ATTRIBUTE, ProductTable
from models.ranking.taste import NOTHING, TYPE, Marks, brand_mark, category_mark, name_hash
from models.unified.history import MAX_TERMS
from models.unified.price_bands import NUM_BANDS, PriceBands
from models.unified.static_features import STATIC_FEATURES
from models.unified.words import words_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MAX_TITLE_WORDS = 24
MAX_WORDS = 96  # of the other fields together
NO_BAND = -1
_LONGEST_TERM_CHARS = 24  # an attribute that a history remembers: see `models.unified.history.product_terms`
_COLOURS = ("colour", "color")
_MAX_COLOUR_WORDS = 4
_STEP = 8  # words are kept by as many
_READ_AT_ONCE = 4_096  # products

NUMBERS = ("price_ratio", *STATIC_FEATURES, "price_band", "per_colour", "per_trait")  # columns of numbers
# Columns of marks: the category as a type, brand, category, words of the colour and of short attributes.
TYPE_AT, BRAND_AT, CATEGORY_AT, COLOURS_AT, TRAITS_AT = (
    0,
    1,
    2,
    slice(3, 3 + _MAX_COLOUR_WORDS),
    slice(-MAX_TERMS, None),
)
NUM_MARKS = 3 + _MAX_COLOUR_WORDS + MAX_TERMS


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Some products (n,), of the catalogue or not, as the features need them."""

    numbers: Floats  # (n, NUMBERS); the last two are 1 over the number of words of that kind, 0 where there are none
    marks: npt.NDArray[np.unsignedinteger]  # (n, NUM_MARKS) places in `vocabulary` from 1; 0 is no mark
    words: npt.NDArray[np.uint32]  # (steps, 8) hashes, each word of a product once; 0 is no word
    holders: Ints  # (steps,) ascending: 2 * product, 1 more where the title does not have the words
    vocabulary: Marks  # (marks,) ascending

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class ProductColumns:
    """Arrays by row of the catalogue, in the meaning of `Facts`."""

    vectors: npt.NDArray[np.float16]  # (products, columns) mapped: unit vectors in the first `dim`
    dim: int
    numbers: Floats
    marks: npt.NDArray[np.unsignedinteger]
    words: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int32]  # (products,) the first of each one's steps of words
    lengths: npt.NDArray[np.uint8]  # (products, 2) steps of the title, and after them of other fields
    vocabulary: Marks
    attributes: tuple[str, ...]
    bands: PriceBands
    medians: dict[str, float]  # of the log of price, by category

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, bundle: Bundle) -> ProductColumns:
        """Without the unified model there are no price bands of its own: the catalogue's stand in."""
        table = bundle.products()
        bands = PriceBands.load(bundle.unified_folder) if bundle.is_unified else PriceBands.of(table.products())
        texts = _Texts()
        for batch in _text_batches(table):
            texts.extend(batch)
        vocabulary, marks = texts.marks()
        numbers = np.zeros((len(table), len(NUMBERS)), np.float32)
        medians = _fill_prices(numbers, table, bands)
        _fill_static(numbers, bundle, table)
        _fill_counts(numbers, marks)
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
            vocabulary=self.vocabulary,
        )

    def facts_of(self, products: Sequence[Product]) -> Facts:
        """Of products that need not be in the catalogue, as if they were: attributes that it does not keep count for nothing. What is
        static is NaN but for what is in stock, and a price in a category that the catalogue does not have is the usual one."""
        texts = _Texts()
        texts.extend(
            (p.title, p.brand, p.category, {n: v for n in self.attributes if (v := p.attributes.get(n, ""))})
            for p in products
        )
        vocabulary, marks = texts.marks()
        numbers = np.zeros((len(products), len(NUMBERS)), np.float32)
        numbers[:, [NUMBERS.index(name) for name in STATIC_FEATURES]] = np.nan
        numbers[:, NUMBERS.index("in_stock")] = [product.in_stock for product in products]
        for at, product in enumerate(products):
            band = self.bands.band(product)
            numbers[at, NUMBERS.index("price_band")] = NO_BAND if band is None else min(band, NUM_BANDS - 1)
            numbers[at, NUMBERS.index("price_ratio")] = self._price_ratio(product)
        _fill_counts(numbers, marks)
        holders = np.repeat(np.arange(2 * len(products)), texts.lengths().ravel())
        return Facts(numbers, marks, texts.steps(), holders, vocabulary)

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


class _WordsOf(dict[str, tuple[int, ...]]):
    """Text -> hashes of its words. Only short texts are kept: they come again."""

    def __init__(self) -> None:
        self._hashes = _Hashes()

    def __missing__(self, text: str) -> tuple[int, ...]:
        found = tuple(map(self._hashes.__getitem__, words_of(text, MAX_WORDS)))
        if len(text) <= 2 * _LONGEST_TERM_CHARS:
            self[text] = found
        return found


class _Texts:
    """Words and marks of products, one after the other."""

    def __init__(self) -> None:
        self._words_of = _WordsOf()
        self._words, self._lengths = array("I"), array("q")  # of each product the title's, then the others'
        self._marks = array("I")  # NUM_MARKS a product, numbered in order of their first appearance from 1
        self._numbers: dict[int, int] = {NOTHING: 0}

    def extend(self, products: Iterable[Text]) -> None:
        words_of, words, lengths = self._words_of, self._words, self._lengths
        for title, brand, category, attributes in products:
            of_values = [words_of[value] for value in attributes.values()]
            short = [
                w for value, w in zip(attributes.values(), of_values, strict=True) if len(value) <= _LONGEST_TERM_CHARS
            ]
            traits = list(dict.fromkeys(chain.from_iterable(short)))[:MAX_TERMS]
            colour = next((value for name in _COLOURS if (value := attributes.get(name))), "")
            colours = words_of[colour][:_MAX_COLOUR_WORDS]
            in_title = words_of[title][:MAX_TITLE_WORDS]
            others = dict.fromkeys(chain(words_of[brand], words_of[category], *of_values))
            if len(others) > MAX_WORDS:
                others = dict.fromkeys(list(others)[:MAX_WORDS])
            others.update(dict.fromkeys(chain(traits, colours)))
            for word in in_title:
                others.pop(word, None)
            words.extend(in_title)
            words.extend(others)
            lengths.extend((len(in_title), len(others)))
            names = category_mark(category, TYPE), brand_mark(brand), category_mark(category)
            self._add_marks(*names, *colours, *(NOTHING,) * (_MAX_COLOUR_WORDS - len(colours)), *traits)

    def _add_marks(self, *marks: int) -> None:
        numbers = self._numbers
        self._marks.extend([numbers.setdefault(mark, len(numbers)) for mark in marks])
        self._marks.extend((NOTHING,) * (NUM_MARKS - len(marks)))

    def marks(self) -> tuple[Marks, npt.NDArray[np.unsignedinteger]]:
        """The vocabulary, and the marks of each product as `Facts` has them."""
        every = np.fromiter(self._numbers, np.uint64, len(self._numbers))
        order = np.argsort(every)  # 0 stays first
        place = np.empty(len(every), np.min_scalar_type(len(every)))
        place[order] = np.arange(len(every))
        return every[order][1:], place[np.frombuffer(self._marks, np.uint32)].reshape(-1, NUM_MARKS)

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


def _fill_counts(numbers: Floats, marks: npt.NDArray[np.unsignedinteger]) -> None:
    for name, columns in (("colour", COLOURS_AT), ("trait", TRAITS_AT)):
        count = np.count_nonzero(marks[:, columns], axis=1)
        numbers[:, NUMBERS.index("per_" + name)] = np.where(count, 1 / np.maximum(count, 1), 0)


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
