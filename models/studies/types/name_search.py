"""What a classifier of a taxonomy must beat: BM25 of the categories' names by their letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.evaluation.ranked_types import RankedTypes
from models.query_types.examples import TypeExamples
from models.query_types.tokens import QueryHashing, normalise

_DEPTH = 10


def rank_by_name(names: Mapping[str, Sequence[str]], examples: TypeExamples) -> RankedTypes:
    """BM25 (Lucene's form, k1 1.5, b 0.75) over words and their n-grams of three and four letters, as the classifier reads them.

    `names` (types,) of each locale, in order of the examples' types. Its scores are no probabilities, and it never abstains. Needs bm25s.
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
        index.index([tokens.of(name) for name in names[locale]], show_progress=False)
        asked = [tokens.of(examples.queries[row]) for row in rows.tolist()]
        depth = min(_DEPTH, len(names[locale]))
        found, worth = index.retrieve(asked, k=depth, show_progress=False)
        types[rows, :depth] = np.where(worth > 0, found, -1)
        scores[rows, :depth] = worth
    empty = np.zeros(types.shape, np.bool_)
    unjudged = RankedTypes(types, scores, empty, empty[:, 0], examples.labels, len(examples.types))
    return unjudged.judged_by(examples.labels)


class _Tokens:
    def __init__(self) -> None:
        self._hashing = QueryHashing(bits=24, pairs=False)

    def of(self, text: str) -> list[str]:
        tokens = self._hashing.tokens(normalise(text))
        return [str(row) for token in tokens for row in self._hashing.buckets(token)] or ["nothing"]
