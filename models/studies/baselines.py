"""Baselines: BM25, popularity, and the shopper's earlier purchases. Each uses the training window only."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Doubles, Ints
from models.evaluation.cases import Cases, Split, num_train_events
from models.evaluation.numbered_log import NumberedLog
from models.evaluation.results import Ranker
from models.events.kinds import CLICK, PURCHASE
from models.events.searches import plain_query
from models.lexical.bm25 import WORD, Bm25
from models.studies.rankers import by_query
from models.unified.window_signals import recency

# For a query with n training events, n / (n + WORDS_WEIGHT) of the category estimate comes from the query as a whole, the rest from its
# words (choice).
WORDS_WEIGHT = 5.0


class Bm25Ranker:
    """Ranks by BM25 over the products' text; a product that shares no word with the query is left out."""

    def __init__(self, product_texts: Sequence[str], name: str = "BM25") -> None:
        """`product_texts` (products,) in order of row."""
        self.name = name
        self._bm25 = Bm25(product_texts)

    def rank(self, cases: Cases, k: int) -> Ints:
        return by_query(cases, lambda texts: self._bm25.best(texts, k))


class PopularRanker:
    """Ranks by popularity, whatever the query. Popularity weighs events: a click 1, a cart 2, a purchase 3."""

    def __init__(self, events: NumberedLog, split: Split, name: str = "popular") -> None:
        self.name = name
        self._order = np.argsort(-popularity(events, split), kind="stable")

    def rank(self, cases: Cases, k: int) -> Ints:
        best = np.full(k, -1, np.int64)
        best[: len(self._order)] = self._order[:k]
        return np.tile(best, (len(cases), 1))


class PopularInCategoryRanker:
    """Ranks the popular products of the categories that the query led to in training, the most likely category first.

    For an unseen query it uses the words. It learns from clicks, carts and purchases after a search.
    """

    def __init__(
        self, events: NumberedLog, split: Split, categories: Sequence[str], name: str = "popular in category"
    ) -> None:
        """`categories` (products,) in order of row."""
        self.name = name
        self._categories, category_of = np.unique(np.asarray(categories, np.str_), return_inverse=True)
        how_popular = popularity(events, split)
        order = np.lexsort((-how_popular, category_of))
        bounds = np.searchsorted(category_of[order], np.arange(len(self._categories) + 1))
        self._products = [order[start:stop] for start, stop in itertools.pairwise(bounds)]
        self._prior = np.bincount(category_of, how_popular, len(self._categories))
        self._learn(events, split, category_of)

    def rank(self, cases: Cases, k: int) -> Ints:
        return by_query(cases, lambda texts: self.rank_texts(texts, k))

    def rank_texts(self, texts: Sequence[str], k: int) -> Ints:
        """Returns (texts, k) rows of products, as `Ranker.rank`."""
        ranked = np.full((len(texts), k), -1, np.int64)
        for row, text in enumerate(texts):
            filled = 0
            for category in self.likely_categories(text):
                products = self._products[category][: k - filled]
                ranked[row, filled : filled + len(products)] = products
                filled += len(products)
                if filled == k:
                    break
        return ranked

    def likely_categories(self, text: str) -> Ints:
        """Returns all categories, the most likely for the query first; the most popular first for a query with unseen words only."""
        counts = self._by_query.counts(plain_query(text))
        total = counts.sum()
        words = np.zeros(len(self._categories))
        for word in set(_words_of(text)):
            word_counts = self._by_word.counts(word)
            words += word_counts / max(1.0, word_counts.sum())
        from_words = words / max(1e-9, words.sum())
        likely = (counts + WORDS_WEIGHT * from_words) / (total + WORDS_WEIGHT)
        return np.lexsort((-self._prior, -likely))

    def _learn(self, events: NumberedLog, split: Split, category_of: Ints) -> None:
        rows = np.flatnonzero((events.kinds >= CLICK) & (events.products >= 0) & (events.queries >= 0))
        rows = rows[rows < num_train_events(events, split)]
        keys = events.queries[rows].astype(np.int64) * len(self._categories) + category_of[events.products[rows]]
        pairs, counts = np.unique(keys, return_counts=True)
        queries, categories = np.divmod(pairs, len(self._categories))
        names = events.query_names
        size = len(self._categories)
        self._by_query = _CategoryCounts([names[query] for query in queries.tolist()], categories, counts, size)
        words: list[str] = []
        repeats = np.empty(len(queries), np.int64)
        for place, query in enumerate(queries.tolist()):
            distinct = set(_words_of(names[query]))
            words.extend(distinct)
            repeats[place] = len(distinct)
        self._by_word = _CategoryCounts(words, np.repeat(categories, repeats), np.repeat(counts, repeats), size)


class _CategoryCounts:
    """The number of times that each text led to each category."""

    def __init__(self, texts: list[str], categories: Ints, counts: Ints, num_categories: int) -> None:
        """Takes one row per pair; pairs may repeat."""
        numbers: dict[str, int] = {}
        codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
        order = np.argsort(codes, kind="stable")
        self._categories, self._counts = categories[order], counts[order]
        self._starts = np.searchsorted(codes[order], np.arange(len(numbers) + 1))
        self._numbers = numbers
        self._size = num_categories

    def counts(self, text: str) -> Doubles:
        """Returns (categories,), zeros for an unseen text."""
        number = self._numbers.get(text)
        if number is None:
            return np.zeros(self._size)
        pairs = slice(self._starts[number], self._starts[number + 1])
        return np.asarray(np.bincount(self._categories[pairs], self._counts[pairs], self._size), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class BuyAgainRanker:
    """Ranks the shopper's earlier purchases first, by number and then by recency, and the rest as `base` does.

    Earlier purchases outside the first `depth` of `base` are not moved, because they do not match the query.
    """

    base: Ranker
    name: str = "buy again"
    depth: int = 1000

    def rank(self, cases: Cases, k: int) -> Ints:
        ranked = self.base.rank(cases, max(k, self.depth))
        events, rows = cases.events, cases.histories.rows
        starts, stops = cases.history_slices()
        for case in np.flatnonzero(stops > starts).tolist():
            past = rows[starts[case] : stops[case]]
            bought = events.products[past[events.kinds[past] == PURCHASE]]
            if len(bought):
                ranked[case] = _moved_to_front(ranked[case], _most_often_and_latest(bought), self.depth)
        return ranked[:, :k]


@dataclass(frozen=True, slots=True, eq=False)
class PopularAmongRanker:
    """Ranks the first `depth` products of `base` by their popularity in training."""

    base: Ranker
    popularity: Doubles  # (products,)
    name: str
    depth: int = 1000

    def rank(self, cases: Cases, k: int) -> Ints:
        ranked = self.base.rank(cases, max(k, self.depth))
        among = ranked[:, : self.depth]
        keys = np.where(among >= 0, -self.popularity[among], np.inf)
        ranked[:, : self.depth] = np.take_along_axis(among, np.argsort(keys, axis=1, kind="stable"), axis=1)
        return ranked[:, :k]


def popularity(events: NumberedLog, split: Split, half_life_days: float = 0.0) -> Doubles:
    """Returns (products,) weighted events of the training window: a click 1, a cart 2, a purchase 3.

    With `half_life_days` an event weighs half as much for every such time that it lies before the end of the window; 0: never.
    """
    num_train = num_train_events(events, split)
    products, kinds = events.products[:num_train], events.kinds[:num_train]
    counts = (products >= 0) & (kinds >= CLICK)
    times_ms = events.times_ms[:num_train][counts]
    weights = kinds[counts] * recency(times_ms, split.train_end_ms, half_life_days)
    return np.asarray(np.bincount(products[counts], weights, events.num_products), np.float64)


def _words_of(text: str) -> list[str]:
    return re.findall(WORD, plain_query(text))


def _most_often_and_latest(bought: Codes) -> Ints:
    """Returns the distinct products of purchases (n,), given oldest first: by number, then the latest first."""
    latest_first = bought[::-1]
    products, first, counts = np.unique(latest_first, return_index=True, return_counts=True)
    return products[np.lexsort((first, -counts))].astype(np.int64)


def _moved_to_front(ranked: Ints, bought: Ints, depth: int) -> Ints:
    matching = bought[np.isin(bought, ranked[:depth])]
    return np.concatenate([matching, ranked[~np.isin(ranked, matching)]])
