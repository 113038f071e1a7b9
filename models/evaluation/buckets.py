"""Buckets: ways to divide the cases of an evaluation, so that each part gets its own figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Codes, Ints

# Queries by falling frequency: those that make up the first half of all searches are the head, the next three tenths the torso, the rest
# the tail (choice).
HEAD_SHARE, TORSO_SHARE = 0.5, 0.8
FREQUENCIES = ("head", "torso", "tail", "unseen")

# A mean over fewer cases is noise; an interval over fewer shoppers is too narrow.
MIN_CASES, MIN_UNITS = 30, 15


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """One way to divide the cases."""

    values: tuple[str, ...]
    codes: Codes  # (cases,) positions in `values`; negative: in no part

    def take(self, rows: Ints) -> Bucket:
        """Returns the bucket of the cases `rows` (n,)."""
        return Bucket(self.values, self.codes[rows])

    def rows(self) -> dict[str, Ints]:
        """Returns the rows of the cases of each value."""
        return {value: np.flatnonzero(self.codes == code) for code, value in enumerate(self.values)}

    def large_parts(self, units: Ints) -> dict[str, Ints]:
        """Returns `rows()` of the values that have enough cases and enough different `units` (cases,) for a mean with an interval."""
        return {value: rows for value, rows in self.rows().items() if is_large(units[rows])}


def is_large(units: Ints) -> bool:
    """Returns whether cases of these shoppers (cases,) are enough for a mean with an interval."""
    return len(units) >= MIN_CASES and len(np.unique(units)) >= MIN_UNITS


def frequency_codes(counts: Ints) -> Codes:
    """Returns (n,) positions in FREQUENCIES of queries with these numbers of searches (n,)."""
    order = np.argsort(-counts, kind="stable")
    share_before = (np.cumsum(counts[order]) - counts[order]) / max(1, counts.sum())
    codes = np.empty(len(counts), np.int32)
    codes[order] = np.searchsorted((HEAD_SHARE, TORSO_SHARE), share_before, "right")
    codes[counts == 0] = FREQUENCIES.index("unseen")
    return codes
