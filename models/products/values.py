"""Parses the prices and the stock of catalogue cells."""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import ROUND_HALF_UP, Decimal

from models.products.product import MAX_PRICE_MINOR
from models.products.report import Repaired

_AMOUNT = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+")
_QUANTITY = re.compile(r"[0-9]{1,18}(?:\.0*)?")
_IN_STOCK = {
    **dict.fromkeys(("true", "t", "yes", "y", "in stock", "instock", "available"), True),
    **dict.fromkeys(("false", "f", "no", "n", "out of stock", "outofstock", "sold out", "unavailable"), False),
}


def parse_price(value: object, digits: int) -> int | Repaired | None:
    """Converts a price in major units, a number or text, to minor units of which a major unit has 10**`digits`.

    Returns None for an empty cell and NaN, and what is wrong for a cell that is no valid price.
    """
    amount = _amount(value)
    if amount is None or isinstance(amount, Repaired):
        return amount
    if amount.is_nan():
        return None
    if amount < 0:
        return Repaired.NEGATIVE_PRICE
    if amount > MAX_PRICE_MINOR // 10**digits:
        return Repaired.PRICE_TOO_LARGE
    return int((amount * 10**digits).to_integral_value(ROUND_HALF_UP))


def _amount(value: object) -> Decimal | Repaired | None:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, float) and not math.isinf(value):
        return Decimal(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        return _parse_amount(value.strip()) if value.strip() else None
    return Repaired.PRICE_NOT_A_NUMBER


def _parse_amount(text: str) -> Decimal | Repaired:
    """Parses text such as "$1,299.00", "-5" or "-$5"."""
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-")
    if text and unicodedata.category(text[0]) == "Sc":
        text = text[1:].lstrip()
    if text.startswith("-"):
        sign, text = -1, text[1:]
    if not _AMOUNT.fullmatch(text):
        return Repaired.PRICE_NOT_A_NUMBER
    return sign * Decimal(text.replace(",", ""))


def parse_in_stock(value: object) -> bool | None:
    """Returns whether a product can be bought, from a boolean, a quantity or words. An empty cell is True, an unclear one None."""
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, int | float | Decimal):
        return not value <= 0  # NaN, which an empty cell of a number column reads as, is in stock
    if not isinstance(value, str):
        return None
    words = value.strip().casefold().replace("_", " ").replace("-", " ")
    if not words:
        return True
    if _QUANTITY.fullmatch(words):
        return float(words) > 0
    return _IN_STOCK.get(words)
