"""The features of a candidate, computed by the same code in training and serving: one row of FEATURES for each product.

No feature depends on the other candidates: a product has the same row on a logged page of 16 and among the 200 candidates of a search. The
retrieval score is therefore the feature `search_cosine`, not a rank, which would mean something else on a page.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Float16s, Floats, Ints, UInt32s
from models.bundles.bundle import Bundle
from models.index.float16 import SCALE, to_scaled_float32
from models.lexical.fusion import word_evidence
from models.lexical.lexical_index import LexicalIndex
from models.products.identifiers import IdentifierIndex, product_keys
from models.products.product import Product
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.attribute_lift import MAX_TYPES, AttributeLift
from models.ranking.click_memory import Clicks, clicks_of
from models.ranking.feature_names import FEATURES
from models.ranking.product_columns import NUMBERS, Facts, ProductColumns
from models.ranking.product_words import BRAND_AT, CATEGORY_AT, NUM_ATTRIBUTES, OTHERS_AT, PRICE_AT, TYPE_AT
from models.ranking.query_attributes import QueryAttributes
from models.ranking.taste import Taste, name_hash
from models.unified.history import HistoryItem, query_words
from models.unified.light_tower import LightTower
from models.unified.price_bands import NUM_BANDS
from models.unified.static_feature_names import STATIC_FEATURES

_AT = {name: at for at, name in enumerate(FEATURES)}
_COSINES = slice(0, 3)
_WORDS = slice(_AT["words_held"], _AT["lexical_score"] + 1)
_CLICKS = slice(_AT["clicked_share"], _AT["clicked"] + 1)
_TASTE_LIFTS = slice(_AT["type_probability"], _AT["trait_affinity"] + 1)  # what `_SUMS` makes of lifts by taste
_WORD_LIFTS = slice(_AT["brand_asked"], _AT["trait_asked"] + 1)  # the same of lifts by words, without the type
_OWN = slice(_AT["clicked_before"], _AT["bought_before"] + 1)
_NUMBERS = slice(_AT["price_ratio"], _AT[STATIC_FEATURES[-1]] + 1)  # copies of the first columns of `Facts.numbers`
_OF_QUERY = slice(_AT["query_words"], _AT["engaged"] + 1)
_PRICE_BAND = NUMBERS.index("price_band")
_UNKNOWN_BAND = -1.0
_BLOCK = 256  # vectors converted together: as float32 they fit a core's own cache


def _sums() -> Floats:
    """Returns a matrix (NUM_ATTRIBUTES, 5) that sums lifts by group: type, brand, category, price and other attributes."""
    sums = np.zeros((NUM_ATTRIBUTES, 5), np.float32)
    columns: tuple[int | slice, ...] = (TYPE_AT, BRAND_AT, CATEGORY_AT, PRICE_AT, OTHERS_AT)
    for at, column in enumerate(columns):
        sums[column, at] = 1
    return sums


_SUMS = _sums()


@dataclass(frozen=True, slots=True, eq=False)
class QueryInput:
    """One search, as the features need it."""

    text: str
    locale: str
    query: Floats  # (dim,) unit vector
    shopper: Floats | None  # (dim,) of any length; None or 0 for an unknown shopper
    search: Floats  # (dim,) unit vector of query and shopper together
    taste: Taste | None = None  # None if the shopper clicked and bought nothing
    types: TypePrediction | None = None  # at most MAX_TYPES; None counts as an abstaining classifier
    time_ms: int | None = None  # of a search of a log: only earlier clicks count


class CandidateFeatures:
    """Computes the features of candidates. Safe to call from several threads."""

    def __init__(
        self,
        bundle: Bundle,
        tower: LightTower | None = None,
        types: TypeModel | None = None,
        *,
        query_attributes: QueryAttributes | None = None,
        columns: ProductColumns | None = None,
        identifiers: IdentifierIndex | None = None,
        lexical: LexicalIndex | None = None,
        clicks: Clicks | None = None,
    ) -> None:
        """Takes the bundle's search tower and query classifier, which only `inputs` needs.

        `types` is None if the bundle has no classifier. `query_attributes` are those that the ranker learned; with None the features
        "..._asked" are 0, and so are "clicked..." without `clicks`. `columns`, `identifiers` and `lexical` are the bundle's, if they were
        read before.
        """
        self._tower, self._types = tower, types
        self._columns = columns or ProductColumns.from_bundle(bundle)
        self._lift = AttributeLift(self._columns, query_attributes or QueryAttributes.none())
        self._identifiers = identifiers or bundle.identifiers()
        self._lexical = lexical or bundle.lexical()
        self._clicks = clicks
        self._identifier_columns = tuple(bundle.manifest.catalogue.get("identifiers", ()))
        self._scratch = _Scratch()

    def with_clicks(self, clicks: Clicks | None) -> CandidateFeatures:
        """Returns the same features with other clicks."""
        other = copy.copy(self)
        other._clicks = clicks
        return other

    def inputs(
        self,
        queries: Sequence[str],
        locales: Sequence[str],
        histories: Sequence[Sequence[HistoryItem]],
        times_ms: Sequence[int] | None = None,
    ) -> list[QueryInput]:
        """Encodes and classifies many searches together, each fully personalised. `times_ms` are those of searches of a log."""
        if self._tower is None:
            raise ValueError("inputs need the tower that CandidateFeatures was made without")
        vectors = self._tower.encode_queries(list(zip(queries, locales, strict=True)))
        shoppers = self._tower.encode_shoppers(histories)
        searches = self._tower.personalise(vectors, shoppers)
        types: Sequence[TypePrediction | None] = [None] * len(queries)
        if self._types is not None:
            types = self._types.classify(queries, locales, MAX_TYPES)
        return [
            QueryInput(
                text,
                locale,
                vectors[at],
                shoppers[at],
                searches[at],
                Taste.from_history(histories[at]),
                types[at],
                None if times_ms is None else times_ms[at],
            )
            for at, (text, locale) in enumerate(zip(queries, locales, strict=True))
        ]

    def compute(self, query: QueryInput, rows: Ints) -> Floats:
        """Returns features (candidates, FEATURES) of the products in these rows of the catalogue. Raises ValueError for an unknown row."""
        return self.compute_many([query], [rows])

    def compute_many(
        self, queries: Sequence[QueryInput], rows: Sequence[Ints], words: Sequence[Floats | None] | None = None
    ) -> Floats:
        """Returns features (candidates of all queries, FEATURES), query after query. Raises ValueError for an unknown row.

        `words` are the `word_evidence` (candidates, 2) of each query, None where it is not known yet.
        """
        searches = [_Search(query, len(candidates)) for query, candidates in zip(queries, rows, strict=True)]
        every = np.concatenate([np.empty(0, np.int64), *rows], dtype=np.int64, casting="unsafe")
        if len(every) and not 0 <= int(every.min()) <= int(every.max()) < len(self._columns):
            raise ValueError(
                f"rows must be 0 to {len(self._columns) - 1}, not {int(every.min())} to {int(every.max())}"
            )
        features = self._from_facts(searches, self._columns.take(every))
        start = 0
        for search, evidence in zip(searches, words or [None] * len(searches), strict=True):
            block, candidates = features[start : start + search.count], every[start : start + search.count]
            self._fill_cosines(block, search.query, candidates)
            self._fill_evidence(block, search.query, candidates, evidence)
            for match in self._identifiers.find(search.query.text):
                is_match = match.rows.take(np.searchsorted(match.rows, candidates), mode="clip") == candidates
                block[is_match, _AT["identifier_match"]] = 1
            start += search.count
        return features

    def compute_for_products(self, query: QueryInput, products: Sequence[Product]) -> Floats:
        """Returns features (products, FEATURES) of products that need not be in the catalogue.

        What only the catalogue could say is NaN: the cosines, `words_held`, `lexical_score`, the clicks, `popularity`, `new` and `value`.
        """
        features = self._from_facts([_Search(query, len(products))], self._columns.facts_for(products))
        for unknown in (_COSINES, _WORDS, _CLICKS):
            features[:, unknown] = np.nan
        keys = self._identifiers.specific_keys(query.text)
        if keys:
            features[:, _AT["identifier_match"]] = [
                not keys.isdisjoint(product_keys(product, self._identifier_columns)) for product in products
            ]
        return features

    def _fill_evidence(self, features: Floats, query: QueryInput, rows: Ints, words: Floats | None) -> None:
        if words is None and self._lexical is not None:
            asked = self._lexical.query(query.text)
            words = word_evidence(asked, self._lexical.match(asked, rows))
        if words is not None:
            features[:, _WORDS] = words
        if self._clicks is not None:
            features[:, _CLICKS] = clicks_of(self._clicks.find(query.text, query.locale, query.time_ms), rows)

    def _fill_cosines(self, features: Floats, query: QueryInput, rows: Ints) -> None:
        products = self._columns.vectors
        vectors = np.zeros((3, products.dim), np.float32)
        np.multiply(query.query, SCALE, out=vectors[0])
        np.multiply(query.search, SCALE, out=vectors[1])
        length = _length(query.shopper)
        if query.shopper is not None and length:
            np.multiply(query.shopper, SCALE / np.float32(length), out=vectors[2])
        float16s, bits = self._scratch.float16s(products.shape[1]), self._scratch.bits(products.dim)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            products.take(block, out=float16s[: len(block)])
            units = to_scaled_float32(float16s[: len(block), : products.dim], bits[: len(block)])
            np.matmul(units, vectors.T, out=features[start : start + len(block), _COSINES])

    def _from_facts(self, searches: Sequence[_Search], facts: Facts) -> Floats:
        """Computes all features but the cosines and `identifier_match`."""
        counts = [search.count for search in searches]
        features = np.zeros((len(facts), len(FEATURES)), np.float32)
        tastes = [(search.query.taste, search.query.types) for search in searches]
        lifts = self._lift.by_taste(tastes, counts, facts.attribute_ids)
        np.matmul(lifts, _SUMS, out=features[:, _TASTE_LIFTS])
        words = [(search.words, search.query.locale) for search in searches]
        lifts = self._lift.by_words(words, counts, facts.attribute_ids)
        np.matmul(lifts, _SUMS[:, 1:], out=features[:, _WORD_LIFTS])
        _fill_own(features, searches, facts.ids)
        features[:, _NUMBERS] = facts.numbers[:, :_PRICE_BAND]
        shared = np.array([search.shared for search in searches], np.float32).reshape(-1, 6)
        shared = np.repeat(shared, counts, axis=0)
        features[:, _AT["type_known"]] = shared[:, 0]
        features[:, _OF_QUERY] = shared[:, 1:4]
        bands, mean_band = facts.numbers[:, _PRICE_BAND], shared[:, 4]
        above = (bands - mean_band) * np.float32(1 / (NUM_BANDS - 1)) * (np.minimum(bands, mean_band) >= 0)
        features[:, _AT["price_above"]] = above
        np.abs(above, out=features[:, _AT["price_distance"]])
        matches = _word_matches(searches, facts) * shared[:, 5:]
        features[:, _AT["title_match"]] = matches[:, 0]
        np.add(matches[:, 0], matches[:, 1], out=features[:, _AT["text_match"]])
        return features


@lru_cache(maxsize=4_096)
def _words_of_query(text: str) -> tuple[tuple[str, ...], npt.NDArray[np.uint32]]:
    """Returns the words and their hashes. Cached because queries recur, and this took a tenth of the time of eight searches."""
    words = tuple(query_words(text))
    return words, np.fromiter(map(name_hash, words), np.uint32)


class _Search:
    """What all candidates of a search share."""

    __slots__ = ("count", "hashes", "query", "shared", "words")

    def __init__(self, query: QueryInput, count: int) -> None:
        self.query, self.count = query, count
        self.words, self.hashes = _words_of_query(query.text)
        taste, types = query.taste, query.types
        self.shared = (
            float(types is not None and not types.abstained),
            float(len(self.words)),
            float(_length(query.shopper) > 0),
            0.0 if taste is None else math.log1p(taste.engaged),
            _UNKNOWN_BAND if taste is None or taste.price_band is None else taste.price_band,
            1 / max(len(self.words), 1),
        )


class _Scratch(threading.local):
    """Buffers of each thread: allocating fresh pages for each call would cost more than the work done in them."""

    def __init__(self) -> None:
        self._float16s = np.empty((0, 0), np.float16)
        self._bits = np.empty((0, 0), np.int32)

    def float16s(self, columns: int) -> Float16s:
        if self._float16s.shape[1] != columns:
            self._float16s = np.empty((_BLOCK, columns), np.float16)
        return self._float16s

    def bits(self, columns: int) -> Codes:
        if self._bits.shape[1] != columns:
            self._bits = np.empty((_BLOCK, columns), np.int32)
        return self._bits


def _fill_own(features: Floats, searches: Sequence[_Search], ids: UInt32s) -> None:
    """Writes how often each search's shopper clicked and bought its candidates."""
    start = 0
    for search in searches:
        stop, taste = start + search.count, search.query.taste
        if taste is not None:
            at = np.searchsorted(taste.products, ids[start:stop])
            own = np.flatnonzero(taste.products.take(at, mode="clip") == ids[start:stop])
            features[start + own, _OWN] = taste.times[at[own]]
        start = stop


def _word_matches(searches: Sequence[_Search], facts: Facts) -> Ints:
    """Returns (candidates, 2) how many words of the query are in the title, and how many only in other fields."""
    hits = np.zeros(facts.words.shape, np.bool_)
    ends = np.searchsorted(facts.holders, 2 * np.cumsum([search.count for search in searches]))
    start = 0
    for search, stop in zip(searches, ends.tolist(), strict=True):
        words, block = facts.words[start:stop], hits[start:stop]
        for word in search.hashes:
            block |= words == word
        start = stop
    holders = facts.holders[np.flatnonzero(hits) // facts.words.shape[1]]
    return np.bincount(holders, minlength=2 * len(facts)).reshape(-1, 2)


def _length(vector: Floats | None) -> float:
    return 0.0 if vector is None else math.sqrt(float(vector @ vector))
