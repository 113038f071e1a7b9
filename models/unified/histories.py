"""Histories of many shoppers as columns: the items of each strictly before a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Ints
from models.events.kinds import CART, CLICK, PURCHASE
from models.unified.history import HistoryBlocks
from models.unified.shopping_log import UNKNOWN, ShoppingLog

NO_ITEM = -1


@dataclass(frozen=True, slots=True)
class Timelines:
    """Items ordered by shopper and time."""

    items: Codes  # (items,)
    keys: Ints  # (items,) ascending: shopper, then time
    span: int  # keys of one shopper are shopper * span + time - start
    start_ms: int

    @classmethod
    def from_events(cls, log: ShoppingLog, events: Ints, items: npt.NDArray[np.integer]) -> Timelines:
        start_ms = int(log.time_ms[0])
        span = int(log.time_ms[-1]) - start_ms + 2
        keys = log.shopper[events].astype(np.int64) * span + (log.time_ms[events] - start_ms)
        order = np.argsort(keys, kind="stable")
        return cls(items[order].astype(np.int32), keys[order], span, start_ms)

    def before(self, shopper: Codes, time_ms: Ints, count: int) -> Codes:
        """Returns (n, count) the latest items of each shopper strictly before a time, the latest first, filled up with NO_ITEM."""
        base = shopper.astype(np.int64) * self.span
        ends = np.searchsorted(self.keys, base + np.clip(time_ms - self.start_ms, 0, self.span - 1))
        begins = np.searchsorted(self.keys, base)
        at = ends[:, None] - 1 - np.arange(count)
        exists = at >= begins[:, None]
        if not len(self.items):
            return np.full(at.shape, NO_ITEM, np.int32)
        return np.where(exists, self.items[np.where(exists, at, 0)], np.int32(NO_ITEM))


@dataclass(frozen=True, slots=True)
class Histories:
    """The history blocks of any shopper at any time, as text numbers (see `HistoryTexts`)."""

    blocks: HistoryBlocks
    timelines: dict[str, Timelines]

    @classmethod
    def from_log(cls, log: ShoppingLog, blocks: HistoryBlocks, brand_of: Codes) -> Histories:
        """Takes (products,) the number of each product's brand."""
        texts = HistoryTexts(len(log.queries), log.num_products)
        searched = _first_of(log.search, np.flatnonzero(log.query > 0))
        known = log.product != UNKNOWN
        viewed = np.flatnonzero(known & ((log.kind == CLICK) | (log.kind == CART)))
        clicked = _first_of(log.search.astype(np.int64) * log.num_products + log.product, viewed)
        bought = np.flatnonzero(known & (log.kind == PURCHASE))
        return cls(
            blocks,
            {
                "queries": Timelines.from_events(log, searched, log.query[searched]),
                "clicks": Timelines.from_events(log, clicked, texts.first_term + log.product[clicked]),
                "brands": Timelines.from_events(log, clicked, texts.first_brand + brand_of[log.product[clicked]]),
                "purchases": Timelines.from_events(log, bought, texts.first_tag + log.product[bought]),
            },
        )

    def before(self, shopper: Codes, time_ms: Ints) -> Codes:
        """Returns (n, blocks.total) text numbers, block after block, each the latest first."""
        found = [
            self.timelines[name].before(shopper, time_ms, size) for name, size in self.blocks.sizes().items() if size
        ]
        return np.concatenate(found, axis=1) if found else np.zeros((len(shopper), 0), np.int32)


@dataclass(frozen=True, slots=True)
class HistoryTexts:
    """The first number of each kind of history text: queries, products' terms, products' tags, brands."""

    num_queries: int
    num_products: int

    @property
    def first_term(self) -> int:
        return self.num_queries

    @property
    def first_tag(self) -> int:
        return self.num_queries + self.num_products

    @property
    def first_brand(self) -> int:
        return self.num_queries + 2 * self.num_products


def _first_of(keys: npt.NDArray[np.integer], events: Ints) -> Ints:
    """Returns the first event of each key; `events` are in order of time."""
    return events[np.sort(np.unique(keys[events], return_index=True)[1])]
