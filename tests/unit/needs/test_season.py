"""Whether the newest events of a log are told better by what was bought lately."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.arrays import Doubles
from models.events.event import EVENT_SCHEMA, EventKind
from models.needs.season import LEAST_EVENTS, find_season
from models.unified.shopping_log import ShoppingLog

DAY_MS = 86_400_000
PRODUCTS, DAYS, DAILY = 60, 120, 50


def log_of(shares: Doubles) -> ShoppingLog:
    """Returns a log of DAILY purchases a day, of products in their shares (days, PRODUCTS)."""
    rng, number = np.random.default_rng(0), len(shares) * DAILY
    products = np.concatenate([rng.choice(PRODUCTS, DAILY, p=share) for share in shares])
    columns = {
        "id": [f"e{n}" for n in range(number)],
        "time": pa.array(np.repeat(np.arange(len(shares)) * DAY_MS, DAILY), pa.timestamp("ms", tz="UTC")),
        "shopper_id": ["ada"] * number,
        "session_id": [f"s{n}" for n in range(number)],
        "locale": ["en-US"] * number,
        "kind": [str(EventKind.PURCHASE)] * number,
        "product_id": [f"p{product}" for product in products],
        "query": [""] * number,
        "position": pa.nulls(number, pa.int32()),
        "price_minor": pa.nulls(number, pa.int64()),
    }
    table = pa.table(columns).select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA)
    return ShoppingLog.from_table(table, [f"p{product}" for product in range(PRODUCTS)])


def shares_by_day(days: int, width: float) -> Doubles:
    """Returns (days, PRODUCTS) shares: what sells moves through the products, `width` of them at a time."""
    at = np.linspace(0, PRODUCTS, days)[:, None]
    near = np.exp(-0.5 * ((np.arange(PRODUCTS) - at) / width) ** 2) + 0.01
    return near / near.sum(axis=1, keepdims=True)


def test_a_shop_that_sells_by_season_has_a_half_life() -> None:
    season = find_season(log_of(shares_by_day(DAYS, width=4)), None)
    assert season is not None
    assert season.half_life_days <= 10
    assert season.gain > 0.5


def test_the_slower_the_season_the_longer_the_half_life() -> None:
    quick, slow = (find_season(log_of(shares_by_day(days, width)), None) for days, width in ((DAYS, 4), (4 * DAYS, 20)))
    assert quick is not None
    assert slow is not None
    assert quick.half_life_days < slow.half_life_days
    assert quick.gain > slow.gain


def test_a_shop_that_always_sells_the_same_has_none() -> None:
    popular = np.arange(PRODUCTS, 0, -1.0)
    assert find_season(log_of(np.tile(popular / popular.sum(), (DAYS, 1))), None) is None


def test_what_comes_after_the_window_is_not_read() -> None:
    first, second = np.repeat(np.eye(2), PRODUCTS // 2, axis=1) / (PRODUCTS // 2)
    log = log_of(np.repeat([first, second], DAYS, axis=0))  # another half of the products is sold
    assert find_season(log, DAYS * DAY_MS) is None
    assert find_season(log, None) is not None


def test_few_events_say_nothing() -> None:
    few = log_of(shares_by_day(LEAST_EVENTS // DAILY - 1, width=2))
    assert len(few.kind) < LEAST_EVENTS
    assert find_season(few, None) is None
    assert find_season(few, 0) is None
