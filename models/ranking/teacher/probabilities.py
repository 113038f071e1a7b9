"""Turns the network's logits into calibrated, nested probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Floats
from models.ranking.recipe import Transfer

_STEPS = 50  # of Newton's method, which needs five to ten
_LEAST_STEP = 1e-6
_IDENTITY = np.array([1.0, 0.0])  # scale and shift that change nothing
_PRIOR = 1.0  # strength of the pull towards _IDENTITY, in rows
_LEAST_SCALE = 0.05  # a scale of 0 or less would reverse the order
_MIN_OF_EACH = 10  # rows with and without the label; with fewer the logits stay as they are


@dataclass(frozen=True, slots=True)
class Calibration:
    """A scale and a shift for each task's logits (Platt, 1999). In a chain, the logits are of each task given the one before it."""

    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def fit(cls, logits: Floats, labels: Floats, weight: Floats, transfer: Transfer) -> Calibration:
        """Fits held-out rows: labels (rows, tasks) are nested, and `weight` (rows,) is how many rows each stands for."""
        scales, shifts = [], []
        for task in range(logits.shape[1]):
            is_known = (
                labels[:, task - 1] > 0 if transfer == Transfer.CHAIN and task else np.ones(len(labels), np.bool_)
            )
            scale, shift = _platt(logits[is_known, task], labels[is_known, task], weight[is_known])
            scales.append(scale)
            shifts.append(shift)
        return cls((scales[0], scales[1], scales[2]), (shifts[0], shifts[1], shifts[2]))


def nested_probabilities(logits: Floats, transfer: Transfer, calibration: Calibration) -> Floats:
    """Returns (rows, tasks) with P(click) >= P(cart) >= P(purchase): a chain multiplies, otherwise a task is capped at the one before
    it."""
    odds = logits * np.array(calibration.scales) + np.array(calibration.shifts)
    single = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
    nested = np.cumprod(single, axis=1) if transfer == Transfer.CHAIN else np.minimum.accumulate(single, axis=1)
    return nested.astype(np.float32)


def _platt(logits: Floats, labels: Floats, weight: Floats) -> tuple[float, float]:
    if min(int(labels.sum()), int((1 - labels).sum())) < _MIN_OF_EACH:
        return 1.0, 0.0
    x = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float64)
    weight = weight / weight.mean()

    def loss(values: Doubles) -> float:
        odds = x @ values
        misses = np.logaddexp(0, odds) - labels * odds
        return float(weight @ misses + _PRIOR / 2 * ((values - _IDENTITY) ** 2).sum())

    fitted = _IDENTITY
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(x @ fitted, -30, 30)))
        gradient = x.T @ (weight * (probability - labels)) + _PRIOR * (fitted - _IDENTITY)
        hessian = (x * (weight * probability * (1 - probability))[:, None]).T @ x + _PRIOR * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(fitted - step) > loss(fitted) and np.abs(step).max() > _LEAST_STEP:
            step = step / 2  # far from the minimum, Newton's step can overshoot
        fitted = fitted - step
        if np.abs(step).max() <= _LEAST_STEP:
            break
    if not np.isfinite(fitted).all() or fitted[0] < _LEAST_SCALE:  # the order of the scores is not to be trusted
        return 1.0, 0.0
    return round(float(fitted[0]), 6), round(float(fitted[1]), 6)
