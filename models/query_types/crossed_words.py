"""A linear model of which words of a query go with which steps of a path: "apex" with t-shirts and mobile phones, not with lamps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression

from models.arrays import Bools, Doubles
from models.query_types.path_table import Path
from models.query_types.tokens import fold_accents, tokens_of
from models.query_types.word_lexicon import WordLexicon

_ROWS = 1 << 20
_CROSSED_WEIGHT, _STEP_WEIGHT, _WORD_WEIGHT = 2.0, 0.5, 0.3
_STARTS = (4, 6)  # letters: "kleider" and "kleid" begin alike


class CrossedWords:
    def __init__(self, queries: Sequence[str], paths: Sequence[Path], fits: Bools, lexicon: WordLexicon) -> None:
        """Learns from judged pairs; `fits` (pairs,)."""
        self._lexicon = lexicon
        self._hasher = FeatureHasher(_ROWS, input_type="pair", alternate_sign=False)
        self._weights = LogisticRegression(C=1.0, solver="liblinear")
        self._weights.fit(self._rows(queries, paths), fits)

    def scores(self, queries: Sequence[str], paths: Sequence[Path]) -> Doubles:
        """Returns (pairs,) log odds that the path fits."""
        return np.asarray(self._weights.decision_function(self._rows(queries, paths)), np.float64)

    def _rows(self, queries: Sequence[str], paths: Sequence[Path]) -> Any:
        """Returns a sparse matrix (pairs, _ROWS)."""
        parts = {query: self._parts(query) for query in set(queries)}
        return self._hasher.transform(_crossed(parts[query], path) for query, path in zip(queries, paths, strict=True))

    def _parts(self, query: str) -> list[str]:
        words = [fold_accents(word) for word in tokens_of(query, pairs=False)]
        starts = (f"{word[:size]}*" for word in words for size in _STARTS if len(word) >= size)
        return list(dict.fromkeys([*words, *starts, *(f"named {name}" for name in self._lexicon.names(query))]))


def _crossed(parts: Sequence[str], path: Path) -> Iterator[tuple[str, float]]:
    steps = [f"top {path[0]}", f"last {path[-1]}", *path[1:]]
    weight = _CROSSED_WEIGHT / np.sqrt(max(len(parts) * len(steps), 1))
    for part in parts:
        yield part, _WORD_WEIGHT
        for step in steps:
            yield f"{part}|{step}", weight
    for step in (*steps, " > ".join(path)):
        yield step, _STEP_WEIGHT
