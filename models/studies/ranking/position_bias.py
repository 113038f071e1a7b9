"""Does it help to train with the position as a feature? Simulated pages tell what shoppers would have done without position bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import Interval, difference_interval, mean_interval
from models.evaluation.page import Cell, Section, Table
from models.ranking.feature_names import FEATURES
from models.ranking.fit_ranker import RankerRows
from models.ranking.recipe import RankerRecipe
from models.ranking.tasks import TASKS
from models.studies.ranking.learned import ScoreCache, Variant, variant_scores
from models.studies.ranking.page_metrics import AnyFloats, page_values
from models.studies.ranking.pages import RankingPages

STRONG = 1.0  # exponent: the tenth place is examined a tenth as often as the first
AS_LOGGED, STRONGER, SORTED = "as logged", "stronger", "stronger, pages sorted by popularity"
TARGETS = ("click", "purchase")
_ORDER_NOISE = 0.1  # standard deviation; popularity is between 0 and 1


@dataclass(frozen=True, slots=True, eq=False)
class PositionBias:
    """NDCG@10 of every test page by the true probabilities, with and without the position in training."""

    with_position: dict[str, dict[str, Doubles]]  # log -> what -> (pages,)
    without: dict[str, dict[str, Doubles]]
    exponents: dict[str, float]  # log -> exponent by which examination falls with the place
    units: Ints
    seed: int

    def lift(self, log: str, what: str) -> Interval:
        return difference_interval(self.with_position[log][what], self.without[log][what], self.units, seed=self.seed)


def redrawn(rows: RankerRows, probabilities: AnyFloats, exponent: float, seed: int) -> RankerRows:
    """Returns the same pages with newly simulated behaviour.

    A product is examined with probability place ** -exponent, then clicked, carted and bought by the true nested `probabilities`
    (rows, TASKS). Raises ValueError for a row without a place.
    """
    if len(rows.position) and rows.position.min() < 1:
        raise ValueError("every row needs its place")
    random = np.random.default_rng([seed, 0xB1]).random((len(rows.position), len(TASKS)))
    previous = np.concatenate([np.ones((len(probabilities), 1)), probabilities[:, :-1]], axis=1)
    steps = np.divide(probabilities, previous, out=np.zeros_like(previous), where=previous > 0)
    steps[:, 0] *= rows.position ** -float(exponent)
    labels = np.cumprod(random < steps, axis=1).astype(np.float32)
    return replace(rows, labels=labels)


def sorted_pages(rows: RankerRows, score: AnyFloats, seed: int) -> RankerRows:
    """Returns the same pages as if the shop sorted them by `score` (rows,) with a little noise; only places change."""
    noise = np.random.default_rng([seed, 0xB2]).normal(scale=_ORDER_NOISE, size=len(score))
    order = np.lexsort((-(score + noise), rows.page))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order)) - np.searchsorted(rows.page, rows.page)[order] + 1
    return replace(rows, position=position)


def position_bias(
    pages: RankingPages,
    train_probabilities: AnyFloats,
    test_probabilities: AnyFloats,
    recipe: RankerRecipe,
    cache: ScoreCache,
    seed: int,
    look_exponent: float,
) -> PositionBias:
    """Trains on three logs, with and without the position.

    Probabilities (rows, TASKS) are from `StoreTruth.for_pages`; `look_exponent` is that of the log.
    """
    rows, test_rows = pages.train_rows, pages.test_rows
    in_order = sorted_pages(rows, rows.features[:, FEATURES.index("popularity")], seed)
    logs = {
        AS_LOGGED: rows,
        STRONGER: redrawn(rows, train_probabilities, STRONG, seed),
        SORTED: redrawn(in_order, train_probabilities, STRONG, seed),
    }
    ndcg: dict[bool, dict[str, dict[str, Doubles]]] = {True: {}, False: {}}
    for log, log_rows in logs.items():
        for knows in (True, False):
            variant = Variant("position" if knows else "no position", replace(recipe, use_position=knows))
            scores = variant_scores(cache, variant, log_rows, test_rows.features, seed, f"({log})")
            ndcg[knows][log] = {
                what: page_values(test_rows, scores.for_task(what), test_probabilities[:, TASKS.index(what)])[:, 0]
                for what in TARGETS
            }
    exponents = {AS_LOGGED: look_exponent, STRONGER: STRONG, SORTED: STRONG}
    return PositionBias(ndcg[True], ndcg[False], exponents, pages.units, seed)


def position_section(bias: PositionBias) -> Section:
    columns = [f"{what}: {part}" for what in TARGETS for part in ("with position", "without")]
    rows: list[tuple[str, Sequence[Cell]]] = []
    lifts: list[tuple[str, Sequence[Cell]]] = []
    for log in bias.with_position:
        name = f"{log} (examination falls as place ** -{bias.exponents[log]:g})"
        values = [side[log][what] for what in TARGETS for side in (bias.with_position, bias.without)]
        rows.append((name, [mean_interval(one, bias.units, seed=bias.seed) for one in values]))
        lifts.append((name, [bias.lift(log, what) for what in TARGETS]))
    return Section(
        "Position bias",
        "Products in high places get clicks because of their place. A ranker that sees the place in training, and none when it serves, can "
        "separate the effect of the place from that of the product. Both rankers are judged by what each product is truly worth to the "
        "shopper: NDCG@10 with the simulation's own probabilities, which are free of position bias, as gains. In the second and third log "
        "the same pages were clicked again, with examination that falls faster; in the third the shop had sorted its pages by popularity, "
        "so that place and popularity are confounded.",
        tables=[
            Table("NDCG@10 by the true probabilities", "log", columns, rows),
            Table("Lift by the position in training", "log", TARGETS, lifts, signed=True),
        ],
    )
