"""Rows that were removed are told from those that live, also from rows that no removal has reached."""

from __future__ import annotations

import numpy as np

from models.products.removed_rows import RemovedRows


def test_removed_rows_are_left_out_and_all_others_stay() -> None:
    rng = np.random.default_rng(0)
    removed, dead = RemovedRows(), set()
    rows = np.arange(3_000)
    assert removed.living(rows) is rows
    removed.add(np.zeros(0, np.int64))
    assert removed.count == 0
    for size in (1, 2, 40, 200, 700):
        chosen = rng.choice(np.setdiff1d(rows[: 2 * size + 100], list(dead)), size // 2 + 1, replace=False)
        removed.add(chosen)
        dead |= set(chosen.tolist())
        assert removed.count == len(dead)
        assert removed.living(rows[::-1]).tolist() == [row for row in range(2_999, -1, -1) if row not in dead]
