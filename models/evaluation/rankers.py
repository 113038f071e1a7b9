"""What is evaluated: anything that ranks the catalogue for a case. Here those that search among vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Progress
from models.evaluation.cases import Cases
from models.evaluation.numbered_log import Ids
from models.text_encoder.encoder import Text, TextEncoder

faiss: Any = typed_faiss  # its stubs lack `knn`


PRODUCT_BLOCK = 1 << 18  # product vectors compared at a time: 400 MB of float32 at 384 dimensions
ENCODE_BLOCK = 1024


class Ranker(Protocol):
    """Ranks products for cases, knowing of each its query, locale, time and history, and nothing that came after."""

    @property
    def name(self) -> str: ...

    def rank(self, cases: Cases, k: int) -> Ids:
        """(cases, k) rows of products, best first, each at most once in a row; -1 where there are no more."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorRanker:
    """The products with the highest inner product, exactly. A model is `search_vectors` and what it made of the products."""

    name: str
    search_vectors: Callable[[Cases], Floats]  # (cases, dim)
    product_vectors: npt.NDArray[np.floating]  # (products, dim)

    def rank(self, cases: Cases, k: int) -> Ids:
        return nearest(self.search_vectors(cases), self.product_vectors, k)


@dataclass(frozen=True, slots=True, eq=False)
class TextRanker:
    """A text encoder that knows the query alone; each distinct query is searched once."""

    name: str
    encoder: TextEncoder
    product_vectors: npt.NDArray[np.floating]  # (products, dim)

    def rank(self, cases: Cases, k: int) -> Ids:
        return by_query(
            cases, lambda texts: nearest(self.encoder.encode([Text(text) for text in texts]), self.product_vectors, k)
        )

    @classmethod
    def over(
        cls, name: str, encoder: TextEncoder, product_texts: Sequence[str], progress: Progress | None = None
    ) -> TextRanker:
        """Encodes the catalogue, (products,) texts in order of row."""
        tell = progress or (lambda *_: None)
        vectors = np.empty((len(product_texts), encoder.spec.dim), np.float16)
        for start in range(0, len(product_texts), ENCODE_BLOCK):
            tell(f"{name}: encode products", start, len(product_texts))
            block = [Text(text, "product") for text in product_texts[start : start + ENCODE_BLOCK]]
            vectors[start : start + len(block)] = encoder.encode(block)
        tell(f"{name}: encode products", len(product_texts), len(product_texts))
        return cls(name, encoder, vectors)


@dataclass(frozen=True, slots=True, eq=False)
class Unpersonalised:
    """A ranker that is told nothing of the shopper: what the history is worth."""

    ranker: Ranker
    name: str

    def rank(self, cases: Cases, k: int) -> Ids:
        return self.ranker.rank(cases.without_histories(), k)


@dataclass(frozen=True, slots=True, eq=False)
class Mispersonalised:
    """A ranker that is given another shopper's history. If it does as well as with the right one, it learned nothing of shoppers."""

    ranker: Ranker
    name: str
    seed: int = 0

    def rank(self, cases: Cases, k: int) -> Ids:
        return self.ranker.rank(cases.with_permuted_histories(self.seed), k)


def by_query(cases: Cases, rank_texts: Callable[[list[str]], Ids]) -> Ids:
    """(cases, k) for what depends on the query alone: `rank_texts` gets each distinct query once."""
    distinct, first, place = np.unique(cases.queries, return_index=True, return_inverse=True)
    names = cases.events.query_names
    return (
        rank_texts([names[query] for query in distinct.tolist()])[place] if len(first) else np.empty((0, 0), np.int64)
    )


def nearest(queries: Floats, products: npt.NDArray[np.floating], k: int) -> Ids:
    """(queries, k) rows of the `products` (products, dim) with the highest inner product with each of `queries` (queries, dim), best
    first; -1 past the last product. Raises ValueError when dimensions differ or a vector is not finite."""
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
        found_scores, found = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        scores = np.concatenate([scores, found_scores], axis=1)
        ids = np.concatenate([ids, found + start], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, ids = np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)
    return ids
