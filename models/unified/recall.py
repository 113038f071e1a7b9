"""Recall of held-out purchases by exact search: the measure that training is judged by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Floats, Ints

_SEARCHES_AT_ONCE = 512


def ranks_of(
    searches: Floats, products: npt.NDArray[np.floating], search: Ints, product: npt.NDArray[np.integer]
) -> Ints:
    """(pairs,) how many products score higher than product[i] for search[i]: 0 is the first place.

    searches (searches, dim) and products (products, dim) are unit vectors; `search` ascends.
    """
    wide = products.astype(np.float32)
    ranks = np.empty(len(search), np.int64)
    for start in range(0, len(searches), _SEARCHES_AT_ONCE):
        scores = searches[start : start + _SEARCHES_AT_ONCE] @ wide.T
        low, high = np.searchsorted(search, [start, start + _SEARCHES_AT_ONCE])
        for pair in range(low, high):
            row = scores[search[pair] - start]
            ranks[pair] = int((row > row[product[pair]]).sum())
    return ranks


def recall_by_search(ranks: Ints, search: Ints, num_searches: int, k: int) -> Doubles:
    """(searches,) the share of each search's purchases among its first k products; each search has one or more."""
    found = np.bincount(search, ranks < k, num_searches)
    return found / np.bincount(search, minlength=num_searches)
