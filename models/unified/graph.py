"""The graph block: embeds products by the queries that led to them, frozen before the towers are trained.

The bipartite graph of the training window connects products with queries and with single words of queries, so that rare queries
contribute too. LightGCN propagates its symmetrically normalised adjacency without non-linearities or weights; that converges to the
leading singular vectors, which are computed directly.
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
    """Returns unit vectors of products (1 + left_out, num_products, dim); a product without an edge has zeros.

    Edge i connects query[i] (a row of `query_words`) with product[i]; parallel edges are summed. The first vectors use all edges, the
    others all but those of one mask (edges,), in the same space.
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
        projected = (kept.transposed().matrix((num_products, len(left))) @ left).numpy()
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        vectors[at, :, : projected.shape[1]] = projected / np.maximum(lengths, 1e-12) * (lengths > 1e-9)
    return vectors


def _both_kinds(
    query: npt.NDArray[np.integer],
    product: npt.NDArray[np.integer],
    weight: npt.NDArray[np.floating],
    query_words: Ragged,
) -> _Edges:
    """Returns the edges of whole queries, numbered first, and of their words."""
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
        """Sums parallel edges."""
        width = int(right.max(initial=0)) + 1
        keys, edge = np.unique(left.astype(np.int64) * width + right, return_inverse=True)
        return cls(
            keys // width, keys % width, np.bincount(edge, weight.astype(np.float64), len(keys)).astype(np.float64)
        )

    def normalised(self) -> npt.NDArray[np.floating]:
        """Returns log(1 + weight), divided by the square roots of the sums at both ends."""
        damped = np.log1p(self.weight)
        ends = np.bincount(self.left, damped)[self.left] * np.bincount(self.right, damped)[self.right]
        return damped / np.sqrt(np.maximum(ends, 1e-12))

    def matrix(self, shape: tuple[int, int]) -> Tensor:
        places = torch.from_numpy(np.stack([self.left, self.right]))
        values = torch.from_numpy(self.weight.astype(np.float32))
        with warnings.catch_warnings():  # the format is in beta, but its products with dense matrices are not new
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_coo_tensor(places, values, shape, check_invariants=True).coalesce().to_sparse_csr()

    def transposed(self) -> _Edges:
        return _Edges(self.right, self.left, self.weight)


def _leading_left_vectors(edges: _Edges, num_right: int, dim: int, seed: int) -> Tensor:
    """Returns left singular vectors (num_left, dim or fewer), by randomised subspace iteration."""
    num_left = int(edges.left.max()) + 1
    forth, back = edges.matrix((num_left, num_right)), edges.transposed().matrix((num_right, num_left))
    width = min(dim + _OVERSAMPLING, num_left, num_right)
    start = torch.randn(num_right, width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(forth @ start)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(forth @ torch.linalg.qr(back @ basis)[0])[0]
    rotation, _, _ = torch.linalg.svd((back @ basis).T, full_matrices=False)
    return basis @ rotation[:, :dim]
