"""Decimal numbers as people write them: "1,299.00", "1.299,00", "1 299,00", "1'299.00"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

_BLANKS = " \u00a0\u2009\u202f"
_DIGIT_GROUPS = r"[0-9]{{1,3}}(?P<group>[{group}{blanks}'\u2019])[0-9]{{3}}(?:(?P=group)[0-9]{{3}})*"
_PLAIN = re.compile("[0-9]+")
_SHAPE = re.compile(rf"[0-9]*(?:[.,{_BLANKS}'\u2019][0-9]+)*[.,]?[0-9]*")


class DecimalMark(StrEnum):
    """The character before the fraction; the other of the two may separate thousands."""

    POINT = "point"
    COMMA = "comma"


_AMOUNT = {
    mark: re.compile(
        rf"(?:{_DIGIT_GROUPS.format(group=group, blanks=_BLANKS)}|(?P<whole>[0-9]+))(?:{point}[0-9]*)?|{point}[0-9]+"
    )
    for mark, point, group in ((DecimalMark.POINT, r"\.", ","), (DecimalMark.COMMA, ",", "."))
}


def read_decimal(text: str, mark: DecimalMark) -> Decimal | None:
    """Returns an unsigned number that is written with this decimal mark; thousands may be separated. None for any other text."""
    if not _AMOUNT[mark].fullmatch(text):
        return None
    point = "." if mark is DecimalMark.POINT else ","
    return Decimal("".join(c for c in text if c.isdigit() or c == point).replace(point, "."))


def shown_mark(text: str) -> DecimalMark | None:
    """Returns the decimal mark that an unsigned number shows by itself; None where it shows none ("12") or may have either ("1.299")."""
    if not _SHAPE.fullmatch(text):
        return None
    points, commas = text.count("."), text.count(",")
    if points and commas:
        return DecimalMark.POINT if text.rindex(".") > text.rindex(",") else DecimalMark.COMMA
    if points + commas == 0:
        return None
    own, other = (DecimalMark.POINT, DecimalMark.COMMA) if points else (DecimalMark.COMMA, DecimalMark.POINT)
    if points + commas > 1:  # only thousands are separated more than once
        return other
    whole, _, fraction = text.partition("." if points else ",")
    is_either = len(fraction) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0") and whole.isdigit()
    return None if is_either else own


def is_ambiguous(text: str) -> bool:
    """Says whether a text reads as one number with a point for decimals and as another with a comma."""
    return not _PLAIN.fullmatch(text) and shown_mark(text) is None and bool(re.search("[.,]", text))


def infer_mark(texts: Iterable[str]) -> DecimalMark | None:
    """Returns the decimal mark of a column; None if its numbers show none, or both."""
    marks = {mark for text in texts if (mark := shown_mark(text))}
    return marks.pop() if len(marks) == 1 else None
