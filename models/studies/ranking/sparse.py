"""What is left of a ranker where a shop has few purchases: the same pages, of which only a share of the purchases is known."""

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
from models.studies.ranking.learned import MULTI_TASK, KeptChances, Variant, answer_of, fingerprint, single_name
from models.studies.ranking.page_metrics import Answer, graded, page_values
from models.studies.ranking.pages import RankingPages

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
PURCHASE = TASKS.index("purchase")
_FEW = 0.2  # below this share of the labels much hangs on which they are
CLICKS, CARTS, PURCHASES = (single_name(task) for task in TASKS)
# What never saw a purchase is the same at every share.
BLEND = "multi-task, blend"  # the order that a request gets that names no weights, instead of the chance of a purchase alone
LEARNERS = (MULTI_TASK, BLEND, PURCHASES, PURCHASE_TREES, GRADED_TREES)
RIVALS = (CLICKS, CARTS, PURCHASES, PURCHASE_TREES, GRADED_TREES)


@dataclass(frozen=True, slots=True, eq=False)
class SparseCurve:
    """Purchase NDCG@10 by page, the mean over draws of the labels that were kept."""

    values: dict[str, list[Doubles]]  # ranker -> by share, (pages,)
    units: Ints
    num_labels: list[int]  # by share, of the first draw
    num_draws: int
    seed: int

    def mean(self, ranker: str, at: int) -> Interval:
        return mean_interval(self.values[ranker][at], self.units, seed=self.seed)

    def lead(self, rival: str, at: int, ours: str = MULTI_TASK) -> Interval:
        """Of the multi-task ranker (or BLEND) over another."""
        return difference_interval(self.values[ours][at], self.values[rival][at], self.units, seed=self.seed)


def thinned(rows: RankerRows, share: float, seed: int) -> RankerRows:
    """The same rows, where only this share of the purchases (at least one) is known as such; the others count as carts."""
    labels = rows.labels.copy()
    bought = np.flatnonzero(labels[:, PURCHASE] > 0)
    keep = max(1, round(share * len(bought)))
    hidden = np.random.default_rng([seed, 0x5A]).permutation(bought)[keep:]
    labels[hidden, PURCHASE] = 0
    return RankerRows(rows.features, labels, rows.page, rows.position, rows.teacher)


def sparse_curve(
    pages: RankingPages,
    variants: Sequence[Variant],
    kept: KeptChances,
    seed: int,
    *,
    shares: Sequence[float] = SHARES,
    draws: int = 2,
) -> SparseCurve:
    """With few labels `draws` times, each with other ones, so that no lucky few decide."""
    by_name = {variant.name: variant for variant in variants}
    rows, asked = pages.train_rows, pages.test_rows
    values: dict[str, list[Doubles]] = {name: [] for name in (*LEARNERS, CLICKS, CARTS)}
    num_labels = []
    for share in shares:
        found: dict[str, list[Doubles]] = {name: [] for name in values}
        for draw in range(draws if share < _FEW else 1):
            few = rows if share >= 1 else thinned(rows, share, seed + draw)
            if not draw:
                num_labels.append(int(few.labels[:, PURCHASE].sum()))
            of = f"on {share:.0%} of the purchases"
            for name in values:
                if name in (PURCHASE_TREES, GRADED_TREES):
                    answer = tree_answer(name, few, by_name[MULTI_TASK].recipe.holdout_share, asked, kept, seed, of)
                else:
                    told = rows if name in (CLICKS, CARTS) else few
                    variant = by_name[MULTI_TASK if name == BLEND else name]
                    answer = answer_of(kept, variant, told, asked.features, seed, of if told is few else "")
                order = answer.overall if name == BLEND else answer.of("purchase")
                found[name].append(page_values(asked, order, asked.labels[:, PURCHASE])[:, 0])
        for name, of_shares in values.items():
            of_shares.append(np.mean(found[name], axis=0))
    return SparseCurve(values, pages.units, num_labels, draws, seed)


def tree_answer(
    name: str, rows: RankerRows, holdout_share: float, asked: RankerRows, kept: KeptChances, seed: int, of: str = ""
) -> Answer:
    """GRADED_TREES or PURCHASE_TREES."""
    is_graded = name == GRADED_TREES
    grades = graded(rows.labels) if is_graded else rows.labels[:, PURCHASE]
    told = [name, holdout_share, seed, fingerprint(rows, asked.features)]
    scores = kept.of(
        f"{name} {of}".strip(),
        told,
        lambda: boosted_scores(rows, grades.astype(np.int32), holdout_share, asked.features, seed),
    )
    return Answer.of_score(scores)


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
        "Only a share of the purchase labels is known to the rankers, the others count as carts; clicks and carts are all known. Below "
        f"{_FEW:.0%} of the labels each point is the mean of {curve.num_draws} draws of them.",
        plots=[
            lines_plot(means, steps, "purchase NDCG@10 (simulated)", "share of the purchase labels (and their number)")
        ],
        tables=[
            Table("Purchase NDCG@10", "ranker", steps, list(means.items())),
            Table("What learning clicks and carts as well is worth", "rankers", steps, leads, signed=True),
        ],
    )
