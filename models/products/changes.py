"""Changes of a catalogue while it serves, as everything that is parallel by row takes them.

Rows are never reused: a new or changed product is appended after the last row, and the row that it replaces is removed. So a row means the
same version of the same product for as long as a generation lives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from models.arrays import Float16s, Ints
from models.products.product import Product

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, eq=False)
class AddedProducts:
    """Products of the rows `start`, `start + 1`, ..."""

    start: int
    products: Sequence[Product]
    vectors: Float16s  # (products, columns) as in `vectors.npy`: unit vector, static features, zeros


@dataclass(frozen=True, slots=True, eq=False)
class RemovedProducts:
    """Rows that no answer may hold from now on, and what was in them."""

    rows: Ints  # (removed,) each once, and never removed before
    products: Sequence[Product]


class Offered(Protocol):
    """What the price and the stock of a product mean something with; a `Product` has it too."""

    @property
    def id(self) -> str: ...

    @property
    def category(self) -> str: ...

    @property
    def price_minor(self) -> int | None: ...

    @property
    def in_stock(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class OfferedProduct:
    """An `Offered` that costs a fraction of a product to read."""

    id: str
    category: str
    price_minor: int | None
    in_stock: bool


@dataclass(frozen=True, slots=True, eq=False)
class ChangedOffers:
    """New prices and stock of rows that stay where they are."""

    rows: Ints  # (changed,) each once
    products: Sequence[Offered]  # with the new price and stock
    features: Float16s  # (changed, boosts) their static features


class RowParallel(Protocol):
    """A structure with something for each row. One thread changes it at a time, and no search runs meanwhile; other readers may read rows
    that they know."""

    def append(self, added: AddedProducts) -> None: ...

    def remove(self, removed: RemovedProducts) -> None: ...

    def change_offers(self, changed: ChangedOffers) -> None: ...


@runtime_checkable
class Prepares(Protocol):
    """A structure that can do most of the work of an append before searches have to wait for it."""

    def prepare(self, added: AddedProducts) -> None:
        """Computes what `append` of the very same object will need. Searches run meanwhile, so what they read stays."""


class Prepared(Generic[Value]):
    """What was computed of products that are about to be appended, by a function of theirs."""

    def __init__(self, compute: Callable[[AddedProducts], Value]) -> None:
        self._compute = compute
        self._last: tuple[AddedProducts, Value] | None = None

    def prepare(self, added: AddedProducts) -> None:
        self._last = added, self._compute(added)

    def take(self, added: AddedProducts) -> Value:
        """Returns what was prepared of these products, or computes it now."""
        last, self._last = self._last, None
        return last[1] if last and last[0] is added else self._compute(added)
