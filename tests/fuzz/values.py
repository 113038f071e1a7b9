"""Values of fields: ordinary ones, in the words of the served catalogue, and odd ones of every type."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor

Value = str | bytes | int | float | bool

DAY_MS = 24 * 3600 * 1000
SHOPPERS = tuple(f"fuzz-{n}" for n in range(40))  # a run forgets them when it ends
ODD_TEXTS = (
    "", " ", "\t", "\n", "\x00", "a\x00b", "\x1b[31m", "\x7f", "\x85", "\u00a0", "\u200b", "\u2028", "\u202e", "\ufeff", "\ufffd", "\ufffe",
    "\U0010ffff", "\ue000", "%", "%s%n%d", "{}", "{0}", "${x}", "../../../etc/passwd", "' OR 1=1 --", "<script>", "\\", '"', "'", "null",
    "NaN", "-1", "1e999", "İ", "ß", "ﷺ", "ΐ", "e\u0301", "\u0301", "👩‍👩‍👧‍👦", "日本語の検索", "ソファ", "بحث", "किताब", "ﬁ", "a" * 35,
    "a" * 36, "a" * 128, "a" * 129, "a" * 256, "a" * 257, "a" * 512, "a" * 513, "😀" * 128, "😀" * 256, "😀" * 512, "e\u0301" * 512,
    "\u0301" * 600, "a " * 256, "%" * 512, "ΐ" * 512, "x" * 5_000, "😀" * 5_000,
)  # fmt: skip
HUGE_TEXTS = ("x" * 100_000, "😀" * 30_000, "a b " * 60_000)
ODD_INT32S = (0, -1, 1, 2, 63, 64, 65, 100, 101, 1000, 1001, 10_001, 2**31 - 1, -(2**31))
ODD_INT64S = (*ODD_INT32S, 2**53 + 1, 2**63 - 1, -(2**63))
ODD_FLOATS = (
    0.0,
    -0.0,
    1.0,
    1.0000001,
    -1.0,
    -1.0000001,
    2.0,
    math.nan,
    math.inf,
    -math.inf,
    3.4e38,
    1e-45,
    1e6,
    1_000_001.0,
)
ODD_ENUMS = (-1, 0, 5, 99, 2**31 - 1, -(2**31))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the service said of itself: the words that make a request an ordinary one. `day_ms` is the begin of today."""

    queries: Sequence[str]
    product_ids: Sequence[str]
    brands: Sequence[str]
    categories: Sequence[str]
    locales: Sequence[str]
    product_fields: Sequence[str]
    boosts: Sequence[str]
    dimensions: Sequence[int]
    page_tokens: Sequence[str]
    day_ms: int
    max_items: Mapping[str, int]  # by the name of a repeated field


class Values:
    """Draws the values of single fields. Equal states of `rng` draw equal values."""

    def __init__(self, catalogue: Catalogue, rng: random.Random) -> None:
        self._catalogue = catalogue
        self._rng = rng
        choice, integer = rng.choice, rng.randint
        queries = lambda: choice(catalogue.queries)  # noqa: E731
        self._ordinary: dict[str, Callable[[], Value]] = {
            "query": queries,
            "queries": queries,
            "title": queries,
            "locale": lambda: choice(("", *catalogue.locales)),
            "shopper_id": lambda: choice(SHOPPERS),
            "session_id": lambda: f"session-{integer(0, 9)}",
            "id": lambda: f"{choice(('', 'e'))}{integer(1, 300)}",
            "product_id": lambda: choice(catalogue.product_ids),
            "product_ids": lambda: choice((*catalogue.product_ids, f"unknown-{integer(0, 99)}")),
            "product_fields": lambda: choice(catalogue.product_fields),
            "brand": lambda: choice(catalogue.brands),
            "brands": lambda: choice((*catalogue.brands, "Nobody")),
            "category": lambda: choice(catalogue.categories),
            "categories": lambda: choice((*catalogue.categories, "Nothing > At All")),
            "page_token": lambda: choice(("", *catalogue.page_tokens)),
            "time_ms": lambda: catalogue.day_ms - integer(0, 300 * DAY_MS),
            "page_size": lambda: integer(1, 100),
            "max_types": lambda: integer(1, 20),
            "rank_depth": lambda: integer(0, 300),
            "max_each_brand": lambda: integer(1, 5),
            "among": lambda: integer(1, 20),
            "dimensions": lambda: choice(catalogue.dimensions),
            "price_minor": lambda: integer(0, 100_000),
            "min_price_minor": lambda: integer(0, 5_000),
            "max_price_minor": lambda: integer(5_000, 1_000_000),
            "min_similarity": lambda: rng.uniform(-1, 0.5),
            "service": lambda: choice(("", "aisle.v1.SearchService", "aisle.v1.InfoService")),
        }

    def ordinary(self, field: FieldDescriptor) -> Value:
        """Returns a value that the field may have in most requests."""
        draw = self._ordinary.get(field.name)
        if draw is not None:
            return draw()
        rng = self._rng
        by_type: dict[int, Callable[[], Value]] = {
            FieldDescriptor.CPPTYPE_ENUM: lambda: rng.choice(field.enum_type.values).number,
            FieldDescriptor.CPPTYPE_BOOL: lambda: rng.random() < 0.5,
            FieldDescriptor.CPPTYPE_FLOAT: rng.random,
            FieldDescriptor.CPPTYPE_DOUBLE: rng.random,
            FieldDescriptor.CPPTYPE_STRING: lambda: self._text(field, rng.choice(self._catalogue.queries)),
        }
        return by_type.get(field.cpp_type, lambda: rng.randint(1, 10))()

    def odd(self, field: FieldDescriptor) -> Value:
        """Returns a value at or beyond the edge of what the type of the field can hold."""
        rng = self._rng
        by_type: dict[int, Callable[[], Value]] = {
            FieldDescriptor.CPPTYPE_ENUM: lambda: rng.choice(ODD_ENUMS),
            FieldDescriptor.CPPTYPE_BOOL: lambda: rng.random() < 0.5,
            FieldDescriptor.CPPTYPE_FLOAT: lambda: rng.choice(ODD_FLOATS),
            FieldDescriptor.CPPTYPE_DOUBLE: lambda: rng.choice(ODD_FLOATS),
            FieldDescriptor.CPPTYPE_STRING: lambda: self._text(field, self.odd_text()),
            FieldDescriptor.CPPTYPE_INT64: lambda: rng.choice(ODD_INT64S),
            FieldDescriptor.CPPTYPE_UINT32: lambda: abs(rng.choice(ODD_INT32S)),
            FieldDescriptor.CPPTYPE_UINT64: lambda: abs(rng.choice(ODD_INT64S)),
        }
        return by_type.get(field.cpp_type, lambda: rng.choice(ODD_INT32S))()

    @staticmethod
    def _text(field: FieldDescriptor, text: str) -> str | bytes:
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text

    def odd_text(self) -> str:
        kind = self._rng.random()
        if kind < 0.02:
            return self._rng.choice(HUGE_TEXTS)
        if kind < 0.6:
            return self._rng.choice(ODD_TEXTS)
        return "".join(self._character() for _ in range(self._rng.choice((1, 3, 20, 130, 300))))

    def _character(self) -> str:
        rng = self._rng
        low, high = rng.choice(
            ((0, 0x1F), (0x20, 0x7E), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
        )
        return chr(rng.randint(low, high))

    def count(self, field: FieldDescriptor, *, odd: bool) -> int:
        """Returns how many values a repeated field gets."""
        rng, most = self._rng, self._catalogue.max_items.get(field.name, 8)
        if not odd:
            return rng.randint(1, min(most, 6))
        if rng.random() < 0.9:
            return rng.choice((0, 2, 7, 33, 65))
        return rng.choice((most, most + 1))
