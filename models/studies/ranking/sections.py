"""The tables of what rankers make of shown pages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.evaluation.buckets import Bucket
from models.evaluation.page import Section
from models.evaluation.plots import groups_plot, reliability_plot
from models.ranking.tasks import TASKS
from models.studies.ranking.boosted import GRADED_TREES, PURCHASE_TREES
from models.studies.ranking.learned import (
    ESMM,
    IMPERSONAL,
    LISTWISE,
    MULTI_TASK,
    NO_TRANSFER,
    POINTWISE,
    SHARED,
    UNCERTAINTY,
    single_name,
)
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.plain import FROZEN, POPULAR, RETRIEVAL, WORDS
from models.studies.ranking.segments import HISTORY
from models.studies.ranking.served import SERVED

ORACLE, ANYONE = ORACLES = ("oracle", "oracle without the shopper")
_SHOWN = (RETRIEVAL, PURCHASE_TREES, single_name("purchase"), MULTI_TASK, ORACLE)  # in plots

_NOTES = {
    MULTI_TASK: "experts mixed by a gate for each task, and each task's chance by way of the one before it: the default",
    SERVED: "the same as 'aisle train ranker' trains it for searches: also from what was clicked beside what a search would have found",
    NO_TRANSFER: "the default without the way from task to task",
    SHARED: "one layer for all tasks, no gates, no transfer",
    ESMM: "a network for each task, P(purchase) by way of the click, no loss on carts; after ESMM (Ma et al., 2018), whose tasks share "
    "embeddings and here share the features alone",
    GRADED_TREES: "LightGBM on grades of 0 to 3",
    PURCHASE_TREES: "LightGBM on purchases alone",
    FROZEN: "as it came, on a random part of the pages, since it takes long",
    RETRIEVAL: "the cosine of product and search vector (query and shopper together) of the unified model",
}


def page_sections(ranked: Ranked, segments: Mapping[str, Bucket]) -> list[Section]:
    """Every ranker on every task, what tasks do to each other, ablations, calibration and segments."""
    names = list(ranked.answers)
    rankers = [name for name in names if name not in (ORACLE, ANYONE)]
    plotted = [name for name in _SHOWN if name in names]
    groups = {what: {name: ranked.mean(name, what) for name in plotted} for what in (*TASKS, GRADED)}
    return [
        Section(
            "All rankers",
            "; ".join(f"{name}: {note}" for name, note in _NOTES.items()) + ".",
            plots=[groups_plot(groups, "NDCG@10, of graded pages whole (simulated)")],
            tables=[*(ranked.task_table(names, task) for task in TASKS), ranked.graded_table(names, ORACLE)],
        ),
        Section(
            "Against the others",
            "On the same pages. A single task's one chance orders the page for whatever is asked.",
            tables=[
                ranked.difference_table(
                    f"{MULTI_TASK} minus each other, NDCG",
                    [(MULTI_TASK, name) for name in rankers if name != MULTI_TASK],
                )
            ],
        ),
        Section(
            "Do the tasks help or hurt each other?",
            "Of each task, a ranker of several minus the one that learned this task alone. Below zero is negative transfer.",
            tables=[
                ranked.own_task_table(
                    "NDCG@10", [name for name in (MULTI_TASK, NO_TRANSFER, SHARED, ESMM) if name in names]
                )
            ],
        ),
        Section(
            "One thing changed",
            tables=[
                ranked.difference_table(
                    "NDCG of a changed recipe minus the default's",
                    [
                        (name, MULTI_TASK)
                        for name in (UNCERTAINTY, POINTWISE, LISTWISE, NO_TRANSFER, SHARED)
                        if name in names
                    ],
                )
            ],
        ),
        _calibration_section(ranked),
        Section(
            "Personal features",
            "By the clicks and purchases known before the page.",
            tables=[
                ranked.segment_differences([(MULTI_TASK, IMPERSONAL)], what, HISTORY, segments[HISTORY])
                for what in ("purchase", GRADED)
            ],
        ),
        Section(
            "Segments",
            "Those with too few pages for a mean are left out.",
            tables=[
                ranked.segment_table(
                    [*plotted[::-1], *(one for one in (WORDS, POPULAR, FROZEN) if one in names)], what, name, bucket
                )
                for name, bucket in segments.items()
                for what in ("purchase", GRADED)
            ],
        ),
    ]


def _calibration_section(ranked: Ranked) -> Section:
    plots = [
        reliability_plot(
            {task: _points(ranked, task) for task in TASKS}, "share that did (simulated)", "chance that is told"
        )
    ]
    return Section(
        "Do chances hold what they say?",
        f"Of {MULTI_TASK}, by tenths of the shown products. Calibrated on the latest pages of training.",
        plots=plots,
        tables=[ranked.calibration_table([name for name in ranked.answers if ranked.answers[name].chances])],
    )


def _points(ranked: Ranked, task: str, groups: int = 10) -> list[tuple[float, float]]:
    """Mean chance and share by groups of equally many rows."""
    chances, labels = ranked.answers[MULTI_TASK].of(task), ranked.rows.labels[:, TASKS.index(task)]
    parts = np.array_split(np.argsort(chances, kind="stable"), groups)
    return [(float(chances[rows].mean()), float(labels[rows].mean())) for rows in parts if len(rows)]
