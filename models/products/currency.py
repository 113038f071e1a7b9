"""The digits of the minor unit of each currency."""

from __future__ import annotations

import re

from models.products.errors import CatalogueError

# ISO 4217 minor digits where they are not 2.
_CURRENCY_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def currency_digits(code: str) -> int:
    """Returns the digits of the minor unit of an ISO 4217 currency: 2 for "EUR", 0 for "JPY", 3 for "KWD".

    Raises CatalogueError if `code` is not three letters.
    """
    if not re.fullmatch("[A-Za-z]{3}", code):
        raise CatalogueError(f"{code!r} is not a currency; give its three letters, as USD, EUR or JPY")
    return _CURRENCY_DIGITS.get(code.upper(), 2)
