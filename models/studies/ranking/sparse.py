"""How rankers cope with few purchases: trains them on the same pages with only a share of the purchase labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import Interval, difference_interval, mean_interval
from models.evaluation.page import Cell, Section, Table
from models.evaluation.plots import lines_plot
from models.ranking.fit_ranker import RankerRows
from models.ranking.tasks import TASKS
from models.studies.ranking.boosted import GRADED_TREES, PURCHASE_TREES, boosted_scores
from models.studies.ranking.learned import MULTI_TASK, ScoreCache, Variant, fingerprint, single_name, variant_scores
from models.studies.ranking.page_metrics import RankerScores, graded, page_values
from models.studies.ranking.pages import RankingPages

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
PURCHASE = TASKS.index("purchase")
_FEW = 0.2  # below this share, results depend on which labels are sampled
CLICKS, CARTS, PURCHASES = (single_name(task) for task in TASKS)
BLEND = "multi-task, blend"  # ordered by the default blend of a request, instead of the purchase probability alone
LEARNERS = (MULTI_TASK, BLEND, PURCHASES, PURCHASE_TREES, GRADED_TREES)
RIVALS = (CLICKS, CARTS, PURCHASES, PURCHASE_TREES, GRADED_TREES)


@dataclass(frozen=True, slots=True, eq=False)
class SparseCurve:
    """Purchase NDCG@10 by page, averaged over samples of the purchase labels."""

    values: dict[str, list[Doubles]]  # ranker -> one array (pages,) per share
    units: Ints
    num_labels: list[int]  # by share, in the first sample
    num_draws: int
    seed: int

    def mean(self, ranker: str, at: int) -> Interval:
        return mean_interval(self.values[ranker][at], self.units, seed=self.seed)

    def lead(self, rival: str, at: int, ours: str = MULTI_TASK) -> Interval:
        """Returns the lead of the multi-task ranker (or BLEND) over `rival`."""
        return difference_interval(self.values[ours][at], self.values[rival][at], self.units, seed=self.seed)


def thinned(rows: RankerRows, share: float, seed: int) -> RankerRows:
    """Returns the same rows with only this share of the purchase labels, at least one; other purchases count as carts."""
    labels = rows.labels.copy()
    bought = np.flatnonzero(labels[:, PURCHASE] > 0)
    keep = max(1, round(share * len(bought)))
    hidden = np.random.default_rng([seed, 0x5A]).permutation(bought)[keep:]
    labels[hidden, PURCHASE] = 0
    return RankerRows(rows.features, labels, rows.page, rows.position, rows.teacher)


def sparse_curve(
    pages: RankingPages,
    variants: Sequence[Variant],
    cache: ScoreCache,
    seed: int,
    *,
    shares: Sequence[float] = SHARES,
    draws: int = 2,
) -> SparseCurve:
    """Trains on each share of the labels; small shares `draws` times with different samples, to average out luck."""
    by_name = {variant.name: variant for variant in variants}
    rows, test_rows = pages.train_rows, pages.test_rows
    values: dict[str, list[Doubles]] = {name: [] for name in (*LEARNERS, CLICKS, CARTS)}
    num_labels = []
    for share in shares:
        by_ranker: dict[str, list[Doubles]] = {name: [] for name in values}
        for draw in range(draws if share < _FEW else 1):
            few = rows if share >= 1 else thinned(rows, share, seed + draw)
            if not draw:
                num_labels.append(int(few.labels[:, PURCHASE].sum()))
            label = f"on {share:.0%} of the purchases"
            for name in values:
                if name in (PURCHASE_TREES, GRADED_TREES):
                    holdout_share = by_name[MULTI_TASK].recipe.holdout_share
                    scores = tree_scores(name, few, holdout_share, test_rows, cache, seed, label)
                else:
                    # Rankers that never see a purchase label are the same at every share.
                    train_rows = rows if name in (CLICKS, CARTS) else few
                    variant = by_name[MULTI_TASK if name == BLEND else name]
                    scores = variant_scores(
                        cache, variant, train_rows, test_rows.features, seed, label if train_rows is few else ""
                    )
                order = scores.overall if name == BLEND else scores.for_task("purchase")
                by_ranker[name].append(page_values(test_rows, order, test_rows.labels[:, PURCHASE])[:, 0])
        for name, by_share in values.items():
            by_share.append(np.mean(by_ranker[name], axis=0))
    return SparseCurve(values, pages.units, num_labels, draws, seed)


def tree_scores(
    name: str,
    rows: RankerRows,
    holdout_share: float,
    test_rows: RankerRows,
    cache: ScoreCache,
    seed: int,
    label: str = "",
) -> RankerScores:
    """Trains GRADED_TREES or PURCHASE_TREES and scores `test_rows`."""
    is_graded = name == GRADED_TREES
    grades = graded(rows.labels) if is_graded else rows.labels[:, PURCHASE]
    key = [name, holdout_share, seed, fingerprint(rows, test_rows.features)]
    scores = cache.get_or_make(
        f"{name} {label}".strip(),
        key,
        lambda: boosted_scores(rows, grades.astype(np.int32), holdout_share, test_rows.features, seed),
    )
    return RankerScores.from_score(scores)


def sparse_section(curve: SparseCurve, shares: Sequence[float] = SHARES) -> Section:
    steps = [f"{share:.0%} ({count:,})" for share, count in zip(shares, curve.num_labels, strict=True)]
    means = {name: [curve.mean(name, at) for at in range(len(shares))] for name in LEARNERS}
    leads: list[tuple[str, Sequence[Cell]]] = [
        (f"{ours} minus {rival}", [curve.lead(rival, at, ours) for at in range(len(shares))])
        for ours in (MULTI_TASK, BLEND)
        for rival in RIVALS
    ]
    return Section(
        "Few purchases",
        "The rankers see all clicks and carts but only a share of the purchase labels; other purchases count as carts. Below "
        f"{_FEW:.0%} of the labels, each point is the mean over {curve.num_draws} samples of them.",
        plots=[lines_plot(means, steps, "purchase NDCG@10", "share of the purchase labels (and their number)")],
        tables=[
            Table("Purchase NDCG@10", "ranker", steps, list(means.items())),
            Table("Lift by also learning from clicks and carts", "rankers", steps, leads, signed=True),
        ],
    )
