"""The layers of the towers on NumPy alone, with the weights that PyTorch trained. Their results equal PyTorch's to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from models.arrays import Floats


class Layers:
    """The layers of one network, by the names of their weights. Tables of embeddings do not belong in it: it transposes."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        # Transposed once to (inputs, outputs), the layout of the products below.
        self._weights = {
            name: np.ascontiguousarray(value.T) if name.endswith("weight") and "norm" not in name else value
            for name, value in weights.items()
        }

    def weight(self, name: str) -> Floats:
        """Returns a weight; one whose name ends in "weight" is transposed."""
        return self._weights[name]

    def holds(self, name: str) -> bool:
        return name in self._weights

    def linear(self, name: str, inputs: Floats) -> Floats:
        return inputs @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def dense(self, name: str, inputs: Floats) -> Floats:
        """`models.unified.towers.SkipDense`."""
        hidden = self.linear(f"{name}.out", silu(self.linear(f"{name}.hidden", inputs)))
        return hidden + inputs @ self._weights[f"{name}.skip.weight"]

    def norm(self, name: str, inputs: Floats) -> Floats:
        """Normalises the last axis."""
        centred = inputs - inputs.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
        return centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def unit(vectors: Floats) -> Floats:
    """Returns vectors (rows, dim) in unit length; 0 stays 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def silu(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # far below 0 the exponential is infinite, and the result 0 as it should be
        return values / (1 + np.exp(-values))


def gelu(values: Floats) -> Floats:
    """Returns x * P(a normal number < x) to 1e-6. NumPy has no error function; this one is Abramowitz and Stegun's 7.1.26."""
    size = np.abs(values) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series *= t
        series += np.float32(factor)
    tail = series * t * np.exp(-size * size)  # 1 - erf(size)
    return np.asarray(values * np.where(values < 0, tail, 2 - tail) * np.float32(0.5), np.float32)
