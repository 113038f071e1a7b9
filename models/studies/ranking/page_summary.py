"""Answers of several rankers to the same pages as tables: means with intervals over shoppers, and paired differences."""

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
    Answer,
    area_of,
    calibration_parts,
    graded,
    log_losses,
    page_values,
    take_pages,
)

GRADED = "graded"  # beside the tasks: the whole page, a click 1, a cart 2, a purchase 3
ROW_METRICS = ("AUC", "log-loss", "calibration error")
COLUMNS = ("NDCG@10", "MRR", "MAP", *ROW_METRICS)
_RESAMPLES = 200  # of figures that are no means


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Answers by ranker, and every metric of every page of each."""

    rows: RankerRows
    units: Ints  # (pages,)
    answers: dict[str, Answer]
    seed: int = 0
    _values: dict[tuple[str, str], Doubles] = field(default_factory=dict)

    def with_answers(self, more: Mapping[str, Answer]) -> Ranked:
        """And of these rankers."""
        return Ranked(self.rows, self.units, {**self.answers, **more}, self.seed, self._values)

    def of_pages(self, pages: Ints) -> Ranked:
        """Of these pages (ascending) alone."""
        rows, kept = take_pages(self.rows, pages)
        answers = {name: answer.take(kept) for name, answer in self.answers.items()}
        return Ranked(rows, self.units[pages], answers, self.seed)

    def values(self, ranker: str, what: str) -> Doubles:
        """(pages, PAGE_METRICS) by a task, or GRADED; NaN where the ranker says nothing."""
        if (ranker, what) not in self._values:
            answer, labels = self.answers[ranker], self.rows.labels
            if what == GRADED:
                found = page_values(self.rows, answer.overall, graded(labels), WHOLE_PAGE)
            else:
                found = page_values(self.rows, answer.of(what), labels[:, TASKS.index(what)])
            self._values[ranker, what] = found
        return self._values[ranker, what]

    def ndcg(self, ranker: str, what: str) -> Doubles:
        """(pages,)"""
        return self.values(ranker, what)[:, 0]

    def mean(self, ranker: str, what: str) -> Interval:
        return mean_interval(self.ndcg(ranker, what), self.units, seed=self.seed)

    def difference(self, ours: str, theirs: str, what: str, pages: Ints | None = None) -> Interval:
        """Of NDCG, ours minus theirs, on the same pages."""
        at = slice(None) if pages is None else pages
        return difference_interval(
            self.ndcg(ours, what)[at], self.ndcg(theirs, what)[at], self.units[at], seed=self.seed
        )

    def share(self, ours: str, theirs: str, what: str) -> Interval:
        """Of NDCG, ours over theirs, on the same pages."""
        return ratio_interval(self.ndcg(ours, what), self.ndcg(theirs, what), self.units, seed=self.seed)

    def calibration_error(self, ranker: str, task: str) -> Interval:
        parts = calibration_parts(
            self.answers[ranker].of(task), self.rows.labels[:, TASKS.index(task)], self.rows.page, self.rows.num_pages
        )
        lengths = np.bincount(self.rows.page, minlength=self.rows.num_pages)

        def error(times: Doubles) -> Doubles:
            return np.array([np.abs(times @ parts).sum() / max(1.0, times @ lengths)])

        return statistic_intervals(error, self.units, num_resamples=_RESAMPLES, seed=self.seed)[0]

    def task_table(self, rankers: Sequence[str], task: str) -> Table:
        """COLUMNS of one task, the best ranker first."""
        rows = [(name, self._cells(name, task)) for name in rankers if self.answers[name].tells(task)]
        rows.sort(key=lambda row: -_value(row[1][0]))
        return Table(f"{task}: means over pages and rows", "ranker", COLUMNS, rows)

    def graded_table(self, rankers: Sequence[str], oracle: str) -> Table:
        """Of whole pages, with the share of the oracle's."""
        rows = [(name, [self.mean(name, GRADED), self.share(name, oracle, GRADED)]) for name in rankers]
        rows.sort(key=lambda row: -_value(row[1][0]))
        return Table("whole page, a click 1, a cart 2, a purchase 3", "ranker", ("NDCG", "share of the oracle's"), rows)

    def difference_table(self, caption: str, pairs: Sequence[tuple[str, str]]) -> Table:
        """NDCG@10 of each task and of whole pages, of the first of each pair minus the second."""
        whats = (*TASKS, GRADED)
        rows: list[tuple[str, Sequence[Cell]]] = [
            (f"{ours} minus {theirs}", [self.difference(ours, theirs, what) for what in whats])
            for ours, theirs in pairs
        ]
        return Table(caption, "rankers", whats, rows, signed=True)

    def own_task_table(self, metric: str, rankers: Sequence[str]) -> Table:
        """Each ranker on each task, minus the ranker that learned this task alone."""
        rows: list[tuple[str, Sequence[Cell]]] = [
            (name, [self.difference(name, single_name(task), task) for task in TASKS]) for name in rankers
        ]
        return Table(f"{metric}, minus the single task's", "ranker", TASKS, rows, signed=True)

    def calibration_table(self, rankers: Sequence[str]) -> Table:
        rows: list[tuple[str, Sequence[Cell]]] = [
            (
                name,
                [self.calibration_error(name, task) if task in self.answers[name].chances else None for task in TASKS],
            )
            for name in rankers
        ]
        return Table("Calibration error", "ranker", TASKS, rows)

    def segment_table(self, rankers: Sequence[str], what: str, name: str, bucket: Bucket) -> Table:
        """NDCG by a segment of the pages; too small ones have none."""
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
        answer, at = self.answers[ranker], TASKS.index(task)
        cells: list[Cell] = [*mean_intervals(self.values(ranker, task), self.units, seed=self.seed)]
        page, labels, scores = self.rows.page, self.rows.labels[:, at], answer.of(task)
        told = np.isfinite(scores)
        area = area_of(scores[told], labels[told])
        cells += statistic_intervals(
            lambda times: np.array([area(times[page[told]])]), self.units, num_resamples=_RESAMPLES, seed=self.seed
        )
        if task not in answer.chances:
            return [*cells, None, None]
        loss = mean_interval(log_losses(scores, labels), self.units[page], seed=self.seed)
        return [*cells, loss, self.calibration_error(ranker, task)]


def _value(cell: Cell) -> float:
    return cell.value if isinstance(cell, Interval) and np.isfinite(cell.value) else -1.0
