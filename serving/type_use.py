"""What a search does with the product types of its query: nothing, facets, a boost, or a filter.

A boost adds `weight * probability` to the score of a type's products, and so does a filter, which leaves out all others. The best k are
then among the best k without it and the best k of each type, so these are what is retrieved: the result is exact where the index is.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from models.query_types.type_model import TypePrediction
from serving.batcher import Outcome
from serving.retriever import Candidates, ProductFilter, Retrieval

MAX_FACETS = 20

Mask = npt.NDArray[np.bool_]


class TypeUse(StrEnum):
    OFF = "off"
    FACETS = "facets"
    BOOST = "boost"
    FILTER = "filter"


NOTHING_TOLD = TypePrediction((), True, "")


@dataclass(frozen=True, slots=True)
class TypeFinding:
    """What a query asks for, and what the search did with it: `used` is FACETS where nothing was to be done."""

    prediction: TypePrediction = NOTHING_TOLD
    used: TypeUse = TypeUse.OFF
    facets: tuple[tuple[str, int], ...] = ()  # categories and their share of the first hits
    outcome: Outcome[tuple[TypePrediction, ...]] | None = None  # of the stage, where it computed
    failed: str = ""  # why a query that was to be classified was not


def of_type(wanted: ProductFilter, types: Sequence[str]) -> ProductFilter:
    """The filter, and of these types only."""
    return dataclasses.replace(wanted, types=tuple(types))


def use_of(prediction: TypePrediction, wanted: TypeUse) -> TypeUse:
    """Who abstains is not acted upon."""
    return TypeUse.FACETS if prediction.abstained and wanted is not TypeUse.OFF else wanted


def retrievals(plain: Retrieval, prediction: TypePrediction, use: TypeUse) -> list[Retrieval]:
    """What to retrieve for a use."""
    names = [name for name, _ in prediction.types]
    if use in (TypeUse.OFF, TypeUse.FACETS):
        return [plain]
    of_each = [dataclasses.replace(plain, filter=of_type(plain.filter, [name])) for name in names]
    return of_each if use is TypeUse.FILTER else [plain, *of_each]


def facets(categories: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The most frequent categories of some hits."""
    return tuple(Counter(name for name in categories if name).most_common(MAX_FACETS))


def boosted(
    found: Sequence[Candidates],
    prediction: TypePrediction,
    weight: float,
    k: int,
    mask_of: Callable[[ProductFilter], Mask | None],
) -> Candidates:
    """The best `k` of what `retrievals` found, with what each gains by its type; the most of them where it has several."""
    rows: dict[int, tuple[float, float, float, tuple[float, ...]]] = {}
    matched: dict[int, list[str]] = {}
    for part in found:
        columns = (part.rows, part.scores, part.similarities, part.identifier_boosts, part.feature_boosts)
        for row, score, similarity, identifiers, features in zip(*columns, strict=True):
            rows.setdefault(row, (score, similarity, identifiers, features))
        matched |= part.matched
    every = np.fromiter(rows, np.int64, len(rows))
    gains = np.zeros(len(every))
    for name, probability in prediction.types:
        mask = mask_of(of_type(ProductFilter(), [name]))
        if mask is not None:
            gains = np.maximum(gains, weight * probability * mask[every])
    totals = np.array([values[0] for values in rows.values()]) + gains
    order = np.lexsort((every, -totals))[:k]
    kept = every[order].tolist()
    return Candidates(
        rows=kept,
        scores=totals[order].tolist(),
        similarities=[rows[row][1] for row in kept],
        identifier_boosts=[rows[row][2] for row in kept],
        matched={row: matched[row] for row in kept if row in matched},
        feature_boosts=[rows[row][3] for row in kept],
        type_boosts=gains[order].tolist(),
    )
