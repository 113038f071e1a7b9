"""What a ranker says of shown products, and how right it is, page by page.

Ranking metrics are those of `models.evaluation.metrics`, whose definitions are trec_eval's; products of equal score stand in an order
drawn by lot, so that none profits from the order in which a page is kept. Area, loss and calibration are of rows, not of pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.evaluation.metrics import Relevance, average_precision, ndcg_at, reciprocal_rank
from models.ranking.fit_ranker import RankerRows
from models.ranking.ranker import blend
from models.ranking.tasks import TASKS

TOP = 10
WHOLE_PAGE = 10_000  # longer than any page
PAGE_METRICS = (f"ndcg@{TOP}", "mrr", "map")
BINS = 15  # of calibration, by equal width as `expected_calibration_error` has them

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a ranker says of the rows of some pages."""

    scores: Doubles  # (rows, TASKS) to order by; NaN where it says nothing: of a task, or of some pages
    overall: Doubles  # (rows,) to order by for what is worth the most
    chances: tuple[str, ...] = ()  # tasks of which the scores are calibrated chances

    @classmethod
    def of_chances(cls, chances: Floats) -> Answer:
        """Ordered overall by what a click, a cart and a purchase are worth where a request does not say. A column of NaN counts nothing."""
        known = np.nan_to_num(np.asarray(chances, np.float32))
        told = tuple(task for at, task in enumerate(TASKS) if np.isfinite(chances[:, at]).all())
        return cls(np.asarray(chances, np.float64), blend(known).astype(np.float64), told)

    @classmethod
    def of_score(cls, score: Floats, chance_of: str = "") -> Answer:
        """One order for all tasks; it may be the chance of one of them."""
        wanted: Doubles = np.asarray(score, np.float64)
        scores = np.repeat(wanted[:, None], len(TASKS), axis=1)
        return cls(scores, wanted, (chance_of,) if chance_of else ())

    def take(self, rows: Ints) -> Answer:
        """Of these rows."""
        return Answer(self.scores[rows], self.overall[rows], self.chances)

    def of(self, task: str) -> Doubles:
        """(rows,)"""
        return self.scores[:, TASKS.index(task)]

    def tells(self, task: str) -> bool:
        return bool(np.isfinite(self.of(task)).any())


def page_values(rows: RankerRows, scores: Floats, grades: Floats, k: int = TOP) -> Doubles:
    """(pages, PAGE_METRICS) of ordering each page by `scores` (rows,), the highest first; what has a grade (rows,) above 0 is right.

    NDCG is at `k`, and counts grades; MRR and MAP see the whole page. NaN for pages without anything right or with a score of NaN.
    """
    wanted = np.flatnonzero(grades > 0)
    relevance = Relevance(rows.page[wanted], wanted, np.asarray(grades[wanted], np.float64), rows.num_pages)
    found = page_places(rows, scores)[wanted]
    values = np.stack(
        [ndcg_at(found, relevance, k), reciprocal_rank(found, relevance), average_precision(found, relevance)], axis=1
    )
    values[np.unique(rows.page[np.isnan(scores)])] = np.nan
    return values


def page_places(rows: RankerRows, scores: Floats) -> Ints:
    """(rows,) the place of each row in its page, from 0, by falling score."""
    lot = np.random.default_rng(0).random(len(scores))
    order = np.lexsort((lot, -np.asarray(scores), rows.page))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.searchsorted(rows.page, rows.page)[order]
    return places


def graded(labels: Floats) -> Doubles:
    """(rows,) 1 of a click, 2 of a cart, 3 of a purchase."""
    return np.asarray(labels.sum(axis=1), np.float64)


def log_losses(chances: Floats, labels: Floats) -> Doubles:
    """(rows,) of one task, in nats."""
    certain = np.clip(np.asarray(chances, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(-np.where(labels > 0, np.log(certain), np.log1p(-certain)))


def area_of(scores: Floats, labels: Floats) -> Callable[[Doubles], float]:
    """The area under the ROC curve of rows that count so often (rows,): sorted once, so that a thousand resamples are cheap."""
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")
    _, tie = np.unique(np.asarray(scores, np.float64)[order], return_inverse=True)
    right = labels[order] > 0

    def area(times: Doubles) -> float:
        weights = times[order]
        good = np.bincount(tie, weights * right)
        bad = np.bincount(tie, weights * ~right)
        below = np.cumsum(bad) - bad / 2  # of equal scores half count
        total = good.sum() * bad.sum()
        return float((good * below).sum() / total) if total else float("nan")

    return area


def calibration_parts(chances: Floats, labels: Floats, page: Ints, num_pages: int) -> Doubles:
    """(pages, BINS) what was claimed minus what held, by bin of the chance: the calibration error is the sum over bins of the absolute
    sums over pages, over the number of rows."""
    place = np.minimum((np.asarray(chances) * BINS).astype(np.int64), BINS - 1)
    gap = np.asarray(chances, np.float64) - (labels > 0)
    return np.asarray(np.bincount(page * BINS + place, gap, num_pages * BINS).reshape(num_pages, BINS), np.float64)


def take_pages(rows: RankerRows, pages: Ints) -> tuple[RankerRows, Ints]:
    """These pages (ascending), numbered anew, and the rows (n,) that they were."""
    kept = np.flatnonzero(np.isin(rows.page, pages))
    page = np.searchsorted(pages, rows.page[kept])
    teacher = None if rows.teacher is None else rows.teacher[kept]
    return RankerRows(rows.features[kept], rows.labels[kept], page, rows.position[kept], teacher), kept
