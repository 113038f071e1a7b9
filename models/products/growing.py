"""Arrays by row that grow at their end and change in place."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)
MIN_ROOM = 256


class GrowingArray(Generic[Scalar]):
    """One dimension with room at its end. The array that it starts from may be mapped or read-only: it is read where it is until the first
    change. One thread changes it; others may read `values` meanwhile, and what they hold stays as long as it was."""

    def __init__(self, values: npt.NDArray[Scalar]) -> None:
        self.values = values  # (rows,)
        self._room = values  # begins with `values`

    def __len__(self) -> int:
        return len(self.values)

    def append(self, added: npt.ArrayLike, count: int) -> None:
        """Appends `count` values; a single number is repeated."""
        start = len(self.values)
        if start + count > len(self._room):
            self._move(start + count)
        self._room[start : start + count] = added
        self.values = self._room[: start + count]

    def writable(self) -> npt.NDArray[Scalar]:
        """Returns `values` to be changed in place."""
        if not self.values.flags.writeable:
            self._move(len(self.values))
        return self.values

    def insert(self, place: int, value: Scalar | int) -> None:
        """Puts a value before another."""
        self.append(value, 1)
        self.values[place + 1 :] = self.values[place:-1].copy()
        self.values[place] = value

    def _move(self, count: int) -> None:
        """Copies the values to where there is room for `count` and an eighth more, so that an appended value costs nine copies at most."""
        room = np.empty(count + max(count // 8, MIN_ROOM), self.values.dtype)
        room[: len(self.values)] = self.values
        self.values, self._room = room[: len(self.values)], room
