"""What a catalogue and a log hold, counted once before training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Codes, Ints
from models.events.kinds import CART, CLICK, IMPRESSION, KINDS, PURCHASE
from models.products.product import Product
from models.unified.shopping_log import UNKNOWN, ShoppingLog

SHOWN_TOGETHER = 2  # products, at least, that make a page: one alone was preferred to nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueFacts:
    """The products by row."""

    ids: list[str]
    category: Codes  # (products,) -1 without one
    num_categories: int
    with_price: int

    @classmethod
    def from_products(cls, products: Iterable[Product]) -> CatalogueFacts:
        ids: list[str] = []
        numbers: dict[str, int] = {"": -1}
        category: list[int] = []
        with_price = 0
        for product in products:
            ids.append(product.id)
            category.append(numbers.setdefault(product.category, len(numbers) - 1))
            with_price += product.price_minor is not None
        return cls(
            ids=ids, category=np.array(category, np.int32), num_categories=len(numbers) - 1, with_price=with_price
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """The times (ms) at which the ranker's training, then the report, begin. None: the log has no such part, or `since` all of it."""

    until: int | None = None  # retrieval, types and text encoder learn from what came before
    since: int | None = None  # the ranker learns from pages that were searched then or later
    report: int | None = None  # and before this, from which on it is measured

    @classmethod
    def by_share(cls, log: ShoppingLog, train_share: float, report_share: float) -> Windows:
        """Splits the events of a log: the first `train_share`, the last `report_share`, and what is between."""
        first, second = log.time_at(train_share), log.time_at(1 - report_share)
        return cls(until=first, since=first, report=second)


@dataclass(frozen=True, kw_only=True, slots=True)
class MendedCounts:
    """How many events the log had without these, before they were filled in."""

    sessions: int = 0
    locales: int = 0
    queries: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShopFacts:
    """Counts of a shop. A search is a query in a session; it is engaged if it led to a click, a cart or a purchase of a product that the
    catalogue has."""

    products: int
    with_category: int
    categories: int
    with_price: int
    has_text: bool  # columns of text beside the title
    events: int
    by_kind: tuple[int, ...]  # of KINDS
    unknown: int  # events of products that the catalogue lacks
    anonymous: int  # events without a shopper
    without_session: int
    without_locale: int
    titled: int  # clicks, carts and purchases whose query was taken from a title
    engaged: int  # clicks, carts and purchases
    locales: tuple[str, ...]
    default_locale: str
    pairs: int  # of a search and a product that it led to, in the window of retrieval
    typed_queries: int  # (query, locale) of such pairs whose product has a category
    types: int  # categories of these products
    pages: int  # in the ranker's window: searches that showed two products or more
    clicked_pages: int  # of these, engaged ones
    clicked_searches: int  # engaged searches in the ranker's window of which no impression is logged
    carts: int  # in the ranker's window
    purchases: int
    later: int  # engaged searches in the report's window

    @classmethod
    def count(
        cls,
        catalogue: CatalogueFacts,
        every: ShoppingLog,
        windows: Windows,
        *,
        mended: MendedCounts,
        default_locale: str = "en-US",
        has_text: bool = True,
    ) -> ShopFacts:
        """Counts the events of all logs, `every`."""
        within = _engaged(every) & _before(every.time_ms, windows.until)
        category = catalogue.category[every.product[within]]
        typed = np.flatnonzero(within)[category >= 0]
        query_in_locale = every.query[typed].astype(np.int64) * max(len(every.locales), 1) + every.locale[typed]
        ranked = (every.query > 0) & (every.product != UNKNOWN) & _before(every.time_ms, windows.report)
        if windows.since is not None:
            ranked &= every.searched_ms >= windows.since
        pages = _pages(every, ranked)
        led = np.unique(every.search[ranked & (every.kind >= CLICK)])
        shown = np.unique(every.search[every.kind == IMPRESSION])
        later = 0
        if windows.report is not None:
            later = len(np.unique(every.search[_engaged(every) & (every.searched_ms >= windows.report)]))
        return cls(
            products=len(catalogue.ids),
            with_category=int((catalogue.category >= 0).sum()),
            categories=catalogue.num_categories,
            with_price=catalogue.with_price,
            has_text=has_text,
            events=len(every),
            by_kind=tuple(np.bincount(every.kind, minlength=len(KINDS)).tolist()),
            unknown=int((every.product == UNKNOWN).sum()),
            anonymous=int(every.is_anonymous.sum()),
            without_session=mended.sessions,
            without_locale=mended.locales,
            titled=mended.queries,
            engaged=int((every.kind >= CLICK).sum()),
            locales=tuple(every.locales),
            default_locale=default_locale,
            pairs=_num_pairs(every, within),
            typed_queries=len(np.unique(query_in_locale)),
            types=len(np.unique(category[category >= 0])),
            pages=len(pages),
            clicked_pages=len(np.intersect1d(pages, led, assume_unique=True)),
            clicked_searches=len(np.setdiff1d(led, shown, assume_unique=True)),
            carts=int((ranked & (every.kind == CART)).sum()),
            purchases=int((ranked & (every.kind == PURCHASE)).sum()),
            later=later,
        )


def _engaged(log: ShoppingLog) -> Bools:
    return (log.kind >= CLICK) & (log.query > 0) & (log.product != UNKNOWN)


def _before(time_ms: Ints, until: int | None) -> Bools:
    return np.ones(len(time_ms), np.bool_) if until is None else time_ms < until


def _num_pairs(log: ShoppingLog, events: Bools) -> int:
    return len(np.unique(log.search[events].astype(np.int64) * log.num_products + log.product[events]))


def _pages(log: ShoppingLog, events: Bools) -> Ints:
    """Returns the searches that showed SHOWN_TOGETHER products or more."""
    shown = events & (log.kind == IMPRESSION)
    pairs = np.unique(log.search[shown].astype(np.int64) * log.num_products + log.product[shown])
    searches, counts = np.unique(pairs // log.num_products, return_counts=True)
    return searches[counts >= SHOWN_TOGETHER]
