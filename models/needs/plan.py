"""What the stages of one shop become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.events.errors import LogError
from models.needs.matrix import MATRIX, STAGES, UNIFIED, Need, Outcome
from models.needs.shop_facts import ShopFacts

_WORSE = tuple(Outcome)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lack:
    """Something that a stage lacks in this shop."""

    need: Need
    found: str  # in numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    stage: str
    outcome: Outcome
    lacks: tuple[Lack, ...]  # those of the outcome: why it is left out, or what it is trained without

    @property
    def reason(self) -> str:
        return "; ".join(f"{lack.need.name}: {lack.found}" for lack in self.lacks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The stages in their order. What a stage lacks is told once for each stage, what it costs and mends once for all."""

    stages: tuple[StagePlan, ...]

    def trains(self, stage: str) -> bool:
        return any(one.stage == stage and one.outcome != Outcome.OUT for one in self.stages)

    @property
    def left_out(self) -> tuple[StagePlan, ...]:
        return tuple(one for one in self.stages if one.outcome == Outcome.OUT)

    @property
    def lacks(self) -> tuple[Lack, ...]:
        """Every lack once, in the order of the matrix."""
        told = {lack.need.name: lack for one in self.stages for lack in one.lacks}
        return tuple(told[need.name] for need in MATRIX if need.name in told)

    def without(self, stage: str) -> Plan:
        """Returns the plan of the other stages."""
        return Plan(stages=tuple(one for one in self.stages if one.stage != stage))

    def to_json(self) -> list[dict[str, Any]]:
        """Returns plain values for a manifest or a report."""
        return [{"stage": one.stage, "outcome": str(one.outcome), "lacks": one.reason} for one in self.stages]

    def check(self, stage: str = UNIFIED) -> None:
        """Raises LogError if the stage is left out."""
        for one in self.left_out:
            if one.stage == stage:
                mends = "; ".join(dict.fromkeys(lack.need.mend for lack in one.lacks))
                raise LogError(f"{stage} cannot be trained: {one.reason}. What helps: {mends}")


def plan_training(facts: ShopFacts, stages: Sequence[str] = STAGES) -> Plan:
    """Returns what becomes of each of `stages`."""
    lacking = [Lack(need=need, found=found) for need in MATRIX if (found := need.lacking(facts))]
    planned = []
    for stage in stages:
        of_stage = [lack for lack in lacking if stage in lack.need.outcomes]
        outcome = max((lack.need.outcomes[stage] for lack in of_stage), key=_WORSE.index, default=Outcome.TRAINED)
        told = tuple(lack for lack in of_stage if lack.need.outcomes[stage] == outcome)
        planned.append(StagePlan(stage=stage, outcome=outcome, lacks=told))
    return Plan(stages=tuple(planned))
