"""A classifier's predictions for labelled queries, from which every metric of product types is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats, Ints, Progress, silent
from models.query_types.examples import TypeExamples
from models.query_types.type_model import TypePrediction
from models.unified.words import Ragged

DEPTH = 20  # types kept per query; deeper ones count as probability 0
_BLOCK = 1 << 24  # probabilities in one batch: 64 MB


class TypeClassifier(Protocol):
    """A classifier to evaluate: `models.query_types.type_model.TypeModel`, or any with these methods."""

    @property
    def types(self) -> tuple[str, ...]: ...

    def probabilities(self, queries: Sequence[str], locales: Sequence[str]) -> Floats:
        """Returns (queries, types)."""

    def classify(self, queries: Sequence[str], locales: Sequence[str], max_types: int = 3) -> list[TypePrediction]: ...


@dataclass(frozen=True, slots=True, eq=False)
class RankedTypes:
    """The most probable types of each query, best first, and which of them are correct."""

    types: Ints  # (queries, depth) positions in the types of the examples; -1: none
    probabilities: Floats  # (queries, depth)
    is_right: Bools  # (queries, depth)
    abstained: Bools  # (queries,) the model abstains
    labels: Ragged  # correct types of each query
    num_types: int

    def __len__(self) -> int:
        return len(self.types)

    def take(self, rows: npt.NDArray[np.integer] | Bools) -> RankedTypes:
        at = np.arange(len(self))[rows]
        return RankedTypes(
            self.types[at],
            self.probabilities[at],
            self.is_right[at],
            self.abstained[at],
            self.labels.take(at),
            self.num_types,
        )

    def judged_by(self, labels: Ragged) -> RankedTypes:
        """Returns the same predictions judged by other labels."""
        is_right = _is_right(self.types, labels, self.num_types)
        return RankedTypes(self.types, self.probabilities, is_right, self.abstained, labels, self.num_types)


def rank_types(
    model: TypeClassifier,
    examples: TypeExamples,
    *,
    locales: Sequence[str] | None = None,
    depth: int = DEPTH,
    progress: Progress = silent,
    name: str = "",
) -> RankedTypes:
    """Classifies every query of `examples` with `model`, in the query's own locale or in that of `locales` (rows,).

    The types of the model and of the examples may differ: a type that the examples lack is never correct.
    """
    row_locales = list(locales) if locales is not None else examples.row_locales()
    depth = min(depth, len(model.types))
    number_of = {category: number for number, category in enumerate(examples.types)}
    numbers = np.array([number_of.get(category, -1) for category in model.types], np.int64)
    types, probabilities = np.empty((len(examples), depth), np.int64), np.empty((len(examples), depth), np.float32)
    abstained = np.empty(len(examples), np.bool_)
    step = max(1, min(4096, _BLOCK // max(1, len(model.types))))
    for start in range(0, len(examples), step):
        rows = slice(start, start + step)
        scores = model.probabilities(examples.queries[rows], row_locales[rows])
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        # Ties go to the lower number, so that the same scores give the same order.
        best = np.take_along_axis(best, np.argsort(best, axis=1), axis=1)
        best_scores = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")
        types[rows] = numbers[np.take_along_axis(best, order, axis=1)]
        probabilities[rows] = np.take_along_axis(best_scores, order, axis=1)
        predictions = model.classify(examples.queries[rows], row_locales[rows], max_types=1)
        abstained[rows] = [prediction.abstained for prediction in predictions]
        progress(f"classify with {name}", min(start + step, len(examples)), len(examples))
    is_right = _is_right(types, examples.labels, len(examples.types))
    return RankedTypes(types, probabilities, is_right, abstained, examples.labels, len(examples.types))


def _is_right(types: Ints, labels: Ragged, num_types: int) -> Bools:
    correct = np.repeat(np.arange(len(labels)), labels.lengths) * num_types + labels.values
    predicted = np.arange(len(types))[:, None] * num_types + types
    return np.isin(predicted, correct) & (types >= 0)
