"""Votes of judged pairs that resemble a pair: like queries with like paths, and all queries with like paths.

Words and n-grams that few queries share say most, so queries and paths are compared by TF-IDF. A pair is never asked about itself: what is
counted are the judgements of other queries, and training features are computed out of fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from models.arrays import Bools, Doubles, Ints
from models.query_types.path_table import Path
from models.query_types.tokens import QueryHashing
from models.query_types.word_lexicon import WordLexicon

NUM_FEATURES = 8
_MOST = 30  # neighbours of a query
_SHARPNESS = 4  # exponent of the similarity of paths
_KERNEL = 8.0  # a path of similarity s counts exp(-_KERNEL * (1 - s)) in the smoothed share
_STRENGTH = 4.0  # of the overall share in the smoothed share, in judgements
_BLOCK = 2048  # rows of the dense similarities of paths at a time


class JudgedNeighbours:
    """The judged pairs, ready to be compared with others."""

    def __init__(
        self, queries: Sequence[str], paths: Sequence[Path], fits: Bools, hashing: QueryHashing, lexicon: WordLexicon
    ) -> None:
        """Takes the judged pairs; `fits` (pairs,)."""
        self._hashing, self._lexicon = hashing, lexicon
        self._of_query = TfidfVectorizer(analyzer=self._query_parts, sublinear_tf=True, dtype=np.float32)
        self._of_path = TfidfVectorizer(analyzer=self._path_parts, dtype=np.float32)
        self._queries = self._of_query.fit_transform(queries)
        self._fits = fits.astype(np.float64)
        self._overall = float(fits.mean())
        distinct, number = _distinct(paths)
        self._paths = self._of_path.fit_transform(distinct)
        self._path_of = number  # (pairs,)
        self._votes = np.stack([np.bincount(number, self._fits), np.bincount(number)], axis=1)  # (distinct paths, 2)

    def features(self, queries: Sequence[str], paths: Sequence[Path]) -> Doubles:
        """Returns (pairs, NUM_FEATURES)."""
        distinct, number = _distinct(paths)
        vectors = self._of_path.transform(distinct)
        found = np.zeros((len(queries), NUM_FEATURES))
        found[:, :6] = self._of_like_queries(queries, vectors, number)
        found[:, 6:] = self._of_like_paths(vectors)[number]
        return found

    def _of_like_queries(self, queries: Sequence[str], path_vectors: Any, path_of: Ints) -> Doubles:
        """Returns (pairs, 6): weights and best likeness of neighbours whose path fits, and of those whose does not; the best likeness of a
        query; the mean likeness of paths that fit."""
        pair, near, likeness = _nearest(self._of_query.transform(queries) @ self._queries.T)
        alike = path_vectors[path_of[pair]].multiply(self._paths[self._path_of[near]]).sum(axis=1)
        alike = np.asarray(alike, np.float64).ravel()
        right = self._fits[near]
        size = len(queries)
        found = np.zeros((size, 6))
        found[:, 0] = np.bincount(pair, likeness**2 * alike**_SHARPNESS * right, size)
        found[:, 1] = np.bincount(pair, likeness**2 * alike**_SHARPNESS * (1 - right), size)
        np.maximum.at(found[:, 2], pair, likeness * alike * right)
        np.maximum.at(found[:, 3], pair, likeness * alike * (1 - right))
        np.maximum.at(found[:, 4], pair, likeness)
        weight = np.bincount(pair, likeness**2 * right, size)
        found[:, 5] = np.bincount(pair, likeness**2 * alike * right, size) / np.maximum(weight, 1e-6)
        return found

    def _of_like_paths(self, path_vectors: Any) -> Doubles:
        """Returns (paths, 2): the share that fits of like paths, shrunk to the overall share, and the weight of their judgements."""
        found = np.empty((path_vectors.shape[0], 2))
        for start in range(0, len(found), _BLOCK):
            alike = (path_vectors[start : start + _BLOCK] @ self._paths.T).toarray()
            right, total = (np.exp(_KERNEL * (alike - 1)) @ self._votes).T
            found[start : start + _BLOCK, 0] = (right + _STRENGTH * self._overall) / (total + _STRENGTH)
            found[start : start + _BLOCK, 1] = total
        return found

    def _query_parts(self, query: str) -> list[str]:
        """Returns words and n-grams, and what the words are called in paths, by which queries of several languages meet."""
        rows = (str(row) for token in self._hashing.tokens(query) for row in self._hashing.buckets(token))
        return [*rows, *(f"named {name}" for name in self._lexicon.names(query))]

    def _path_parts(self, path: Path) -> list[str]:
        """Returns the steps and their words."""
        return [*path, *(f"word {word}" for step in path for word in self._hashing.tokens(step))]


def _distinct(paths: Sequence[Path]) -> tuple[list[Path], Ints]:
    numbers: dict[Path, int] = {}
    number = np.array([numbers.setdefault(path, len(numbers)) for path in paths], np.int64)
    return list(numbers), number


def _nearest(likeness: Any) -> tuple[Ints, Ints, Doubles]:
    """Returns the row, column and value of the _MOST largest entries of each row of a sparse matrix."""
    table = likeness.tocsr()
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    order = np.lexsort((-table.data, rows))
    place = np.arange(len(rows)) - table.indptr[rows]
    kept = order[place < _MOST]
    return rows[kept], table.indices[kept].astype(np.int64), table.data[kept].astype(np.float64)
