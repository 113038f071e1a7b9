"""Computes the signals of products from a log."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Doubles, Floats, Ints
from models.events.kinds import CLICK, KINDS
from models.unified.shopping_log import UNKNOWN, ShoppingLog
from models.unified.signals import ProductSignals

KIND_POINTS = (0.05, 1.0, 2.0, 4.0)  # weights of an impression, a click, a cart and a purchase
_DAY_MS = 86_400_000
_PRIOR = 20.0  # engagements at the average rate that are added to those of each product


def recency(times_ms: Ints, until_ms: int, half_life_days: float) -> Doubles:
    """Returns (events,) the weight of each event: 1 at `until_ms`, half of it every `half_life_days` earlier; 1 throughout for 0 days."""
    if not half_life_days:
        return np.ones(len(times_ms))
    return np.asarray(0.5 ** ((until_ms - times_ms) / (_DAY_MS * half_life_days)), np.float64)


def window_signals(
    log: ShoppingLog, until_ms: int, graph: Floats, left_out: Bools | None = None, half_life_days: float = 0.0
) -> ProductSignals:
    """Computes the signals of the events before `until_ms`, without the searches that the mask `left_out` (searches,) marks.

    An event's points, from which popularity follows, are weighed by `recency`.
    """
    within = (log.time_ms < until_ms) & (log.product != UNKNOWN)
    events = np.flatnonzero(within if left_out is None else within & ~left_out[log.search])
    product, kind = log.product[events], log.kind[events]
    worth = np.array(KIND_POINTS)[kind] * recency(log.time_ms[events], until_ms, half_life_days)
    points = np.bincount(product, worth, log.num_products)
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
