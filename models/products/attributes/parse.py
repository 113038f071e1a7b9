"""Typed values of the texts of an attribute. What the texts of a whole column show decides how each is read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from models.products.attributes.spec import AttributeType
from models.products.decimals import DecimalMark, infer_mark, is_ambiguous, read_decimal, shown_mark

SHARE_TYPED = 0.95  # of a column's cells must read as a type for it to be inferred
SHARE_OF_LISTS = 0.01  # of a column's cells with "|" from which it holds several values
MAX_VALUE_CHARS = 256  # longer values are prose: they are returned, not filtered by
SEPARATOR = "|"

_BOOLS = {
    **dict.fromkeys(("true", "yes", "y", "t", "ja", "oui", "sí", "si", "sì", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "n", "f", "nein", "non", "nee", "0", "0.0"), False),
}
_DIGITS = {"0", "1", "0.0", "1.0"}  # numbers unless the type is stated
_NUMBER = re.compile(
    r"([+\-\u2212]?)\s*([0-9.,'\u2019](?:[0-9.,'\u2019 \u00a0\u2009\u202f]*[0-9])?[.,]?)\s*([^0-9]*[^0-9\s]*[²³]?)"
)
_CODE = re.compile(r"0[0-9].*|[0-9]{10,}")  # an article number is no quantity
_EXPONENT = re.compile(r"[+\-]?[0-9]+(?:\.[0-9]*)?[eE][+\-]?[0-9]{1,3}")
_DAY = re.compile(r"([0-9]{1,2})([./\-])([0-9]{1,2})\2([0-9]{4})")
_UNIT_CHARS = 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INCHES = {"″", '"', "”", "''"}


@dataclass(frozen=True, slots=True)
class TypedValues:
    """The values of a column by its distinct texts. Texts without a value could not be read as the type."""

    type: AttributeType
    unit: str
    by_text: Mapping[Any, tuple[Any, ...]]  # str, float, bool; dates in milliseconds since 1970


def typed_values(
    counts: Mapping[str, int],
    *,
    stated: AttributeType | None = None,
    unit: str = "",
    num_long: int = 0,
    holds_lists: bool = False,
) -> TypedValues:
    """Reads a column from its distinct texts and the number of cells of each. `stated` None infers the type, `unit` "" the unit.

    `num_long` further cells hold longer texts than MAX_VALUE_CHARS; `holds_lists` says that cells held lists, whose items are the texts.
    """
    kind = stated or _inferred(counts, num_long, holds_lists)
    if kind is AttributeType.TEXT:
        return TypedValues(kind, "", {})
    if kind is AttributeType.BOOL:
        return TypedValues(kind, "", {text: (_BOOLS[text.casefold()],) for text in counts if text.casefold() in _BOOLS})
    if kind is AttributeType.DATE:
        return TypedValues(kind, "", {text: (value,) for text, value in read_dates(counts).items()})
    if kind is AttributeType.NUMBER:
        base, numbers = read_numbers(counts, unit)
        return TypedValues(kind, base, {text: (value,) for text, value in numbers.items()})
    if kind is AttributeType.KEYWORDS:
        split = {
            text: tuple(dict.fromkeys(part for part in map(str.strip, text.split(SEPARATOR)) if part))
            for text in counts
        }
        return TypedValues(kind, "", {text: parts for text, parts in split.items() if parts})
    return TypedValues(kind, "", {text: (text,) for text in counts})


@lru_cache(maxsize=65_536)
def read_value(text: str, kind: AttributeType, unit: str) -> tuple[Any, ...]:
    """Returns the values of one text of a column whose type and unit are known; none if it cannot be read as the type by itself."""
    if kind is AttributeType.KEYWORD:
        return (text,)
    return typed_values({text: 1}, stated=kind, unit=unit).by_text.get(text, ())


def write_value(value: str | float, kind: AttributeType) -> str:
    """Returns a text that is read as a value of the type whatever else is in the column. Numbers are in the column's unit."""
    if isinstance(value, str):
        return value
    if kind is AttributeType.DATE:
        return (_EPOCH + timedelta(milliseconds=value)).isoformat()
    if kind is AttributeType.BOOL:
        return "true" if value else "false"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    amount = "".join(map(str, digits))
    return f"{'-' * sign}{amount}e{exponent}"  # no decimal mark, which would show how others of the column are read


def _inferred(counts: Mapping[str, int], num_long: int, holds_lists: bool) -> AttributeType:
    cells = sum(counts.values()) + num_long

    def share(texts: Sequence[str] | set[str]) -> float:
        return sum(counts[text] for text in texts) / cells

    if num_long > cells / 2:
        return AttributeType.TEXT
    words = {text for text in counts if text.casefold() in _BOOLS}
    if words and share(words) >= SHARE_TYPED and any(text.casefold() not in _DIGITS for text in words):
        return AttributeType.BOOL
    plain = {text: count for text, count in counts.items() if not _CODE.fullmatch(text)}
    if plain and share(set(read_numbers(plain)[1])) >= SHARE_TYPED:
        return AttributeType.NUMBER
    if share(set(read_dates(counts))) >= SHARE_TYPED:
        return AttributeType.DATE
    lists = [text for text in counts if SEPARATOR in text.strip(SEPARATOR)]
    if holds_lists or share(lists) >= SHARE_OF_LISTS:
        return AttributeType.KEYWORDS
    return AttributeType.KEYWORD


def read_numbers(counts: Mapping[str, int], unit: str = "") -> tuple[str, dict[str, float]]:
    """Returns the base unit of a column and each text's number in it; texts that are no number, or of a unit that does not convert, are
    absent. The base unit is `unit`, or the most frequent of the column, to which numbers without a unit belong too."""
    parts = {text: found for text in counts if (found := _split_number(text))}
    mark = infer_mark(number for _, number, _ in parts.values())
    units: Counter[str] = Counter()
    for text, (_, _, own) in parts.items():
        units[own] += counts[text]
    named = [name for name, _ in units.most_common() if name]
    base = unit or (named[0] if named else "")
    numbers: dict[str, float] = {}
    for text, (sign, number, own) in parts.items():
        amount = _amount(number, mark)
        value = convert(amount, own, base) if amount is not None and own and own != base else amount
        if value is not None and math.isfinite(value):
            numbers[text] = -value if sign else value
    return base, numbers


def _split_number(text: str) -> tuple[bool, str, str] | None:
    """Returns whether a number is negative, the number as it is written, and its unit."""
    if _EXPONENT.fullmatch(text):
        return text.startswith("-"), text.lstrip("+-"), ""
    found = _NUMBER.fullmatch(text)
    if not found or len(found[3]) > _UNIT_CHARS:
        return None
    unit = found[3].strip()
    return found[1] in ("-", "\u2212"), found[2], "in" if unit in _INCHES else unit


def _amount(number: str, mark: DecimalMark | None) -> float | None:
    if _EXPONENT.fullmatch(number):
        return float(number)
    if mark is None:
        if is_ambiguous(number):
            return None
        mark = shown_mark(number) or DecimalMark.POINT
    amount = read_decimal(number, mark)
    return None if amount is None else float(amount)


def convert(amount: float, unit: str, base: str) -> float | None:
    """Returns an amount in another unit, None for units that are unknown or measure something else."""
    own, target = _pint_unit(unit), _pint_unit(base)
    if own is None or target is None:
        return amount if unit.casefold() == base.casefold() else None
    try:
        # Twelve digits: 68 °F are 20 °C, not 20.000000000000057.
        return float(f"{_registry().Quantity(amount, own).to(target).magnitude:.12g}")
    except Exception:  # of pint: other dimensions, logarithms of what is not positive
        return None


@lru_cache(maxsize=4096)
def _pint_unit(text: str) -> Any:
    """Returns the unit that a text names, as it stands or in lower case; None if there is none."""
    for form in dict.fromkeys((text, text.lower(), text.rstrip(".").lower())):
        with suppress(Exception):  # of pint: anything that is not a unit
            return _registry().parse_units(form)
    return None


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


def read_dates(texts: Mapping[str, int]) -> dict[str, float]:
    """Returns milliseconds since 1970-01-01 UTC of each text that is a date; others are absent. Reads ISO 8601, and dates that end in the
    year: whether day or month comes first is taken from the column, and dates that may be either are absent if it does not show."""
    days = {text: found for text in texts if (found := _DAY.fullmatch(text))}
    is_day_first = {
        separator: _first_is_day([found for found in days.values() if found[2] == separator], separator)
        for separator in "./-"
    }
    dates: dict[str, float] = {}
    for text in texts:
        value = _ending_in_year(days[text], is_day_first[days[text][2]]) if text in days else _iso(text)
        if value is not None:
            dates[text] = value.timestamp() * 1000
    return dates


def _first_is_day(found: Sequence[re.Match[str]], separator: str) -> bool | None:
    if separator == ".":
        return True
    first, second = any(int(one[1]) > 12 for one in found), any(int(one[3]) > 12 for one in found)
    return None if first == second else first


def _ending_in_year(found: re.Match[str], is_day_first: bool | None) -> datetime | None:
    first, second = int(found[1]), int(found[3])
    if is_day_first is None:
        if first <= 12 and second <= 12 and first != second:
            return None
        is_day_first = first > 12
    day, month = (first, second) if is_day_first else (second, first)
    try:
        return datetime(int(found[4]), month, day, tzinfo=UTC)
    except ValueError:
        return None


def _iso(text: str) -> datetime | None:
    if not re.match(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}", text) or text.isdigit():
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def day_ms(text: str) -> float | None:
    """Returns milliseconds since 1970 of a date "2024-05-31" at its start in UTC, None for any other text."""
    try:
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC).timestamp() * 1000
    except ValueError:
        return None
