"""Scorers: how well every product answers a query. Rankings and figures of pairs both follow from the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from models.arrays import Bools, Floats, Ints, Progress
from models.studies.text_encoder.embedders import Embedder, VectorCache, checked


class Scorer(Protocol):
    """Scores the products of one judged set; `models.lexical.Bm25` is one."""

    @property
    def name(self) -> str: ...

    def scores(self, queries: Sequence[str]) -> Floats:
        """(queries, products), the higher the better; comparable within a scorer, across queries too."""
        ...


class VectorScorer:
    """Cosine of an embedder's vectors."""

    def __init__(self, embedder: Embedder, products: Sequence[str], cache: VectorCache, progress: Progress) -> None:
        self.name = embedder.name
        self._embedder = embedder
        self._products = cache.product_vectors(embedder, products, progress)

    def scores(self, queries: Sequence[str]) -> Floats:
        return checked(self._embedder, self._embedder.embed_queries(queries)) @ self._products.T


def best(scores: Floats, k: int) -> Ints:
    """(queries, k) products of the highest `scores` (queries, products), of equal ones the first; -1 past the last above -inf."""
    num_products = scores.shape[1]
    depth = min(k, num_products)
    ranked = np.full((len(scores), k), -1, np.int64)
    # Whatever equals the last of the best is taken too, so that among equals the first product wins, not the partition's whim.
    limits = -np.partition(-scores, depth - 1, axis=1)[:, depth - 1]
    for row, (values, limit) in enumerate(zip(scores, limits, strict=True)):
        candidates = np.flatnonzero((values >= limit) & (values > -np.inf))
        order = np.argsort(-values[candidates], kind="stable")[:depth]
        ranked[row, : len(order)] = candidates[order]
    return ranked


def masked(scores: Floats, is_out: Bools) -> Floats:
    """`scores` with -inf where `is_out`, both (queries, products)."""
    return np.where(is_out, np.float32(-np.inf), scores)
