"""The static features of a product, which a request may boost in retrieval itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Bools, Codes, Floats, Ints
from models.products.changes import Offered
from models.products.product_table import ProductTable
from models.unified.signals import SIGNAL_SCALARS, ProductSignals, SavedSignals

_UNPRICED = 0.5  # the value of a product without a price


def static_features(table: ProductTable, signals: ProductSignals) -> Floats:
    """Returns (products, STATIC_FEATURES), each 0 to 1; `signals` are in the order of the table.

    popularity  share of the engaged products of the training window with less engagement; 0 for a product that was never shown in it
    new         1 for such a product
    in_stock    1 for a product that can be bought
    value       1 minus the quantile of the price within the category; 0.5 without a price
    """
    return _columns(signals, table.in_stock, _values(table))


class SingleFeatures:
    """The static features of single products, as `static_features` gives them to the rows of `table`, which does not change.

    A product gets what it would have if the table held it in place of the product with its id, or besides the others if there is none.
    """

    def __init__(self, table: ProductTable, signals: SavedSignals) -> None:
        self._table = table
        self._signals = signals
        codes, categories = table.distinct("category")
        rows, self._starts = _by_category(table, codes)
        self._prices = table.prices[rows]  # ascending within each category, 8 bytes each
        self._group = {categories[codes[rows[start]]]: at for at, start in enumerate(self._starts[:-1].tolist())}

    def of(self, products: Sequence[Offered]) -> Floats:
        """Returns (products, STATIC_FEATURES)."""
        in_stock = np.array([product.in_stock for product in products], np.bool_)
        values = np.array([self._value(product) for product in products], np.float32)
        return _columns(self._signals.for_ids([product.id for product in products]), in_stock, values)

    def _value(self, product: Offered) -> float:
        price = product.price_minor
        if price is None:
            return _UNPRICED
        prices = self._prices_of(product.category)
        count = len(prices) + 1
        ranks = int(np.searchsorted(prices, price, side="left") + np.searchsorted(prices, price, side="right")) + 1
        row = self._table.row_of(product.id)
        if row is not None and self._table.string("category", row) == product.category:
            former = self._table.price_minor(row)
            if former is not None:
                count -= 1
                ranks -= (former < price) + (former <= price)
        return 1 - ranks / (2 * count)

    def _prices_of(self, category: str) -> Ints:
        group = self._group.get(category)
        return self._prices[:0] if group is None else self._prices[self._starts[group] : self._starts[group + 1]]


def _columns(signals: ProductSignals, in_stock: Bools, values: Floats) -> Floats:
    popularity = signals.scalars[:, SIGNAL_SCALARS.index("popularity_rank")]
    return np.stack([popularity, ~signals.known, in_stock, values], axis=1).astype(np.float32)


def _values(table: ProductTable) -> Floats:
    """Returns (products,) by the middle of the ranks of equal prices: a product alone in its category gets 0.5."""
    values = np.full(len(table), _UNPRICED, np.float32)
    rows, starts = _by_category(table, table.distinct("category")[0])
    for row_numbers in np.split(rows, starts[1:-1]):
        prices = table.prices[row_numbers]  # ascending
        ranks = np.searchsorted(prices, prices, side="left") + np.searchsorted(prices, prices, side="right")
        values[row_numbers] = 1 - ranks / (2 * max(len(prices), 1))
    return values


def _by_category(table: ProductTable, codes: Codes) -> tuple[Ints, Ints]:
    """Returns the rows with a price, by category and price, and where each category starts, with the end of the last."""
    priced = np.flatnonzero(table.has_price)
    rows = priced[np.lexsort((table.prices[priced], codes[priced]))]
    inner = np.flatnonzero(np.diff(codes[rows])) + 1
    return rows, np.array([0, *inner, len(rows)] if len(rows) else [0], np.int64)
