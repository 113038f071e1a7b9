"""The ranker's network while it learns. What is served of it is `models.ranking.ranker`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.arrays import Floats, Ints
from models.ranking.recipe import RankerRecipe, Structure, Transfer
from models.ranking.tasks import TASKS

MAX_POSITION = 64  # places after it count as this one
_FALL = 10.0  # scales what is learned of the fall with position, so that a hundred steps are enough for it
_CARRY = 5.0  # scales what is learned of what a step carries on, for the same reason


class RankerNetwork(nn.Module):
    """Standardised features (rows, features) and positions (rows,) -> one logit a task (rows, TASKS).

    Experts are one layer each, mixed for each task; a tower a task makes a logit of the mixture, to which the features also add
    directly. What a position adds to each logit falls with its logarithm, give or take a number of its own; it is 0 where it is not
    known. In a chain a later step's logit is a multiple of the one before it, to which its own tower adds only how it strays from
    that: what makes a click likely mostly makes a cart likely after it (of simulated shoppers' true logits within a page the
    correlation is 0.97, and of a cart's and a purchase's too), and clicks tell of it five times as often as purchases.
    """

    def __init__(self, num_features: int, recipe: RankerRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        tasks, experts, width = len(TASKS), recipe.num_experts, recipe.expert_dim
        self.experts = nn.Linear(num_features, experts * width)
        self.gates = nn.Linear(num_features, tasks * experts) if recipe.structure == Structure.MMOE else None
        self.towers = nn.ModuleList(nn.Linear(width, recipe.tower_dim) for _ in TASKS)
        self.heads = nn.ModuleList(nn.Linear(recipe.tower_dim, 1) for _ in TASKS)
        self.skip = nn.Linear(num_features, tasks, bias=False)
        self.carry = nn.Parameter(torch.full((tasks - 1,), 1 / _CARRY)) if recipe.transfer == Transfer.CHAIN else None
        self.register_buffer("usual_depth", torch.zeros(()))  # mean of the logarithms of the known positions
        self.fall = nn.Parameter(torch.zeros(tasks))
        self.position = nn.Embedding(MAX_POSITION + 1, tasks)
        nn.init.zeros_(self.position.weight)
        for layer in (*self.heads, self.skip):
            nn.init.zeros_(layer.weight)  # an untrained network tells all alike

    def start_at(self, shares: npt.NDArray[np.floating], position: Ints) -> None:
        """Sets the last biases so that an untrained network tells about the tasks' usual chances (TASKS,), and what a position adds so
        that it is 0 at the usual depth: a row whose position is not known then counts as neither high nor low."""
        known = np.clip(position[position > 0], 1, MAX_POSITION)
        self.usual_depth.fill_(float(np.log(known).mean()) if len(known) else 0.0)
        before = np.ones(len(shares))
        if self.recipe.transfer == Transfer.CHAIN:
            before[1:] = shares[:-1]
        usual = np.clip(shares / np.maximum(before, 1e-6), 1e-4, 0.99)
        logits = np.log(usual / (1 - usual))
        if self.carry is not None:
            logits[1:] -= self.carried().detach().numpy() * logits[:-1]
        with torch.no_grad():
            for head, logit in zip(self.heads, logits.tolist(), strict=True):
                head.bias.fill_(logit)

    def forward(self, features: Tensor, position: Tensor) -> Tensor:
        return self.logits(self.own(features), position)

    def own(self, features: Tensor) -> Tensor:
        """(rows, TASKS) what each task's tower tells: in a chain, how a later step strays from the one before it."""
        told = functional.relu(self.experts(features)).view(len(features), -1, self.recipe.expert_dim)
        told = functional.dropout(told, self.recipe.dropout, self.training)
        mixed = self._mixed(features, told)  # (rows, tasks, width)
        towers = zip(self.towers, self.heads, strict=True)
        logits = [head(functional.relu(tower(mixed[:, at]))) for at, (tower, head) in enumerate(towers)]
        return torch.cat(logits, dim=1) + self.skip(features)

    def logits(self, own: Tensor, position: Tensor) -> Tensor:
        """(rows, TASKS) of what the towers tell."""
        steps = list(own.unbind(dim=1))
        if self.carry is not None:
            for at, share in enumerate(self.carried(), 1):
                steps[at] = steps[at] + share * steps[at - 1]
        return torch.stack(steps, dim=1) + self.by_position(position)

    def carried(self) -> Tensor:
        """(TASKS - 1,) how much of the logit before it each later one has. Only of a chain."""
        if self.carry is None:
            raise ValueError("only a chain carries a step's logit on")
        return _CARRY * self.carry

    def by_position(self, position: Tensor) -> Tensor:
        """(rows, TASKS) 0 where the position is 0: not known."""
        place = position.clamp(max=MAX_POSITION)
        depth = (torch.log(place.clamp(min=1)) - self.usual_depth).unsqueeze(1)
        return (self.position(place) - _FALL * self.fall * depth) * (place > 0).unsqueeze(1)

    def shares(self, features: Tensor) -> Tensor | None:
        """(rows, tasks, experts) how much each task takes of each expert; None without gates."""
        if self.gates is None:
            return None
        return self.gates(features).view(len(features), len(TASKS), -1).softmax(dim=2)

    def _mixed(self, features: Tensor, told: Tensor) -> Tensor:
        shares = self.shares(features)
        if shares is not None:
            return shares @ told
        return told if self.recipe.structure == Structure.SINGLE else told.expand(-1, len(TASKS), -1)

    def log_chances(self, logits: Tensor) -> Tensor:
        """(rows, TASKS) log of the chance of each task."""
        log_chances = functional.logsigmoid(logits)
        return log_chances.cumsum(dim=1) if self.recipe.transfer == Transfer.CHAIN else log_chances

    def state(self) -> dict[str, Tensor]:
        """A copy of all weights."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def position_odds(self) -> Floats:
        """(MAX_POSITION + 1, TASKS)"""
        return self.by_position(torch.arange(MAX_POSITION + 1)).detach().numpy()

    def arrays(self) -> dict[str, Floats]:
        """What is served, in the shapes of `models.ranking.ranker.shapes`. The last layer's bias holds no position."""
        served = {
            "experts.weight": self.experts.weight.T,
            "experts.bias": self.experts.bias,
            "towers.weight": torch.stack([tower.weight.T for tower in self.towers]),
            "towers.bias": torch.stack([tower.bias for tower in self.towers]),
            "heads.weight": torch.stack([head.weight[0] for head in self.heads]),
            "heads.bias": torch.cat([head.bias for head in self.heads]),
            "skip.weight": self.skip.weight.T,
        }
        if self.gates is not None:
            served |= {"gates.weight": self.gates.weight.T, "gates.bias": self.gates.bias}
        if self.carry is not None:
            served["carry"] = self.carried()
        return {name: value.detach().numpy().astype(np.float32, order="C") for name, value in served.items()}
