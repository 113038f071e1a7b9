"""Engagement signals of each product in the training window: how much, in which locales, and through which queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Bools, Codes, Doubles, Floats, Ints
from models.events.kinds import CLICK, KINDS
from models.unified.shopping_log import UNKNOWN, ShoppingLog

SIGNAL_SCALARS = ("popularity_rank", "popularity", "shown_rank", "click_share", "purchase_share", "is_known")
KIND_POINTS = (0.05, 1.0, 2.0, 4.0)  # weights of an impression, a click, a cart and a purchase
_PRIOR = 20.0  # engagements at the average rate that are added to those of each product
_FILE = "signals.parquet"


@dataclass(frozen=True, slots=True)
class ProductSignals:
    """Signals by row of the catalogue. A product that no shopper was shown has zeros throughout."""

    scalars: Floats  # (products, SIGNAL_SCALARS), each 0 to 1
    locales: Floats  # (products, locales) its share of engagement from a locale minus the average share, -1 to 1
    graph: Floats  # (products, graph_dim)

    @property
    def known(self) -> Bools:
        """(products,) whether any shopper was shown the product."""
        return np.asarray(self.scalars[:, SIGNAL_SCALARS.index("is_known")] > 0)

    def save(self, folder: Path, product_ids: Sequence[str]) -> None:
        columns = {name: pa.array(_lists(getattr(self, name))) for name in ("scalars", "locales", "graph")}
        pq.write_table(pa.table({"id": pa.array(product_ids, pa.string()), **columns}), folder / _FILE)


class SavedSignals:
    """Signals by product id, as `ProductSignals.save` wrote them."""

    def __init__(self, folder: Path) -> None:
        table = pq.read_table(folder / _FILE)
        self._ids = table["id"].combine_chunks()
        self._columns = {name: _matrix(table[name]) for name in ("scalars", "locales", "graph")}

    def for_ids(self, product_ids: Sequence[str]) -> ProductSignals:
        """Returns signals in the order of the ids; a product that is newer than the training has zeros."""
        found = pc.index_in(pa.array(product_ids, pa.string()), value_set=self._ids)
        at = np.asarray(found.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), np.int64)
        known = (at != UNKNOWN)[:, None]
        taken = {name: np.where(known, values[np.maximum(at, 0)], 0) for name, values in self._columns.items()}
        return ProductSignals(**{name: np.asarray(values, np.float32) for name, values in taken.items()})


def _matrix(column: pa.ChunkedArray) -> Floats:
    lists = column.combine_chunks()
    return np.asarray(lists.flatten(), np.float32).reshape(len(lists), lists.type.list_size)


def window_signals(log: ShoppingLog, until_ms: int, graph: Floats, left_out: Bools | None = None) -> ProductSignals:
    """Computes the signals of the events before `until_ms`, without the searches that the mask `left_out` (searches,) marks."""
    within = (log.time_ms < until_ms) & (log.product != UNKNOWN)
    events = np.flatnonzero(within if left_out is None else within & ~left_out[log.search])
    product, kind = log.product[events], log.kind[events]
    points = np.bincount(product, np.array(KIND_POINTS)[kind], log.num_products)
    shown, clicked, _, bought = (np.bincount(product[kind == k], minlength=log.num_products) for k in range(len(KINDS)))
    shown = np.maximum(shown, clicked)  # a log need not hold impressions
    scalars = np.stack(
        [
            _quantiles(points),
            np.log1p(points) / max(float(np.log1p(points.max(initial=0))), 1e-9),
            _quantiles(shown),
            _shares(clicked, shown),
            _shares(bought, clicked),
            np.ones(log.num_products),
        ],
        axis=1,
    )
    known = points > 0
    engaged = kind >= CLICK
    return ProductSignals(
        np.asarray(np.where(known[:, None], scalars, 0), np.float32),
        _locale_lifts(product[engaged], log.locale[events][engaged], log.num_products, len(log.locales)),
        np.asarray(np.where(known[:, None], graph, 0), np.float32),
    )


def _shares(part: Ints, whole: Ints) -> Doubles:
    """Returns part / whole, shrunk towards the average of the catalogue."""
    average = part.sum() / max(whole.sum(), 1)
    return np.clip((part + _PRIOR * average) / (whole + _PRIOR), 0, 1)


def _quantiles(points: npt.NDArray[Any]) -> Doubles:
    """Returns the share of engaged products that have fewer points."""
    engaged = np.sort(points[points > 0])
    return np.searchsorted(engaged, points) / max(len(engaged), 1)


def _locale_lifts(product: Codes, locale: Codes, num_products: int, num_locales: int) -> Floats:
    counts = np.bincount(product.astype(np.int64) * num_locales + locale, minlength=num_products * num_locales)
    by_product = counts.reshape(num_products, num_locales).astype(np.float64)
    total = by_product.sum(axis=1, keepdims=True)
    average = by_product.sum(axis=0) / max(by_product.sum(), 1.0)
    shares = (by_product + _PRIOR * average) / (total + _PRIOR)
    return np.asarray(np.where(total > 0, shares - average, 0), np.float32)


def _lists(values: Floats) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
