"""The baseline of the taxonomy study: BM25 of category names over words and n-grams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.ranked_types import RankedTypes
from models.query_types.examples import TypeExamples
from models.query_types.tokens import QueryHashing, normalise

_DEPTH = 10


def rank_by_name(names: Mapping[str, Sequence[str]], examples: TypeExamples) -> RankedTypes:
    """Ranks types by BM25 (Lucene's form, k1 1.5, b 0.75) over the classifier's tokens: words and their n-grams of three and four letters.

    `names` has the names of all types (types,) by locale, in the order of the examples' types. Scores are not probabilities, and
    the baseline never abstains. Needs bm25s.
    """
    import bm25s

    types = np.full((len(examples), _DEPTH), -1, np.int64)
    scores = np.zeros((len(examples), _DEPTH), np.float32)
    tokens = _Tokens()
    for number, locale in enumerate(examples.locales):
        rows = np.flatnonzero(examples.locale == number)
        if not len(rows):
            continue
        index = bm25s.BM25()
        index.index([tokens.tokenise(name) for name in names[locale]], show_progress=False)
        queries = [tokens.tokenise(examples.queries[row]) for row in rows.tolist()]
        depth = min(_DEPTH, len(names[locale]))
        rows_found, row_scores = index.retrieve(queries, k=depth, show_progress=False)
        types[rows, :depth] = np.where(row_scores > 0, rows_found, -1)
        scores[rows, :depth] = row_scores
    empty = np.zeros(types.shape, np.bool_)
    unjudged = RankedTypes(types, scores, empty, empty[:, 0], examples.labels, len(examples.types))
    return unjudged.judged_by(examples.labels)


class _Tokens:
    def __init__(self) -> None:
        self._hashing = QueryHashing(bits=24, pairs=False)

    def tokenise(self, text: str) -> list[str]:
        tokens = self._hashing.tokens(normalise(text))
        return [str(row) for token in tokens for row in self._hashing.buckets(token)] or ["nothing"]
