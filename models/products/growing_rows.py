"""An array by row that grows at its end, without a copy of the rows that it began with."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from models.arrays import Ints

Kind = TypeVar("Kind", bound=np.generic)
MIN_ROOM = 64  # rows that the first append makes room for


class GrowingRows(Generic[Kind]):
    """Rows `base` (n, ...), which are kept where they are and may be mapped, and appended rows of the same shape.

    One thread changes it. Others may read rows below a length that they have seen: a row is filled before it counts.
    """

    def __init__(self, base: npt.NDArray[Kind]) -> None:
        self.base = np.asarray(base)  # a plain view: indexing a memmap costs more
        self._room = np.empty((0, *self.base.shape[1:]), self.base.dtype)
        self._num_appended = 0

    def __len__(self) -> int:
        return len(self.base) + self._num_appended

    @property
    def appended(self) -> npt.NDArray[Kind]:
        """The appended rows, as a view that the next append may leave behind."""
        return self._room[: self._num_appended]

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Adds rows (n, ...) after the last one."""
        start, stop = self._num_appended, self._num_appended + len(rows)
        room = self._room
        if stop > len(room):
            room = np.empty((max(MIN_ROOM, 2 * len(room), stop), *room.shape[1:]), room.dtype)
            room[:start] = self._room[:start]
        room[start:stop] = rows
        self._room = room
        self._num_appended = stop

    def take(self, rows: Ints, out: npt.NDArray[Kind] | None = None) -> npt.NDArray[Kind]:
        """Returns the rows with these numbers (n, ...), in `out` where it is given. Numbers outside the rows are not checked for."""
        taken: npt.NDArray[Kind] = self.base.take(rows, axis=0, out=out, mode="clip")  # others buffer `out`
        if self._num_appended:
            late = np.flatnonzero(rows >= len(self.base))
            if len(late):
                taken[late] = self._room.take(rows[late] - len(self.base), axis=0, mode="clip")
        return taken

    def part(self, rows: Ints, start: int, stop: int) -> npt.NDArray[Kind]:
        """Returns columns `start` to `stop` of the rows with these numbers (n, stop - start) of an array of two dimensions."""
        if not self._num_appended:
            return self.base[rows, start:stop]
        taken = self.base[np.minimum(rows, len(self.base) - 1), start:stop]
        late = np.flatnonzero(rows >= len(self.base))
        taken[late] = self._room[rows[late] - len(self.base), start:stop]
        return taken

    def put(self, rows: Ints, values: npt.NDArray[Any], columns: int | slice | None = None) -> None:
        """Writes values (n, ...) into rows that exist, or into a column or some columns of them."""
        late = rows >= len(self.base)
        for part, chosen, first in ((self.base, ~late, 0), (self._room, late, len(self.base))):
            if chosen.any():
                at = rows[chosen] - first
                part[at if columns is None else (at, columns)] = values[chosen]

    def all(self) -> npt.NDArray[Kind]:
        """Returns every row: the base itself while nothing was appended."""
        return np.concatenate([self.base, self.appended]) if self._num_appended else self.base
