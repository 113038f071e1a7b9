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

from models.arrays import Codes, Float16s, Floats, Ints
from models.bundles.bundle import Bundle
from models.index.float16 import SCALE, to_scaled_float32
from models.products.identifiers import IdentifierIndex, identifiers_in
from models.products.product import Product
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.attribute_lift import MAX_TYPES, AttributeLift
from models.ranking.feature_names import FEATURES
from models.ranking.product_columns import (
    BRAND_AT,
    CATEGORY_AT,
    NUM_MARKS,
    NUMBERS,
    PRICE_AT,
    TRAITS_AT,
    TYPE_AT,
    Facts,
    ProductColumns,
)
from models.ranking.query_attributes import QueryAttributes
from models.ranking.taste import Taste, name_hash
from models.unified.history import HistoryItem, query_words
from models.unified.light_tower import LightTower
from models.unified.price_bands import NUM_BANDS
from models.unified.static_feature_names import STATIC_FEATURES

_AT = {name: at for at, name in enumerate(FEATURES)}
_COSINES = slice(0, 3)
_LIKED = slice(_AT["type_probability"], _AT["trait_affinity"] + 1)  # what `_SUMS` gives of marks that are liked
_ASKED = slice(_AT["brand_asked"], _AT["trait_asked"] + 1)  # and of those that are asked for, the type aside
_GIVEN = slice(_AT["price_ratio"], _AT[STATIC_FEATURES[-1]] + 1)  # first columns of `Facts.numbers`, as they are
_OF_QUERY = slice(_AT["query_words"], _AT["engaged"] + 1)
_PRICE_BAND = NUMBERS.index("price_band")
_UNKNOWN = -1.0  # a shopper's usual price band
_AT_ONCE = 256  # vectors: as many stay in a core's own cache, as float32


def _sums() -> Floats:
    """(NUM_MARKS, 5) adds up what the marks of a product are worth: as its type, its brand, category, price and traits."""
    sums = np.zeros((NUM_MARKS, 5), np.float32)
    columns: tuple[int | slice, ...] = (TYPE_AT, BRAND_AT, CATEGORY_AT, PRICE_AT, TRAITS_AT)
    for at, column in enumerate(columns):
        sums[column, at] = 1
    return sums


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

    def __init__(
        self,
        bundle: Bundle,
        tower: LightTower | None = None,
        types: TypeModel | None = None,
        *,
        query_attributes: QueryAttributes | None = None,
        columns: ProductColumns | None = None,
    ) -> None:
        """`types` is the bundle's classifier; None where it has none. It and the tower are needed by `inputs` only. `query_attributes` are
        those that the ranker learned; None: no word asks for any. `columns` are those of the bundle, where they were read before."""
        self._tower, self._types = tower, types
        self._columns = columns or ProductColumns.from_bundle(bundle)
        self._worth = AttributeLift(self._columns, query_attributes or QueryAttributes.none())
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
            QueryInput(text, locale, asked[at], shoppers[at], searches[at], Taste.from_history(histories[at]), told[at])
            for at, (text, locale) in enumerate(zip(queries, locales, strict=True))
        ]

    def compute(self, query: QueryInput, rows: Ints) -> Floats:
        """(candidates, FEATURES) of products by row of the catalogue. Raises ValueError for a row that it does not have."""
        return self.compute_many([query], [rows])

    def compute_many(self, queries: Sequence[QueryInput], rows: Sequence[Ints]) -> Floats:
        """(candidates of all queries, FEATURES), in their order. Raises ValueError for a row that the catalogue does not have."""
        asked = [_Asked(query, len(some)) for query, some in zip(queries, rows, strict=True)]
        every = np.concatenate([np.empty(0, np.int64), *rows], dtype=np.int64, casting="unsafe")
        if len(every) and not 0 <= int(every.min()) <= int(every.max()) < len(self._columns):
            raise ValueError(
                f"rows must be 0 to {len(self._columns) - 1}, not {int(every.min())} to {int(every.max())}"
            )
        found = self._of_facts(asked, self._columns.take(every))
        start = 0
        for one in asked:
            mine, some = found[start : start + one.count], every[start : start + one.count]
            self._fill_cosines(mine, one.query, some)
            for match in self._identifiers.find(one.query.text):
                is_held = match.rows.take(np.searchsorted(match.rows, some), mode="clip") == some
                mine[is_held, _AT["identifier_match"]] = 1
            start += one.count
        return found

    def compute_for_products(self, query: QueryInput, products: Sequence[Product]) -> Floats:
        """(products, FEATURES) of products that the catalogue need not hold. NaN is what it would have to know of them: the cosines,
        and `popularity`, `new` and `value`."""
        found = self._of_facts([_Asked(query, len(products))], self._columns.facts_for(products))
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
        np.multiply(query.query, SCALE, out=wanted[0])
        np.multiply(query.search, SCALE, out=wanted[1])
        length = _length(query.shopper)
        if query.shopper is not None and length:
            np.multiply(query.shopper, SCALE / np.float32(length), out=wanted[2])
        halves, bits = self._scratch.halves(columns.vectors.shape[1]), self._scratch.bits(columns.dim)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            columns.vectors.take(some, axis=0, out=halves[: len(some)], mode="clip")
            products = to_scaled_float32(halves[: len(some), : columns.dim], bits[: len(some)])
            np.matmul(products, wanted.T, out=found[start : start + len(some), _COSINES])

    def _of_facts(self, asked: Sequence[_Asked], facts: Facts) -> Floats:
        """All features but the cosines and `identifier_match`."""
        counts = [one.count for one in asked]
        found = np.zeros((len(facts), len(FEATURES)), np.float32)
        liked = self._worth.liked([(one.query.taste, one.query.types) for one in asked], counts, facts.marks)
        np.matmul(liked, _SUMS, out=found[:, _LIKED])
        worded = self._worth.asked([(one.words, one.query.locale) for one in asked], counts, facts.marks)
        np.matmul(worded, _SUMS[:, 1:], out=found[:, _ASKED])
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


@lru_cache(maxsize=4_096)
def _words_of_query(text: str) -> tuple[tuple[str, ...], npt.NDArray[np.uint32]]:
    """The words and their hashes: of eight searches a tenth of the time went here, and queries come again."""
    words = tuple(query_words(text))
    return words, np.fromiter(map(name_hash, words), np.uint32)


class _Asked:
    """What is alike for all candidates of a search."""

    __slots__ = ("alike", "count", "hashes", "query", "words")

    def __init__(self, query: QueryInput, count: int) -> None:
        self.query, self.count = query, count
        self.words, self.hashes = _words_of_query(query.text)
        taste, types = query.taste, query.types
        self.alike = (
            float(types is not None and not types.abstained),
            float(len(self.words)),
            float(_length(query.shopper) > 0),
            0.0 if taste is None else math.log1p(taste.engaged),
            _UNKNOWN if taste is None or taste.price_band is None else taste.price_band,
            1 / max(len(self.words), 1),
        )


class _Scratch(threading.local):
    """Memory that every thread has for itself: fresh pages for each call would cost more than what is done in them."""

    def __init__(self) -> None:
        self._halves = np.empty((0, 0), np.float16)
        self._bits = np.empty((0, 0), np.int32)

    def halves(self, columns: int) -> Float16s:
        if self._halves.shape[1] != columns:
            self._halves = np.empty((_AT_ONCE, columns), np.float16)
        return self._halves

    def bits(self, columns: int) -> Codes:
        if self._bits.shape[1] != columns:
            self._bits = np.empty((_AT_ONCE, columns), np.int32)
        return self._bits


def _words_held(asked: Sequence[_Asked], facts: Facts) -> Ints:
    """(candidates, 2) how many of the words asked for each has: in the title, and elsewhere only."""
    hits = np.zeros(facts.words.shape, np.bool_)
    ends = np.searchsorted(facts.holders, 2 * np.cumsum([one.count for one in asked]))
    start = 0
    for one, stop in zip(asked, ends.tolist(), strict=True):
        words, mine = facts.words[start:stop], hits[start:stop]
        for word in one.hashes:
            mine |= words == word
        start = stop
    holders = facts.holders[np.flatnonzero(hits) // facts.words.shape[1]]
    return np.bincount(holders, minlength=2 * len(facts)).reshape(-1, 2)


def _length(vector: Floats | None) -> float:
    return 0.0 if vector is None else math.sqrt(float(vector @ vector))
