"""A ranker's scores of the products on result pages, and metrics of these scores by page.

Ranking metrics follow the definitions of trec_eval. Products of equal score are ordered at random, so that no ranker profits from the
logged order. Area under the ROC curve, log-loss and calibration are over rows, not pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.evaluation.metrics import Relevance, average_precision, ndcg_at, places_by_score, reciprocal_rank
from models.ranking.fit_ranker import RankerRows
from models.ranking.ranker import blend
from models.ranking.tasks import TASKS

TOP = 10
WHOLE_PAGE = 10_000  # longer than any page
PAGE_METRICS = (f"ndcg@{TOP}", "mrr", "map")
BINS = 15  # of equal width, as in `expected_calibration_error`

AnyFloats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class RankerScores:
    """A ranker's scores of the products (rows) of some pages."""

    scores: Doubles  # (rows, TASKS) to order by; NaN for a task or page without a score
    overall: Doubles  # (rows,) to order by over all tasks
    calibrated: tuple[str, ...] = ()  # tasks whose scores are calibrated probabilities

    @classmethod
    def from_probabilities(cls, probabilities: AnyFloats) -> RankerScores:
        """Takes calibrated probabilities (rows, TASKS). The overall order blends them by the default weights; a column of NaN counts 0."""
        overall = blend(np.nan_to_num(np.asarray(probabilities, np.float32)))
        calibrated = tuple(task for at, task in enumerate(TASKS) if np.isfinite(probabilities[:, at]).all())
        return cls(np.asarray(probabilities, np.float64), overall.astype(np.float64), calibrated)

    @classmethod
    def from_score(cls, score: AnyFloats, calibrated_task: str = "") -> RankerScores:
        """Takes one score (rows,) for all tasks; it may be a calibrated probability of `calibrated_task`."""
        overall: Doubles = np.asarray(score, np.float64)
        scores = np.repeat(overall[:, None], len(TASKS), axis=1)
        return cls(scores, overall, (calibrated_task,) if calibrated_task else ())

    def take(self, rows: Ints) -> RankerScores:
        """Returns the scores of `rows` (n,)."""
        return RankerScores(self.scores[rows], self.overall[rows], self.calibrated)

    def for_task(self, task: str) -> Doubles:
        """Returns the scores of one task (rows,)."""
        return self.scores[:, TASKS.index(task)]

    def has_task(self, task: str) -> bool:
        return bool(np.isfinite(self.for_task(task)).any())


def page_values(rows: RankerRows, scores: AnyFloats, grades: AnyFloats, k: int = TOP) -> Doubles:
    """Orders each page by falling `scores` (rows,) and returns (pages, PAGE_METRICS). A product with a grade (rows,) above 0 is relevant.

    NDCG@`k` uses the grades; MRR and MAP use the whole page. A page without a relevant product or with a NaN score has NaN.
    """
    relevant = np.flatnonzero(grades > 0)
    relevance = Relevance(rows.page[relevant], relevant, np.asarray(grades[relevant], np.float64), rows.num_pages)
    positions = places_by_score(scores, rows.page)[relevant]
    values = np.stack(
        [
            ndcg_at(positions, relevance, k),
            reciprocal_rank(positions, relevance),
            average_precision(positions, relevance),
        ],
        axis=1,
    )
    values[np.unique(rows.page[np.isnan(scores)])] = np.nan
    return values


def graded(labels: AnyFloats) -> Doubles:
    """Returns (rows,) grades: 1 for a click, 2 for a cart, 3 for a purchase."""
    return np.asarray(labels.sum(axis=1), np.float64)


def log_losses(probabilities: AnyFloats, labels: AnyFloats) -> Doubles:
    """Returns (rows,) the log-loss of one task, in nats."""
    clipped = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(-np.where(labels > 0, np.log(clipped), np.log1p(-clipped)))


def area_of(scores: AnyFloats, labels: AnyFloats) -> Callable[[Doubles], float]:
    """Returns a function from row weights (rows,) to the area under the ROC curve. It sorts once, so that resamples are cheap."""
    order = np.argsort(np.asarray(scores, np.float64), kind="stable")
    _, tie = np.unique(np.asarray(scores, np.float64)[order], return_inverse=True)
    right = labels[order] > 0

    def area(row_weights: Doubles) -> float:
        weights = row_weights[order]
        good = np.bincount(tie, weights * right)
        bad = np.bincount(tie, weights * ~right)
        below = np.cumsum(bad) - bad / 2  # equal scores count half
        total = good.sum() * bad.sum()
        return float((good * below).sum() / total) if total else float("nan")

    return area


def calibration_parts(probabilities: AnyFloats, labels: AnyFloats, page: Ints, num_pages: int) -> Doubles:
    """Returns (pages, BINS) the sums of predicted minus observed, by bin of the probability.

    The calibration error is the sum over bins of the absolute sums over pages, divided by the number of rows.
    """
    bins = np.minimum((np.asarray(probabilities) * BINS).astype(np.int64), BINS - 1)
    gap = np.asarray(probabilities, np.float64) - (labels > 0)
    return np.asarray(np.bincount(page * BINS + bins, gap, num_pages * BINS).reshape(num_pages, BINS), np.float64)


def take_pages(rows: RankerRows, pages: Ints) -> tuple[RankerRows, Ints]:
    """Returns the rows of `pages` (ascending), renumbered, and their former positions (n,)."""
    kept = np.flatnonzero(np.isin(rows.page, pages))
    page = np.searchsorted(pages, rows.page[kept])
    teacher = None if rows.teacher is None else rows.teacher[kept]
    return RankerRows(rows.features[kept], rows.labels[kept], page, rows.position[kept], teacher), kept
