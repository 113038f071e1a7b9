"""Approximate search through inverted lists of 4-bit codes, refined with the exact vectors.

The codes are product quantisation of residuals, two dimensions a code, scanned with SIMD table look-ups (Andre et al., "Cache locality
is not enough", 2015).
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.index.exact_search import ExactSearch
from models.index.neighbours import QueryNeighbours
from models.index.row_selection import RowSelection
from models.index.spec import IndexSpec

# A query reads at most this share of the lists at first: short queries far from all products would read more, for 0.002 of recall at
# 1,000,000.
MAX_LISTS_SHARE = 1 / 2
# More candidates are refined under a filter: far from the query, products differ less from each other than their codes err.
FILTERED_EFFORT = 2
# Under a filter, lists are read down to this share of the margin below the k-th product of the result. At 1,000,000 with half of them
# allowed, 1.0 takes twice the time of 0.7 for a recall of 0.995 instead of 0.987 on short queries.
RECEDE_SHARE = 0.7
# If features are weighed, lists are read down to this share of the margin below the least similarity with which a product could still be
# lifted above the k-th. At 45,000, a margin of 0.275 and weights up to 1, recall of titles / short queries was .975 to .990 / .953 to .976
# at 0, .988 to .998 / .963 to .995 at 0.35, .997 to 1.00 / .980 to .999 at 0.7, without weights .980 / .954; codes read 1.0 to 1.4, 1.1 to
# 2.3 and 1.4 to 3.7 times those without weights.
WEIGHED_SHARE = 0.35
_ADDED_AT_ONCE = 16  # FAISS compares more vectors with the centroids by a matrix product, which wakes threads that spin
_CODES_PER_BLOCK = 32  # FAISS stores the codes of a list in blocks of 32


class ListSearch:
    """Reads the lists near a query from a trained and filled FAISS index. Safe to call from several threads."""

    def __init__(self, lists: Any, exact: ExactSearch, spec: IndexSpec) -> None:
        self.lists = lists
        self._exact = exact
        self._spec = spec
        self._centroids = _centroids(lists)  # (num_lists, width)

    def num_bytes(self) -> int:
        """Returns the memory of codes, ids and centroids."""
        inverted = self.lists.invlists
        lengths = np.array([inverted.list_size(number) for number in range(self.lists.nlist)])
        codes = int((-(-lengths // _CODES_PER_BLOCK) * _CODES_PER_BLOCK).sum()) * int(self.lists.code_size)
        ids = 8 * int(lengths.sum())
        return codes + ids + self._centroids.nbytes

    def append(self, vectors: Float16s) -> None:
        """Adds the vectors (n, width) of the rows after the last one to the lists, coded as those that are there."""
        faiss.omp_set_num_threads(1)
        for start in range(0, len(vectors), _ADDED_AT_ONCE):
            self.lists.add(vectors[start : start + _ADDED_AT_ONCE].astype(np.float32))

    def change_features(self, rows: Ints) -> None:
        """Codes rows anew, whose features have changed, where they are in the lists."""
        faiss.omp_set_num_threads(1)
        inverted = faiss.downcast_InvertedLists(self.lists.invlists)
        pointer = faiss.swig_ptr
        vectors = self._exact.vectors.take(rows).astype(np.float32)
        # A vector between two centroids may have been rounded to the other one when it was added among others.
        _, nearest = self.lists.quantizer.search(vectors, min(2, self.lists.nlist))
        for row, vector, numbers in zip(rows.tolist(), vectors, nearest, strict=True):
            for number in numbers.tolist():
                size = inverted.list_size(number)
                ids = faiss.rev_swig_ptr(inverted.get_ids(number), size) if size else np.empty(0, np.int64)  # ascending
                at = int(np.searchsorted(ids, row))
                if at < size and ids[at] == row:
                    code = np.empty(self.lists.code_size, np.uint8)
                    self.lists.encode_vectors(1, pointer(vector), pointer(np.array([number])), pointer(code), False)
                    inverted.packer.pack_1_c(pointer(code), at, inverted.get_codes(number))
                    break

    def nearest(self, query: Floats, k: int, selection: RowSelection | None = None) -> QueryNeighbours:
        """Returns the nearest of the products in the selection, at most `k`, on one thread.

        Reads the lists within the margin of the nearest one. Under a filter or with features weighed, products that pass or are lifted may
        lie far from the query. The horizon then recedes until it is well below the score of the k-th product without the most that
        features can add.
        """
        faiss.omp_set_num_threads(1)
        nearness = _inner_products(query, self._centroids)  # (num_lists,)
        lowest = float(nearness.min())
        horizon, nearer = self._first_horizon(nearness), math.inf
        weights = query[self._exact.dim :]
        most_added = float(np.maximum(weights, 0).sum())
        recedes = selection is not None or bool(weights.any())
        below = (WEIGHED_SHARE if selection is None else RECEDE_SHARE) * self._spec.margin
        num_rough = math.ceil(k * self._spec.k_factor * (FILTERED_EFFORT if recedes else 1))
        selector = None if selection is None else selection.every
        best = QueryNeighbours.none()
        while True:
            numbers = np.flatnonzero((nearness >= horizon) & (nearness < nearer))
            rough = self._scan(query, numbers, nearness[numbers], num_rough, selector)
            best = best.merge(self._exact.nearest_among(query, rough, k), k)
            too_few = len(best.ids) < k
            if horizon <= lowest or not (recedes or too_few):
                return best
            needed = -math.inf if too_few else float(best.scores[-1]) - most_added - below
            if needed >= horizon:
                return best
            horizon, nearer = max(needed, horizon - self._spec.margin), horizon

    def _first_horizon(self, nearness: Floats) -> float:
        horizon = float(nearness.max()) - self._spec.margin
        max_lists = max(1, int(len(nearness) * MAX_LISTS_SHARE))
        if np.count_nonzero(nearness >= horizon) <= max_lists:
            return horizon
        return float(np.partition(nearness, -max_lists)[-max_lists])

    def _scan(self, query: Floats, numbers: Ints, nearness: Floats, num_rough: int, selector: Any) -> Ints:
        """Returns the `num_rough` best products of the lists `numbers` by their codes, in ascending order of rows."""
        if not len(numbers):
            return np.empty(0, np.int64)
        scores = np.empty((1, num_rough), np.float32)
        ids = np.empty((1, num_rough), np.int64)
        settings = faiss.IVFSearchParameters(nprobe=len(numbers), sel=selector)
        pointer = faiss.swig_ptr
        self.lists.search_preassigned_c(  # the Python form takes no settings
            1,
            pointer(query),
            num_rough,
            pointer(numbers),
            pointer(nearness),
            pointer(scores),
            pointer(ids),
            False,
            settings,
        )
        return np.sort(ids[ids >= 0])


def _centroids(lists: Any) -> Floats:
    """Returns the centroids (num_lists, width) in the quantizer's own memory."""
    first = faiss.downcast_index(lists.quantizer).get_xb()
    centroids: Floats = faiss.rev_swig_ptr(first, lists.nlist * lists.d).reshape(lists.nlist, lists.d)
    return centroids


def _inner_products(query: Floats, vectors: Floats) -> Floats:
    """Returns the inner products (n,) of a query (width,) and vectors (n, width), on one thread: NumPy's idle threads spin."""
    products = np.empty(len(vectors), np.float32)
    pointer = faiss.swig_ptr
    faiss.fvec_inner_products_ny(pointer(products), pointer(query), pointer(vectors), vectors.shape[1], len(vectors))
    return products
