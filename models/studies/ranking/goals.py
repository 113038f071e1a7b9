"""What a ranker has to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.evaluation.bootstrap import Interval
from models.evaluation.page import Cell, Section, Table
from models.ranking.tasks import TASKS
from models.studies.ranking.learned import MULTI_TASK
from models.studies.ranking.page_summary import GRADED, Ranked
from models.studies.ranking.served import SERVED
from models.studies.ranking.sparse import BLEND, RIVALS, SHARES, SparseCurve
from models.studies.ranking.taught import STUDENTS, Taught

SPARSE_SHARE = 0.1
LEAST_OF_ORACLE, LEAST_OF_TEACHER, MOST_CALIBRATION_ERROR = 0.9, 0.97, 0.03


@dataclass(frozen=True, slots=True)
class Goal:
    """`figure` was measured, with its interval where it has one."""

    name: str
    wanted: str
    figure: Interval
    is_reached: bool


def goals(
    ranked: Ranked, oracle: str, curve: SparseCurve, taught: Taught | None, shares: Sequence[float] = SHARES
) -> list[Goal]:
    """By the values; the leads by their whole intervals."""
    found = []
    if SPARSE_SHARE in shares:
        at = list(shares).index(SPARSE_SHARE)
        for ours in (MULTI_TASK, BLEND):
            for rival in RIVALS:
                lead = curve.lead(rival, at, ours)
                name = f"purchase NDCG@10 with {SPARSE_SHARE:.0%} of the purchase labels, {ours} minus {rival}"
                found.append(Goal(name, "interval above 0", lead, lead.low > 0))
    for name in (MULTI_TASK, SERVED):
        share = ranked.share(name, oracle, GRADED)
        wanted = f"at least {LEAST_OF_ORACLE}"
        found.append(
            Goal(
                f"whole-page graded NDCG of {name}, share of the oracle's",
                wanted,
                share,
                share.value >= LEAST_OF_ORACLE,
            )
        )
    for name in (MULTI_TASK, SERVED):
        for task in TASKS:
            error = ranked.calibration_error(name, task)
            wanted = f"below {MOST_CALIBRATION_ERROR}"
            found.append(
                Goal(f"calibration error of {name}, {task}", wanted, error, error.value < MOST_CALIBRATION_ERROR)
            )
    if taught is None:
        return found
    for teacher in taught.teachers:
        part = taught.share(teacher, "purchase")
        name = f"purchase NDCG@10 of the {STUDENTS[teacher]}, share of its teacher's"
        found.append(Goal(name, f"at least {LEAST_OF_TEACHER}", part, part.value >= LEAST_OF_TEACHER))
    return found


def goals_section(found: Sequence[Goal]) -> Section:
    rows: list[tuple[str, Sequence[Cell]]] = [
        (one.name, [one.wanted, one.figure, "yes" if one.is_reached else "no"]) for one in found
    ]
    missed = sum(not one.is_reached for one in found)
    note = "All are reached." if not missed else f"{missed} of {len(found)} are missed."
    return Section(
        "What was to be reached", note, tables=[Table("Goals", "goal", ("wanted", "measured", "reached"), rows)]
    )
