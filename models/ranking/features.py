"""What the ranker sees of a candidate, alike in training and in serving: one row of FEATURES for each product.

Nothing here depends on which other products are candidates: pages of 16 that taught the ranker and the 200 candidates that it
orders give the same product the same row. The retrieval score is `search_cosine`; a rank among 200 has no like on a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.identifiers import IdentifierIndex
from models.query_types.type_model import TypeModel, TypePrediction
from models.ranking.product_columns import NO_BAND, ProductColumns, SomeWords, WordOf, Words, hashes
from models.unified.history import MAX_TERMS, HistoryItem, HistoryKind, query_words
from models.unified.light_tower import LightTower
from models.unified.price_bands import NUM_BANDS
from models.unified.static_features import STATIC_FEATURES
from models.unified.words import words_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Shares = tuple[npt.NDArray[Any], Floats]  # distinct numbers or hashes, ascending, and the share of each

MAX_TYPES = 3  # of a query, as a search asks the classifier
MAX_ENGAGED = 32  # clicks and purchases that make a taste, the latest

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
    "engaged",  # log(1 + clicks and purchases known), of at most MAX_ENGAGED
)
_AT = {name: at for at, name in enumerate(FEATURES)}
_STATIC = slice(_AT[STATIC_FEATURES[0]], _AT[STATIC_FEATURES[-1]] + 1)
_PURCHASE_WEIGHT = 2.0  # of a purchase beside a click


@dataclass(frozen=True, slots=True, eq=False)
class QueryInput:
    """One search as the features need it."""

    text: str
    locale: str
    query: Floats  # (dim,) unit
    shopper: Floats | None  # (dim,) of any length; None or 0 where nothing is known
    search: Floats  # (dim,) unit: query and shopper together
    history: Sequence[HistoryItem] = ()  # in any order
    types: TypePrediction | None = None  # of at most MAX_TYPES; None is as if the classifier had abstained


@dataclass(frozen=True, slots=True, eq=False)
class _Taste:
    """What a history says of brands, categories, words and prices, as shares of what was engaged."""

    brands: Shares
    categories: Shares
    words: Shares
    price_band: float | None
    engaged: int


class CandidateFeatures:
    """Features of candidates; safe to call from several threads."""

    def __init__(self, bundle: Bundle, tower: LightTower, types: TypeModel | None = None) -> None:
        """`types` is the bundle's classifier; None where it has none. It and the tower are needed by `inputs` only."""
        self._tower, self._types = tower, types
        self._columns = ProductColumns.of(bundle)
        self._identifiers: IdentifierIndex = bundle.identifiers()

    def inputs(
        self, queries: Sequence[str], locales: Sequence[str], histories: Sequence[Sequence[HistoryItem]]
    ) -> list[QueryInput]:
        """Many searches at once, as a search with full personalisation makes them."""
        asked = self._tower.encode_queries(list(zip(queries, locales, strict=True)))
        shoppers = self._tower.encode_shoppers(histories)
        searches = self._tower.personalise(asked, shoppers)
        told: Sequence[TypePrediction | None] = [None] * len(queries)
        if self._types is not None:
            told = self._types.classify(queries, locales, MAX_TYPES)
        return [
            QueryInput(text, locale, asked[at], shoppers[at], searches[at], histories[at], told[at])
            for at, (text, locale) in enumerate(zip(queries, locales, strict=True))
        ]

    def of(self, query: QueryInput, rows: npt.NDArray[np.int64]) -> Floats:
        """(candidates, FEATURES) of products by row of the catalogue. Raises ValueError for a row that it does not have."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self._columns):
            raise ValueError(f"rows must be 0 to {len(self._columns) - 1}, not {int(rows.min())} to {int(rows.max())}")
        found = np.zeros((len(rows), len(FEATURES)), np.float32)
        self._cosines(found, query, rows)
        words = self._columns.words.take(rows)
        self._matches(found, query, rows, words)
        self._type_agreement(found, query.types, rows)
        self._affinities(found, query.history, rows, words)
        found[:, _AT["price_ratio"]] = self._columns.price_ratio[rows]
        found[:, _STATIC] = self._columns.static[rows]
        return found

    def _cosines(self, found: Floats, query: QueryInput, rows: Ints) -> None:
        length = 0.0 if query.shopper is None else float(np.linalg.norm(query.shopper))
        shopper = np.zeros_like(query.query) if query.shopper is None or not length else query.shopper / length
        products = self._columns.vectors[rows].astype(np.float32)
        found[:, :3] = products @ np.stack([query.query, query.search, shopper], axis=1)
        found[:, _AT["shopper_known"]] = length > 0

    def _matches(self, found: Floats, query: QueryInput, rows: Ints, words: SomeWords) -> None:
        asked = hashes(query_words(query.text))
        found[:, _AT["query_words"]] = len(asked)
        if len(asked):
            in_title, in_any = _share_held(words, asked, len(rows))
            found[:, _AT["title_match"]] = in_title
            found[:, _AT["text_match"]] = in_any
        for match in self._identifiers.find(query.text):
            found[:, _AT["identifier_match"]] = np.maximum(
                found[:, _AT["identifier_match"]], np.isin(rows, match.rows, assume_unique=False)
            )

    def _type_agreement(self, found: Floats, types: TypePrediction | None, rows: Ints) -> None:
        if types is None or types.abstained:
            return
        found[:, _AT["type_known"]] = 1
        categories = self._columns.category[rows]
        for name, probability in types.types[:MAX_TYPES]:
            number = self._columns.categories.get(name)
            if number is not None:
                found[categories == number, _AT["type_probability"]] = probability

    def _affinities(self, found: Floats, history: Sequence[HistoryItem], rows: Ints, words: SomeWords) -> None:
        taste = self._taste(history)
        if taste is None:
            return
        columns = self._columns
        found[:, _AT["engaged"]] = np.log1p(taste.engaged)
        found[:, _AT["brand_affinity"]] = _shares_of(taste.brands, columns.brand[rows])
        found[:, _AT["category_affinity"]] = _shares_of(taste.categories, columns.category[rows])
        is_told = words.of >= WordOf.TRAIT.value
        kinds, owners = words.of[is_told], words.owners[is_told]
        share = _shares_of(taste.words, words.values[is_told])
        for name, kind in (("colour_affinity", WordOf.COLOUR), ("trait_affinity", WordOf.TRAIT)):
            counted = (kinds & kind.value) > 0
            total = np.bincount(owners, share * counted, len(rows))
            found[:, _AT[name]] = total / np.maximum(np.bincount(owners, counted, len(rows)), 1)
        if taste.price_band is not None:
            bands = columns.price_band[rows]
            above = np.where(bands == NO_BAND, 0, (bands - taste.price_band) / (NUM_BANDS - 1))
            found[:, _AT["price_above"]] = above
            found[:, _AT["price_distance"]] = np.abs(above)

    def _taste(self, history: Sequence[HistoryItem]) -> _Taste | None:
        """None where the shopper clicked and bought nothing."""
        engaged = [item for item in history if item.kind != HistoryKind.SEARCH]
        if not engaged:
            return None
        if len(engaged) > MAX_ENGAGED:
            engaged = sorted(engaged, key=lambda item: item.time_ms)[-MAX_ENGAGED:]
        weights = np.array([_PURCHASE_WEIGHT if i.kind == HistoryKind.PURCHASE else 1.0 for i in engaged], np.float32)
        weights /= weights.sum()
        numbers, categories = self._columns.brands, self._columns.categories
        brands = np.array([numbers.get(i.brand.strip().casefold(), -1) if i.brand else -1 for i in engaged])
        words = [_term_hashes(item.terms) for item in engaged]
        lengths = [len(one) for one in words]
        bands = [(i.price_band, w) for i, w in zip(engaged, weights.tolist(), strict=True) if i.price_band is not None]
        return _Taste(
            brands=_shares(brands, weights),
            categories=_shares(
                np.array([categories.get(i.category, -1) if i.category else -1 for i in engaged]), weights
            ),
            words=_shares(np.concatenate(words), np.repeat(weights, lengths)),
            price_band=sum(b * w for b, w in bands) / sum(w for _, w in bands) if bands else None,
            engaged=len(engaged),
        )


@lru_cache(maxsize=65_536)
def _term_hashes(terms: str) -> Words:
    return hashes(words_of(terms, MAX_TERMS))


def _share_held(words: SomeWords, asked: Words, num_products: int) -> tuple[Floats, Floats]:
    """(num_products,) twice: the share of the words asked for that each title holds, and that any field does."""
    in_title, in_any = np.zeros(num_products, np.float32), np.zeros(num_products, np.float32)
    for word in asked:
        at = np.flatnonzero(words.values == word)  # a product has a word once
        owners = words.owners[at]
        in_any[owners] += 1
        in_title[owners] += words.of[at] & WordOf.TITLE.value
    count = np.float32(len(asked))
    return in_title / count, in_any / count


def _shares(keys: npt.NDArray[Any], weights: Floats) -> Shares:
    """The distinct keys, ascending, and the sum of the weights of each; keys below 0 stand for nothing."""
    known = keys >= 0
    distinct, place = np.unique(keys[known], return_inverse=True)
    return distinct, np.bincount(place, weights[known], len(distinct)).astype(np.float32)


def _shares_of(shares: Shares, keys: npt.NDArray[Any]) -> Floats:
    """(n,) the share of each key, 0 of those that have none."""
    distinct, share = shares
    if not len(distinct):
        return np.zeros(len(keys), np.float32)
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return np.where(distinct[at] == keys, share[at], np.float32(0))
