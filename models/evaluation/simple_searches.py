"""Searches that need no training, as baselines on the same pages: words alone, popularity, and what was clicked after the same query.

They know the log before the measured time alone. Words are searched in the bundle's own index: BM25F over identifiers, title, brand,
category, attributes and description, as a search without vectors has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Floats, Ints
from models.bundles.bundle import Bundle
from models.events.kinds import CLICK
from models.lexical.lexical_index import LexicalIndex
from models.ranking.click_history import ClickHistory, decayed
from models.ranking.impressions import Impressions
from models.unified.shopping_log import UNKNOWN, ShoppingLog

WORDS, POPULAR, CLICKED = "words alone (BM25F)", "popularity", "clicks after the query"
SIMPLE = (WORDS, POPULAR, CLICKED)


@dataclass(frozen=True, slots=True, eq=False)
class SimpleSearches:
    lexical: LexicalIndex | None  # None: the bundle has no words
    popularity: Doubles  # (products,)
    clicks: ClickHistory
    since_ms: int

    @classmethod
    def before(cls, bundle: Bundle, events: ShoppingLog, since_ms: int) -> SimpleSearches:
        """Takes what was engaged with before `since_ms`."""
        return cls(
            bundle.lexical(),
            popularity_before(events, since_ms),
            ClickHistory.from_events(events, since_ms),
            since_ms,
        )

    def orders(self, query: str, locale: str, depth: int) -> dict[str, Ints]:
        """Returns rows of products, best first, at most `depth` of each search."""
        clicked = self.clicks.find(query, locale, self.since_ms)
        orders = {
            POPULAR: np.argsort(-self.popularity, kind="stable")[:depth],
            CLICKED: clicked.rows[np.argsort(-clicked.weights, kind="stable")][:depth],
        }
        if self.lexical is not None:
            orders[WORDS] = self.lexical.search(self.lexical.query(query), depth).rows
        return orders

    def page_scores(self, shown: Impressions) -> dict[str, Floats]:
        """Returns scores (rows,) of the products of logged pages."""
        scores = {POPULAR: self.popularity[shown.product].astype(np.float32)}
        offsets = shown.offsets.tolist()
        pages = list(enumerate(zip(shown.queries, shown.locales, strict=True)))
        products = [shown.product[offsets[page] : offsets[page + 1]].astype(np.int64) for page, _ in pages]
        scores[CLICKED] = _joined([self._clicked(*asked, products[page]) for page, asked in pages])
        if (words := self.lexical) is not None:
            scores[WORDS] = _joined(
                [words.match(words.query(asked[0]), products[page]).scores for page, asked in pages]
            )
        return scores

    def _clicked(self, query: str, locale: str, rows: Ints) -> Floats:
        clicked = self.clicks.find(query, locale, self.since_ms)
        weights = np.zeros(len(rows), np.float32)
        _, at, of = np.intersect1d(rows, clicked.rows, return_indices=True)
        weights[at] = clicked.weights[of]
        return weights


def popularity_before(events: ShoppingLog, time_ms: int) -> Doubles:
    """Returns (products,) the clicks, carts and purchases before a time; one of a half-life before counts half, see `ClickHistory`."""
    engaged = (events.kind >= CLICK) & (events.product != UNKNOWN) & (events.time_ms < time_ms)
    weights = decayed(events.time_ms[engaged], time_ms)
    return np.asarray(np.bincount(events.product[engaged], weights, events.num_products), np.float64)


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
