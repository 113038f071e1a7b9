"""BM25 over product texts: the lexical ranking that hard-negative mining, evaluation and the studies share. Needs bm25s and PyStemmer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Floats, Ints

WORD = r"(?u)\b\w+\b"  # a word of a query or product: every run of letters, digits and underscores


class Bm25:
    """BM25 in Lucene's form (k1 1.5, b 0.75) with English stop words and stems (Robertson and Zaragoza, 2009)."""

    def __init__(self, product_texts: Sequence[str], name: str = "BM25") -> None:
        """Indexes `product_texts` (products,), in order of row."""
        import bm25s
        import Stemmer  # type: ignore[import-not-found]

        self.name = name
        self._tokenize = bm25s.tokenize
        self._stemmer = Stemmer.Stemmer("english")
        self._num_products = len(product_texts)
        words = self._words(product_texts)
        self._vocabulary = {word for text in words for word in text}
        self._index = bm25s.BM25()
        self._index.index(words, show_progress=False)

    def best(self, queries: Sequence[str], k: int) -> Ints:
        """Returns (queries, k) rows of the best products, best first; -1 past the last product that shares a word with the query."""
        ranked = np.full((len(queries), k), -1, np.int64)
        depth = min(k, self._num_products)
        rows, scores = self._index.retrieve(self._words(queries), k=depth, show_progress=False)
        ranked[:, :depth] = np.where(scores > 0, rows, -1)
        return ranked

    def scores(self, queries: Sequence[str]) -> Floats:
        """Returns (queries, products) scores; 0 for a product that shares no word with the query."""
        scores = np.zeros((len(queries), self._num_products), np.float32)
        for row, words in enumerate(self._words(queries)):
            if indexed := [word for word in words if word in self._vocabulary]:
                scores[row] = self._index.get_scores(indexed)
        return scores

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        words: list[list[str]] = self._tokenize(
            list(texts),
            token_pattern=WORD,
            stopwords="en",
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )
        return words
