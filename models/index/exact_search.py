"""Exact inner products with the float16 vectors of products, read where they are."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.index.float16 import to_float32
from models.index.neighbours import QueryNeighbours
from models.index.product_vectors import ProductVectors
from models.index.row_selection import RowSelection

# Products scored at a time: 8,192 x 384 float16 stay in the caches, which halves the time per product against one pass over 50,000.
ROWS_AT_ONCE = 1 << 13
# Pairs of a query and a product scored at a time, each with a copy of both in float32: 56 us for 290 pairs, at once 72.
PAIRS_AT_ONCE = 1 << 10


class ExactSearch:
    """Scores queries against vectors (size, width), the last `num_static` columns of which are static features.

    A query is [q; w] of width `width`, float32 and C-ordered. The vectors are kept, not copied.
    """

    def __init__(self, vectors: ProductVectors, num_static: int = 0) -> None:
        self.vectors = vectors
        self.width = vectors.shape[1]
        self.dim = self.width - num_static
        self._flat = _flat_index(vectors.base)
        self._appended: Any = None
        self.grow()

    @property
    def size(self) -> int:
        return len(self.vectors)

    def grow(self) -> None:
        """Reads the vectors that were appended, wherever they are now."""
        if len(self.vectors.appended):
            self._appended = _flat_index(self.vectors.appended)

    def nearest(self, query: Floats, k: int, selection: RowSelection | None = None) -> QueryNeighbours:
        """Returns the nearest of all products in the selection, at most `k`. Reads every vector, on one thread."""
        found = _nearest(self._flat, query, k, None if selection is None else selection.every)
        return found if self._appended is None else found.merge(self.nearest_appended(query, k, selection), k)

    def nearest_appended(self, query: Floats, k: int, selection: RowSelection | None = None) -> QueryNeighbours:
        """Returns the nearest of the appended products in the selection, at most `k`."""
        if self._appended is None:
            return QueryNeighbours.none()
        found = _nearest(self._appended, query, k, None if selection is None else selection.appended)
        return QueryNeighbours(found.ids + len(self.vectors.base), found.scores)

    def nearest_among(self, query: Floats, rows: Ints, k: int) -> QueryNeighbours:
        """Returns the nearest of the products `rows` (ascending), at most `k`. Reads them block by block, on one thread."""
        faiss.omp_set_num_threads(1)
        best = QueryNeighbours.none()
        for start in range(0, len(rows), ROWS_AT_ONCE):
            block = rows[start : start + ROWS_AT_ONCE]
            scores, places = _flat_index(self.vectors.take(block)).search(query[None], min(k, len(block)))
            best = best.merge(QueryNeighbours(block[places[0]], scores[0]), k)
        return best

    def score_pairs(self, queries: Floats, numbers: Ints, rows: Ints) -> Floats:
        """Returns the inner products (pairs,) of `queries[numbers]` and the products `rows`.

        Each is computed the same way whatever else is in the batch. Where a query weighs no feature, it equals to the last bit the product
        without features.
        """
        scores = np.empty(len(rows), np.float32)
        unit, static = np.s_[:, : self.dim], np.s_[:, self.dim :]
        for start in range(0, len(rows), PAIRS_AT_ONCE):
            at = slice(start, start + PAIRS_AT_ONCE)
            vectors, query = to_float32(self.vectors.take(rows[at])), queries[numbers[at]]
            np.einsum("ij,ij->i", vectors[unit], query[unit], out=scores[at])
            if self.dim < self.width:
                scores[at] += np.einsum("ij,ij->i", vectors[static], query[static])
        return scores


def _nearest(flat: Any, query: Floats, k: int, selector: Any) -> QueryNeighbours:
    """Returns the nearest vectors of a flat index that the FAISS `selector` passes, at most `k`, on one thread."""
    faiss.omp_set_num_threads(1)
    settings = faiss.SearchParameters(sel=selector)
    scores, ids = flat.search(query[None], min(k, flat.ntotal), params=settings)
    return QueryNeighbours(ids[ids >= 0], scores[ids >= 0])


def _flat_index(vectors: Float16s) -> Any:
    """Returns a FAISS index that reads float16 vectors (n, width) where they are. It copies nothing and keeps them alive."""
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    address = faiss.cast_integer_to_void_ptr(vectors.ctypes.data)
    no_owner = index.codes.owner  # the null shared_ptr, which Python cannot make
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(address, vectors.nbytes, no_owner)
    index.ntotal = len(vectors)
    index.referenced_objects = [vectors]
    return index
