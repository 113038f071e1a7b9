"""Prices and stock are parsed from numbers and from text, and what is unclear is reported."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.products.report import Repaired
from models.products.values import parse_in_stock, parse_price


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
        ("12.99 USD", Repaired.PRICE_NOT_A_NUMBER),
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
        *((value, None) for value in ("maybe", "-", "2 weeks", [], "preorder")),
        (float("nan"), True),
        (10**400, True),
    ],
)
def test_stock_is_read_from_booleans_quantities_and_words(value: object, in_stock: bool | None) -> None:
    assert parse_in_stock(value) is in_stock
