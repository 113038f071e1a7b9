"""The click memory: which products shoppers engaged with after a query, counted and decayed, to be found again for the same query.

A query is what `plain_query` makes of it, in the language of its locale; only its hash is kept. A shopper counts once for each query and
product, so that a robot weighs no more than anybody. `models.ranking.click_history` learns the memory from a log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.arrays import Bools, Codes, Floats, Ints, UInt64s
from models.events.searches import plain_query
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.product_table import ProductTable
from models.query_types.tokens import language_of

FILE = "click_memory.safetensors"
PRIOR = 3.0  # engagements that are added to those of a query: one click alone is no share of 1
_GONE = -1  # row of a product that the catalogue does not hold


@dataclass(frozen=True, slots=True, eq=False)
class Clicked:
    """The products of one query."""

    rows: Ints  # (products,) of the catalogue, ascending
    weights: Floats  # (products,) shoppers who engaged with each; one of a half-life ago counts half
    total: float  # of the weights of all products of the query, also of those that are not here

    @property
    def shares(self) -> Floats:
        """(products,) each one's part of the query's engagements."""
        shares: Floats = self.weights / np.float32(self.total + PRIOR)
        return shares

    def within(self, mask: Bools) -> Clicked:
        """Returns the products that a mask (rows of the catalogue,) admits; their shares stay."""
        passes = mask[self.rows]
        return Clicked(self.rows[passes], self.weights[passes], self.total)


NOTHING = Clicked(np.zeros(0, np.int64), np.zeros(0, np.float32), 0.0)


class Clicks(Protocol):
    """What is known of a query's clicks, in training as in serving."""

    def find(self, text: str, locale: str, time_ms: int | None = None) -> Clicked:
        """Returns what was clicked after a query, strictly before `time_ms` where clicks are known by time."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ClickMemory:
    """Query i has the products products[starts[i]:starts[i + 1]], places in `product_ids`."""

    queries: UInt64s  # (queries,) ascending, see `query_key`
    starts: Ints  # (queries + 1,)
    products: Codes  # (n,)
    weights: Floats  # (n,)
    product_ids: tuple[str, ...]

    @classmethod
    def none(cls) -> ClickMemory:
        """Returns an empty memory."""
        return cls(np.zeros(0, np.uint64), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), ())

    def save(self, folder: Path) -> None:
        ids = [name.encode() for name in self.product_ids]
        arrays: dict[str, npt.NDArray[Any]] = {
            "queries": self.queries,
            "starts": self.starts,
            "products": self.products,
            "weights": self.weights,
            "ids": np.frombuffer(b"".join(ids), np.uint8),
            "id_starts": np.cumsum([0, *map(len, ids)], dtype=np.int64),
        }
        save_file(arrays, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> ClickMemory:
        """Raises ValueError if the file is missing or damaged."""
        try:
            arrays = load_file(folder / FILE)
            starts, text = arrays["id_starts"].tolist(), arrays["ids"].tobytes()
            ids = tuple(text[start:end].decode() for start, end in pairwise(starts))
            loaded = cls(arrays["queries"], arrays["starts"], arrays["products"], arrays["weights"], ids)
        except (OSError, SafetensorError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(f"{FILE} cannot be read: {error}") from None
        starts, products = loaded.starts, loaded.products
        fits = (
            len(starts) == len(loaded.queries) + 1
            and starts[0] == 0
            and starts[-1] == len(products) == len(loaded.weights)
            and (np.diff(starts) >= 0).all()
            and int(products.max(initial=-1)) < len(ids)
            and int(products.min(initial=0)) >= 0
        )
        if not fits:
            raise ValueError(f"{FILE} is damaged: its arrays do not fit each other")
        return loaded


class CatalogueClicks:
    """The click memory of a catalogue that may change: it is parallel by row. A product that is changed keeps its clicks."""

    def __init__(self, memory: ClickMemory, table: ProductTable) -> None:
        self._memory = memory
        rows = [table.row_of(product_id) for product_id in memory.product_ids]
        self._rows = np.array([_GONE if row is None else row for row in rows], np.int64)
        self._places = {product_id: place for place, product_id in enumerate(memory.product_ids)}

    def find(self, text: str, locale: str, time_ms: int | None = None) -> Clicked:  # noqa: ARG002 - it knows no times
        memory, key = self._memory, query_key(text, locale)
        at = int(np.searchsorted(memory.queries, key))
        if at == len(memory.queries) or memory.queries[at] != key:
            return NOTHING
        part = slice(int(memory.starts[at]), int(memory.starts[at + 1]))
        rows = self._rows[memory.products[part]]
        order = np.argsort(rows)[np.count_nonzero(rows == _GONE) :]
        weights = memory.weights[part]
        return Clicked(rows[order], weights[order], float(weights.sum()))

    def append(self, added: AddedProducts) -> None:
        for row, product in enumerate(added.products, added.start):
            if (place := self._places.get(product.id)) is not None:
                self._rows[place] = row

    def remove(self, removed: RemovedProducts) -> None:
        for row, product in zip(removed.rows.tolist(), removed.products, strict=True):
            place = self._places.get(product.id)
            if place is not None and self._rows[place] == row:
                self._rows[place] = _GONE

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: prices have no part in it."""


@lru_cache(maxsize=4_096)
def query_key(text: str, locale: str) -> np.uint64:
    """Returns the hash of a query; the locales of a language share its queries. Cached because queries recur."""
    digest = hashlib.blake2b(
        f"{language_of(locale)} {plain_query(text)}".encode("utf-8", "surrogatepass"), digest_size=8
    )
    return np.uint64(int.from_bytes(digest.digest(), "little"))


def clicks_of(found: Clicked, rows: Ints) -> Floats:
    """Returns (rows, 2) the share of the query's engagements that each product has, and log(1 + how many shoppers)."""
    values = np.zeros((len(rows), 2), np.float32)
    if len(found.rows):
        at = np.minimum(np.searchsorted(found.rows, rows), len(found.rows) - 1)
        is_clicked = found.rows[at] == rows
        values[:, 0] = found.shares[at] * is_clicked
        values[:, 1] = np.log1p(found.weights)[at] * is_clicked
    return values
