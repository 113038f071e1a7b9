"""Bootstrap confidence intervals: how much a figure would vary with another sample of shoppers.

Cases of one shopper are correlated, so the bootstrap resamples shoppers, not cases (cluster bootstrap; Efron and Tibshirani, 1993). All
columns of one call share the same resamples, so differences and ratios between models are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints

NUM_RESAMPLES = 1000
LEVEL = 0.95

_BLOCK = 1 << 22  # resampled units at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its percentile interval. The figure is NaN without cases, the bounds are NaN with fewer than two units."""

    value: float
    low: float
    high: float
    num_cases: int
    num_units: int

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant at this level."""
        return self.low > 0 or self.high < 0


def mean_intervals(
    values: Doubles,
    units: Ints | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Interval]:
    """Returns the mean of each column of `values` (cases, columns), over the cases where it is not NaN.

    `units` (cases,) identifies the shopper of each case by any integer; None: each case is a unit of its own. The same seed gives the same
    intervals.
    """
    table = _UnitSums.from_cases(values, units)
    with np.errstate(invalid="ignore"):
        drawn = np.concatenate([sums / counts for sums, counts in table.resampled(num_resamples, seed)])
        means = table.sums.sum(0) / table.counts.sum(0)
    return [table.interval(column, means[column], drawn[:, column], level) for column in range(values.shape[1])]


def mean_interval(
    values: Doubles,
    units: Ints | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Returns the mean of one column (cases,), as `mean_intervals` does."""
    return mean_intervals(values[:, None], units, num_resamples=num_resamples, level=level, seed=seed)[0]


def difference_interval(
    ours: Doubles,
    theirs: Doubles,
    units: Ints | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Returns the mean of `ours - theirs` (cases,), over the cases where neither is NaN. Both have the same cases in the same order."""
    _check_paired(ours, theirs)
    return mean_interval(ours - theirs, units, num_resamples=num_resamples, level=level, seed=seed)


def ratio_interval(
    ours: Doubles,
    theirs: Doubles,
    units: Ints | None = None,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Returns the mean of `ours` divided by the mean of `theirs` (cases,), over the cases where neither is NaN; NaN if theirs is 0."""
    _check_paired(ours, theirs)
    both = np.isfinite(ours) & np.isfinite(theirs)
    values = np.where(both[:, None], np.stack([ours, theirs], axis=1), np.nan)
    table = _UnitSums.from_cases(values, units)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.concatenate([sums[:, 0] / sums[:, 1] for sums, _ in table.resampled(num_resamples, seed)])
        ratio = table.sums[:, 0].sum() / table.sums[:, 1].sum()
    return table.interval(0, ratio if np.isfinite(ratio) else np.nan, drawn, level)


def statistic_intervals(
    statistic: Callable[[Doubles], Doubles],
    units: Ints,
    *,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[Interval]:
    """Returns intervals of figures that are not means over cases, such as a macro F1.

    `statistic` takes the weight of each case (cases,) and returns (columns,); it is called once with ones and once per resample. `units`
    (cases,) are as in `mean_intervals`. Columns of one call are paired, so a column may be the difference of two others.
    """
    names, codes = np.unique(units, return_inverse=True)
    value = statistic(np.ones(len(units)))
    rng = np.random.default_rng(seed)
    drawn = np.full((num_resamples, len(value)), np.nan)
    for at in range(num_resamples if len(names) >= 2 else 0):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        drawn[at] = statistic(times[codes].astype(np.float64))
    return [
        Interval(float(figure), *_percentiles(drawn[:, column], level), len(units), len(names))
        for column, figure in enumerate(value)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _UnitSums:
    """Sums over the cases of each unit: all that a mean over resampled units needs."""

    sums: Doubles  # (units, columns)
    counts: Doubles  # (units, columns)

    @classmethod
    def from_cases(cls, values: Doubles, units: Ints | None) -> _UnitSums:
        if values.ndim != 2:
            raise ValueError(f"values have shape {values.shape}, it must be (cases, columns)")
        if units is None:
            units = np.arange(len(values))
        if units.shape != values.shape[:1]:
            raise ValueError(f"there are {len(values)} cases and units of shape {units.shape}")
        names, codes = np.unique(units, return_inverse=True)
        is_given = np.isfinite(values)
        filled = np.where(is_given, values, 0.0)
        sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
        for column in range(values.shape[1]):
            sums[:, column] = np.bincount(codes, filled[:, column], len(names))
            counts[:, column] = np.bincount(codes, is_given[:, column], len(names))
        return cls(sums, counts)

    def resampled(self, num_resamples: int, seed: int) -> Iterator[tuple[Doubles, Doubles]]:
        """Yields sums and counts (block, columns) of resamples: each draws as many units as there are, with replacement."""
        rng = np.random.default_rng(seed)
        num_units = len(self.sums)
        step = max(1, _BLOCK // max(1, num_units))
        for start in range(0, num_resamples, step):
            block = min(step, num_resamples - start)
            drawn = rng.integers(num_units, size=(block, num_units)) if num_units else np.empty((block, 0), np.int64)
            flat = (drawn + np.arange(block)[:, None] * num_units).ravel()
            times = np.bincount(flat, minlength=block * num_units).reshape(block, num_units).astype(np.float64)
            yield times @ self.sums, times @ self.counts

    def interval(self, column: int, value: float, drawn: Doubles, level: float) -> Interval:
        """Returns the interval of `value`. Resamples that are NaN in `drawn` (resamples,), having no case of the column, are left out."""
        num_units = int(np.count_nonzero(self.counts[:, column]))
        low, high = _percentiles(drawn if num_units >= 2 else drawn[:0], level)
        return Interval(float(value), low, high, int(self.counts[:, column].sum()), num_units)


def _percentiles(drawn: Doubles, level: float) -> tuple[float, float]:
    """Returns both bounds over the finite values of `drawn` (resamples,); NaN if none is finite."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level} and must be between 0 and 1")
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_paired(ours: Doubles, theirs: Doubles) -> None:
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise ValueError(f"values of shapes {ours.shape} and {theirs.shape} are not of the same cases")
