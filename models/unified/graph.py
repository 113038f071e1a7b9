"""The graph block: where a product stands among the queries that led to it, frozen before the towers are trained.

The bipartite graph of the training window joins products with queries and with the single words of queries (so that
rare queries still tell something). Its symmetrically normalised adjacency is propagated as in LightGCN, without
non-linearities or weights; the leading singular vectors are what that converges to, and are computed at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.arrays import Bools, Floats, Ints
from models.unified.words import Ragged

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
    left_out: Sequence[Bools] = (),
) -> Floats:
    """Unit vectors of products (1 + left_out, num_products, dim); a product without an edge has zeros.

    An edge i joins query[i] (a row of `query_words`) with product[i]; edges of the same two are summed. The first vectors are of all
    edges, the others of all but those that a mask (edges,) leaves out, in the same space.
    """
    vectors = np.zeros((1 + len(left_out), num_products, dim), np.float32)
    if not len(query):
        return vectors
    edges = _both_kinds(query, product, weight, query_words)
    left = _leading_left_vectors(edges, num_products, dim, seed)
    for at, mask in enumerate((None, *left_out)):
        kept = edges if mask is None else _both_kinds(query[~mask], product[~mask], weight[~mask], query_words)
        if not len(kept.left):
            continue
        found = (kept.transposed().matrix((num_products, len(left))) @ left).numpy()
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        vectors[at, :, : found.shape[1]] = found / np.maximum(lengths, 1e-12) * (lengths > 1e-9)
    return vectors


def _both_kinds(
    query: npt.NDArray[np.integer],
    product: npt.NDArray[np.integer],
    weight: npt.NDArray[np.floating],
    query_words: Ragged,
) -> _Edges:
    """Of whole queries, numbered first, and of their words."""
    queries = _Edges.merged(query, product, weight)
    spread = query_words.take(query)
    words = _Edges.merged(spread.values, np.repeat(product, spread.lengths), np.repeat(weight, spread.lengths))
    return _Edges(
        np.concatenate([queries.left, words.left + len(query_words)]),
        np.concatenate([queries.right, words.right]),
        np.concatenate([queries.normalised(), words.normalised()]),
    )


@dataclass(frozen=True, slots=True)
class _Edges:
    left: Ints
    right: Ints
    weight: npt.NDArray[np.floating]

    @classmethod
    def merged(
        cls, left: npt.NDArray[np.integer], right: npt.NDArray[np.integer], weight: npt.NDArray[np.floating]
    ) -> _Edges:
        """Edges between the same two become one."""
        width = int(right.max(initial=0)) + 1
        keys, edge = np.unique(left.astype(np.int64) * width + right, return_inverse=True)
        return cls(
            keys // width, keys % width, np.bincount(edge, weight.astype(np.float64), len(keys)).astype(np.float64)
        )

    def normalised(self) -> npt.NDArray[np.floating]:
        """log(1 + weight), divided by the square roots of both ends' sums."""
        damped = np.log1p(self.weight)
        ends = np.bincount(self.left, damped)[self.left] * np.bincount(self.right, damped)[self.right]
        return damped / np.sqrt(np.maximum(ends, 1e-12))

    def matrix(self, shape: tuple[int, int]) -> Tensor:
        places = torch.from_numpy(np.stack([self.left, self.right]))
        values = torch.from_numpy(self.weight.astype(np.float32))
        with warnings.catch_warnings():  # that the format is in beta; products of it with dense matrices are not new
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_coo_tensor(places, values, shape, check_invariants=True).coalesce().to_sparse_csr()

    def transposed(self) -> _Edges:
        return _Edges(self.right, self.left, self.weight)


def _leading_left_vectors(edges: _Edges, num_right: int, dim: int, seed: int) -> Tensor:
    """Left singular vectors (num_left, dim or fewer), by randomised subspace iteration."""
    num_left = int(edges.left.max()) + 1
    forth, back = edges.matrix((num_left, num_right)), edges.transposed().matrix((num_right, num_left))
    width = min(dim + _OVERSAMPLING, num_left, num_right)
    start = torch.randn(num_right, width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(forth @ start)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(forth @ torch.linalg.qr(back @ basis)[0])[0]
    turn, _, _ = torch.linalg.svd((back @ basis).T, full_matrices=False)
    return basis @ turn[:, :dim]
