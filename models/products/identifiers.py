"""Exact look-up of what shoppers paste: model numbers, SKUs, product ids.

A vector blurs "HX-4210" and "HX-4120"; an exact look-up does not. An identifier is a word with a digit in it, at least
`MIN_LENGTH` characters without its punctuation. Each one points to the products whose id or title holds it; the fewer they are, the
more it says.
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
FULL_BOOST = 0.6  # lifts a product above any that is only similar: cosines of short queries seldom pass 0.8
SPECIFIC = 16  # up to this many products an identifier counts in full

_WORD = re.compile(r"[^\W_][\w./+\-]*", re.UNICODE)
_PUNCTUATION = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class IdentifierMatch:
    """One identifier of a query and the rows of the products that hold it, ascending."""

    identifier: str
    rows: Ints
    boost: float


def identifiers_in(text: str) -> dict[str, str]:
    """The identifiers of a text: their form without punctuation and case -> as they stand there."""
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        plain = _PUNCTUATION.sub("", word).casefold()
        if len(plain) >= MIN_LENGTH and any(c.isdigit() for c in plain):
            found.setdefault(plain, word)
    return found


class IdentifierIndex:
    """Sorted hashes with the rows behind them, as two mapped arrays."""

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
        """The identifiers of a query that name products, most specific first."""
        matches = []
        for plain, word in identifiers_in(query).items():
            first, last = self._place(plain)
            if 0 < last - first <= MAX_PRODUCTS:
                boost = FULL_BOOST * min(1.0, SPECIFIC / (last - first))
                matches.append(IdentifierMatch(word, np.asarray(self._rows[first:last]), boost))
        return sorted(matches, key=lambda match: len(match.rows))

    def specific(self, query: str) -> set[str]:
        """The identifiers of a query, plain, that at most MAX_PRODUCTS products hold; also those that none does."""
        places = {plain: self._place(plain) for plain in identifiers_in(query)}
        return {plain for plain, (first, last) in places.items() if last - first <= MAX_PRODUCTS}

    def _place(self, plain: str) -> tuple[int, int]:
        wanted = np.uint64(_hash(plain))
        return int(np.searchsorted(self._hashes, wanted, "left")), int(np.searchsorted(self._hashes, wanted, "right"))


def _hash(plain: str) -> int:
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little")
