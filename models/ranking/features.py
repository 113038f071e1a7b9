"""What the ranker sees of a candidate, alike in training and in serving: one row of FEATURES for each product.

Nothing here depends on which other products are candidates: pages of 16 that taught the ranker and the 200 candidates that it
orders give the same product the same row. The retrieval score is `search_cosine`; a rank among 200 has no like on a page.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.catalogue import Product
from models.identifiers import IdentifierIndex, identifiers_in
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.product_columns import (
    BRAND_AT,
    CATEGORY_AT,
    COLOURS_AT,
    NUM_MARKS,
    NUMBERS,
    TRAITS_AT,
    TYPE_AT,
    Facts,
    ProductColumns,
)
from models.ranking.taste import TYPE, Marks, Taste, category_mark, name_hash
from models.unified.history import HistoryItem, query_words
from models.unified.light_tower import LightTower
from models.unified.price_bands import NUM_BANDS
from models.unified.static_features import STATIC_FEATURES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MAX_TYPES = 3  # of a query, as a search asks the classifier

FEATURES: tuple[str, ...] = (
    "query_cosine",  # of query and product
    "search_cosine",  # of the search vector (query and shopper) and product: the retrieval score
    "shopper_cosine",  # of shopper and product; 0 for a shopper of whom nothing is known
    "title_match",  # share of the query's words that the title holds
    "text_match",  # share of the query's words that any field holds
    "identifier_match",  # 1 of a product that has an identifier of the query, as "HX-4210"
    "type_probability",  # that the query asks for the product's category; 0 where the classifier abstained
    "type_known",  # 1 where it did not
    "brand_affinity",  # share of the brand among what the shopper engaged with
    "category_affinity",  # share of the category
    "colour_affinity",  # share that has the colour's words
    "trait_affinity",  # mean over the words of the short attributes of the share that has them
    "price_above",  # bands (of 5) that the price is above the shopper's usual one; 0 where either is unknown
    "price_distance",  # the same without its sign
    "price_ratio",  # log of price over its category's median
    *STATIC_FEATURES,
    "query_words",  # their number
    "shopper_known",  # 1 of a shopper with a vector
    "engaged",  # log(1 + clicks and purchases known), of the latest 32
)
_AT = {name: at for at, name in enumerate(FEATURES)}
_COSINES = slice(0, 3)
_TOLD = slice(_AT["type_probability"], _AT["trait_affinity"] + 1)  # what `_sums` gives
_GIVEN = slice(_AT["price_ratio"], _AT[STATIC_FEATURES[-1]] + 1)  # first columns of `Facts.numbers`, as they are
_OF_QUERY = slice(_AT["query_words"], _AT["engaged"] + 1)
_PRICE_BAND, _PER_WORD = NUMBERS.index("price_band"), slice(NUMBERS.index("per_colour"), len(NUMBERS))
_AFFINITIES = slice(_AT["colour_affinity"], _AT["trait_affinity"] + 1)
_UNKNOWN = -1.0  # a shopper's usual price band
_NO_MARKS, _NO_SHARES = np.empty(0, np.uint64), np.empty(0, np.float32)
_SIGN_AND_NUMBER = np.int32(0x0FFFE000 - 0x80000000)
_BIAS = np.float32(2.0**112)
_AT_ONCE = 256  # vectors: as many stay in a core's own cache, as float32


def _sums() -> Floats:
    """(NUM_MARKS, features) adds up what the marks of a product are worth: `type_probability` to `trait_affinity`."""
    sums = np.zeros((NUM_MARKS, len(FEATURES)), np.float32)
    for name, columns in (
        ("type_probability", TYPE_AT),
        ("brand_affinity", BRAND_AT),
        ("category_affinity", CATEGORY_AT),
        ("colour_affinity", COLOURS_AT),
        ("trait_affinity", TRAITS_AT),
    ):
        sums[columns, _AT[name]] = 1
    return np.ascontiguousarray(sums[:, _TOLD])


_SUMS = _sums()


@dataclass(frozen=True, slots=True, eq=False)
class QueryInput:
    """One search as the features need it."""

    text: str
    locale: str
    query: Floats  # (dim,) unit
    shopper: Floats | None  # (dim,) of any length; None or 0 where nothing is known
    search: Floats  # (dim,) unit: query and shopper together
    taste: Taste | None = None  # None where the shopper clicked and bought nothing
    types: TypePrediction | None = None  # of at most MAX_TYPES; None is as if the classifier had abstained


class CandidateFeatures:
    """Features of candidates; safe to call from several threads."""

    def __init__(self, bundle: Bundle, tower: LightTower | None = None, types: TypeModel | None = None) -> None:
        """`types` is the bundle's classifier; None where it has none. It and the tower are needed by `inputs` only."""
        self._tower, self._types = tower, types
        self._columns = ProductColumns.of(bundle)
        self._identifiers: IdentifierIndex = bundle.identifiers()
        self._scratch = _Scratch()

    def inputs(
        self, queries: Sequence[str], locales: Sequence[str], histories: Sequence[Sequence[HistoryItem]]
    ) -> list[QueryInput]:
        """Many searches at once, as a search with full personalisation makes them."""
        if self._tower is None:
            raise ValueError("inputs need the tower that CandidateFeatures was made without")
        asked = self._tower.encode_queries(list(zip(queries, locales, strict=True)))
        shoppers = self._tower.encode_shoppers(histories)
        searches = self._tower.personalise(asked, shoppers)
        told: Sequence[TypePrediction | None] = [None] * len(queries)
        if self._types is not None:
            told = self._types.classify(queries, locales, MAX_TYPES)
        return [
            QueryInput(text, locale, asked[at], shoppers[at], searches[at], Taste.of(histories[at]), told[at])
            for at, (text, locale) in enumerate(zip(queries, locales, strict=True))
        ]

    def of(self, query: QueryInput, rows: Ints) -> Floats:
        """(candidates, FEATURES) of products by row of the catalogue. Raises ValueError for a row that it does not have."""
        return self.of_many([query], [rows])

    def of_many(self, queries: Sequence[QueryInput], rows: Sequence[Ints]) -> Floats:
        """(candidates of all queries, FEATURES), in their order. Raises ValueError for a row that the catalogue does not have."""
        asked = [_Asked(query, len(some)) for query, some in zip(queries, rows, strict=True)]
        every = np.concatenate([np.empty(0, np.int64), *rows], dtype=np.int64, casting="unsafe")
        if len(every) and not 0 <= int(every.min()) <= int(every.max()) < len(self._columns):
            raise ValueError(
                f"rows must be 0 to {len(self._columns) - 1}, not {int(every.min())} to {int(every.max())}"
            )
        found = self._of_facts(asked, self._columns.take(every), self._scratch)
        start = 0
        for one in asked:
            mine, some = found[start : start + one.count], every[start : start + one.count]
            self._fill_cosines(mine, one.query, some)
            for match in self._identifiers.find(one.query.text):
                is_held = match.rows.take(np.searchsorted(match.rows, some), mode="clip") == some
                mine[is_held, _AT["identifier_match"]] = 1
            start += one.count
        return found

    def of_products(self, query: QueryInput, products: Sequence[Product]) -> Floats:
        """(products, FEATURES) of products that the catalogue need not hold. NaN is what it would have to know of them: the cosines,
        and `popularity`, `new` and `value`."""
        found = self._of_facts([_Asked(query, len(products))], self._columns.facts_of(products), _Scratch())
        found[:, _COSINES] = np.nan
        identifiers = self._identifiers.specific(query.text)
        if identifiers:
            found[:, _AT["identifier_match"]] = [
                not identifiers.isdisjoint(identifiers_in(product.id) | identifiers_in(product.title))
                for product in products
            ]
        return found

    def _fill_cosines(self, found: Floats, query: QueryInput, rows: Ints) -> None:
        columns = self._columns
        wanted = np.zeros((3, columns.dim), np.float32)
        np.multiply(query.query, _BIAS, out=wanted[0])
        np.multiply(query.search, _BIAS, out=wanted[1])
        length = _length(query.shopper)
        if query.shopper is not None and length:
            np.multiply(query.shopper, _BIAS / np.float32(length), out=wanted[2])
        halves, bits = self._scratch.halves(columns.vectors.shape[1]), self._scratch.bits(columns.dim)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            columns.vectors.take(some, axis=0, out=halves[: len(some)], mode="clip")
            products = widened(halves[: len(some), : columns.dim], bits[: len(some)])
            np.matmul(products, wanted.T, out=found[start : start + len(some), _COSINES])

    def _of_facts(self, asked: Sequence[_Asked], facts: Facts, scratch: _Scratch) -> Floats:
        """All features but the cosines and `identifier_match`."""
        counts = [one.count for one in asked]
        found = np.zeros((len(facts), len(FEATURES)), np.float32)
        np.matmul(scratch.worth(asked, facts), _SUMS, out=found[:, _TOLD])
        found[:, _AFFINITIES] *= facts.numbers[:, _PER_WORD]
        found[:, _GIVEN] = facts.numbers[:, :_PRICE_BAND]
        alike = np.repeat(np.array([one.alike for one in asked], np.float32).reshape(-1, 6), counts, axis=0)
        found[:, _AT["type_known"]] = alike[:, 0]
        found[:, _OF_QUERY] = alike[:, 1:4]
        bands, usual = facts.numbers[:, _PRICE_BAND], alike[:, 4]
        above = (bands - usual) * np.float32(1 / (NUM_BANDS - 1)) * (np.minimum(bands, usual) >= 0)
        found[:, _AT["price_above"]] = above
        np.abs(above, out=found[:, _AT["price_distance"]])
        held = _words_held(asked, facts) * alike[:, 5:]
        found[:, _AT["title_match"]] = held[:, 0]
        np.add(held[:, 0], held[:, 1], out=found[:, _AT["text_match"]])
        return found


class _Asked:
    """What is alike for all candidates of a search."""

    __slots__ = ("alike", "count", "marks", "query", "shares", "words")

    def __init__(self, query: QueryInput, count: int) -> None:
        self.query, self.count = query, count
        self.words = np.fromiter(map(name_hash, query_words(query.text)), np.uint32)
        taste, types = query.taste, query.types
        is_sure = types is not None and not types.abstained
        self.marks, self.shares = (_NO_MARKS, _NO_SHARES) if taste is None else (taste.marks, taste.shares)
        if types is not None and is_sure:
            likely = types.types[:MAX_TYPES]
            self.marks = np.concatenate([self.marks, _type_marks(tuple(name for name, _ in likely))])
            self.shares = np.concatenate([self.shares, np.array([chance for _, chance in likely], np.float32)])
        self.alike = (
            float(is_sure),
            float(len(self.words)),
            float(_length(query.shopper) > 0),
            0.0 if taste is None else math.log1p(taste.engaged),
            _UNKNOWN if taste is None or taste.price_band is None else taste.price_band,
            1 / max(len(self.words), 1),
        )


class _Scratch(threading.local):
    """Memory that every thread has for itself: fresh pages for each call would cost more than what is done in them."""

    def __init__(self) -> None:
        self._table = np.zeros(1, np.float32)  # what each mark of a vocabulary is worth to a search; 0 between calls
        self._halves = np.empty((0, 0), np.float16)
        self._bits = np.empty((0, 0), np.int32)

    def halves(self, columns: int) -> npt.NDArray[np.float16]:
        if self._halves.shape[1] != columns:
            self._halves = np.empty((_AT_ONCE, columns), np.float16)
        return self._halves

    def bits(self, columns: int) -> npt.NDArray[np.int32]:
        if self._bits.shape[1] != columns:
            self._bits = np.empty((_AT_ONCE, columns), np.int32)
        return self._bits

    def worth(self, asked: Sequence[_Asked], facts: Facts) -> Floats:
        """(candidates, NUM_MARKS)"""
        worth = np.zeros(facts.marks.shape, np.float32)
        marks = np.concatenate([one.marks for one in asked] or [_NO_MARKS])
        if not len(marks) or not len(facts.vocabulary):
            return worth
        if len(self._table) != len(facts.vocabulary) + 1:
            self._table = np.zeros(len(facts.vocabulary) + 1, np.float32)
        places = np.searchsorted(facts.vocabulary, marks)
        is_known = facts.vocabulary.take(places, mode="clip") == marks
        places += 1
        places *= is_known  # the others' is that of no mark
        start = first = 0
        for one in asked:
            stop, last = start + one.count, first + len(one.marks)
            if last > first:
                mine = places[first:last]
                self._table[mine] = one.shares
                self._table[0] = 0
                self._table.take(facts.marks[start:stop], out=worth[start:stop], mode="clip")
                self._table[mine] = 0
            start, first = stop, last
        return worth


def _words_held(asked: Sequence[_Asked], facts: Facts) -> npt.NDArray[np.int64]:
    """(candidates, 2) how many of the words asked for each has: in the title, and elsewhere only."""
    hits = np.zeros(facts.words.shape, np.bool_)
    ends = np.searchsorted(facts.holders, 2 * np.cumsum([one.count for one in asked]))
    start = 0
    for one, stop in zip(asked, ends.tolist(), strict=True):
        words, mine = facts.words[start:stop], hits[start:stop]
        for word in one.words:
            mine |= words == word
        start = stop
    holders = facts.holders[np.flatnonzero(hits) // facts.words.shape[1]]
    return np.bincount(holders, minlength=2 * len(facts)).reshape(-1, 2)


def _length(vector: Floats | None) -> float:
    return 0.0 if vector is None else math.sqrt(float(vector @ vector))


def widened(halves: npt.NDArray[np.float16], out: npt.NDArray[np.int32]) -> Floats:
    """Finite numbers as float32, 2**112 times too small and otherwise exact, in the memory of `out`, of the same shape.

    Their bits are moved to where a float32 has them, with the exponent's bias of a float16: 200 x 272 take 9 us, in NumPy's way 89.
    """
    np.copyto(out, halves.view(np.int16))
    np.left_shift(out, 13, out=out)
    np.bitwise_and(out, _SIGN_AND_NUMBER, out=out)
    return out.view(np.float32)


@lru_cache(maxsize=4_096)
def _type_marks(names: tuple[str, ...]) -> Marks:
    return np.fromiter((category_mark(name, TYPE) for name in names), np.uint64)
