"""Exact search for a batch of queries: a rounded matrix product chooses candidates, and exact inner products rank them."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Floats, Ints
from models.index.bf16_product import Bf16Product
from models.index.exact_search import ExactSearch
from models.index.neighbours import Neighbours


class BatchSearch:
    """Answers batches over the vectors of `exact`. Safe to call from several threads."""

    def __init__(self, exact: ExactSearch) -> None:
        self._exact = exact
        self._products: dict[int, Bf16Product] = {}  # by number of threads; made for the first batch

    def nearest(self, queries: Floats, k: int, allowed: Bools | None, num_threads: int) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width), among those `allowed` (size,)."""
        numbers, rows = self._candidates(queries, k, allowed, num_threads)
        return self._best(queries, numbers, rows, k)

    def _candidates(self, queries: Floats, k: int, allowed: Bools | None, num_threads: int) -> tuple[Ints, Ints]:
        """Returns pairs of a query's number and a product's row (pairs,) that include the `k` best of every query for certain."""
        if num_threads not in self._products:
            num_static = self._exact.width - self._exact.dim
            self._products[num_threads] = Bf16Product(self._exact.vectors, num_threads, num_static)
        product = self._products[num_threads]
        size = self._exact.size
        rough = product(queries)  # (batch, size)
        if allowed is not None:
            rough[:, ~allowed] = -np.inf
        last = size - min(k, size)
        least = np.partition(rough, last, axis=1)[:, last] - 2 * product.max_error(queries)
        pairs = np.flatnonzero(rough >= np.maximum(least, np.finfo(np.float32).min)[:, None])
        return np.divmod(pairs, size)

    def _best(self, queries: Floats, numbers: Ints, rows: Ints, k: int) -> Neighbours:
        """Returns the `k` best of the pairs of each query, ties by row.

        The whole batch takes a few calls. Each call hands the interpreter to another thread, and next to a busy event loop it comes
        back milliseconds later.
        """
        pair_scores = self._exact.score_pairs(queries, numbers, rows)
        order = np.lexsort((rows, -pair_scores, numbers))
        numbers, rows, pair_scores = numbers[order], rows[order], pair_scores[order]
        ends = np.searchsorted(numbers, np.arange(len(queries)), side="right")
        place = np.arange(len(rows)) - np.concatenate([[0], ends])[numbers]
        is_best = place < k
        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids[numbers[is_best], place[is_best]] = rows[is_best]
        scores[numbers[is_best], place[is_best]] = pair_scores[is_best]
        return Neighbours(ids, scores)
