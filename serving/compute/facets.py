"""Counts of the values of a field, over all products that pass a filter or over candidates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Ints
from models.products.attributes.columns import Selection
from models.products.attributes.spec import AttributeType
from serving.compute.filter_masks import NO_FILTER, Column, FilterMasks

KEYWORD_TYPES = (AttributeType.KEYWORD, AttributeType.KEYWORDS)


class Scope(StrEnum):
    """Over which products something is counted or ordered."""

    ALL = "all"  # that pass the filter
    MATCHING = "matching"  # of these, all that match the query
    BEST = "best"  # candidates of the query


class FacetQuestion(NamedTuple):
    """Asks for the `max_values` most frequent values of a field, those that contain `text`, or for counts of inclusive ranges."""

    name: str
    max_values: int
    ranges: tuple[tuple[float | None, float | None], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FacetCounts:
    """The answer to a FacetQuestion. Values are keywords or numbers; counts of ranges have their order."""

    values: tuple[tuple[str | float, int], ...] = ()
    ranges: tuple[int, ...] = ()
    num_values: int = 0  # values that some product has
    num_products: int = 0  # that were counted over
    scope: Scope = Scope.ALL
    bounds: tuple[float, float] | None = None  # smallest and largest number


class FacetCounter:
    """Counts over the products of `masks`."""

    def __init__(self, masks: FilterMasks) -> None:
        self._masks = masks
        self._selected: tuple[int, Selection] | None = (
            None  # of the last question: the facets of one search share a mask
        )

    def of_all(self, question: FacetQuestion, mask: Bools | None) -> FacetCounts:
        """Counts over all living products that pass a mask (rows,) of the masks' making, None for all."""
        return answer(question, *self.counts(question.name, mask), Scope.ALL)

    def counts(self, name: str, mask: Bools | None) -> tuple[Column, Ints, int]:
        """Returns the column of a field, (values,) how many living products that pass the mask have each value, and how many pass."""
        column = self.column(name)
        if mask is None or mask is self._masks.mask(NO_FILTER):
            return column, column.counts(), self._masks.num_alive
        version = self._masks.version
        if self._selected is None or self._selected[0] != version or self._selected[1].mask is not mask:
            self._selected = version, Selection(mask)
        selected = self._selected[1]
        return column, column.counts(selected), selected.size

    def of_rows(self, question: FacetQuestion, rows: Ints, scope: Scope = Scope.BEST) -> FacetCounts:
        """Counts over products of a query."""
        column = self.column(question.name)
        return answer(question, column, column.counts_among(rows), len(rows), scope)

    def column(self, name: str) -> Column:
        column = self._masks.column(name)
        if column is None:
            raise KeyError(name)
        return column


def answer(question: FacetQuestion, column: Column, counts: Ints, num_products: int, scope: Scope) -> FacetCounts:
    """Returns the answer of a column's counts (values,) over so many products."""
    present = np.flatnonzero(counts)
    bounds = None
    if column.type not in KEYWORD_TYPES and column.type is not AttributeType.BOOL and len(present):
        bounds = column.bounds(present)
    ranges: tuple[int, ...] = ()
    values: tuple[tuple[str | float, int], ...] = ()
    if question.ranges:
        ranges = column.sums(counts, question.ranges)
    else:
        if question.text:
            present = np.intersect1d(present, column.containing(question.text), assume_unique=True)
        best = column.most_frequent(counts, present, question.max_values)
        values = tuple((column.value(number), int(counts[number])) for number in best)
    return FacetCounts(
        values=values,
        ranges=ranges,
        num_values=len(present),
        num_products=num_products,
        scope=scope,
        bounds=bounds,
    )
