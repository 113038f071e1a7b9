"""The head as it is trained, whatever the vectors of queries come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from models.arrays import Bools, Floats, Ints
from models.query_types.head import HeadSpec
from models.query_types.recipe import LocaleInput, TypesRecipe


@dataclass(frozen=True, slots=True)
class States:
    """Vectors of queries."""

    whole: Tensor  # (rows, dim)
    in_locale: Tensor | None = None  # (rows, dim) the part of them that the locale adds, where it is apart


# (rows,) of the queries, (rows,) which of them know their locale, and the share of tokens that is read -> their vectors.
Reader = Callable[[Ints, Bools, float], States]


class HeadNetwork(nn.Module):
    """What `Head` computes, with the same names of weights, on vectors that a subclass makes."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec
        shapes = spec.head_shapes()
        width = spec.dim
        self.locale: nn.Embedding | None = None
        if "locale.weight" in shapes:
            self.locale = nn.Embedding(*shapes["locale.weight"])
            width += spec.locale_dim
        self.hidden = nn.Linear(width, spec.hidden) if spec.hidden else None
        self.out = nn.Linear(spec.hidden or spec.dim, spec.num_types)
        nn.init.zeros_(self.out.bias)
        self.heads = Heads(spec) if spec.locale_input == LocaleInput.HEADS else None

    @abstractmethod
    def reader(self, queries: Sequence[str], locales: Sequence[int]) -> Reader:
        """Reads these queries by their numbers; `locales` are numbers, or AGNOSTIC."""

    @abstractmethod
    def optimizers(self, recipe: TypesRecipe) -> tuple[torch.optim.Optimizer, ...]:
        """Their groups have the learning rates that the schedule rises to."""

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None = None) -> Tensor:
        """`states` (rows, dim), `locales` (rows,) with AGNOSTIC -> scores (rows, types), or of the chosen `types` (n,) only."""
        if self.locale is not None:
            at = torch.where(locales < 0, len(self.spec.locales), locales)
            states = torch.cat([states, self.locale(at)], dim=1)
        if self.hidden is not None:
            states = F.relu(self.hidden(states))
        weight, bias = self.out.weight, self.out.bias
        if types is not None:
            weight, bias = weight[types], bias[types]
        scores = F.linear(states, weight, bias)
        return scores if self.heads is None else scores + self.heads(states, locales, types)

    @property
    def device(self) -> torch.device:
        return self.out.weight.device

    def dense(self) -> list[nn.Parameter]:
        """What is trained, but for tables of which a step reads few rows."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def arrays(self) -> dict[str, Floats]:
        """What is trained."""
        return {
            name: value.detach().cpu().numpy().copy() for name, value in self.named_parameters() if value.requires_grad
        }

    @torch.no_grad()
    def load(self, weights: dict[str, Floats]) -> None:
        """Of the names and shapes of `arrays`."""
        mine = {name: value for name, value in self.named_parameters() if value.requires_grad}
        for name in sorted(set(mine) | set(weights)):
            mine[name].data = torch.from_numpy(np.array(weights[name], np.float32)).view_as(mine[name]).to(self.device)


class Heads(nn.Module):
    """What each locale adds to the output layer; nothing at first."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        shapes = spec.head_shapes()
        self.weight = nn.Parameter(torch.zeros(shapes["heads.weight"]))
        self.bias = nn.Parameter(torch.zeros(shapes["heads.bias"]))

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None) -> Tensor:
        weight, bias = (self.weight, self.bias) if types is None else (self.weight[:, types], self.bias[:, types])
        added = states.new_zeros(len(states), bias.shape[1])
        for locale in locales[locales >= 0].unique().tolist():
            mine = (locales == locale).nonzero()[:, 0]
            added = added.index_put((mine,), F.linear(states[mine], weight[locale], bias[locale]))
        return added
