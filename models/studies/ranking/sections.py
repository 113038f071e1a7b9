"""The sections of the detailed report: every ranker on the logged pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.buckets import Bucket
from models.evaluation.metrics import tie_breakers
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
from models.studies.ranking.segments import HISTORY
from models.studies.ranking.served import SERVED
from models.studies.ranking.untrained import FROZEN, POPULAR, RETRIEVAL, WORDS

ORACLE, IMPERSONAL_ORACLE = ORACLES = ("oracle", "oracle without the shopper")
_SHOWN = (RETRIEVAL, PURCHASE_TREES, single_name("purchase"), MULTI_TASK, ORACLE)  # in plots

_NOTES = {
    MULTI_TASK: "mixture of experts with a gate per task (MMoE); each task's probability is conditional on the previous task: the default",
    SERVED: "the same, trained as 'aisle train ranker' does: also on clicked products among the candidates that a search retrieves",
    NO_TRANSFER: "the default with independent tasks",
    SHARED: "one shared layer for all tasks, no gates, no transfer",
    ESMM: "one network per task, P(purchase) conditional on the click, no loss on carts; after ESMM (Ma et al., 2018), whose tasks share "
    "embeddings, while here they only share the features",
    GRADED_TREES: "LightGBM on grades of 0 to 3",
    PURCHASE_TREES: "LightGBM on purchases only",
    FROZEN: "not tuned; on a random sample of the pages, because it is slow",
    RETRIEVAL: "cosine of the unified model's product vector and search vector (query and shopper together)",
}


def page_sections(ranked: Ranked, segments: Mapping[str, Bucket]) -> list[Section]:
    """Returns all rankers by task, transfer between tasks, ablations, calibration and segments."""
    names = list(ranked.scores)
    rankers = [name for name in names if name not in (ORACLE, IMPERSONAL_ORACLE)]
    plotted = [name for name in _SHOWN if name in names]
    groups = {what: {name: ranked.mean(name, what) for name in plotted} for what in (*TASKS, GRADED)}
    return [
        Section(
            "All rankers",
            "; ".join(f"{name}: {note}" for name, note in _NOTES.items()) + ".",
            plots=[groups_plot(groups, "NDCG@10; graded: of the whole page")],
            tables=[*(ranked.task_table(names, task) for task in TASKS), ranked.graded_table(names, ORACLE)],
        ),
        Section(
            "Compared with other rankers",
            "On the same pages. A single-task ranker orders the page by its one probability for every task.",
            tables=[
                ranked.difference_table(
                    f"NDCG of {MULTI_TASK} minus each other ranker",
                    [(MULTI_TASK, name) for name in rankers if name != MULTI_TASK],
                )
            ],
        ),
        Section(
            "Transfer between tasks",
            "By task: each multi-task ranker minus the ranker trained on this task alone. A value below 0 is negative transfer.",
            tables=[
                ranked.own_task_table(
                    "NDCG@10", [name for name in (MULTI_TASK, NO_TRANSFER, SHARED, ESMM) if name in names]
                )
            ],
        ),
        _ablation_section(ranked),
        _calibration_section(ranked),
        Section(
            "Personal features",
            "By the number of clicks and purchases in the shopper's history.",
            tables=[
                ranked.segment_differences([(MULTI_TASK, IMPERSONAL)], what, HISTORY, segments[HISTORY])
                for what in ("purchase", GRADED)
            ],
        ),
        _segment_section(ranked, plotted, segments),
    ]


def _ablation_section(ranked: Ranked) -> Section:
    names = list(ranked.scores)
    return Section(
        "Ablations",
        tables=[
            ranked.difference_table(
                "NDCG of each changed recipe minus the default",
                [
                    (name, MULTI_TASK)
                    for name in (UNCERTAINTY, POINTWISE, LISTWISE, NO_TRANSFER, SHARED)
                    if name in names
                ],
            )
        ],
    )


def _segment_section(ranked: Ranked, plotted: Sequence[str], segments: Mapping[str, Bucket]) -> Section:
    names = list(ranked.scores)
    return Section(
        "Segments",
        "Segments with too few pages for a mean are left out.",
        tables=[
            ranked.segment_table(
                [*plotted[::-1], *(name for name in (WORDS, POPULAR, FROZEN) if name in names)], what, name, bucket
            )
            for name, bucket in segments.items()
            for what in ("purchase", GRADED)
        ],
    )


def _calibration_section(ranked: Ranked) -> Section:
    plots = [
        reliability_plot({task: _points(ranked, task) for task in TASKS}, "observed share", "predicted probability")
    ]
    return Section(
        "Calibration",
        f"{MULTI_TASK}, by tenths of the shown products. Probabilities were calibrated on the latest training pages.",
        plots=plots,
        tables=[ranked.calibration_table([name for name in ranked.scores if ranked.scores[name].calibrated])],
    )


def _points(ranked: Ranked, task: str, groups: int = 10) -> list[tuple[float, float]]:
    """Returns the mean probability and the observed share of groups of equally many rows."""
    probabilities, labels = ranked.scores[MULTI_TASK].for_task(task), ranked.rows.labels[:, TASKS.index(task)]
    order = np.lexsort((tie_breakers(len(probabilities)), probabilities))
    parts = np.array_split(order, groups)
    return [(float(probabilities[rows].mean()), float(labels[rows].mean())) for rows in parts if len(rows)]
