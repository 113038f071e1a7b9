"""The ranker's network in training; `models.ranking.ranker` is the same network in serving."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.arrays import Floats, Ints
from models.ranking.recipe import RankerRecipe, Structure, Transfer
from models.ranking.tasks import TASKS

MAX_POSITION = 64  # later positions count as this one
_FALL = 10.0  # scales the learned slope over positions, so that a hundred steps are enough for it
_CARRY = 5.0  # scales the learned share of the previous logit, for the same reason


class RankerNetwork(nn.Module):
    """Maps standardised features (rows, features) and positions (rows,) to one logit for each task (rows, TASKS).

    Each expert is one layer; a gate mixes them for each task. A tower turns the mixture into a logit, to which a linear layer over the
    features adds directly. A position adds a term that falls with its logarithm plus a learned number of its own; an unknown position
    adds 0.

    In a chain, a later task's logit is a learned multiple of the one before it plus the output of its own tower, which therefore learns
    only the deviation. What makes a click likely mostly makes a cart likely too (the true logits of simulated shoppers correlate by
    0.97 within a page, also between cart and purchase), and there are five times as many clicks as purchases to learn it from.
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
        self.register_buffer("usual_depth", torch.zeros(()))  # mean logarithm of the known positions
        self.fall = nn.Parameter(torch.zeros(tasks))
        self.position = nn.Embedding(MAX_POSITION + 1, tasks)
        nn.init.zeros_(self.position.weight)
        for layer in (*self.heads, self.skip):
            nn.init.zeros_(layer.weight)  # an untrained network scores all rows alike

    def start_at(self, shares: npt.NDArray[np.floating], position: Ints) -> None:
        """Sets the last biases so that an untrained network predicts the tasks' overall rates `shares` (TASKS,).

        The term of a position becomes 0 at the mean depth of `position` (rows,), so that an unknown position counts as an average one.
        """
        known = np.clip(position[position > 0], 1, MAX_POSITION)
        self.usual_depth.fill_(float(np.log(known).mean()) if len(known) else 0.0)
        before = np.ones(len(shares))
        if self.recipe.transfer == Transfer.CHAIN:
            before[1:] = shares[:-1]
        rates = np.clip(shares / np.maximum(before, 1e-6), 1e-4, 0.99)
        logits = np.log(rates / (1 - rates))
        if self.carry is not None:
            logits[1:] -= self.carried().detach().numpy() * logits[:-1]
        with torch.no_grad():
            for head, logit in zip(self.heads, logits.tolist(), strict=True):
                head.bias.fill_(logit)

    def forward(self, features: Tensor, position: Tensor) -> Tensor:
        return self.logits(self.own(features), position)

    def own(self, features: Tensor) -> Tensor:
        """Returns (rows, TASKS) the outputs of the towers: in a chain, the deviation of a later task from the one before it."""
        hidden = functional.relu(self.experts(features)).view(len(features), -1, self.recipe.expert_dim)
        hidden = functional.dropout(hidden, self.recipe.dropout, self.training)
        mixed = self._mixed(features, hidden)  # (rows, tasks, width)
        towers = zip(self.towers, self.heads, strict=True)
        logits = [head(functional.relu(tower(mixed[:, at]))) for at, (tower, head) in enumerate(towers)]
        return torch.cat(logits, dim=1) + self.skip(features)

    def logits(self, own: Tensor, position: Tensor) -> Tensor:
        """Returns (rows, TASKS) the logits, given the outputs of the towers."""
        steps = list(own.unbind(dim=1))
        if self.carry is not None:
            for at, share in enumerate(self.carried(), 1):
                steps[at] = steps[at] + share * steps[at - 1]
        return torch.stack(steps, dim=1) + self.by_position(position)

    def carried(self) -> Tensor:
        """Returns (TASKS - 1,) the share of the previous logit in each later one. Raises ValueError unless the recipe is a chain."""
        if self.carry is None:
            raise ValueError("only a chain carries a step's logit on")
        return _CARRY * self.carry

    def by_position(self, position: Tensor) -> Tensor:
        """Returns (rows, TASKS) the terms of the positions; 0 for position 0, which is unknown."""
        place = position.clamp(max=MAX_POSITION)
        depth = (torch.log(place.clamp(min=1)) - self.usual_depth).unsqueeze(1)
        return (self.position(place) - _FALL * self.fall * depth) * (place > 0).unsqueeze(1)

    def shares(self, features: Tensor) -> Tensor | None:
        """Returns (rows, tasks, experts) the weight of each expert in each task; None without gates."""
        if self.gates is None:
            return None
        return self.gates(features).view(len(features), len(TASKS), -1).softmax(dim=2)

    def _mixed(self, features: Tensor, hidden: Tensor) -> Tensor:
        shares = self.shares(features)
        if shares is not None:
            return shares @ hidden
        return hidden if self.recipe.structure == Structure.SINGLE else hidden.expand(-1, len(TASKS), -1)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Returns (rows, TASKS) the logarithm of each task's probability."""
        logs = functional.logsigmoid(logits)
        return logs.cumsum(dim=1) if self.recipe.transfer == Transfer.CHAIN else logs

    def state(self) -> dict[str, Tensor]:
        """Returns a copy of all weights."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def position_odds(self) -> Floats:
        """Returns (MAX_POSITION + 1, TASKS) the term of each position."""
        return self.by_position(torch.arange(MAX_POSITION + 1)).detach().numpy()

    def arrays(self) -> dict[str, Floats]:
        """Returns the served weights in the shapes of `models.ranking.ranker.shapes`, without the terms of positions."""
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
