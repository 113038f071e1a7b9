"""From the network's logits to chances: calibrated, and nested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Floats
from models.ranking.recipe import Transfer

_STEPS = 50  # of Newton's method, which needs five to ten
_LEAST_STEP = 1e-6
_AS_IT_IS = np.array([1.0, 0.0])
_PRIOR = 1.0  # pulls towards "as it is", as one row would
_LEAST_SCALE = 0.05  # order is never turned round
_MIN_OF_EACH = 10  # rows with and without the label; with fewer logits stay as they are


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of each task: the logit times a scale, plus a shift (Platt, 1999). Under a chain of its chance given the task before."""

    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def fit(cls, logits: Floats, labels: Floats, weight: Floats, transfer: Transfer) -> Calibration:
        """From rows that were not learned from; labels (rows, tasks) are nested, `weight` (rows,) is what a row stands for."""
        scales, shifts = [], []
        for task in range(logits.shape[1]):
            known = labels[:, task - 1] > 0 if transfer == Transfer.CHAIN and task else np.ones(len(labels), np.bool_)
            scale, shift = _platt(logits[known, task], labels[known, task], weight[known])
            scales.append(scale)
            shifts.append(shift)
        return cls((scales[0], scales[1], scales[2]), (shifts[0], shifts[1], shifts[2]))


def chances_of(logits: Floats, transfer: Transfer, calibration: Calibration) -> Floats:
    """(rows, tasks) with P(click) >= P(cart) >= P(purchase): under a chain by multiplication, else what is above the task before it is
    cut to it."""
    usual = logits * np.array(calibration.scales) + np.array(calibration.shifts)
    single = 1 / (1 + np.exp(-np.clip(usual, -30, 30)))
    nested = np.cumprod(single, axis=1) if transfer == Transfer.CHAIN else np.minimum.accumulate(single, axis=1)
    return nested.astype(np.float32)


def _platt(logits: Floats, labels: Floats, weight: Floats) -> tuple[float, float]:
    if min(int(labels.sum()), int((1 - labels).sum())) < _MIN_OF_EACH:
        return 1.0, 0.0
    x = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float64)
    weight = weight / weight.mean()

    def loss(of: Doubles) -> float:
        odds = x @ of
        misses = np.logaddexp(0, odds) - labels * odds
        return float(weight @ misses + _PRIOR / 2 * ((of - _AS_IT_IS) ** 2).sum())

    found = _AS_IT_IS
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        slope = x.T @ (weight * (chance - labels)) + _PRIOR * (found - _AS_IT_IS)
        bend = (x * (weight * chance * (1 - chance))[:, None]).T @ x + _PRIOR * np.eye(2)
        step = np.linalg.solve(bend, slope)
        while loss(found - step) > loss(found) and np.abs(step).max() > _LEAST_STEP:
            step = step / 2  # far from the end Newton's step can go past it
        found = found - step
        if np.abs(step).max() <= _LEAST_STEP:
            break
    if not np.isfinite(found).all() or found[0] < _LEAST_SCALE:  # only the level is to be trusted
        return 1.0, 0.0
    return round(float(found[0]), 6), round(float(found[1]), 6)
