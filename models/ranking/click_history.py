"""The clicks of a log by query and time: what a click memory would have known at the time of each search.

A ranker learns from pages of the same log. If it saw a memory of the whole log, the clicks that it is to predict would be in its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Floats, Ints, UInt64s
from models.events.kinds import CLICK
from models.products.product_table import ProductTable
from models.ranking.click_memory import NOTHING, Clicked, ClickMemory, query_key
from models.unified.shopping_log import UNKNOWN, ShoppingLog

HALF_LIFE_DAYS = 90.0  # a season; chosen, not tuned
MOST_PRODUCTS = 64  # of a query in a memory: a few pages
LEAST_WEIGHT = 0.25  # of a product in a memory: one click of two half-lives ago
USUAL = 0.99  # share of the clicks whose end is that of a log
_HALF_LIFE_MS = HALF_LIFE_DAYS * 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class ClickHistory:
    """Engagements in order of query and time; a shopper's first with a product after a query counts."""

    queries: UInt64s  # (queries,) ascending
    starts: Ints  # (queries + 1,)
    products: Codes  # (engagements,) rows of the catalogue
    time_ms: Ints  # (engagements,)

    @classmethod
    def from_events(cls, events: ShoppingLog, until_ms: int | None = None) -> ClickHistory:
        """Takes the clicks, carts and purchases of searches before `until_ms`."""
        used = (events.query > 0) & (events.product != UNKNOWN) & (events.kind >= CLICK)
        if until_ms is not None:
            used &= events.time_ms < until_ms
        at = np.flatnonzero(used)
        code = events.query[at].astype(np.int64) * len(events.locales) + events.locale[at]
        distinct, place = np.unique(code, return_inverse=True)
        keys = np.array(
            [
                query_key(events.queries[number // len(events.locales)], events.locales[number % len(events.locales)])
                for number in distinct.tolist()
            ],
            np.uint64,
        )
        queries, number = np.unique(keys, return_inverse=True)
        query = number[place]
        pair = query * events.num_products + events.product[at]
        first = np.sort(_first(pair, events.shopper[at].astype(np.int64)))
        at, query = at[first], query[first]
        order = np.lexsort((events.time_ms[at], query))
        starts = np.searchsorted(query[order], np.arange(len(queries) + 1))
        return cls(queries, starts, events.product[at[order]], events.time_ms[at[order]])

    def find(self, text: str, locale: str, time_ms: int | None = None) -> Clicked:
        """Returns the clicks before `time_ms`, weighed as they were then. Raises ValueError without a time."""
        if time_ms is None:
            raise ValueError("a history is asked for a time")
        key = query_key(text, locale)
        at = int(np.searchsorted(self.queries, key))
        if at == len(self.queries) or self.queries[at] != key:
            return NOTHING
        start, end = int(self.starts[at]), int(self.starts[at + 1])
        end = start + int(np.searchsorted(self.time_ms[start:end], time_ms))
        if start == end:
            return NOTHING
        rows, place = np.unique(self.products[start:end], return_inverse=True)
        weights = np.bincount(place, decayed(self.time_ms[start:end], time_ms))
        return Clicked(rows.astype(np.int64), weights.astype(np.float32), float(weights.sum()))

    def memory(self, table: ProductTable, at_ms: int) -> ClickMemory:
        """Returns what is known at a time, of each query the products that most engaged with. Where nearly all clicks lie a half-life
        before it, as next to one of a clock that is ahead, they count as of their own end."""
        query = np.repeat(np.arange(len(self.queries)), np.diff(self.starts))
        known = self.time_ms < at_ms
        pair, place = np.unique(query[known] * len(table) + self.products[known].astype(np.int64), return_inverse=True)
        times = self.time_ms[known]
        usual_end = int(np.quantile(times, USUAL, method="lower")) if len(times) else at_ms
        end = usual_end if at_ms - usual_end > _HALF_LIFE_MS else at_ms
        weights = np.bincount(place, decayed(np.minimum(times, end), end), len(pair))
        kept = np.flatnonzero(weights >= LEAST_WEIGHT)
        order = kept[np.lexsort((-weights[kept], pair[kept] // len(table)))]
        query, rows, weights = pair[order] // len(table), pair[order] % len(table), weights[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        best = rank < MOST_PRODUCTS
        query, rows, weights = query[best], rows[best], weights[best]
        held, counts = np.unique(query, return_counts=True)
        held_rows, places = np.unique(rows, return_inverse=True)
        product_ids = tuple(table.id(row) for row in held_rows.tolist())
        return ClickMemory(
            self.queries[held],
            np.concatenate(([0], np.cumsum(counts))),
            places.astype(np.int32),
            weights.astype(np.float32),
            product_ids,
        )


def _first(pair: Ints, shopper: Ints) -> Ints:
    """Returns the first place of each pair and shopper; places are in order of time."""
    order = np.lexsort((shopper, pair))  # stable
    pair, shopper = pair[order], shopper[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (pair[1:] != pair[:-1]) | (shopper[1:] != shopper[:-1])
    return order[is_first]


def decayed(time_ms: Ints, at_ms: int) -> Floats:
    """Returns (n,) the weights of events of these times (n,): one of a half-life before `at_ms` counts half."""
    weights: Floats = np.exp2((time_ms - at_ms) / _HALF_LIFE_MS)
    return weights
