"""Tables of several rankers on the same pages: means with intervals over shoppers, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import (
    Interval,
    difference_interval,
    mean_interval,
    mean_intervals,
    ratio_interval,
    statistic_intervals,
)
from models.evaluation.buckets import Bucket
from models.evaluation.page import Cell, Table
from models.ranking.fit_ranker import RankerRows
from models.ranking.tasks import TASKS
from models.studies.ranking.learned import single_name
from models.studies.ranking.page_metrics import (
    WHOLE_PAGE,
    RankerScores,
    area_of,
    calibration_parts,
    graded,
    log_losses,
    page_values,
    take_pages,
)

GRADED = "graded"  # next to the tasks: NDCG of the whole page, a click 1, a cart 2, a purchase 3
ROW_METRICS = ("AUC", "log-loss", "calibration error")
COLUMNS = ("NDCG@10", "MRR", "MAP", *ROW_METRICS)
_RESAMPLES = 200  # of figures that are not means


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Scores by ranker, and every metric of every page."""

    rows: RankerRows
    units: Ints  # (pages,)
    scores: dict[str, RankerScores]
    seed: int = 0
    _values: dict[tuple[str, str], Doubles] = field(default_factory=dict)

    def with_rankers(self, more: Mapping[str, RankerScores]) -> Ranked:
        """Returns the same pages with further rankers."""
        return Ranked(self.rows, self.units, {**self.scores, **more}, self.seed, self._values)

    def on_pages(self, pages: Ints) -> Ranked:
        """Returns the same rankers on `pages` (ascending) only."""
        rows, kept = take_pages(self.rows, pages)
        taken = {name: scores.take(kept) for name, scores in self.scores.items()}
        return Ranked(rows, self.units[pages], taken, self.seed)

    def values(self, ranker: str, what: str) -> Doubles:
        """Returns (pages, PAGE_METRICS) by a task, or GRADED; NaN where the ranker has no score."""
        if (ranker, what) not in self._values:
            scores, labels = self.scores[ranker], self.rows.labels
            if what == GRADED:
                values = page_values(self.rows, scores.overall, graded(labels), WHOLE_PAGE)
            else:
                values = page_values(self.rows, scores.for_task(what), labels[:, TASKS.index(what)])
            self._values[ranker, what] = values
        return self._values[ranker, what]

    def ndcg(self, ranker: str, what: str) -> Doubles:
        """Returns NDCG (pages,)."""
        return self.values(ranker, what)[:, 0]

    def mean(self, ranker: str, what: str) -> Interval:
        return mean_interval(self.ndcg(ranker, what), self.units, seed=self.seed)

    def difference(self, ours: str, theirs: str, what: str, pages: Ints | None = None) -> Interval:
        """Returns NDCG of `ours` minus NDCG of `theirs`, on the same pages."""
        at = slice(None) if pages is None else pages
        return difference_interval(
            self.ndcg(ours, what)[at], self.ndcg(theirs, what)[at], self.units[at], seed=self.seed
        )

    def share(self, ours: str, theirs: str, what: str) -> Interval:
        """Returns mean NDCG of `ours` divided by that of `theirs`, on the same pages."""
        return ratio_interval(self.ndcg(ours, what), self.ndcg(theirs, what), self.units, seed=self.seed)

    def calibration_error(self, ranker: str, task: str) -> Interval:
        parts = calibration_parts(
            self.scores[ranker].for_task(task),
            self.rows.labels[:, TASKS.index(task)],
            self.rows.page,
            self.rows.num_pages,
        )
        lengths = np.bincount(self.rows.page, minlength=self.rows.num_pages)

        def error(weights: Doubles) -> Doubles:
            return np.array([np.abs(weights @ parts).sum() / max(1.0, weights @ lengths)])

        return statistic_intervals(error, self.units, num_resamples=_RESAMPLES, seed=self.seed)[0]

    def task_table(self, rankers: Sequence[str], task: str) -> Table:
        """Returns COLUMNS of one task, the best ranker first."""
        rows = [(name, self._cells(name, task)) for name in rankers if self.scores[name].has_task(task)]
        rows.sort(key=lambda row: -_value(row[1][0]))
        return Table(f"{task}: means over pages and rows", "ranker", COLUMNS, rows)

    def graded_table(self, rankers: Sequence[str], oracle: str) -> Table:
        """Returns NDCG of whole pages, with the share of the oracle's if it is among the rankers."""
        has_oracle = oracle in rankers
        rows: list[tuple[str, Sequence[Cell]]] = [
            (name, [self.mean(name, GRADED), *([self.share(name, oracle, GRADED)] if has_oracle else [])])
            for name in rankers
        ]
        rows.sort(key=lambda row: -_value(row[1][0]))
        columns = ("NDCG", "share of the oracle's") if has_oracle else ("NDCG",)
        return Table("Whole page; gains: click 1, cart 2, purchase 3", "ranker", columns, rows)

    def difference_table(self, caption: str, pairs: Sequence[tuple[str, str]]) -> Table:
        """Returns differences in NDCG@10 by task, and in NDCG of whole pages: the first of each pair minus the second."""
        targets = (*TASKS, GRADED)
        rows: list[tuple[str, Sequence[Cell]]] = [
            (f"{ours} minus {theirs}", [self.difference(ours, theirs, what) for what in targets])
            for ours, theirs in pairs
        ]
        return Table(caption, "rankers", targets, rows, signed=True)

    def own_task_table(self, metric: str, rankers: Sequence[str]) -> Table:
        """Returns differences by task: each ranker minus the ranker trained on this task alone."""
        rows: list[tuple[str, Sequence[Cell]]] = [
            (name, [self.difference(name, single_name(task), task) for task in TASKS]) for name in rankers
        ]
        return Table(f"{metric}, difference from the single-task ranker", "ranker", TASKS, rows, signed=True)

    def calibration_table(self, rankers: Sequence[str]) -> Table:
        rows: list[tuple[str, Sequence[Cell]]] = [
            (
                name,
                [
                    self.calibration_error(name, task) if task in self.scores[name].calibrated else None
                    for task in TASKS
                ],
            )
            for name in rankers
        ]
        return Table("Calibration error", "ranker", TASKS, rows)

    def segment_table(self, rankers: Sequence[str], what: str, name: str, bucket: Bucket) -> Table:
        """Returns NDCG by segment; leaves out segments that are too small."""
        pages = bucket.large_parts(self.units)
        rows: list[tuple[str, Sequence[Cell]]] = [
            (
                ranker,
                [mean_interval(self.ndcg(ranker, what)[at], self.units[at], seed=self.seed) for at in pages.values()],
            )
            for ranker in rankers
        ]
        columns = [f"{value} ({len(at):,})" for value, at in pages.items()]
        return Table(f"{what} NDCG by {name}; number of pages in brackets", "ranker", columns, rows)

    def segment_differences(self, pairs: Sequence[tuple[str, str]], what: str, name: str, bucket: Bucket) -> Table:
        pages = bucket.large_parts(self.units)
        rows: list[tuple[str, Sequence[Cell]]] = [
            (f"{ours} minus {theirs}", [self.difference(ours, theirs, what, at) for at in pages.values()])
            for ours, theirs in pairs
        ]
        return Table(f"{what} NDCG, differences by {name}", "rankers", list(pages), rows, signed=True)

    def _cells(self, ranker: str, task: str) -> list[Cell]:
        scores, at = self.scores[ranker], TASKS.index(task)
        cells: list[Cell] = [*mean_intervals(self.values(ranker, task), self.units, seed=self.seed)]
        page, labels, values = self.rows.page, self.rows.labels[:, at], scores.for_task(task)
        is_scored = np.isfinite(values)
        area = area_of(values[is_scored], labels[is_scored])
        cells += statistic_intervals(
            lambda weights: np.array([area(weights[page[is_scored]])]),
            self.units,
            num_resamples=_RESAMPLES,
            seed=self.seed,
        )
        if task not in scores.calibrated:
            return [*cells, None, None]
        loss = mean_interval(log_losses(values, labels), self.units[page], seed=self.seed)
        return [*cells, loss, self.calibration_error(ranker, task)]


def _value(cell: Cell) -> float:
    return cell.value if isinstance(cell, Interval) and np.isfinite(cell.value) else -1.0
