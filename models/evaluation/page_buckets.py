"""Buckets of searches and of logged pages: by the query, the shopper, the locale, and the products that the search led to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Codes, Ints
from models.evaluation.buckets import FREQUENCIES, Bucket, frequency_codes
from models.evaluation.cases import HABITUAL_EVENTS
from models.events.kinds import CLICK
from models.events.searches import plain_queries, plain_query
from models.products.product_table import ProductTable
from models.ranking.impressions import Impressions
from models.unified.history import HistoryKind
from models.unified.shopping_log import UNKNOWN, ShoppingLog

QUERY, PRODUCT, SHOPPER, LOCALE, CATEGORY = "query", "product", "shopper", "locale", "category"
SHOPPERS = ("anonymous", f"fewer than {HABITUAL_EVENTS} events", f"{HABITUAL_EVENTS} events or more")
PRODUCTS = ("new", "new and known", "known")
MOST_CATEGORIES = 12
OTHER_CATEGORIES = "others"


def page_buckets(
    shown: Impressions, events: ShoppingLog, table: ProductTable, since_ms: int, task: int
) -> dict[str, Bucket]:
    """Divides pages of searches from `since_ms` on. `events` are the whole log; `task` is what a search is to find.

    A product is known if somebody engaged with it before `since_ms`. Pages without a product of the task are in no part by product and
    category.
    """
    found = np.flatnonzero(shown.labels[:, task] > 0)
    page, product = shown.page[found], shown.product[found].astype(np.int64)
    return {
        QUERY: query_bucket(shown.queries, searches_before(events, since_ms)),
        PRODUCT: _products(page, product, known_before(events, since_ms), shown.num_pages),
        SHOPPER: _shoppers(shown),
        LOCALE: _named(shown.locales),
        CATEGORY: _categories(page, product, table, shown.num_pages),
    }


def query_bucket(queries: Sequence[str], searches: Mapping[str, int]) -> Bucket:
    """Divides queries by their number of earlier searches, as `frequency_codes` does; `searches` are by `plain_query`."""
    code_of = dict(zip(searches, frequency_codes(np.array([*searches.values()], np.int64)).tolist(), strict=True))
    codes = [code_of.get(plain_query(query), FREQUENCIES.index("unseen")) for query in queries]
    return Bucket(FREQUENCIES, np.array(codes, np.int32))


def searches_before(events: ShoppingLog, time_ms: int) -> dict[str, int]:
    """Returns the number of searches for each query, by `plain_query`, that began before a time."""
    first = np.unique(events.search, return_index=True)[1]
    first = first[(events.searched_ms[first] < time_ms) & (events.query[first] > 0)]
    plain = plain_queries(events.queries)
    counts = np.bincount(plain.code[events.query[first]], minlength=len(plain.names))
    return {plain.names[query]: int(counts[query]) for query in np.flatnonzero(counts).tolist()}


def known_before(events: ShoppingLog, time_ms: int) -> Codes:
    """Returns (products,) 1 for the products that somebody engaged with before a time, else 0."""
    engaged = (events.kind >= CLICK) & (events.product != UNKNOWN) & (events.time_ms < time_ms)
    known = np.zeros(events.num_products, np.int32)
    known[events.product[engaged]] = 1
    return known


def _products(page: Ints, product: Ints, known: Codes, num_pages: int) -> Bucket:
    count = np.bincount(page, minlength=num_pages)
    num_known = np.bincount(page, known[product], num_pages)
    codes = np.where(num_known == 0, 0, np.where(num_known < count, 1, 2))
    return Bucket(PRODUCTS, np.where(count > 0, codes, -1).astype(np.int32))


def _shoppers(shown: Impressions) -> Bucket:
    engaged = np.array([sum(item.kind != HistoryKind.SEARCH for item in history) for history in shown.histories])
    codes = np.where(shown.is_anonymous, 0, np.where(engaged < HABITUAL_EVENTS, 1, 2))
    return Bucket(SHOPPERS, codes.astype(np.int32))


def _categories(page: Ints, product: Ints, table: ProductTable, num_pages: int) -> Bucket:
    """Divides by the first level of the category of each page's first product; rare ones are together."""
    codes, names = table.distinct("category")
    pages, first = np.unique(page, return_index=True)
    tops = [(names[code] or "").split(">")[0].strip() or "no category" for code in codes[product[first]].tolist()]
    kept = [name for name, _ in Counter(tops).most_common(MOST_CATEGORIES)]
    values = (*kept, OTHER_CATEGORIES)
    place = {name: at for at, name in enumerate(kept)}
    of_page = np.full(num_pages, -1, np.int32)
    of_page[pages] = [place.get(name, len(kept)) for name in tops]
    return Bucket(values, of_page)


def _named(names: Sequence[str]) -> Bucket:
    values = tuple(name for name, _ in Counter(names).most_common())
    place = {name: at for at, name in enumerate(values)}
    return Bucket(values, np.array([place[name] for name in names], np.int32))
