"""Exact look-up of what shoppers paste: model numbers, SKUs, product ids.

A vector blurs "HX-4210" and "HX-4120"; an exact look-up does not. An identifier is a word that contains a digit and has at least
`MIN_LENGTH` characters without its punctuation. Each identifier points to the products whose id or title contains it. The fewer they
are, the more they are boosted.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.arrays import Ints
from models.products.product import Product

MIN_LENGTH = 4
MAX_PRODUCTS = 256  # an identifier of more products is a size or a year, not a model
FULL_BOOST = 0.6  # ranks a product above any that is only similar: cosines of short queries seldom exceed 0.8
SPECIFIC = 16  # an identifier of at most this many products gets the full boost

_WORD = re.compile(r"[^\W_][\w./+\-]*", re.UNICODE)
_PUNCTUATION = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class IdentifierMatch:
    """One identifier of a query, and the products that contain it."""

    identifier: str  # as written in the query
    rows: Ints  # (products,) ascending
    boost: float  # to be added to the products' scores


def identifiers_in(text: str) -> dict[str, str]:
    """Returns the identifiers of a text: the form without punctuation and case -> as written in the text."""
    identifiers: dict[str, str] = {}
    for word in _WORD.findall(text):
        plain = _PUNCTUATION.sub("", word).casefold()
        if len(plain) >= MIN_LENGTH and any(c.isdigit() for c in plain):
            identifiers.setdefault(plain, word)
    return identifiers


class IdentifierIndex:
    """Sorted hashes of identifiers and the row of a product for each, as two mapped arrays."""

    def __init__(self, hashes: npt.NDArray[np.uint64], rows: Ints) -> None:
        self._hashes = hashes
        self._rows = rows

    @classmethod
    def build(cls, products: Iterable[Product]) -> IdentifierIndex:
        hashes, rows = array("Q"), array("q")  # 16 bytes an identifier, where lists take about 80
        for row, product in enumerate(products):
            for plain in {**identifiers_in(product.id), **identifiers_in(product.title)}:
                hashes.append(_hash(plain))
                rows.append(row)
        hash_array = np.frombuffer(hashes, np.uint64)
        row_array = np.frombuffer(rows, np.int64)
        order = np.lexsort((row_array, hash_array))
        return cls(hash_array[order], row_array[order])

    def save(self, folder: Path) -> None:
        np.save(folder / "identifier_hashes.npy", self._hashes)
        np.save(folder / "identifier_rows.npy", self._rows)

    @classmethod
    def load(cls, folder: Path) -> IdentifierIndex:
        return cls(
            np.load(folder / "identifier_hashes.npy", mmap_mode="r"),
            np.load(folder / "identifier_rows.npy", mmap_mode="r"),
        )

    def find(self, query: str) -> list[IdentifierMatch]:
        """Returns the identifiers of a query that at most MAX_PRODUCTS products contain, most specific first."""
        matches = []
        for plain, word in identifiers_in(query).items():
            first, last = self._range(plain)
            if 0 < last - first <= MAX_PRODUCTS:
                boost = FULL_BOOST * min(1.0, SPECIFIC / (last - first))
                matches.append(IdentifierMatch(word, np.asarray(self._rows[first:last]), boost))
        return sorted(matches, key=lambda match: len(match.rows))

    def specific_identifiers(self, query: str) -> set[str]:
        """Returns the identifiers of a query, without punctuation and case, that at most MAX_PRODUCTS products contain, or none."""
        places = {plain: self._range(plain) for plain in identifiers_in(query)}
        return {plain for plain, (first, last) in places.items() if last - first <= MAX_PRODUCTS}

    def _range(self, plain: str) -> tuple[int, int]:
        """Returns the first place of an identifier in the arrays, and the place after the last."""
        key = np.uint64(_hash(plain))
        return int(np.searchsorted(self._hashes, key, "left")), int(np.searchsorted(self._hashes, key, "right"))


def _hash(plain: str) -> int:
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little")
