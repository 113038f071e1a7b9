"""Facets, sorting and groups: what a search asks for beside its filter, and the counts in answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from aisle.v1 import search_pb2
from models.products.attributes.columns import AttributeColumn
from models.products.attributes.spec import AttributeType
from serving.compute.facets import KEYWORD_TYPES, FacetCounts, FacetQuestion, Scope
from serving.compute.filter_masks import FIELDS, FilterMasks
from serving.compute.value_order import SortBy
from serving.errors import Violation
from serving.gateway.messages.checks import refuse_unknown
from serving.gateway.messages.filter_fields import MAX_CHARS, unknown_name

SCOPES = {
    Scope.ALL: search_pb2.FACET_SCOPE_ALL,
    Scope.MATCHING: search_pb2.FACET_SCOPE_MATCHING,
    Scope.BEST: search_pb2.FACET_SCOPE_BEST,
}
MAX_FACETS = 32
MAX_FACET_VALUES = 1_000
DEFAULT_FACET_VALUES = 20
MAX_RANGES = 100


def read_facets(
    messages: Sequence[search_pb2.FacetRequest], masks: FilterMasks, violations: list[Violation]
) -> tuple[FacetQuestion, ...]:
    if len(messages) > MAX_FACETS:
        violations.append(Violation("facets", f"has {len(messages)} facets; at most {MAX_FACETS}"))
        return ()
    questions: dict[str, FacetQuestion] = {}
    for n, message in enumerate(messages):
        path = f"facets[{n}]"
        refuse_unknown(message, f"{path}.", violations)
        types = _types(masks, message.name)
        if message.name in questions:
            violations.append(Violation(f"{path}.name", f"is {message.name[:80]!r}, as an earlier one"))
        elif types is None:
            violations.append(Violation(f"{path}.name", unknown_name(message.name, (*FIELDS, *masks.attributes))))
        elif types is AttributeType.TEXT:
            violations.append(Violation(f"{path}.name", f"is {message.name[:80]!r}, which is prose: it has no facet"))
        else:
            questions[message.name] = _read_facet(message, path, types, violations)
    return tuple(questions.values())


def _read_facet(
    message: search_pb2.FacetRequest, path: str, kind: AttributeType, violations: list[Violation]
) -> FacetQuestion:
    max_values = message.max_values if message.HasField("max_values") else DEFAULT_FACET_VALUES
    if not 1 <= max_values <= MAX_FACET_VALUES:
        violations.append(Violation(f"{path}.max_values", f"is {max_values}; it must be 1 to {MAX_FACET_VALUES}"))
    if len(message.ranges) > MAX_RANGES:
        violations.append(Violation(f"{path}.ranges", f"has {len(message.ranges)} ranges; at most {MAX_RANGES}"))
    if message.ranges and kind not in (AttributeType.NUMBER, AttributeType.DATE):
        violations.append(Violation(f"{path}.ranges", f"must be empty: {message.name[:80]!r} is of type {kind}"))
    if message.value_text and kind not in KEYWORD_TYPES:
        violations.append(Violation(f"{path}.value_text", f"must be empty: {message.name[:80]!r} is of type {kind}"))
    if len(message.value_text) > MAX_CHARS:
        violations.append(Violation(f"{path}.value_text", f"must have at most {MAX_CHARS} characters"))
    ranges = []
    for n, one in enumerate(message.ranges[:MAX_RANGES]):
        low, high = (one.min if one.HasField("min") else None), (one.max if one.HasField("max") else None)
        check_bounds(f"{path}.ranges[{n}]", low, high, violations)
        ranges.append((low, high))
    return FacetQuestion(message.name, max_values, tuple(ranges), message.value_text)


def check_bounds(path: str, low: float | None, high: float | None, violations: list[Violation]) -> None:
    """Refuses bounds that are no numbers, of which none is set, or the lower is above the upper."""
    if low is None and high is None:
        violations.append(Violation(path, "must have min, max or both"))
    elif any(bound is not None and math.isnan(bound) for bound in (low, high)):
        violations.append(Violation(path, "must be numbers"))
    elif low is not None and high is not None and low > high:
        violations.append(Violation(f"{path}.min", f"is {low:g}, above max, which is {high:g}"))


def read_sort(
    message: search_pb2.Sort, masks: FilterMasks, features: Sequence[str], violations: list[Violation]
) -> SortBy:
    """Returns the order. `features` are the bundle's static features."""
    refuse_unknown(message, "sort.", violations)
    name = message.by
    if name != "price" and name not in features:
        column = masks.attributes.get(name)
        if column is None:
            violations.append(Violation("sort.by", unknown_name(name, ("price", *features, *masks.attributes))))
        elif column.type in (*KEYWORD_TYPES, AttributeType.TEXT):
            violations.append(
                Violation(
                    "sort.by", f"is {name[:80]!r}, which is of type {column.type}; it must be number, date or bool"
                )
            )
    return SortBy(name, message.descending)


def check_group(name: str, masks: FilterMasks, violations: list[Violation]) -> None:
    column = masks.attributes.get(name)
    if column is None:
        violations.append(Violation("group_by", unknown_name(name, tuple(masks.attributes))))
    elif column.type not in KEYWORD_TYPES:
        violations.append(
            Violation("group_by", f"is {name[:80]!r}, which is of type {column.type}; it must be keyword or keywords")
        )


def write_facets(
    response: search_pb2.SearchResponse,
    questions: Sequence[FacetQuestion],
    counts: Sequence[FacetCounts],
    masks: FilterMasks,
) -> None:
    for question, counted in zip(questions, counts, strict=False):  # no counts where the retrieval failed to make them
        column = masks.attributes.get(question.name) if question.name not in FIELDS else None
        facet = response.facets.add(
            name=question.name,
            unit=column.unit if column else "",
            num_values=counted.num_values,
            num_products=counted.num_products,
            counted_over=SCOPES[counted.scope],
        )
        for value, count in counted.values:
            facet.values.add(value=_text(value, column), count=count)
        for (low, high), count in zip(question.ranges, counted.ranges, strict=False):
            facet.values.add(range=search_pb2.NumberRange(min=low, max=high), count=count)
        if counted.bounds:
            facet.min, facet.max = counted.bounds


def _types(masks: FilterMasks, name: str) -> AttributeType | None:
    if name in FIELDS:
        return {"brand": AttributeType.KEYWORD, "category": AttributeType.KEYWORDS, "price": AttributeType.NUMBER}[name]
    column = masks.attributes.get(name)
    return column.type if column else None


def _text(value: str | float, column: AttributeColumn | None) -> str:
    if isinstance(value, str):
        return value
    if column and column.type is AttributeType.BOOL:
        return "true" if value else "false"
    if column and column.type is AttributeType.DATE:
        moment = datetime.fromtimestamp(value / 1000, UTC)
        return (
            moment.date().isoformat()
            if moment.time() == datetime.min.time()
            else moment.isoformat(timespec="milliseconds")
        )
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
