"""Conversion by bit moves gives the numbers that NumPy's conversion gives."""

from __future__ import annotations

import numpy as np
import pytest

from models.arrays import Float16s
from models.index.float16 import SCALE, to_float32, to_scaled_float32


@pytest.fixture(scope="module")
def finite() -> Float16s:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    return every[np.isfinite(every)]


def test_every_finite_float16_keeps_its_value_to_the_bit(finite: Float16s) -> None:
    assert len(finite) == 63_488
    floats = to_float32(finite)
    assert floats.dtype == np.float32
    assert np.array_equal(floats.view(np.int32), finite.astype(np.float32).view(np.int32))


def test_scaled_numbers_times_the_scale_are_exact_and_lie_in_the_given_memory(finite: Float16s) -> None:
    out = np.empty(len(finite), np.int32)
    scaled = to_scaled_float32(finite, out)
    assert np.shares_memory(scaled, out)
    assert np.array_equal(scaled * SCALE, finite.astype(np.float32))


def test_a_matrix_keeps_its_shape_and_the_input_its_values() -> None:
    numbers = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float16)
    before = numbers.copy()
    assert np.array_equal(to_float32(numbers[:, 1:4].copy()), numbers[:, 1:4].astype(np.float32))
    assert np.array_equal(to_float32(numbers[:, 1:4]), numbers[:, 1:4].astype(np.float32))
    assert np.array_equal(numbers, before)
    assert to_float32(numbers[:0]).shape == (0, 5)
