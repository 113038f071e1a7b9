"""Rows that grow are read as one array is."""

from __future__ import annotations

import numpy as np
import pytest

from models.products.growing_rows import MIN_ROOM, GrowingRows


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("seed", range(5))
def test_reads_what_one_array_of_all_rows_holds(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    every = rng.standard_normal((50, *shape)).astype(np.float32)
    rows: GrowingRows[np.float32] = GrowingRows(every.copy())
    for _ in range(12):
        new = rng.standard_normal((int(rng.integers(0, 40)), *shape)).astype(np.float32)
        rows.append(new)
        every = np.concatenate([every, new])
        changed = rng.choice(len(every), 7, replace=False)
        values = rng.standard_normal((7, *shape)).astype(np.float32)
        rows.put(changed, values)
        every[changed] = values
        asked = rng.integers(0, len(every), 90)
        out = np.empty((90, *shape), np.float32)
        assert len(rows) == len(every)
        np.testing.assert_array_equal(rows.take(asked), every[asked])
        np.testing.assert_array_equal(rows.take(asked, out=out), every[asked])
        np.testing.assert_array_equal(rows.all(), every)
        if shape:
            np.testing.assert_array_equal(rows.part(asked, 1, 3), every[asked, 1:3])


def test_some_columns_are_written() -> None:
    rows: GrowingRows[np.float32] = GrowingRows(np.zeros((2, 3), np.float32))
    rows.append(np.zeros((1, 3)))
    rows.put(np.array([2, 0]), np.array([[1, 2], [3, 4]]), slice(0, 2))
    rows.put(np.array([1]), np.array([5]), 1)
    assert rows.all().tolist() == [[3, 4, 0], [0, 5, 0], [1, 2, 0]]


def test_the_first_rows_are_not_copied_and_appended_ones_seldom() -> None:
    base = np.arange(1000)
    rows: GrowingRows[np.int64] = GrowingRows(base)
    rooms = set()
    for number in range(20 * MIN_ROOM):
        rows.append(np.array([number]))
        rooms.add(rows.appended.__array_interface__["data"][0])
    assert np.shares_memory(rows.base, base)
    assert len(rooms) <= 6
