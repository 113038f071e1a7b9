"""A cache of what was derived from products by their id, which forgets a product when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts

Value = TypeVar("Value")


class ProductCache(Generic[Value]):
    """Keeps what `read` returned for an id, for about `max_items` ids. It has to learn of a change after what `read` reads from."""

    def __init__(self, read: Callable[[str], Value], max_items: int) -> None:
        self._read, self._max_items = read, max_items
        self._values: dict[str, Value] = {}
        self._num_changes = 0

    def __call__(self, product_id: str) -> Value:
        try:
            return self._values[product_id]
        except KeyError:
            pass
        before = self._num_changes
        value = self._read(product_id)
        if before == self._num_changes:  # else another thread may have changed the product since it was read
            if len(self._values) >= self._max_items:
                self._values = {}
            self._values[product_id] = value
        return value

    def append(self, added: AddedProducts) -> None:
        self._forget(product.id for product in added.products)

    def remove(self, removed: RemovedProducts) -> None:
        self._forget(product.id for product in removed.products)

    def change_offers(self, changed: ChangedOffers) -> None:
        self._forget(product.id for product in changed.products)

    def _forget(self, ids: Iterable[str]) -> None:
        self._num_changes += 1
        for product_id in ids:
            self._values.pop(product_id, None)
