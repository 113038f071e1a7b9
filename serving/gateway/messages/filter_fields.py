"""The ProductFilter message."""

from __future__ import annotations

from aisle.v1 import product_pb2
from models.products.text import clean_text
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.errors import Violation
from serving.gateway.messages.checks import refuse_unknown

MAX_VALUES = 64
MAX_CHARS = 256


def read_filter(message: product_pb2.ProductFilter, violations: list[Violation]) -> ProductFilter:
    """Returns NO_FILTER for an empty message."""
    if not message.ByteSize():
        return NO_FILTER
    refuse_unknown(message, "filter.", violations)
    for name in ("brands", "categories"):
        values = getattr(message, name)
        if len(values) > MAX_VALUES:
            violations.append(Violation(f"filter.{name}", f"has {len(values)} values; at most {MAX_VALUES}"))
        for n, value in enumerate(values[:MAX_VALUES]):
            if not value or len(value) > MAX_CHARS:
                violations.append(Violation(f"filter.{name}[{n}]", f"must have 1 to {MAX_CHARS} characters"))
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
    )


def warn_of_unknown(read: ProductFilter, masks: FilterMasks) -> tuple[str, ...]:
    """Returns a warning for each value that no product of the catalogue has."""
    unknown = [
        f"filter.{plural}: the catalogue has no {field} {value!r}"
        for plural, field, values in (("brands", "brand", read.brands), ("categories", "category", read.categories))
        for value in values
        if not masks.holds(field, value)
    ]
    return tuple(unknown)


def _as_catalogued(value: str) -> str:
    """Returns a brand or category as the catalogue writes it: in NFC, without surrounding blanks."""
    return value if value.isascii() and value == value.strip() else clean_text(value, unescape=False)
