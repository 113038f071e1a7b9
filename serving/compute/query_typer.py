"""The compute of the types stage: queries in a locale to the product types that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.bundles.bundle import Bundle
from models.query_types.bundle_part import TYPES_PART
from models.query_types.type_model import TypePrediction

MAX_BATCH = 256  # queries
MAX_TYPES = 20  # of one query


@dataclass(frozen=True, slots=True)
class TypeQuestion:
    """The queries of one call, as (query, locale). A query in a locale that the model has not learned is classified without one."""

    queries: tuple[tuple[str, str], ...]
    max_types: int = 3


class QueryTyper:
    max_batch_cost = MAX_BATCH

    def __init__(self, bundle_folder: Path) -> None:
        self._model = TYPES_PART.open(Bundle(bundle_folder))
        self.backend = self._model.backend

    def warm_up(self) -> None:
        self.compute([TypeQuestion((("a", ""), ("b", self._model.locales[0])))])

    def compute(self, items: Sequence[TypeQuestion]) -> Sequence[tuple[TypePrediction, ...] | Exception]:
        """Returns the predictions of each call, in the order of its queries."""
        pairs = [pair for item in items for pair in item.queries]
        most = max(item.max_types for item in items)
        predictions = iter(self._model.classify([query for query, _ in pairs], [locale for _, locale in pairs], most))
        return [tuple(_cut(next(predictions), item.max_types) for _ in item.queries) for item in items]


def _cut(prediction: TypePrediction, max_types: int) -> TypePrediction:
    if len(prediction.types) <= max_types:
        return prediction
    return TypePrediction(prediction.types[:max_types], prediction.abstained, prediction.locale_used)
