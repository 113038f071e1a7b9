"""Each currency has the minor digits of ISO 4217."""

from __future__ import annotations

import pytest

from models.products.currency import currency_digits
from models.products.errors import CatalogueError


@pytest.mark.parametrize(("code", "digits"), [("USD", 2), ("eur", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)])
def test_currency_digits(code: str, digits: int) -> None:
    assert currency_digits(code) == digits


def test_what_is_no_currency_is_refused() -> None:
    with pytest.raises(CatalogueError, match="three letters"):
        currency_digits("$")
