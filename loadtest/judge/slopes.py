"""Does a value grow as time passes? The slope of a line through a series, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 12  # values next to each other are alike; means of blocks are nearly independent
LEAST_BLOCK, LEAST_BLOCKS = 2, 4
_T = {
    2: 4.30,
    3: 3.18,
    4: 2.78,
    5: 2.57,
    6: 2.45,
    7: 2.36,
    8: 2.31,
    9: 2.26,
    10: 2.23,
}  # 97.5 % of Student's t, by degrees of freedom


@dataclass(frozen=True, slots=True)
class Slope:
    """The change of a value in an hour, with its 95 % interval, and the mean value. Not a number where there is too little to tell."""

    per_hour: float
    low: float
    high: float
    mean: float

    @property
    def is_growth(self) -> bool:
        """Whether the slope can be told from 0, upwards."""
        return self.low > 0

    @property
    def differs_from_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """Fits a line to the means of up to BLOCKS blocks of a series by least squares."""
    known = [(at, value) for at, value in zip(seconds, values, strict=True) if math.isfinite(value)]
    blocks = min(BLOCKS, len(known) // LEAST_BLOCK)
    if blocks < LEAST_BLOCKS:
        return Slope(math.nan, math.nan, math.nan, math.nan)
    means = np.array([np.mean(block, axis=0) for block in np.array_split(np.array(known), blocks)])
    hours, levels = means[:, 0] / 3600, means[:, 1]
    spread = hours - hours.mean()
    per_hour = float(spread @ levels / (spread @ spread))
    rest = levels - levels.mean() - per_hour * spread
    error = math.sqrt(float(rest @ rest) / (blocks - 2) / float(spread @ spread))
    half = _T[blocks - 2] * error
    return Slope(per_hour, per_hour - half, per_hour + half, float(levels.mean()))
