"""Many lists of weighted items, from which millions of draws are made at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints


class WeightedLists:
    """Concatenated lists: items (total,), weights (total,) above 0, and the number of items of each list."""

    def __init__(self, items: npt.NDArray[np.integer], weights: Doubles, sizes: npt.NDArray[np.integer]) -> None:
        self.first: Ints = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))  # (num_lists + 1,)
        self.items = items
        self.weights = weights
        self._below = np.concatenate(([0.0], np.cumsum(weights)))  # (total + 1,) weight of all items before

    def draw(self, lists: Ints, uniforms: Doubles) -> Ints:
        """Draws an item by weight from each of `lists`, which must not be empty; both arguments have the same shape."""
        low, high = self._below[self.first[lists]], self._below[self.first[lists + 1]]
        at = np.searchsorted(self._below, low + uniforms * (high - low), side="right") - 1
        # Rounding could step over the end of a list.
        return self.items[np.clip(at, self.first[lists], self.first[lists + 1] - 1)].astype(np.int64)

    def distribution(self, number: int) -> tuple[Ints, Doubles]:
        """Returns the items of a list, and the probability of each."""
        part = slice(self.first[number], self.first[number + 1])
        weights = self.weights[part]
        return self.items[part].astype(np.int64), weights / weights.sum()

    def sizes(self) -> Ints:
        """Returns the number of items of each list."""
        return np.diff(self.first)
