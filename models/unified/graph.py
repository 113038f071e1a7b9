"""The graph block: where a product stands among the queries that led to it, frozen before the towers are trained.

The bipartite graph of the training window joins products with queries and with the single words of queries (so that
rare queries still tell something). Its symmetrically normalised adjacency is propagated as in LightGCN, without
non-linearities or weights; the leading singular vectors are what that converges to, and are computed at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from models.unified.words import Ragged

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_POWER_ITERATIONS = 3
_OVERSAMPLING = 8


def graph_vectors(
    query: npt.NDArray[np.integer],
    product: npt.NDArray[np.integer],
    weight: npt.NDArray[np.floating],
    query_words: Ragged,
    num_products: int,
    dim: int,
    seed: int,
) -> Floats:
    """Unit vectors of products (num_products, dim); a product without an edge has zeros.

    An edge i joins query[i] (a row of `query_words`) with product[i]; edges of the same two are summed.
    """
    if not len(query):
        return np.zeros((num_products, dim), np.float32)
    by_query = sp.csr_matrix((weight, (query, product)), shape=(len(query_words), num_products), dtype=np.float32)
    num_words = int(query_words.values.max(initial=-1)) + 1
    words = sp.csr_matrix(
        (np.ones(len(query_words.values), np.float32), query_words.values, query_words.offsets),
        shape=(len(query_words), num_words),
    )
    adjacency = sp.vstack([_normalised(by_query), _normalised((words.T @ by_query).tocsr())]).tocsr()
    vectors = _leading_right_vectors(adjacency, dim, np.random.default_rng([seed, 0x67]))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12) * (lengths > 1e-9), np.float32)


def _normalised(edges: sp.csr_matrix) -> sp.csr_matrix:
    """log(1 + weight), divided by the square roots of both ends' sums."""
    damped = edges.copy()
    damped.sum_duplicates()
    damped.data = np.log1p(damped.data)
    left = np.asarray(damped.sum(axis=1)).ravel()
    right = np.asarray(damped.sum(axis=0)).ravel()
    return sp.diags_array(_inverse_root(left)) @ damped @ sp.diags_array(_inverse_root(right))


def _inverse_root(sums: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.where(sums > 0, 1 / np.sqrt(np.maximum(sums, 1e-12)), 0)


def _leading_right_vectors(matrix: sp.csr_matrix, dim: int, random: np.random.Generator) -> Floats:
    """Right singular vectors times their singular values (columns, dim), by randomised subspace iteration."""
    width = min(dim + _OVERSAMPLING, *matrix.shape)
    basis = np.linalg.qr(matrix @ random.standard_normal((matrix.shape[1], width)).astype(np.float32))[0]
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    _, values, right = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    vectors = np.zeros((matrix.shape[1], dim), np.float32)
    kept = min(dim, len(values))
    vectors[:, :kept] = right[:kept].T * values[:kept]
    return vectors
