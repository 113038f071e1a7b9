"""Half precision widens to the same numbers that NumPy makes of it."""

from __future__ import annotations

import numpy as np

from models.index.halves import floats_of


def test_every_finite_half_keeps_its_value_to_the_bit() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert len(finite) == 63_488
    floats = floats_of(finite)
    assert floats.dtype == np.float32
    assert np.array_equal(floats.view(np.int32), finite.astype(np.float32).view(np.int32))


def test_a_matrix_keeps_its_shape_and_the_halves_their_values() -> None:
    halves = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float16)
    before = halves.copy()
    assert np.array_equal(floats_of(halves[:, 1:4].copy()), halves[:, 1:4].astype(np.float32))
    assert np.array_equal(halves, before)
    assert floats_of(halves[:0]).shape == (0, 5)
