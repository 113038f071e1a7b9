"""Prices and stock are parsed from numbers and from text, and what is unclear is reported."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.decimals import DecimalMark
from models.products.report import Repaired
from models.products.values import infer_price_mark, parse_in_stock, parse_price


@pytest.mark.parametrize(
    ("value", "minor"),
    [
        ("12.99", 1299),
        ("$1,299.00", 129_900),
        ("€ 5", 500),
        ("1,234,567.8", 123_456_780),
        (".5", 50),
        ("0", 0),
        (" 7 ", 700),
        ("12.995", 1300),
        (12.99, 1299),
        (12, 1200),
        (Decimal("0.1"), 10),
        ("", None),
        (None, None),
        (float("nan"), None),
        ("1299,00", Repaired.PRICE_NOT_A_NUMBER),
        ("1,29", Repaired.PRICE_NOT_A_NUMBER),
        ("12.99 USD", 1299),
        ("12.99 each", Repaired.PRICE_NOT_A_NUMBER),
        ("5 - 9", Repaired.PRICE_NOT_A_NUMBER),
        ("1.299.00", Repaired.PRICE_NOT_A_NUMBER),
        ("free", Repaired.PRICE_NOT_A_NUMBER),
        ("$", Repaired.PRICE_NOT_A_NUMBER),
        (True, Repaired.PRICE_NOT_A_NUMBER),
        (float("inf"), Repaired.PRICE_NOT_A_NUMBER),
        ("-$5", Repaired.NEGATIVE_PRICE),
        ("$-5", Repaired.NEGATIVE_PRICE),
        (-0.01, Repaired.NEGATIVE_PRICE),
        (10**400, Repaired.PRICE_TOO_LARGE),
    ],
)
def test_a_price_becomes_minor_units_or_the_reason_why_not(value: object, minor: object) -> None:
    assert parse_price(value, 2) == minor


@given(minor=st.integers(0, 10**14), digits=st.sampled_from([0, 2, 3]))
def test_a_price_survives_being_written_with_or_without_commas(minor: int, digits: int) -> None:
    amount = Decimal(minor).scaleb(-digits)
    for text in (f"{amount:f}", f"{amount:,f}", f"£{amount:,f}"):
        assert parse_price(text, digits) == minor
    assert parse_price(amount, digits) == minor


@pytest.mark.parametrize(
    ("value", "in_stock"),
    [
        *((value, True) for value in (True, 1, 25, "1", "TRUE", "Yes", "in stock", "In_Stock", "12", "3.0", "", None)),
        *((value, False) for value in (False, 0, 0.0, "0", "no", "Out of Stock", "out_of_stock", "sold-out")),
        *(
            (value, True)
            for value in ("https://schema.org/InStock", "schema:LimitedAvailability", "limited availability")
        ),
        *((value, False) for value in ("http://schema.org/OutOfStock", "backorder", "Pre-Order", "discontinued")),
        *((value, False) for value in ("https://www.schema.org/BackOrder", "SoldOut", "available for backorder")),
        *((value, None) for value in ("maybe", "-", "2 weeks", [], "https://schema.org/Thing")),
        (float("nan"), True),
        (10**400, True),
    ],
)
def test_stock_is_read_from_booleans_quantities_and_words(value: object, in_stock: bool | None) -> None:
    assert parse_in_stock(value) is in_stock


POINT, COMMA = DecimalMark.POINT, DecimalMark.COMMA


@pytest.mark.parametrize(
    ("text", "mark", "minor"),
    [
        ("1.299,00 €", COMMA, 129_900),
        ("12 €", COMMA, 1200),
        ("1 299,00", COMMA, 129_900),
        ("1\u00a0299,00 EUR", COMMA, 129_900),
        ("1.299", COMMA, 129_900),
        ("12,-", COMMA, 1200),
        ("EUR 12,50", COMMA, 1250),
        ("12.50", COMMA, Repaired.PRICE_NOT_A_NUMBER),
        ("1'299.00", POINT, 129_900),
        ("1.299,00", None, 129_900),
        ("12.50", None, 1250),
        ("1.299", None, Repaired.PRICE_UNCLEAR),
        ("1,299", None, 129_900),
        ("7", None, 700),
        ("1.299 299", POINT, Repaired.PRICE_NOT_A_NUMBER),
    ],
)
def test_a_text_is_read_by_the_decimal_mark_of_its_column(text: str, mark: DecimalMark | None, minor: object) -> None:
    assert parse_price(text, 2, mark=mark) == minor


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("CHF 12.50", "CHF", 1250),
        ("12.50chf", "chf", 1250),
        ("Fr. 12.50", "CHF", 1250),
        ("$12.50", "CAD", 1250),
        ("12.50 USD", "EUR", Repaired.OTHER_CURRENCY),
        ("€12.50", "USD", Repaired.OTHER_CURRENCY),
        ("12.50", "USD", 1250),
    ],
)
def test_a_price_in_another_currency_is_no_price(text: str, currency: str, minor: object) -> None:
    assert parse_price(text, 2, currency=currency) == minor


@pytest.mark.parametrize(
    ("column", "mark"),
    [
        (["12,50 €", "1.299", "7"], COMMA),
        (["$1,299.00", "1,299"], POINT),
        (["1.299", "2.499"], None),
        (["12.50", "12,50"], None),
        (["1.299.000"], COMMA),
        ([1.5, None, "9.5"], POINT),
    ],
)
def test_a_column_shows_its_decimal_mark(column: list[object], mark: DecimalMark | None) -> None:
    assert infer_price_mark(column) is mark


@given(
    minor=st.integers(0, 10**14),
    mark=st.sampled_from([POINT, COMMA]),
    group=st.sampled_from(["", " ", "\u202f", "\u2019"]),
)
def test_a_price_survives_being_written_by_any_convention(minor: int, mark: DecimalMark, group: str) -> None:
    text = f"{Decimal(minor).scaleb(-2):,f}".replace(",", group).replace(".", "." if mark is POINT else ",")
    assert parse_price(text, 2, mark=mark) == minor
    assert parse_price(text, 2, mark=None) == minor
