"""Does it help to know the place while learning? On simulated pages, where what a shopper would have done without places is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.evaluation.bootstrap import Interval, difference_interval, mean_interval
from models.evaluation.page import Cell, Section, Table
from models.ranking.feature_names import FEATURES
from models.ranking.fit_ranker import RankerRows
from models.ranking.recipe import RankerRecipe
from models.ranking.tasks import TASKS
from models.studies.ranking.learned import KeptChances, Variant, answer_of
from models.studies.ranking.page_metrics import page_values
from models.studies.ranking.pages import RankingPages

Floats = npt.NDArray[np.floating]

STRONG = 1.0  # exponent of the place: a product on the tenth place is looked at a tenth as often as on the first
AS_LOGGED, STRONGER, SORTED = "as logged", "stronger", "stronger, pages sorted by popularity"
WHATS = ("click", "purchase")
_ORDER_NOISE = 0.1  # deviation, beside a popularity of 0 to 1


@dataclass(frozen=True, slots=True, eq=False)
class PositionBias:
    """NDCG@10 of every test page by the true chances, with and without the position while learning."""

    knows: dict[str, dict[str, Doubles]]  # log -> what -> (pages,)
    blind: dict[str, dict[str, Doubles]]
    falls: dict[str, float]  # log -> exponent by which looks fall with the place
    units: Ints
    seed: int

    def gain(self, log: str, what: str) -> Interval:
        return difference_interval(self.knows[log][what], self.blind[log][what], self.units, seed=self.seed)


def redrawn(rows: RankerRows, chances: Floats, exponent: float, seed: int) -> RankerRows:
    """The same pages with what shoppers did drawn anew: looked at with the chance place ** -exponent, then by the true nested `chances`
    (rows, TASKS). Raises ValueError where a place is not known."""
    if len(rows.position) and rows.position.min() < 1:
        raise ValueError("every row needs its place")
    random = np.random.default_rng([seed, 0xB1]).random((len(rows.position), len(TASKS)))
    of_before = np.concatenate([np.ones((len(chances), 1)), chances[:, :-1]], axis=1)
    steps = np.divide(chances, of_before, out=np.zeros_like(of_before), where=of_before > 0)
    steps[:, 0] *= rows.position ** -float(exponent)
    labels = np.cumprod(random < steps, axis=1).astype(np.float32)
    return replace(rows, labels=labels)


def sorted_pages(rows: RankerRows, score: Floats, seed: int) -> RankerRows:
    """The same pages as a shop shows them that sorts by `score` (rows,), with a little chance: only places change."""
    noise = np.random.default_rng([seed, 0xB2]).normal(scale=_ORDER_NOISE, size=len(score))
    order = np.lexsort((-(score + noise), rows.page))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order)) - np.searchsorted(rows.page, rows.page)[order] + 1
    return replace(rows, position=position)


def position_bias(
    pages: RankingPages,
    train_chances: Floats,
    test_chances: Floats,
    recipe: RankerRecipe,
    kept: KeptChances,
    seed: int,
    look_exponent: float,
) -> PositionBias:
    """Chances (rows, TASKS) are `StoreTruth.of_pages`, `look_exponent` that of the log."""
    rows, asked = pages.train_rows, pages.test_rows
    in_order = sorted_pages(rows, rows.features[:, FEATURES.index("popularity")], seed)
    logs = {
        AS_LOGGED: rows,
        STRONGER: redrawn(rows, train_chances, STRONG, seed),
        SORTED: redrawn(in_order, train_chances, STRONG, seed),
    }
    found: dict[bool, dict[str, dict[str, Doubles]]] = {True: {}, False: {}}
    for log, told in logs.items():
        for knows in (True, False):
            variant = Variant("position" if knows else "no position", replace(recipe, use_position=knows))
            answer = answer_of(kept, variant, told, asked.features, seed, f"({log})")
            found[knows][log] = {
                what: page_values(asked, answer.of(what), test_chances[:, TASKS.index(what)])[:, 0] for what in WHATS
            }
    falls = {AS_LOGGED: look_exponent, STRONGER: STRONG, SORTED: STRONG}
    return PositionBias(found[True], found[False], falls, pages.units, seed)


def position_section(bias: PositionBias) -> Section:
    columns = [f"{what}: {part}" for what in WHATS for part in ("with the place", "without")]
    rows: list[tuple[str, Sequence[Cell]]] = []
    gains: list[tuple[str, Sequence[Cell]]] = []
    for log in bias.knows:
        name = f"{log} (place ** -{bias.falls[log]:g})"
        values = [side[log][what] for what in WHATS for side in (bias.knows, bias.blind)]
        rows.append((name, [mean_interval(one, bias.units, seed=bias.seed) for one in values]))
        gains.append((name, [bias.gain(log, what) for what in WHATS]))
    return Section(
        "Position bias",
        "What stands high is clicked because it stands high. A ranker that is told the place while it learns, and none when it is asked, "
        "can tell the place's share from the product's. Here both orders are held against what each product is truly worth to the shopper: "
        "NDCG@10 with the simulation's own chances as gains, which know no place. In the second and third log the same pages were clicked "
        "anew, with looks that fall faster; in the third the shop had sorted its pages by popularity, so that place and popularity look "
        "alike.",
        tables=[
            Table("NDCG@10 by the true chances", "log", columns, rows),
            Table("What the place is worth while learning", "log", WHATS, gains, signed=True),
        ],
    )
