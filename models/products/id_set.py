"""A compact set of ids, by which repeated rows are recognised."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.arrays import Bools
from models.products.text import without_surrogates

Digests = npt.NDArray[np.uint64]


def id_digests(ids: Sequence[str | None]) -> Digests:
    """Returns 64 bits of BLAKE2b for each id, (ids,).

    Among 10 million ids the chance that any two share a digest is 3 in a million.
    """
    texts = (without_surrogates(product_id or "", "").encode() for product_id in ids)
    return np.frombuffer(b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts), np.dtype("<u8"))


class IdSet:
    """A set of 64-bit digests in sorted runs that are merged as they grow: 8 bytes an id, where a set of strings takes about 100."""

    def __init__(self) -> None:
        self._runs: list[Digests] = []

    def contains(self, digests: Digests) -> Bools:
        """Returns which of the digests were added before, (digests,)."""
        is_contained = np.zeros(len(digests), np.bool_)
        for run in self._runs:
            is_contained |= run[np.minimum(np.searchsorted(run, digests), len(run) - 1)] == digests
        return is_contained

    def add(self, digests: Digests) -> None:
        """Adds digests, in any order."""
        if not len(digests):
            return
        run = np.sort(digests)
        while self._runs and len(self._runs[-1]) <= len(run):
            run = np.sort(np.concatenate((self._runs.pop(), run)), kind="stable")
        self._runs.append(run)
