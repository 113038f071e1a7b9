"""The head in training, on query vectors of any source."""

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
    in_locale: Tensor | None = None  # (rows, dim) the part of `whole` that the locale adds, if it is separate


# Takes (rows,) numbers of queries, (rows,) whether each has its locale, and the share of tokens that is kept; returns the vectors.
Reader = Callable[[Ints, Bools, float], States]


class HeadNetwork(nn.Module):
    """`Head` in training, with the same names of weights, on vectors that a subclass computes."""

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
        """Returns a reader of these queries by number; `locales` are numbers or AGNOSTIC."""

    @abstractmethod
    def optimizers(self, recipe: TypesRecipe) -> tuple[torch.optim.Optimizer, ...]:
        """Returns optimizers whose groups have the peak learning rates of the schedule."""

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None = None) -> Tensor:
        """Maps states (rows, dim) and locales (rows,) to scores (rows, types), or (rows, n) of the chosen `types` (n,) only."""
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
        """Returns the trained parameters except tables of which a step reads few rows."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def arrays(self) -> dict[str, Floats]:
        """Returns the trained parameters by name."""
        return {
            name: value.detach().cpu().numpy().copy() for name, value in self.named_parameters() if value.requires_grad
        }

    @torch.no_grad()
    def load(self, weights: dict[str, Floats]) -> None:
        """Loads weights with the names and shapes of `arrays`."""
        parameters = {name: value for name, value in self.named_parameters() if value.requires_grad}
        for name in sorted(set(parameters) | set(weights)):
            parameters[name].data = (
                torch.from_numpy(np.array(weights[name], np.float32)).view_as(parameters[name]).to(self.device)
            )


class Heads(nn.Module):
    """The additions of each locale to the output layer, 0 at first."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        shapes = spec.head_shapes()
        self.weight = nn.Parameter(torch.zeros(shapes["heads.weight"]))
        self.bias = nn.Parameter(torch.zeros(shapes["heads.bias"]))

    def forward(self, states: Tensor, locales: Tensor, types: Tensor | None) -> Tensor:
        weight, bias = (self.weight, self.bias) if types is None else (self.weight[:, types], self.bias[:, types])
        added = states.new_zeros(len(states), bias.shape[1])
        for locale in locales[locales >= 0].unique().tolist():
            rows = (locales == locale).nonzero()[:, 0]
            added = added.index_put((rows,), F.linear(states[rows], weight[locale], bias[locale]))
        return added
