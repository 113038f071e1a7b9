"""The ProductFilter message."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from aisle.v1 import product_pb2
from models.products.attributes.columns import AttributeColumn
from models.products.attributes.parse import day_ms
from models.products.attributes.spec import AttributeType
from models.products.text import clean_text
from serving.compute.filter_masks import NO_FILTER, AttributeClause, FilterMasks, ProductFilter
from serving.errors import Violation
from serving.gateway.messages.checks import refuse_unknown

MAX_VALUES = 64
MAX_CHARS = 256
MAX_ATTRIBUTES = 32
MAX_KEYWORDS = 1_000
DAY_MS = 86_400_000
# The fields of AttributeFilter that go with each type.
_BOUNDS = {
    AttributeType.KEYWORD: ("values",),
    AttributeType.KEYWORDS: ("values",),
    AttributeType.NUMBER: ("min", "max"),
    AttributeType.BOOL: ("is",),
    AttributeType.DATE: ("from_date", "to_date"),
}


def read_filter(message: product_pb2.ProductFilter, masks: FilterMasks, violations: list[Violation]) -> ProductFilter:
    """Returns NO_FILTER for an empty message."""
    if not message.ByteSize():
        return NO_FILTER
    refuse_unknown(message, "filter.", violations)
    for name in ("brands", "categories"):
        _check_values(f"filter.{name}", getattr(message, name), MAX_VALUES, violations)
    low = message.min_price_minor if message.HasField("min_price_minor") else None
    high = message.max_price_minor if message.HasField("max_price_minor") else None
    for name, price in (("min_price_minor", low), ("max_price_minor", high)):
        if price is not None and price < 0:
            violations.append(Violation(f"filter.{name}", f"is {price}; it must be 0 or more"))
    if low is not None and high is not None and low > high:
        violations.append(Violation("filter.min_price_minor", f"is {low}, above max_price_minor, which is {high}"))
    brands, categories = (tuple(map(_as_catalogued, values)) for values in (message.brands, message.categories))
    return ProductFilter(
        brands=brands,
        categories=categories,
        min_price_minor=low,
        max_price_minor=high,
        in_stock_only=message.in_stock_only,
        attributes=_read_attributes(message.attributes, masks, violations) if message.attributes else (),
    )


def _read_attributes(
    messages: Sequence[product_pb2.AttributeFilter], masks: FilterMasks, violations: list[Violation]
) -> tuple[AttributeClause, ...]:
    if len(messages) > MAX_ATTRIBUTES:
        violations.append(Violation("filter.attributes", f"has {len(messages)} attributes; at most {MAX_ATTRIBUTES}"))
        return ()
    clauses: dict[str, AttributeClause] = {}
    for n, message in enumerate(messages):
        path = f"filter.attributes[{n}]"
        refuse_unknown(message, f"{path}.", violations)
        column = masks.attributes.get(message.name)
        if column is None:
            violations.append(Violation(f"{path}.name", unknown_name(message.name, tuple(masks.attributes))))
        elif message.name in clauses:
            violations.append(Violation(f"{path}.name", f"is {message.name[:80]!r}, as an earlier one"))
        else:
            clauses[message.name] = _read_clause(message, path, column, violations)
    return tuple(clauses.values())


def _read_clause(
    message: product_pb2.AttributeFilter, path: str, column: AttributeColumn, violations: list[Violation]
) -> AttributeClause:
    name = message.name
    wanted = _BOUNDS.get(column.type, ())
    given = [field.name for field, _ in message.ListFields() if field.name != "name"]
    wrong = [field for field in given if field not in wanted]
    if not wanted:
        violations.append(Violation(f"{path}.name", f"is {name[:80]!r}, which is prose: no filter goes with it"))
    elif wrong or not given:
        field = f"{path}.{wrong[0]}" if wrong else path
        violations.append(
            Violation(field, f"{name[:80]!r} is of type {column.type}: it goes with {' and '.join(wanted)}")
        )
    elif "values" in wanted:
        _check_values(f"{path}.values", message.values, MAX_KEYWORDS, violations)
        return AttributeClause(name, keywords=tuple(map(_as_catalogued, message.values)))
    elif "is" in wanted:
        value = float(getattr(message, "is"))
        return AttributeClause(name, low=value, high=value)
    else:
        low, high = _read_bounds(message, path, column.type, violations)
        if low is not None and high is not None and low > high:
            violations.append(Violation(f"{path}.{wanted[0]}", f"is above {wanted[1]}"))
        return AttributeClause(name, low=low, high=high)
    return AttributeClause(name)


def _read_bounds(
    message: product_pb2.AttributeFilter, path: str, kind: AttributeType, violations: list[Violation]
) -> tuple[float | None, float | None]:
    if kind is AttributeType.NUMBER:
        low = message.min if message.HasField("min") else None
        high = message.max if message.HasField("max") else None
        for name, bound in (("min", low), ("max", high)):
            if bound is not None and math.isnan(bound):
                violations.append(Violation(f"{path}.{name}", "must be a number"))
        return low, high
    days: list[float | None] = []
    for name in ("from_date", "to_date"):
        text = getattr(message, name)
        days.append(day_ms(text) if text else None)
        if text and days[-1] is None:
            violations.append(Violation(f"{path}.{name}", f"is {text[:40]!r}; it must be a date such as 2024-05-31"))
    first, last = days
    return first, None if last is None else last + DAY_MS - 1


def _check_values(path: str, values: Sequence[str], most: int, violations: list[Violation]) -> None:
    if len(values) > most:
        violations.append(Violation(path, f"has {len(values)} values; at most {most}"))
    for n, value in enumerate(values[:most]):
        if not value or len(value) > MAX_CHARS:
            violations.append(Violation(f"{path}[{n}]", f"must have 1 to {MAX_CHARS} characters"))


def unknown_name(name: str, known: Sequence[str]) -> str:
    """Returns what is wrong with a name that is not among the known ones, with the nearest of them."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower()[:MAX_CHARS], by_lower, n=1)
    hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"is {name[:80]!r}, which the catalogue does not have{hint}"


def warn_of_unknown(read: ProductFilter, masks: FilterMasks) -> tuple[str, ...]:
    """Returns a warning for each value that no product of the catalogue has."""
    unknown = [
        f"filter.{plural}: the catalogue has no {field} {value!r}"
        for plural, field, values in (("brands", "brand", read.brands), ("categories", "category", read.categories))
        for value in values
        if not masks.holds(field, value)
    ]
    for clause in read.attributes:
        unknown += [
            f"filter.attributes: no product has {value!r} as {clause.name!r}"
            for value in clause.keywords[:MAX_VALUES]
            if not masks.holds_keyword(clause.name, value)
        ]
    return tuple(unknown)


def _as_catalogued(value: str) -> str:
    """Returns a brand, category or keyword as the catalogue writes it: in NFC, without surrounding blanks."""
    return value if value.isascii() and value == value.strip() else clean_text(value, unescape=False)
