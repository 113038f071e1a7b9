"""The recipe of a ranker: all settings of a training other than the data and the seed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.ranking.tasks import TASKS


class Structure(StrEnum):
    """The layers that the tasks share below their towers."""

    SINGLE = "single"  # none: one network for each task
    SHARED = "shared"  # one layer for all (Caruana, 1997)
    MMOE = "mmoe"  # experts, mixed by a gate for each task (Ma et al., 2018)


class Transfer(StrEnum):
    """How a task depends on the one before it."""

    NONE = "none"  # each tower predicts its task's probability
    CHAIN = (
        "chain"  # each predicts it given the task before: P(cart) = P(click) P(cart | click), as ESMM (Ma et al., 2018)
    )


class Weighting(StrEnum):
    FIXED = "fixed"  # `task_weights`
    UNCERTAINTY = "uncertainty"  # learned: exp(-s) loss + s / 2 for each task (Kendall et al., 2018)


@dataclass(frozen=True, slots=True)
class RankerRecipe:
    name: str
    structure: Structure = Structure.MMOE
    transfer: Transfer = Transfer.CHAIN
    weighting: Weighting = Weighting.FIXED
    task_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    listwise: float = 0.3  # share of the softmax loss over each page; the rest is pointwise
    distillation: float = 0.5  # share of the teacher's probabilities in the pointwise loss, if there is a teacher
    # Strength, in labels, of the prior that a later step of a chain follows the one before it. With a tenth of the purchases of 6,000
    # simulated pages known, cross-validated purchase NDCG@10 was 0.584, 0.588 and 0.590 with 500, 2,000 and 8,000.
    chain_prior: float = 6_000.0
    experts: int = 4  # of MMOE
    expert_dim: int = 32
    tower_dim: int = 16
    dropout: float = 0.5  # of the experts' outputs
    use_position: bool = True  # positions explain clicks in training; a served ranker knows none
    position_dropout: float = 0.1  # share of the rows whose position is hidden in training
    epochs: float = 15.0
    batch_pages: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 2e-3  # of the weights on features, as part of the gradient
    patience: int = 4  # evaluations on held-out pages without improvement, after which training stops
    holdout_share: float = 0.1  # of the pages, the latest: for early stopping and calibration
    max_pages: int = 6_000  # held-out pages included
    # Additional pages, as multiples of the logged ones, that mix clicked products with retrieved products that were not shown.
    found_pages: float = 1.0  # of searches whose page is logged
    clicked_pages: float = 0.15  # of searches of which only the clicks are logged
    judged_pages: int = 3_000  # logged pages, at most, that a teacher scores

    def __post_init__(self) -> None:
        for name in ("dropout", "position_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        for name in ("listwise", "distillation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        least = dict.fromkeys(("experts", "expert_dim", "tower_dim", "batch_pages", "patience"), 1)
        for name, lowest in (
            least
            | {"max_pages": 10, "judged_pages": 1, "weight_decay": 0, "chain_prior": 0}
            | {"found_pages": 0, "clicked_pages": 0}
        ).items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be {lowest} or more, not {getattr(self, name)}")
        for name in ("epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 < self.holdout_share <= 0.5:
            raise ValueError(f"holdout_share must be above 0 and at most 0.5, not {self.holdout_share}")
        if len(self.task_weights) != len(TASKS) or min(self.task_weights) < 0 or not sum(self.task_weights) > 0:
            raise ValueError(f"task_weights must be {len(TASKS)} numbers from 0, not all 0, not {self.task_weights}")

    @property
    def num_experts(self) -> int:
        """The number of experts; SINGLE has one for each task and SHARED one for all, both without a gate."""
        return {Structure.SINGLE: len(TASKS), Structure.SHARED: 1, Structure.MMOE: self.experts}[self.structure]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RankerRecipe:
        """Restores a recipe from its `asdict`."""
        return cls(
            **{
                **values,
                "structure": Structure(values["structure"]),
                "transfer": Transfer(values["transfer"]),
                "weighting": Weighting(values["weighting"]),
                "task_weights": tuple(values["task_weights"]),
            }
        )


STARTER = RankerRecipe("starter")
# A fifth of the decay regularises as strongly: there are five times as many pages, and the loss is a mean over rows.
SMALL = RankerRecipe("small", expert_dim=64, tower_dim=32, dropout=0.3, epochs=30, weight_decay=4e-4, max_pages=30_000)
# For logs of millions of events a day, an hour or two on a CPU. A seventh of small's decay, as there are seven times as many pages; the
# towers stay small enough for a search to rank 200 candidates within a few milliseconds. With a teacher on a GPU a seventh of the pages
# are judged: more cost an hour for each 30,000.
FULL = RankerRecipe(
    "full",
    expert_dim=128,
    tower_dim=64,
    dropout=0.2,
    epochs=30,
    batch_pages=256,
    weight_decay=6e-5,
    max_pages=200_000,
    judged_pages=30_000,
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}
