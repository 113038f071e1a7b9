"""The head on a query's vector: an embedding of the locale, a hidden layer, the types, and additions of each locale to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.query_types.recipe import LocaleInput

AGNOSTIC = -1  # the number of no locale


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The settings of a head."""

    locale_input: LocaleInput | None  # None: the locale is ignored
    locales: tuple[str, ...]  # the known ones; () if the locale is ignored
    num_types: int
    dim: int  # of the query's vector
    hidden: int
    locale_dim: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the names and shapes of the weights."""
        return self.head_shapes()

    def head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns those of the head alone; a subclass may have more."""
        width = self.dim + (self.locale_dim if self.locale_input == LocaleInput.CONCAT else 0)
        shapes: dict[str, tuple[int, ...]] = {}
        if self.locale_input == LocaleInput.CONCAT:
            shapes["locale.weight"] = (len(self.locales) + 1, self.locale_dim)  # the last is no locale
        if self.hidden:
            shapes |= {"hidden.weight": (self.hidden, width), "hidden.bias": (self.hidden,)}
        last = self.hidden or self.dim
        shapes |= {"out.weight": (self.num_types, last), "out.bias": (self.num_types,)}
        if self.locale_input == LocaleInput.HEADS:
            shapes |= {
                "heads.weight": (len(self.locales), self.num_types, last),
                "heads.bias": (len(self.locales), self.num_types),
            }
        return shapes


class Head:
    """The head on NumPy; `weights` have at least the names of `HeadSpec.head_shapes()`."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        self._weights = weights
        # Transposed once to (inputs, outputs), the layout of the product below.
        self._out = np.ascontiguousarray(weights["out.weight"].T)

    def read(self, states: Floats, locales: Ints) -> Floats:
        """Maps vectors (queries, dim) and locales (queries,), numbers or AGNOSTIC, to scores (queries, types)."""
        weights = self._weights
        if "locale.weight" in weights:
            states = np.concatenate([states, weights["locale.weight"][locales]], axis=1)
        if "hidden.weight" in weights:
            states = np.maximum(states @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
        scores: Floats = states @ self._out
        scores += weights["out.bias"]
        if "heads.weight" in weights:
            for locale in np.unique(locales[locales != AGNOSTIC]).tolist():
                rows = locales == locale
                scores[rows] += states[rows] @ weights["heads.weight"][locale].T + weights["heads.bias"][locale]
        return scores
