"""Pages that nobody saw: what shoppers clicked, beside products that a search would have found and that they were not shown.

A log knows the pages of the search that made it. A ranker that learns from those alone meets, among the hundreds that it orders in a
search, products as it has never seen any. On a simulated log (20,000 products; 5,154 logged pages) it put of the products that were bought
after the training .204 among its first 10, where retrieval alone put .213; with as many of these pages .290 [.237, .344]. Logged pages
are also almost all of the type that was asked for, so that the type counts for nothing. In other languages, whose words the catalogue
does not know, .49 of the first 10 hits were then of the right type, where .87 were before; with pages of their searches .87.

Nobody knows what shoppers had done with what they were not shown: these pages are for learning only, never for calibrating or measuring.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.arrays import Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.events.kinds import CART, CLICK, IMPRESSION, PURCHASE
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.impressions import Impressions, PageHistories
from models.ranking.parse_log import ParsedLog, parse_log
from models.unified.bundle_part import UNIFIED_PART
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import UNKNOWN, ShoppingLog

_FOUND = 12  # products beside the clicked ones
_DEPTH = 200  # that they are drawn among, as deep as a search ranks
_BOOST = 0.5  # of the query's types, in half of the draws: what a search does by default
_POOL = 50_000  # products that they are looked for among
_AT_ONCE = 128  # searches


def unshown_pages(
    log: pa.Table | ParsedLog,
    bundle: Bundle,
    features: CandidateFeatures,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    max_pages: int,
    logged: bool = False,
    seed: int = 0,
    progress: Progress = lambda *_: None,
) -> Impressions | None:
    """At most `max_pages`, drawn of the searches that led to a click and that the log has a page of (`logged`), or none; None where there
    is none. No position is known."""
    if max_pages < 1:
        return None
    table = bundle.products()
    events, _ = parse_log(log, table)
    told = _clicks(events, since_ms, until_ms, logged=logged)
    searches = np.unique(events.search[told])
    if not len(searches):
        return None
    random = np.random.default_rng([seed, 0xC1])
    if len(searches) > max_pages:
        searches = random.choice(searches, max_pages, replace=False)
    searches = searches[np.lexsort((searches, events.search_time_ms[searches]))].astype(np.int64)
    page_of = np.full(len(events.search_time_ms), -1, np.int64)
    page_of[searches] = np.arange(len(searches))
    told = told[page_of[events.search[told]] >= 0]
    first = told[np.unique(page_of[events.search[told]], return_index=True)[1]]
    searched_ms, shopper = events.search_time_ms[searches], events.shopper[first]
    queries = [events.queries[number] for number in events.query[first].tolist()]
    locales = [events.locales[number] for number in events.locale[first].tolist()]
    histories = PageHistories(events, table, PriceBands.load(UNIFIED_PART.open(bundle))).before(shopper, searched_ms)
    clicked = _labels(page_of[events.search[told]], events.product[told], events.kind[told], len(searches))
    met = np.flatnonzero((page_of[events.search] >= 0) & (events.product != UNKNOWN))
    shown = _labels(page_of[events.search[met]], events.product[met], events.kind[met], len(searches))
    finder = _Finder(bundle, random)
    pages: list[list[int]] = []
    for start in range(0, len(searches), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        inputs = features.inputs(queries[block], locales[block], histories[block])
        for labels, seen, found in zip(clicked[block], shown[block], finder.find(inputs), strict=True):
            beside = [row for row in found.tolist() if row not in seen]
            pages.append([*labels, *beside[:_FOUND]])
        progress("look beside clicks", len(pages), len(searches))
    page = np.repeat(np.arange(len(pages)), [len(rows) for rows in pages])
    strongest = np.array([labels.get(row, 0) for labels, rows in zip(clicked, pages, strict=True) for row in rows])
    return Impressions(
        page=page,
        product=np.array([row for rows in pages for row in rows], np.int64),
        position=np.zeros(len(page), np.int64),
        labels=(strongest[:, None] >= np.array([CLICK, CART, PURCHASE])).astype(np.float32),
        queries=queries,
        locales=locales,
        time_ms=searched_ms,
        shopper=shopper,
        is_anonymous=events.is_anonymous[first],
        histories=histories,
    )


def _clicks(events: ShoppingLog, since_ms: int | None, until_ms: int | None, *, logged: bool) -> Ints:
    """What was engaged with in the searches of the time asked for, those with impressions or those without."""
    has_page = np.zeros(len(events.search_time_ms), np.bool_)
    has_page[events.search[events.kind == IMPRESSION]] = True
    told = (
        (events.query > 0)
        & (events.product != UNKNOWN)
        & (events.kind != IMPRESSION)
        & (has_page[events.search] == logged)
    )
    if until_ms is not None:
        told &= events.time_ms < until_ms
    if since_ms is not None:
        told &= events.searched_ms >= since_ms
    return np.flatnonzero(told)


def _labels(
    page: Ints, product: npt.NDArray[np.integer], kind: npt.NDArray[np.integer], num_pages: int
) -> list[dict[int, int]]:
    """Of each page the products that were engaged with, and the strongest event of each."""
    found: list[dict[int, int]] = [{} for _ in range(num_pages)]
    for at, row, what in zip(page.tolist(), product.tolist(), kind.tolist(), strict=True):
        found[at][row] = max(found[at].get(row, 0), what)
    return found


class _Finder:
    """Products near a search, half of them with its types boosted."""

    def __init__(self, bundle: Bundle, random: np.random.Generator) -> None:
        self._random = random
        self._rows = np.sort(random.permutation(bundle.manifest.products)[:_POOL])
        self._vectors = np.asarray(bundle.unit_vectors()[self._rows], np.float32)
        codes, categories = bundle.products().distinct("category")
        self._category = codes[self._rows]
        self._number = {name: number for number, name in enumerate(categories)}

    def find(self, inputs: Sequence[QueryInput]) -> list[Ints]:
        """Rows of the catalogue for each search, in random order."""
        scores = np.stack([one.search for one in inputs]) @ self._vectors.T
        depth = min(_DEPTH, len(self._rows))
        found = []
        for query, score in zip(inputs, scores, strict=True):
            plain = np.argpartition(-score, depth - 1)[:depth]
            boosted = score + _BOOST * self._chances(query)[self._category]
            near = np.argpartition(-boosted, depth - 1)[:depth]
            drawn = np.concatenate([self._random.permutation(one)[:_FOUND] for one in (plain, near)])
            found.append(self._rows[self._random.permutation(np.unique(drawn))])
        return found

    def _chances(self, query: QueryInput) -> Floats:
        """(categories,)"""
        chances = np.zeros(len(self._number), np.float32)
        if query.types is not None and not query.types.abstained:
            for name, probability in query.types.types:
                chances[self._number[name]] = probability
        return chances
