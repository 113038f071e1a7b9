"""Scorers: the relevance of every product to a query. Rankings and metrics of pairs both follow from the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from models.arrays import Bools, Floats, Ints, Progress
from models.evaluation.metrics import tie_breakers
from models.studies.text_encoder.embedders import Embedder, VectorCache, checked


class Scorer(Protocol):
    """Scores the products of one judged set; `models.lexical.bm25.Bm25` is one."""

    @property
    def name(self) -> str: ...

    def scores(self, queries: Sequence[str]) -> Floats:
        """Returns (queries, products), higher is better; comparable within a scorer, also across queries."""
        ...


class VectorScorer:
    """Scores by the cosine of an embedder's vectors."""

    def __init__(self, embedder: Embedder, products: Sequence[str], cache: VectorCache, progress: Progress) -> None:
        self.name = embedder.name
        self._embedder = embedder
        self._products = cache.product_vectors(embedder, products, progress)

    def scores(self, queries: Sequence[str]) -> Floats:
        return checked(self._embedder, self._embedder.embed_queries(queries)) @ self._products.T


def best(scores: Floats, k: int) -> Ints:
    """Returns (queries, k) products by falling `scores` (queries, products), ties at random but always alike; -1 past the last above -inf.

    Product numbers break no ties: a set that lists what is relevant first would reward scores that tell nothing apart.
    """
    num_products = scores.shape[1]
    depth = min(k, num_products)
    ranked = np.full((len(scores), k), -1, np.int64)
    ties = tie_breakers(num_products)
    # Candidates include all ties with the last one, so that these numbers decide, not the partition.
    limits = -np.partition(-scores, depth - 1, axis=1)[:, depth - 1]
    for row, (values, limit) in enumerate(zip(scores, limits, strict=True)):
        candidates = np.flatnonzero((values >= limit) & (values > -np.inf))
        order = np.lexsort((ties[candidates], -values[candidates]))[:depth]
        ranked[row, : len(order)] = candidates[order]
    return ranked


def masked(scores: Floats, is_out: Bools) -> Floats:
    """Returns `scores` with -inf where `is_out`, both (queries, products)."""
    return np.where(is_out, np.float32(-np.inf), scores)
