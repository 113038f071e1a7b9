"""Parses the prices and the stock of catalogue cells."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

from models.products.decimals import DecimalMark, infer_mark, is_ambiguous, read_decimal, shown_mark
from models.products.product import MAX_PRICE_MINOR
from models.products.report import Repaired

_QUANTITY = re.compile(r"[0-9]{1,18}(?:\.0*)?")
# ISO 4217 codes that a sign stands for. "$" stands for too many.
_SIGNS = {
    "€": ("EUR",), "£": ("GBP", "EGP", "GIP", "FKP", "SHP"), "¥": ("JPY", "CNY"), "₹": ("INR",), "₩": ("KRW",), "₺": ("TRY",),
    "₽": ("RUB",), "₫": ("VND",), "₪": ("ILS",), "฿": ("THB",), "₴": ("UAH",), "₱": ("PHP",), "zł": ("PLN",), "kč": ("CZK",),
    "kr": ("SEK", "NOK", "DKK", "ISK"), "kr.": ("DKK",), "ft": ("HUF",), "lei": ("RON",), "fr.": ("CHF",), "r$": ("BRL",),
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+\.?|[^\W\d_]*\$")
_NO_CENTS = re.compile(r"[.,]\s*[-\u2013\u2014]+$")  # "12,-"
# Words of feeds, without blanks and punctuation. What can only be ordered for later is not in stock.
_STOCKED = {
    **dict.fromkeys(("true", "t", "yes", "y", "instock", "available", "limitedavailability", "limited", "lowstock"), True),
    **dict.fromkeys(("onlineonly", "instoreonly"), True),
    **dict.fromkeys(("false", "f", "no", "n", "outofstock", "soldout", "unavailable", "notavailable", "discontinued"), False),
    **dict.fromkeys(("backorder", "backordered", "onbackorder", "availableforbackorder", "preorder", "availablefororder"), False),
    **dict.fromkeys(("presale", "madetoorder", "reserved", "comingsoon", "endoflife", "temporarilyoutofstock"), False),
}  # fmt: skip
_SCHEMA_ORG = re.compile(r"(?:https?://(?:www\.)?schema\.org/|schema:)", re.IGNORECASE)


def parse_price(
    value: object, digits: int, *, mark: DecimalMark | None = DecimalMark.POINT, currency: str = ""
) -> int | Repaired | None:
    """Converts a price in major units, a number or text, to minor units of which a major unit has 10**`digits`.

    `mark` is the decimal mark of texts; None reads only texts that show it by themselves. `currency` is the code of the catalogue: a text
    with another is refused; "" accepts any. Returns None for an empty cell and NaN, and what is wrong for a cell that is no valid price.
    """
    amount = _amount(value, digits, mark, currency)
    if amount is None or isinstance(amount, Repaired):
        return amount
    if amount.is_nan():
        return None
    if amount < 0:
        return Repaired.NEGATIVE_PRICE
    if amount > MAX_PRICE_MINOR // 10**digits:
        return Repaired.PRICE_TOO_LARGE
    return int((amount * 10**digits).to_integral_value(ROUND_HALF_UP))


def infer_price_mark(values: Iterable[object]) -> DecimalMark | None:
    """Returns the decimal mark of a column of prices; None if they show none, or both."""
    return infer_mark(_split_amount(value.strip())[1] for value in values if isinstance(value, str))


def _amount(value: object, digits: int, mark: DecimalMark | None, currency: str) -> Decimal | Repaired | None:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, float) and not math.isinf(value):
        return Decimal(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str):
        return _parse_amount(value.strip(), digits, mark, currency) if value.strip() else None
    return Repaired.PRICE_NOT_A_NUMBER


def _parse_amount(text: str, digits: int, mark: DecimalMark | None, currency: str) -> Decimal | Repaired:
    """Parses text such as "$1,299.00", "-5", "-$5", "CHF 12.50" or "1.299,00 €"."""
    sign, number, units = _split_amount(text)
    wrong = _wrong_currency(units, currency)
    if wrong:
        return wrong
    if mark is None:
        if is_ambiguous(number):
            # "1,299" of a currency with cents is no price with a fraction of a cent; "1.299" may be one: fuel is priced so.
            if "," not in number or digits == 3:
                return Repaired.PRICE_UNCLEAR
            mark = DecimalMark.POINT
        else:
            mark = shown_mark(number) or DecimalMark.POINT
    amount = read_decimal(number, mark)
    return Repaired.PRICE_NOT_A_NUMBER if amount is None else sign * amount


def _split_amount(text: str) -> tuple[int, str, list[str]]:
    """Returns sign, number and what stands before and after it."""
    sign = 1
    units: list[str] = []
    text = _NO_CENTS.sub("", text.replace("\u2212", "-"))
    while text and not text[0].isdigit() and text[0] not in ".,":
        if text[0] == "-" and sign == 1:
            sign, text = -1, text[1:].lstrip()
            continue
        unit = text[0] if unicodedata.category(text[0]) == "Sc" else _leading_word(text)
        if not unit:
            return sign, text, units
        units.append(unit)
        text = text[len(unit) :].lstrip()
    number = re.match(r"[0-9.,'\u2019 \u00a0\u2009\u202f]*", text)
    head = (number[0] if number else "").rstrip(" \u00a0\u2009\u202f")
    tail = text[len(head) :].strip()
    return sign, head, [*units, tail] if tail else units


def _leading_word(text: str) -> str:
    found = _WORD.match(text)
    return found[0] if found else ""


def _wrong_currency(units: list[str], currency: str) -> Repaired | None:
    if len(units) > 1:
        return Repaired.PRICE_NOT_A_NUMBER
    for unit in units:
        if unit == "$" or (unicodedata.category(unit[0]) == "Sc" and len(unit) == 1 and unit not in _SIGNS):
            return None
        codes = _SIGNS.get(unit.casefold())
        if codes is None:
            if not re.fullmatch("[A-Za-z]{3}", unit):
                return Repaired.PRICE_NOT_A_NUMBER
            codes = (unit.upper(),)
        if currency and currency.upper() not in codes:
            return Repaired.OTHER_CURRENCY
    return None


def parse_in_stock(value: object) -> bool | None:
    """Returns whether the shop has a product, from a boolean, a quantity, or words and schema.org addresses of feeds. A product that can
    only be ordered for later (backorder, preorder) is not in stock. An empty cell is True, an unclear one None."""
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, int | float | Decimal):
        return not value <= 0  # NaN, which an empty cell of a number column reads as, is in stock
    if not isinstance(value, str):
        return None
    words = value.strip().casefold()
    if not words:
        return True
    if _QUANTITY.fullmatch(words):
        return float(words) > 0
    return _STOCKED.get(re.sub(r"[\s_\-]+", "", _SCHEMA_ORG.sub("", words)).rstrip("/"))
