"""Names for the arrays that modules exchange, and for the callback that reports progress. Shapes stand where an array is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Float16s = npt.NDArray[np.float16]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int32]  # numbers of queries, shoppers and products in a log; negative where there is none
Bools = npt.NDArray[np.bool_]

# What is going on, how much is done, how much there is (None: not known).
Progress = Callable[[str, int, int | None], None]


def silent(stage: str, done: int, total: int | None) -> None:
    """A `Progress` that reports nothing."""
