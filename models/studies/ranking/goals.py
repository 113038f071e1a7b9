"""The goals of the ranker, and whether it reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.evaluation.bootstrap import Interval
from models.evaluation.page import Cell, Section, Table
from models.ranking.tasks import TASKS
from models.studies.ranking.distillation import STUDENTS, Distilled
from models.studies.ranking.learned import MULTI_TASK
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.served import SERVED
from models.studies.ranking.sparse import BLEND, RIVALS, SHARES, SparseCurve

SPARSE_SHARE = 0.1
MIN_SHARE_OF_ORACLE, MIN_SHARE_OF_TEACHER, MAX_CALIBRATION_ERROR = 0.9, 0.97, 0.03


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: the target in words, and the measured figure with its interval if it has one."""

    name: str
    target: str
    figure: Interval
    is_reached: bool


def check_goals(
    ranked: Ranked, oracle: str, curve: SparseCurve, taught: Distilled | None, shares: Sequence[float] = SHARES
) -> list[Goal]:
    """Compares the measured values with the goals; a lead over another ranker must exclude 0 with its whole interval. Without the oracle
    among the rankers its shares are no goals."""
    goals = []
    if SPARSE_SHARE in shares:
        at = list(shares).index(SPARSE_SHARE)
        for ours in (MULTI_TASK, BLEND):
            for rival in RIVALS:
                lead = curve.lead(rival, at, ours)
                name = f"purchase NDCG@10 with {SPARSE_SHARE:.0%} of the purchase labels, {ours} minus {rival}"
                goals.append(Goal(name, "interval above 0", lead, lead.low > 0))
    for name in (MULTI_TASK, SERVED) if oracle in ranked.scores else ():
        share = ranked.share(name, oracle, GRADED)
        target = f"at least {MIN_SHARE_OF_ORACLE}"
        goals.append(
            Goal(
                f"whole-page graded NDCG of {name}, share of the oracle's",
                target,
                share,
                share.value >= MIN_SHARE_OF_ORACLE,
            )
        )
    for name in (MULTI_TASK, SERVED):
        for task in TASKS:
            error = ranked.calibration_error(name, task)
            target = f"below {MAX_CALIBRATION_ERROR}"
            goals.append(
                Goal(f"calibration error of {name}, {task}", target, error, error.value < MAX_CALIBRATION_ERROR)
            )
    if taught is None:
        return goals
    for teacher in taught.teachers:
        part = taught.share(teacher, "purchase")
        name = f"purchase NDCG@10 of the {STUDENTS[teacher]}, share of its teacher's"
        goals.append(Goal(name, f"at least {MIN_SHARE_OF_TEACHER}", part, part.value >= MIN_SHARE_OF_TEACHER))
    return goals


def goals_section(goals: Sequence[Goal]) -> Section:
    rows: list[tuple[str, Sequence[Cell]]] = [
        (goal.name, [goal.target, goal.figure, "yes" if goal.is_reached else "no"]) for goal in goals
    ]
    missed = sum(not goal.is_reached for goal in goals)
    note = "All goals are reached." if not missed else f"{missed} of {len(goals)} goals are missed."
    return Section("Goals", note, tables=[Table("Goals", "goal", ("target", "measured", "reached"), rows)])
