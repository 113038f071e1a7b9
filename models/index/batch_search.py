"""Exact search for a batch of queries: a rounded matrix product chooses candidates, and exact inner products rank them."""

from __future__ import annotations

import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.index.bf16_product import Bf16Product
from models.index.exact_search import ExactSearch
from models.index.neighbours import Neighbours
from models.index.row_selection import RowSelection
from models.products.growing_rows import GrowingRows


class BatchSearch:
    """Answers batches over the vectors of `exact`. Safe to call from several threads.

    The matrix product reads a copy of the vectors that were there at first. Features that changed since are added to it, and products
    appended since are multiplied beside it, from a copy in float32: one by one and query by query they would take ten times as long.
    """

    def __init__(self, exact: ExactSearch) -> None:
        self._exact = exact
        self._products: dict[int, Bf16Product] = {}  # by number of threads; made for the first batch
        self._is_changed = np.zeros(len(exact.vectors.base), np.bool_)  # the first vectors whose features changed
        self._appended = GrowingRows[np.float32](np.empty((0, exact.dim), np.float32))  # their unit vectors
        self.append(exact.vectors.appended)
        self._changed: Ints | None = None  # their rows, ascending; None: to be read anew

    def append(self, vectors: Float16s) -> None:
        """Takes the vectors (n, width) of products that were appended to those of `exact`."""
        self._appended.append(vectors[:, : self._exact.dim])

    def change_features(self, rows: Ints) -> None:
        self._is_changed[rows[rows < len(self._is_changed)]] = True
        self._changed = None

    def _changed_rows(self) -> Ints:
        changed = self._changed
        if changed is None:
            changed = self._changed = np.flatnonzero(self._is_changed)
        return changed

    def nearest(self, queries: Floats, k: int, selection: RowSelection | None, num_threads: int) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width) in the selection."""
        return self._best(queries, *self._candidates(queries, k, selection, num_threads), k)

    def _candidates(
        self, queries: Floats, k: int, selection: RowSelection | None, num_threads: int
    ) -> tuple[Ints, Ints]:
        """Returns pairs of a query's number and a product's row (pairs,) that include the `k` best for certain."""
        if num_threads not in self._products:
            num_static = self._exact.width - self._exact.dim
            self._products[num_threads] = Bf16Product(self._exact.vectors.base, num_threads, num_static)
        product = self._products[num_threads]
        size = self._exact.size
        rough = product(queries)  # (batch, first vectors)
        weights = queries[:, self._exact.dim :]
        if weights.any() and len(changed := self._changed_rows()):
            now = self._exact.vectors.columns(changed, self._exact.dim, self._exact.width).astype(np.float32)
            rough[:, changed] += weights @ (now - product.features[changed]).T
        if len(self._appended):
            rough = np.concatenate([rough, self._appended_scores(queries)], axis=1)
        if selection is not None:
            rough[:, selection.left_out(size)] = -np.inf
        last = size - min(k, size)
        least = np.partition(rough, last, axis=1)[:, last] - 2 * product.max_error(queries)
        pairs = np.flatnonzero(rough >= np.maximum(least, np.finfo(np.float32).min)[:, None])
        return np.divmod(pairs, size)

    def _appended_scores(self, queries: Floats) -> Floats:
        dim = self._exact.dim
        scores: Floats = queries[:, :dim] @ self._appended.appended.T
        if (weights := queries[:, dim:]).any():
            scores += weights @ self._exact.vectors.appended[:, dim:].astype(np.float32).T
        return scores

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
