"""The impressions of a log with what shoppers did with them: the ranker's training examples.

A *page* is one search (a query in a session) with the products that it showed. The history of a page ends before its search: it contains
neither the page's own clicks nor anything later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Floats, Ints
from models.events.errors import LogError
from models.events.kinds import CART, CLICK, IMPRESSION, PURCHASE
from models.products.product import Product
from models.products.product_table import ProductTable
from models.ranking.parse_log import Log, parse_log
from models.ranking.taste import MAX_ITEMS
from models.unified.histories import NO_ITEM, Timelines
from models.unified.history import HistoryItem, HistoryKind, product_item
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import UNKNOWN, ShoppingLog


@dataclass(frozen=True, slots=True, eq=False)
class Impressions:
    """Shown products, page after page: row i was shown at position[i] (from 1; 0 if the log does not say) of page[i].

    Labels are nested: a purchase counts as a cart, and a cart as a click.
    """

    page: Ints  # (rows,) ascending, 0 to num_pages - 1
    product: Ints  # (rows,) rows of the catalogue, each once in a page
    position: Ints  # (rows,)
    labels: Floats  # (rows, TASKS) 0 or 1
    queries: list[str]  # by page, as are all below
    locales: list[str]
    time_ms: Ints  # (pages,) time of the search, ascending unless pages were joined
    shopper: Codes  # (pages,)
    is_anonymous: Bools  # (pages,)
    histories: list[list[HistoryItem]]  # the shopper's items before the search, in order of time

    def __len__(self) -> int:
        return len(self.page)

    @property
    def num_pages(self) -> int:
        return len(self.queries)

    @property
    def offsets(self) -> Ints:
        """Row offsets (pages + 1,): page p is rows offsets[p] to offsets[p + 1]."""
        return np.searchsorted(self.page, np.arange(self.num_pages + 1))

    def take(self, pages: npt.NDArray[np.integer]) -> Impressions:
        """Returns the pages with these numbers, in their order and renumbered."""
        offsets, pages = self.offsets, np.asarray(pages, np.int64)
        lengths = offsets[pages + 1] - offsets[pages]
        starts = np.cumsum(lengths) - lengths
        rows = np.repeat(offsets[pages] - starts, lengths) + np.arange(int(lengths.sum()))
        chosen = pages.tolist()
        return Impressions(
            page=np.repeat(np.arange(len(pages)), lengths),
            product=self.product[rows],
            position=self.position[rows],
            labels=self.labels[rows],
            queries=[self.queries[page] for page in chosen],
            locales=[self.locales[page] for page in chosen],
            time_ms=self.time_ms[pages],
            shopper=self.shopper[pages],
            is_anonymous=self.is_anonymous[pages],
            histories=[self.histories[page] for page in chosen],
        )

    def with_pages(self, more: Impressions) -> Impressions:
        """Returns these pages and then `more`, which are of the same log."""
        return Impressions(
            page=np.concatenate([self.page, self.num_pages + more.page]),
            product=np.concatenate([self.product, more.product]),
            position=np.concatenate([self.position, more.position]),
            labels=np.concatenate([self.labels, more.labels]),
            queries=[*self.queries, *more.queries],
            locales=[*self.locales, *more.locales],
            time_ms=np.concatenate([self.time_ms, more.time_ms]),
            shopper=np.concatenate([self.shopper, more.shopper]),
            is_anonymous=np.concatenate([self.is_anonymous, more.is_anonymous]),
            histories=[*self.histories, *more.histories],
        )

    def before(self, time_ms: int) -> tuple[Impressions, Impressions]:
        """Splits the pages into those searched before a time, and those at it or later."""
        cut = int(np.searchsorted(self.time_ms, time_ms))
        return self.take(np.arange(cut)), self.take(np.arange(cut, self.num_pages))


def read_impressions(
    log: Log,
    table: ProductTable,
    bands: PriceBands,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    max_pages: int | None = None,
    seed: int = 0,
    logged: bool = True,
) -> Impressions:
    """Returns the pages searched from `since_ms` on and before `until_ms` (None: no limit), of which `max_pages` are drawn.

    `log` has EVENT_SCHEMA. Events at `until_ms` or later are ignored: a cart before it that became a purchase after it is a cart. A
    page needs a product of the catalogue and an impression: where only clicks were logged, nobody knows which products were skipped.
    Without `logged` the pages are the other searches, of which the log shows nothing but what was clicked: good for measuring where a
    search finds it, not for learning. Raises LogError if no page is left.
    """
    if max_pages is not None and max_pages < 1:
        raise ValueError(f"max_pages must be 1 or more, not {max_pages}")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise ValueError(f"since_ms {since_ms} must be before until_ms {until_ms}")
    events, positions = parse_log(log, table)
    is_used = (events.query > 0) & (events.product != UNKNOWN)
    if until_ms is not None:
        is_used &= events.time_ms < until_ms
    if since_ms is not None:
        is_used &= events.searched_ms >= since_ms
    used = np.flatnonzero(is_used)
    has_page = np.zeros(len(events.search_time_ms), np.bool_)
    has_page[events.search[used[events.kind[used] == IMPRESSION]]] = True
    search = _searches_of(events, used[has_page[events.search[used]] == logged], max_pages, seed)
    if not len(search):
        raise LogError("the log shows no product of the catalogue in answer to a search in the given time")
    page_of = np.full(len(events.search_time_ms), -1, np.int64)
    page_of[search] = np.arange(len(search))
    used = used[page_of[events.search[used]] >= 0]
    rows = _shown_products(events, used, page_of, positions)
    first = used[np.unique(page_of[events.search[used]], return_index=True)[1]]
    searched_ms, shopper = events.search_time_ms[search], events.shopper[first]
    return Impressions(
        **rows,
        queries=[events.queries[number] for number in events.query[first].tolist()],
        locales=[events.locales[number] for number in events.locale[first].tolist()],
        time_ms=searched_ms,
        shopper=shopper,
        is_anonymous=events.is_anonymous[first],
        histories=PageHistories(events, table, bands).before(shopper, searched_ms),
    )


def _searches_of(events: ShoppingLog, shown: Ints, max_pages: int | None, seed: int) -> Ints:
    """Returns the numbers of the searches of these events, in order of time; `max_pages` of them at random if there are more."""
    search = np.unique(events.search[shown]).astype(np.int64)
    if max_pages is not None and len(search) > max_pages:
        search = np.random.default_rng([seed, 0x9A]).choice(search, max_pages, replace=False)
    return search[np.lexsort((search, events.search_time_ms[search]))]


def _shown_products(events: ShoppingLog, used: Ints, page_of: Ints, positions: Codes) -> dict[str, Any]:
    """Returns page, product, position and labels: a row for each product of a page, labelled by its strongest event, in order of
    position."""
    page = page_of[events.search[used]]
    pair, row = np.unique(page * events.num_products + events.product[used], return_inverse=True)
    strongest = np.zeros(len(pair), np.int64)
    np.maximum.at(strongest, row, events.kind[used].astype(np.int64))
    nowhere = np.iinfo(np.int64).max
    position = np.full(len(pair), nowhere)
    stated = positions[used] > 0
    np.minimum.at(position, row[stated], positions[used][stated])
    page, product = pair // events.num_products, pair % events.num_products
    order = np.lexsort((product, position, page))
    return {
        "page": page[order],
        "product": product[order],
        "position": np.where(position == nowhere, 0, position)[order],
        "labels": (strongest[:, None] >= np.array([CLICK, CART, PURCHASE]))[order].astype(np.float32),
    }


class PageHistories:
    """Histories of any shopper at any time, equal to those that `models.unified.history.history_items` makes of the same events."""

    def __init__(self, log: ShoppingLog, table: ProductTable, bands: PriceBands) -> None:
        self._log, self._table, self._bands = log, table, bands
        known = log.product != UNKNOWN
        clicked = np.flatnonzero(known & ((log.kind == CLICK) | (log.kind == CART)))
        searched = np.flatnonzero(log.query > 0)
        events = {
            HistoryKind.SEARCH: _first_of(log.search.astype(np.int64), searched),
            HistoryKind.CLICK: _first_of(log.search.astype(np.int64) * log.num_products + log.product, clicked),
            HistoryKind.PURCHASE: np.flatnonzero(known & (log.kind == PURCHASE)),
        }
        self._timelines = {kind: Timelines.from_events(log, rows, rows) for kind, rows in events.items()}
        self._items: dict[tuple[HistoryKind, int], HistoryItem] = {}
        self._products: dict[int, tuple[Product, int | None]] = {}

    def before(self, shopper: Codes, time_ms: Ints) -> list[list[HistoryItem]]:
        """Returns, for each shopper, the latest MAX_ITEMS items of each kind strictly before a time, in order of time."""
        latest = {
            kind: np.sort(timeline.before(shopper, time_ms, MAX_ITEMS), axis=1)
            for kind, timeline in self._timelines.items()
        }
        return [
            sorted(
                (
                    self._item(kind, event)
                    for kind, events in latest.items()
                    for event in events[row, events[row] != NO_ITEM].tolist()
                ),
                key=lambda item: item.time_ms,
            )
            for row in range(len(shopper))
        ]

    def _item(self, kind: HistoryKind, event: int) -> HistoryItem:
        item = self._items.get((kind, event))
        if item is None:
            time_ms = int(self._log.time_ms[event])
            if kind == HistoryKind.SEARCH:
                item = HistoryItem(kind, time_ms, query=self._log.queries[self._log.query[event]])
            else:
                item = product_item(kind, time_ms, *self._product(int(self._log.product[event])))
            self._items[kind, event] = item
        return item

    def _product(self, row: int) -> tuple[Product, int | None]:
        if row not in self._products:
            product = self._table.product(row)
            self._products[row] = (product, self._bands.band(product))
        return self._products[row]


def _first_of(keys: Ints, events: Ints) -> Ints:
    """Returns the first event of each key; `events` are in order of time."""
    return events[np.sort(np.unique(keys[events], return_index=True)[1])]
