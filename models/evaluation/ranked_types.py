"""A model's answers to labelled queries, from which every metric is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats, Ints, Progress
from models.query_types.examples import TypeExamples
from models.query_types.type_model import TypePrediction
from models.unified.words import Ragged

DEPTH = 20  # types kept of each query; what lies deeper counts as probability 0
_BLOCK = 1 << 24  # probabilities at a time, 64 MB


class TypeClassifier(Protocol):
    """What is evaluated: `models.query_types.type_model.TypeModel`, or anything alike."""

    @property
    def types(self) -> tuple[str, ...]: ...

    def probabilities(self, queries: Sequence[str], locales: Sequence[str]) -> Floats:
        """(queries, types)"""

    def classify(self, queries: Sequence[str], locales: Sequence[str], max_types: int = 3) -> list[TypePrediction]: ...


@dataclass(frozen=True, slots=True, eq=False)
class RankedTypes:
    """The most probable types of each query, the most probable first, and which of them are right."""

    types: Ints  # (queries, depth) into the types of the examples; -1 is none
    probabilities: Floats  # (queries, depth)
    is_right: Bools  # (queries, depth)
    abstained: Bools  # (queries,) the model would rather say nothing
    labels: Ragged  # of each query
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
        """The same answers with other labels."""
        is_right = _is_right(self.types, labels, self.num_types)
        return RankedTypes(self.types, self.probabilities, is_right, self.abstained, labels, self.num_types)


def rank_types(
    model: TypeClassifier,
    examples: TypeExamples,
    *,
    locales: Sequence[str] | None = None,
    depth: int = DEPTH,
    progress: Progress | None = None,
    name: str = "",
) -> RankedTypes:
    """Asks `model` every query in its locale, or in those of `locales` (rows,).

    The model may know types that the examples do not, and the other way round: an unknown type is never right.
    """
    asked = list(locales) if locales is not None else examples.row_locales()
    depth = min(depth, len(model.types))
    number = {one: at for at, one in enumerate(examples.types)}
    numbers = np.array([number.get(one, -1) for one in model.types], np.int64)
    types, probabilities = np.empty((len(examples), depth), np.int64), np.empty((len(examples), depth), np.float32)
    abstained = np.empty(len(examples), np.bool_)
    step = max(1, min(4096, _BLOCK // max(1, len(model.types))))
    for start in range(0, len(examples), step):
        rows = slice(start, start + step)
        scores = model.probabilities(examples.queries[rows], asked[rows])
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        # Ties go to the lower number, so that the same scores give the same order.
        best = np.take_along_axis(best, np.argsort(best, axis=1), axis=1)
        found = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        types[rows] = numbers[np.take_along_axis(best, order, axis=1)]
        probabilities[rows] = np.take_along_axis(found, order, axis=1)
        said = model.classify(examples.queries[rows], asked[rows], max_types=1)
        abstained[rows] = [one.abstained for one in said]
        if progress:
            progress(f"ask {name}", min(start + step, len(examples)), len(examples))
    is_right = _is_right(types, examples.labels, len(examples.types))
    return RankedTypes(types, probabilities, is_right, abstained, examples.labels, len(examples.types))


def _is_right(types: Ints, labels: Ragged, num_types: int) -> Bools:
    wanted = np.repeat(np.arange(len(labels)), labels.lengths) * num_types + labels.values
    said = np.arange(len(types))[:, None] * num_types + types
    return np.isin(said, wanted) & (types >= 0)
