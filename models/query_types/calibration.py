"""Calibrates scores to probabilities, and finds the threshold at which predictions are precise enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Floats

NEVER = 2.0  # a threshold that no probability reaches
_MOST_LOG_ODDS = 15.0
_SMALL_SHARE = 1e-4
_RIDGE = 0.1
_START = np.array([0.0, 0.0, 4.0])  # log of the slope, offset, log odds of the ceiling


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = ceiling * sigmoid(slope * log_odds + offset), which keeps the order of scores.

    It is Platt's (1999) with a ceiling: if one click in twenty is a mistake, no label is more certain than 95%.
    """

    slope: float = 1.0
    offset: float = 0.0
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        if not self.slope > 0 or not np.isfinite([self.slope, self.offset]).all() or not 0 < self.ceiling <= 1:
            raise ValueError(
                f"slope must be above 0, offset finite and ceiling above 0 and at most 1, not {self.slope}, {self.offset} and "
                f"{self.ceiling}"
            )

    def apply(self, log_odds: Floats) -> Floats:
        return np.float32(self.ceiling) * sigmoid(np.float32(self.slope) * log_odds + np.float32(self.offset))

    @classmethod
    def fit(cls, log_odds: Floats, right: Bools) -> Calibration:
        """Fits held-out pairs (n,) of query and type by maximum likelihood; needs SciPy.

        Unless there are both right and wrong pairs, the scores stay as they are.
        """
        if not right.any() or right.all():
            return cls()
        from scipy.optimize import minimize

        x = log_odds.astype(np.float64)

        def negative_log_likelihood(values: Doubles) -> tuple[float, Doubles]:
            slope, offset, room = np.exp(values[0]), values[1], values[2]
            share, ceiling = _sigmoid(slope * x + offset), float(_sigmoid(room))
            p = np.clip(ceiling * share, 1e-9, 1 - 1e-9)
            loss = -np.where(right, np.log(p), np.log1p(-p)).mean()
            by_p = np.where(right, -1 / p, 1 / (1 - p)) / len(x)
            by_odds = by_p * ceiling * share * (1 - share)
            gradient = np.array(
                [(by_odds * x).sum() * slope, by_odds.sum(), (by_p * share).sum() * ceiling * (1 - ceiling)]
            )
            # A light pull towards the start, since few pairs prove little.
            pull = (values - _START) * _RIDGE / len(x)
            return float(loss + (pull * (values - _START)).sum() / 2), gradient + pull

        fitted = minimize(
            negative_log_likelihood, _START, jac=True, method="L-BFGS-B", bounds=((-4, 3), (-20, 20), (-3, 12))
        ).x
        return cls(float(np.exp(fitted[0])), float(fitted[1]), float(_sigmoid(fitted[2])))


def log_odds_of_softmax(scores: Floats) -> Floats:
    """Returns (rows, types) log(p / (1 - p)) of each type's share p of the softmax."""
    if not scores.size:
        return scores
    odds = scores - scores.max(axis=1, keepdims=True)
    share = np.exp(odds)
    total = share.sum(axis=1, keepdims=True)
    odds -= np.log(total)
    # log(1 - p) differs from 0 for few types, and is computed for those alone.
    rows, types = np.nonzero(share > _SMALL_SHARE * total)
    others = np.maximum(1 - share[rows, types] / total[rows, 0], np.float32(1e-7))
    odds[rows, types] -= np.log(others)
    return np.clip(odds, -_MOST_LOG_ODDS, _MOST_LOG_ODDS, out=odds)


def threshold_for(probability: Floats, right: Bools, precision: float, at_least: int = 20) -> float:
    """Returns the lowest threshold above which at least `at_least` predictions (n,) are right in a share `precision` of cases.

    Returns NEVER if no threshold is precise enough, or if there are too few predictions.
    """
    order = np.argsort(-probability, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # A threshold takes all predictions of the same probability, or none.
    is_last = np.append(np.diff(probability[order]) < 0, True)[: len(order)]
    fits = np.flatnonzero((share >= precision) & is_last & (np.arange(1, len(order) + 1) >= at_least))
    return float(probability[order[fits[-1]]]) if len(fits) else NEVER


def expected_calibration_error(probability: Floats, right: Bools, bins: int = 15) -> float:
    """Returns the mean distance between the probabilities (n,) and the share of right predictions, over bins of equal width."""
    if not len(probability):
        raise ValueError("there is no prediction to measure calibration on")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    claimed = np.bincount(place, probability, bins)
    held = np.bincount(place, right, bins)
    return float(np.abs(claimed - held).sum() / len(probability))


def sigmoid(values: Floats) -> Floats:
    return np.float32(1) / (np.float32(1) + np.exp(-np.clip(values, np.float32(-40), np.float32(40))))


def _sigmoid(values: Doubles | float) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -40, 40))))
