"""Orders by a value of the products instead of by relevance, and groups of products that share a value."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Doubles, Float16s, Ints
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing import GrowingArray
from models.products.product_table import ProductTable
from serving.compute.filter_masks import FilterMasks

POPULARITY = "popularity"  # the static feature by which products without a query are ordered
MAX_CACHED_ORDERS = 8  # of 8 bytes a product each, and as many columns
MAX_LATER = 1 / 16  # of the rows of an order may have come or changed since, before it is made again
MAX_NOTED = 1_000_000  # changes of rows that orders can take in; then they are made again
MIN_STEP = 4096  # rows of an order that are tried at once
MAX_OTHERS = 20  # ids of a group's other products
_NO_ROWS: Ints = np.zeros(0, np.int64)


class SortBy(NamedTuple):
    """Orders by "price", a static feature or an attribute of numbers, the smallest first."""

    name: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The products that share a hit's value: how many others there are, and the first rows of them."""

    value: str
    num_others: int
    others: tuple[int, ...]


class _Order:
    """The rows in the order of a value: those of the time when it was made, and those that came or changed since, in an order of their own.

    The latter are complex numbers, value + row * i, which NumPy compares by value, then by row.
    """

    def __init__(self, keys: Doubles) -> None:
        self.rows = np.argsort(keys, kind="stable")  # 0.1 s for 1,000,000 products
        self.num_rows = len(keys)  # that are in their place in one of the two
        self.num_changes = 0
        self._is_in_place: Bools | None = None  # (rows,) False where the value changed
        self._later = np.zeros(0, np.complex128)
        self._key_of: dict[int, float] = {}  # of the rows in `_later`

    @property
    def num_later(self) -> int:
        return len(self._later)

    def put(self, rows: Ints, keys: Doubles) -> None:
        """Puts rows that came or changed at the place of their keys (rows,). Of a row that is named twice, both keys are the same."""
        known = [row for row in dict.fromkeys(rows.tolist()) if row in self._key_of]
        if known:
            old = np.array([complex(self._key_of[row], row) for row in known])
            self._later = np.delete(self._later, np.searchsorted(self._later, old))
        moved = rows[rows < len(self.rows)]
        if len(moved):
            if self._is_in_place is None:
                self._is_in_place = np.ones(len(self.rows), np.bool_)
            self._is_in_place[moved] = False
        self._key_of.update(zip(rows.tolist(), keys.tolist(), strict=True))
        new = np.unique(keys + 1j * rows)
        self._later = np.insert(self._later, np.searchsorted(self._later, new), new)

    def first(self, count: int, mask: Bools | None, keys_of: Callable[[Ints], Doubles]) -> Ints:
        """Returns the first rows that pass a mask."""
        best = self._first(count, mask)
        if not len(self._later):
            return best
        later = self._later.imag.astype(np.int64)
        later = (later if mask is None else later[mask[later]])[:count]
        rows = np.concatenate([best, later])
        return rows[np.lexsort((rows, keys_of(rows)))][:count]

    def _first(self, count: int, mask: Bools | None) -> Ints:
        in_place = self._is_in_place
        if mask is None and in_place is None:
            return self.rows[:count]
        found: list[Ints] = []
        num_found = start = 0
        step = max(MIN_STEP, 2 * count)
        while num_found < count and start < len(self.rows):
            rows = self.rows[start : start + step]
            if mask is not None:
                rows = rows[mask[rows]]
            if in_place is not None:
                rows = rows[in_place[rows]]
            found.append(rows)
            num_found, start, step = num_found + len(rows), start + step, 2 * step
        return np.concatenate([np.zeros(0, np.int64), *found])[:count]


class ValueOrder:
    """`features` are the names of the static features in `vectors` (products, columns) from column `dim`. Of every change, `table` and the
    attributes of `masks` are told before this is."""

    def __init__(
        self, table: ProductTable, masks: FilterMasks, vectors: Float16s, dim: int, features: Sequence[str]
    ) -> None:
        self._table = table
        self._masks = masks
        self._vectors, self._dim = vectors, dim
        self._features = tuple(features)
        self._later_features: dict[int, Float16s] = {}  # (features,) by row, of products that came or changed
        self._columns: OrderedDict[str, GrowingArray[np.float64]] = OrderedDict()  # of features and attributes
        self._orders: OrderedDict[SortBy, _Order] = OrderedDict()
        self._changed = GrowingArray(_NO_ROWS)  # rows with another offer, while there are orders

    def append(self, added: AddedProducts) -> None:
        features = added.vectors[:, self._dim : self._dim + len(self._features)]
        self._later_features.update(enumerate(features, added.start))

    def remove(self, removed: RemovedProducts) -> None:
        """Does nothing: a mask excludes removed products."""

    def change_offers(self, changed: ChangedOffers) -> None:
        self._later_features.update(zip(changed.rows.tolist(), changed.features, strict=True))
        for at, name in enumerate(self._features):
            if name in self._columns:
                values = self._columns[name].writable()
                is_there = changed.rows < len(values)  # the others are read when the column is
                values[changed.rows[is_there]] = changed.features[is_there, at]
        if len(self._changed) > MAX_NOTED:
            self._orders.clear()
            self._changed = GrowingArray(_NO_ROWS)
        if self._orders:
            self._changed.append(changed.rows, len(changed.rows))

    @property
    def default(self) -> SortBy | None:
        """The order of products without a query: by popularity, or None for that of the catalogue."""
        return SortBy(POPULARITY, descending=True) if POPULARITY in self._features else None

    def first(self, by: SortBy | None, mask: Bools | None, count: int) -> Ints:
        """Returns the first `count` rows that pass a mask (rows,) in the order of a value; None for the order of the catalogue."""
        if by is None:
            return np.arange(min(count, len(self._table))) if mask is None else np.flatnonzero(mask)[:count]
        return self._order(by).first(count, mask, lambda rows: self.keys(by, rows))

    def _order(self, by: SortBy) -> _Order:
        order = self._orders.get(by)
        if order is not None and order.num_later > len(order.rows) * MAX_LATER:
            order = None
        if order is None:
            order = self._orders[by] = _Order(self.keys(by, np.arange(len(self._table))))
            order.num_changes = len(self._changed)
            if len(self._orders) > MAX_CACHED_ORDERS:
                self._orders.popitem(last=False)
            return order
        self._orders.move_to_end(by)
        changed = self._changed.values[order.num_changes :] if self._is_offer(by) else _NO_ROWS
        rows = np.concatenate([np.arange(order.num_rows, len(self._table)), changed[changed < order.num_rows]])
        if len(rows):
            order.put(rows, self.keys(by, rows))
        order.num_rows, order.num_changes = len(self._table), len(self._changed)
        return order

    def _is_offer(self, by: SortBy) -> bool:
        """Says whether the value changes while a row stays."""
        return by.name == "price" or by.name in self._features

    def sorted(self, by: SortBy, rows: Ints) -> Ints:
        """Returns the places in `rows` in the order of their values, equals by row."""
        return np.lexsort((rows, self.keys(by, rows)))

    def keys(self, by: SortBy, rows: Ints) -> Doubles:
        """Returns (rows,) what ascends in the order; infinite, which sorts last, where a product has no value."""
        if by.name == "price":
            values = np.where(self._table.has_price[rows], self._table.prices[rows].astype(np.float64), np.nan)
        else:
            values = self._column(by.name)[rows]
        values = -values if by.descending else values
        return np.where(np.isnan(values), np.inf, values)

    def _column(self, name: str) -> Doubles:
        """Returns (rows,) a static feature or the numbers of an attribute."""
        column = self._columns.get(name)
        if column is None:
            if name in self._features:
                at = self._features.index(name)
                values = np.zeros(len(self._table))
                values[: len(self._vectors)] = self._vectors[:, self._dim + at]
                for row, features in self._later_features.items():
                    values[row] = features[at]
            else:
                values = self._masks.attributes[name].by_row()
            column = self._columns[name] = GrowingArray(values)
            if len(self._columns) > MAX_CACHED_ORDERS:
                self._columns.popitem(last=False)
        else:
            self._columns.move_to_end(name)
        start = len(column)
        if start < len(self._table):
            if name in self._features:
                at = self._features.index(name)
                column.append(
                    [self._later_features[row][at] for row in range(start, len(self._table))], len(self._table) - start
                )
            else:
                column.append(self._masks.attributes[name].by_row(start), len(self._table) - start)
        return column.values


def group_rows(masks: FilterMasks, name: str, rows: Ints, mask: Bools | None) -> tuple[list[int], dict[int, Group]]:
    """Returns the places of the first product of each value of an attribute, and by row the group of each. Products without a value
    stay by themselves; of several values the first counts. The others of a group are all products that pass the mask."""
    column = masks.attributes[name]
    kept, number_of = first_of_groups(masks, name, rows)
    groups: dict[int, Group] = {}
    for row, number in number_of.items():
        members = column.rows_of(number)
        members = members if mask is None else members[mask[members]]
        others = members[members != row]
        groups[row] = Group(str(column.value(number)), len(others), tuple(others[:MAX_OTHERS].tolist()))
    return kept, groups


def first_of_groups(masks: FilterMasks, name: str, rows: Ints) -> tuple[list[int], dict[int, int]]:
    """Returns the places that `group_rows` returns, and by row the number of each group's value."""
    column = masks.attributes[name]
    value_at: dict[int, int] = {}
    for at, value in column.values_of(rows):
        value_at[at] = column.first((value, value_at[at])) if at in value_at else value
    kept: list[int] = []
    number_of: dict[int, int] = {}
    seen: set[int] = set()
    for at, row in enumerate(rows.tolist()):
        number = value_at.get(at)
        if number is None:
            kept.append(at)
        elif number not in seen:
            seen.add(number)
            kept.append(at)
            number_of[row] = number
    return kept, number_of
