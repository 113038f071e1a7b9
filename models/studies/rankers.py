"""Rankers that the studies share: a text encoder alone, and a ranker that sees no history or another shopper's; exact search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints, Progress, silent
from models.evaluation.cases import Cases
from models.evaluation.results import Ranker
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text

faiss: Any = typed_faiss  # its stubs lack `knn`


PRODUCT_BLOCK = 1 << 18  # products that one search compares: 400 MB of float32 at 384 dimensions
ENCODE_BLOCK = 1024  # texts between two reports of progress


@dataclass(frozen=True, slots=True, eq=False)
class TextRanker:
    """Ranks by the cosine of a text encoder's vectors, from the query alone; each distinct query is searched once."""

    name: str
    encoder: TextEncoder
    product_vectors: npt.NDArray[np.floating]  # (products, dim)

    def rank(self, cases: Cases, k: int) -> Ints:
        return by_query(
            cases, lambda texts: nearest(self.encoder.encode([Text(text) for text in texts]), self.product_vectors, k)
        )

    @classmethod
    def encode_catalogue(
        cls, name: str, encoder: TextEncoder, product_texts: Sequence[str], progress: Progress = silent
    ) -> TextRanker:
        """Encodes the catalogue: `product_texts` (products,) in order of row."""
        vectors = np.empty((len(product_texts), encoder.spec.dim), np.float16)
        for start in range(0, len(product_texts), ENCODE_BLOCK):
            progress(f"{name}: encode products", start, len(product_texts))
            block = [Text(text, "product") for text in product_texts[start : start + ENCODE_BLOCK]]
            vectors[start : start + len(block)] = encoder.encode(block)
        progress(f"{name}: encode products", len(product_texts), len(product_texts))
        return cls(name, encoder, vectors)


@dataclass(frozen=True, slots=True, eq=False)
class WithoutHistories:
    """The same ranker with every history hidden: the difference is what the history contributes."""

    ranker: Ranker
    name: str

    def rank(self, cases: Cases, k: int) -> Ints:
        return self.ranker.rank(cases.without_histories(), k)


@dataclass(frozen=True, slots=True, eq=False)
class WithOthersHistories:
    """The same ranker with another shopper's history: if it ranks as well as with the right one, it has not learned about shoppers."""

    ranker: Ranker
    name: str
    seed: int = 0

    def rank(self, cases: Cases, k: int) -> Ints:
        return self.ranker.rank(cases.with_permuted_histories(self.seed), k)


def by_query(cases: Cases, rank_texts: Callable[[list[str]], Ints]) -> Ints:
    """Returns (cases, k) where the ranking depends on the query alone: `rank_texts` ranks each distinct query once."""
    distinct, place = np.unique(cases.queries, return_inverse=True)
    if not len(distinct):
        return np.empty((0, 0), np.int64)
    names = cases.events.query_names
    return rank_texts([names[query] for query in distinct.tolist()])[place]


def nearest(queries: Floats, products: npt.NDArray[np.floating], k: int) -> Ints:
    """Searches exactly: returns (queries, k) rows of `products` (products, dim) by falling inner product with `queries` (queries, dim).

    -1 stands past the last product. Raises ValueError where dimensions differ or a vector is not finite.
    """
    if queries.ndim != 2 or queries.shape[1] != products.shape[1]:
        raise ValueError(f"search vectors have shape {queries.shape}, products {products.shape[1]} dimensions")
    queries = np.ascontiguousarray(queries, np.float32)
    if not np.isfinite(queries).all():
        raise ValueError("search vectors must be finite")
    ids = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(products), PRODUCT_BLOCK):
        block = np.ascontiguousarray(products[start : start + PRODUCT_BLOCK], np.float32)
        if not np.isfinite(block).all():
            raise ValueError("product vectors must be finite")
        block_scores, rows = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, block_scores], axis=1)
        ids = np.concatenate([ids, rows + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, ids = np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)
    return ids
