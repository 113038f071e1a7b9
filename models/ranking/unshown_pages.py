"""Pages that no shopper saw: clicked products together with products that retrieval returns and that were not shown.

A log has only the pages that an earlier search showed. A ranker trained on those alone meets, among the hundreds of candidates of a
search, products unlike any that it has seen. On a simulated log (20,000 products, 5,154 logged pages) its recall@10 of later purchases
was 0.204, below retrieval alone at 0.213; with as many unshown pages it was 0.290 [0.237, 0.344]. On logged pages nearly all products
have the requested type, so that a ranker learns to ignore the type: in languages whose words the catalogue lacks, the share of the
right type among the first 10 hits fell from 0.87 to 0.49, and was 0.87 again with unshown pages of their searches.

Nobody knows what shoppers would have done with products that were not shown: these pages are for training, never for calibration or
evaluation.
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

_RETRIEVED = 12  # unshown products on a page
_DEPTH = 200  # candidates that they are drawn from, as many as a search ranks
_BOOST = 0.5  # of the query's types in half of the draws, the default of a search
_POOL = 50_000  # products, at most, that are searched
_BLOCK = 128  # searches


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
    """Returns at most `max_pages` pages without positions; None if there is no search to make them from.

    They are drawn from the searches that led to a click: with `logged` from those whose page is in the log, else from the others.
    """
    if max_pages < 1:
        return None
    table = bundle.products()
    events, _ = parse_log(log, table)
    engaged = _clicks(events, since_ms, until_ms, logged=logged)
    searches = np.unique(events.search[engaged])
    if not len(searches):
        return None
    random = np.random.default_rng([seed, 0xC1])
    if len(searches) > max_pages:
        searches = random.choice(searches, max_pages, replace=False)
    searches = searches[np.lexsort((searches, events.search_time_ms[searches]))].astype(np.int64)
    page_of = np.full(len(events.search_time_ms), -1, np.int64)
    page_of[searches] = np.arange(len(searches))
    engaged = engaged[page_of[events.search[engaged]] >= 0]
    first = engaged[np.unique(page_of[events.search[engaged]], return_index=True)[1]]
    searched_ms, shopper = events.search_time_ms[searches], events.shopper[first]
    queries = [events.queries[number] for number in events.query[first].tolist()]
    locales = [events.locales[number] for number in events.locale[first].tolist()]
    histories = PageHistories(events, table, PriceBands.load(UNIFIED_PART.open(bundle))).before(shopper, searched_ms)
    clicked = _labels(page_of[events.search[engaged]], events.product[engaged], events.kind[engaged], len(searches))
    met = np.flatnonzero((page_of[events.search] >= 0) & (events.product != UNKNOWN))
    shown = _labels(page_of[events.search[met]], events.product[met], events.kind[met], len(searches))
    retriever = _Retriever(bundle, random)
    pages: list[list[int]] = []
    for start in range(0, len(searches), _BLOCK):
        block = slice(start, start + _BLOCK)
        inputs = features.inputs(queries[block], locales[block], histories[block], searched_ms[block].tolist())
        for labels, seen, retrieved in zip(clicked[block], shown[block], retriever.retrieve(inputs), strict=True):
            unshown = [row for row in retrieved.tolist() if row not in seen]
            pages.append([*labels, *unshown[:_RETRIEVED]])
        progress("retrieve unshown products", len(pages), len(searches))
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


def num_clicked_searches(log: ParsedLog, since_ms: int | None, until_ms: int | None) -> int:
    """Returns how many searches led to a click and have no page in the log."""
    events = log.events
    return len(np.unique(events.search[_clicks(events, since_ms, until_ms, logged=False)]))


def _clicks(events: ShoppingLog, since_ms: int | None, until_ms: int | None, *, logged: bool) -> Ints:
    """Returns the clicks, carts and purchases of searches in the given time, either those with impressions or those without."""
    has_page = np.zeros(len(events.search_time_ms), np.bool_)
    has_page[events.search[events.kind == IMPRESSION]] = True
    engaged = (
        (events.query > 0)
        & (events.product != UNKNOWN)
        & (events.kind != IMPRESSION)
        & (has_page[events.search] == logged)
    )
    if until_ms is not None:
        engaged &= events.time_ms < until_ms
    if since_ms is not None:
        engaged &= events.searched_ms >= since_ms
    return np.flatnonzero(engaged)


def _labels(
    page: Ints, product: npt.NDArray[np.integer], kind: npt.NDArray[np.integer], num_pages: int
) -> list[dict[int, int]]:
    """Returns, for each page, its engaged products with the strongest event of each."""
    strongest: list[dict[int, int]] = [{} for _ in range(num_pages)]
    for at, row, event in zip(page.tolist(), product.tolist(), kind.tolist(), strict=True):
        strongest[at][row] = max(strongest[at].get(row, 0), event)
    return strongest


class _Retriever:
    """Draws products near a search, half of them with the query's types boosted."""

    def __init__(self, bundle: Bundle, random: np.random.Generator) -> None:
        self._random = random
        self._rows = np.sort(random.permutation(bundle.manifest.products)[:_POOL])
        self._vectors = np.asarray(bundle.unit_vectors()[self._rows], np.float32)
        codes, categories = bundle.products().distinct("category")
        self._category = codes[self._rows]
        self._number = {name: number for number, name in enumerate(categories)}

    def retrieve(self, inputs: Sequence[QueryInput]) -> list[Ints]:
        """Returns rows of the catalogue for each search, in random order."""
        scores = np.stack([query.search for query in inputs]) @ self._vectors.T
        depth = min(_DEPTH, len(self._rows))
        rows = []
        for query, score in zip(inputs, scores, strict=True):
            plain = np.argpartition(-score, depth - 1)[:depth]
            boosted = score + _BOOST * self._type_probabilities(query)[self._category]
            near = np.argpartition(-boosted, depth - 1)[:depth]
            drawn = np.concatenate([self._random.permutation(places)[:_RETRIEVED] for places in (plain, near)])
            rows.append(self._rows[self._random.permutation(np.unique(drawn))])
        return rows

    def _type_probabilities(self, query: QueryInput) -> Floats:
        """Returns (categories,) the probability of each category; 0 if the classifier abstained."""
        probabilities = np.zeros(len(self._number), np.float32)
        if query.types is not None and not query.types.abstained:
            for name, probability in query.types.types:
                probabilities[self._number[name]] = probability
        return probabilities
