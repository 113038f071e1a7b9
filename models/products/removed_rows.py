"""The rows that were removed while a catalogue serves."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Ints


class RemovedRows:
    """A byte for each row up to the last that was removed; none before the first removal."""

    def __init__(self) -> None:
        self.count = 0
        self._flags: Bools = np.zeros(1, np.bool_)  # the last is never set: it stands for all rows past it

    def add(self, rows: Ints) -> None:
        """Takes rows (removed,), each once."""
        if not len(rows):
            return
        flags, top = self._flags, int(rows.max())
        if top >= len(flags) - 1:
            flags = np.zeros(max(top + 2, 2 * len(flags)), np.bool_)
            flags[: len(self._flags)] = self._flags
        flags[rows] = True
        self._flags = flags
        self.count += len(rows)

    def living(self, rows: Ints) -> Ints:
        """Returns those of the rows (any number,) that were not removed, in their order."""
        return rows[~self._flags.take(rows, mode="clip")] if self.count else rows
