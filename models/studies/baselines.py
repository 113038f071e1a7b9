"""What a model must beat: words, popularity, and what the shopper bought before. Each learns from the training window alone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Doubles, Ints
from models.evaluation.cases import Cases, Split, num_train_events
from models.evaluation.numbered_log import NumberedLog, plain_query
from models.evaluation.results import Ranker
from models.events.kinds import CLICK, PURCHASE
from models.lexical import WORD, Bm25
from models.studies.rankers import by_query

# Of a query that was seen n times in training, n / (n + this) of what is believed about its category comes from the query as a whole, the
# rest from its words (choice).
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
    """The most popular products, whatever is asked. Popularity is the strength of engagement: a click 1, a cart 2, a purchase 3."""

    def __init__(self, events: NumberedLog, split: Split, name: str = "popular") -> None:
        self.name = name
        self._order = np.argsort(-popularity(events, split), kind="stable")

    def rank(self, cases: Cases, k: int) -> Ints:
        best = np.full(k, -1, np.int64)
        best[: len(self._order)] = self._order[:k]
        return np.tile(best, (len(cases), 1))


class PopularInCategoryRanker:
    """The popular products of the categories that the query led to in training, the likeliest category first.

    An unseen query is judged by its words. Learned from clicks, carts and purchases after a search.
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
        """(texts, k)."""
        ranked = np.full((len(texts), k), -1, np.int64)
        for row, text in enumerate(texts):
            filled = 0
            for category in self.likely_categories(text):
                found = self._products[category][: k - filled]
                ranked[row, filled : filled + len(found)] = found
                filled += len(found)
                if filled == k:
                    break
        return ranked

    def likely_categories(self, text: str) -> Ints:
        """All categories, the likeliest for the query first; where nothing is known of it, the most popular."""
        counts = self._by_query.counts(plain_query(text))
        total = counts.sum()
        words = np.zeros(len(self._categories))
        for word in set(_words_of(text)):
            of_word = self._by_word.counts(word)
            words += of_word / max(1.0, of_word.sum())
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
            of_query = set(_words_of(names[query]))
            words.extend(of_query)
            repeats[place] = len(of_query)
        self._by_word = _CategoryCounts(words, np.repeat(categories, repeats), np.repeat(counts, repeats), size)


class _CategoryCounts:
    """How often each text led to each category."""

    def __init__(self, texts: list[str], categories: Ints, counts: Ints, num_categories: int) -> None:
        """One row a pair; a pair may come several times."""
        numbers: dict[str, int] = {}
        codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
        order = np.argsort(codes, kind="stable")
        self._categories, self._counts = categories[order], counts[order]
        self._starts = np.searchsorted(codes[order], np.arange(len(numbers) + 1))
        self._numbers = numbers
        self._size = num_categories

    def counts(self, text: str) -> Doubles:
        """(categories,) zeros for a text that was not seen."""
        number = self._numbers.get(text)
        if number is None:
            return np.zeros(self._size)
        pairs = slice(self._starts[number], self._starts[number + 1])
        return np.asarray(np.bincount(self._categories[pairs], self._counts[pairs], self._size), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class BuyAgainRanker:
    """What the shopper bought before the case, the most often and then the latest first, then the rest as `base` ranks it.

    Earlier purchases that are not among the first `depth` of `base` stay out: they are not what was asked for.
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
    """The first `depth` of `base` in the order of their popularity in training."""

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


def popularity(events: NumberedLog, split: Split) -> Doubles:
    """(products,) strength of engagement in the training window: a click 1, a cart 2, a purchase 3."""
    num_train = num_train_events(events, split)
    products, kinds = events.products[:num_train], events.kinds[:num_train]
    counts = (products >= 0) & (kinds >= CLICK)
    return np.asarray(np.bincount(products[counts], kinds[counts], events.num_products), np.float64)


def _words_of(text: str) -> list[str]:
    return re.findall(WORD, plain_query(text))


def _most_often_and_latest(bought: Codes) -> Ints:
    """Distinct products of purchases (n,), oldest first."""
    latest_first = bought[::-1]
    products, first, counts = np.unique(latest_first, return_index=True, return_counts=True)
    return products[np.lexsort((first, -counts))].astype(np.int64)


def _moved_to_front(ranked: Ints, bought: Ints, depth: int) -> Ints:
    wanted = bought[np.isin(bought, ranked[:depth])]
    return np.concatenate([wanted, ranked[~np.isin(ranked, wanted)]])
