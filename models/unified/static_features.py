"""The static features of a product, which a request may boost in retrieval itself."""

from __future__ import annotations

import numpy as np

from models.arrays import Floats
from models.products.product_table import ProductTable
from models.unified.signals import SIGNAL_SCALARS, ProductSignals


def static_features(table: ProductTable, signals: ProductSignals) -> Floats:
    """Returns (products, STATIC_FEATURES), each 0 to 1; `signals` are in the order of the table.

    popularity  share of the engaged products of the training window with less engagement; 0 for a product that was never shown in it
    new         1 for such a product
    in_stock    1 for a product that can be bought
    value       1 minus the quantile of the price within the category; 0.5 without a price
    """
    popularity = signals.scalars[:, SIGNAL_SCALARS.index("popularity_rank")]
    return np.stack([popularity, ~signals.known, table.in_stock, _values(table)], axis=1).astype(np.float32)


def _values(table: ProductTable) -> Floats:
    """Returns (products,) by the middle of the ranks of equal prices: a product alone in its category gets 0.5."""
    values = np.full(len(table), 0.5, np.float32)
    categories, _ = table.distinct("category")
    priced = np.flatnonzero(table.has_price)
    rows = priced[np.lexsort((table.prices[priced], categories[priced]))]
    starts = np.flatnonzero(np.diff(categories[rows])) + 1
    for row_numbers in np.split(rows, starts):
        prices = table.prices[row_numbers]  # ascending
        ranks = np.searchsorted(prices, prices, side="left") + np.searchsorted(prices, prices, side="right")
        values[row_numbers] = 1 - ranks / (2 * max(len(prices), 1))
    return values
