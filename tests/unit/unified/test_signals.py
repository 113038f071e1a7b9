from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.events.event import EVENT_SCHEMA
from models.unified.shopping_log import ShoppingLog
from models.unified.signals import SIGNAL_SCALARS, ProductSignals, SavedSignals
from models.unified.window_signals import recency, window_signals

IDS = ["A", "B", "C"]


def log() -> ShoppingLog:
    rows = [
        ("impression", "A", 1, "en-US"),
        ("click", "A", 2, "en-US"),
        ("purchase", "A", 3, "en-US"),
        ("impression", "B", 4, "de-DE"),
        ("click", "B", 5, "de-DE"),
        ("purchase", "B", 100, "de-DE"),
        ("purchase", "C", 101, "de-DE"),
    ]
    events = [
        {"id": str(at), "time": time, "shopper_id": "S", "session_id": "1", "locale": locale, "kind": kind}
        | {"product_id": product, "query": "sofa"}
        for at, (kind, product, time, locale) in enumerate(rows)
    ]
    return ShoppingLog.from_table(pa.Table.from_pylist(events, EVENT_SCHEMA), IDS)


@pytest.fixture
def signals() -> ProductSignals:
    return window_signals(log(), 50, np.ones((3, 2), np.float32))


def test_what_comes_after_the_window_is_not_seen(signals: ProductSignals) -> None:
    assert signals.known.tolist() == [True, True, False]
    for column in (signals.scalars, signals.locales, signals.graph):
        assert not column[2].any()


def test_a_search_that_is_left_out_says_nothing() -> None:
    """One session searched once: what was clicked there is what a fold's example is to predict."""
    shopping = log()
    left_out = np.ones(len(shopping.search_time_ms), bool)
    assert not window_signals(shopping, 50, np.ones((3, 2), np.float32), left_out).known.any()
    assert window_signals(shopping, 50, np.ones((3, 2), np.float32), ~left_out).known.any()


def test_an_event_loses_half_its_weight_in_every_half_life() -> None:
    day = 86_400_000
    times = np.array([10 * day, 8 * day, 6 * day])
    assert recency(times, 10 * day, 2.0).tolist() == [1.0, 0.5, 0.25]
    assert recency(times, 10 * day, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_what_was_engaged_with_lately_is_the_most_popular() -> None:
    """A has a click and a purchase at 2 and 3 ms, B a click at 5 ms: after a millisecond's half-life B has more."""
    shopping = log()
    millisecond = 1 / 86_400_000
    signals = window_signals(shopping, 6, np.ones((3, 2), np.float32), half_life_days=millisecond / 3)
    popularity = signals.scalars[:, SIGNAL_SCALARS.index("popularity")]
    assert popularity[1] > popularity[0] > 0


def test_signals_follow_engagement_and_lie_between_0_and_1(signals: ProductSignals) -> None:
    popularity = signals.scalars[:, SIGNAL_SCALARS.index("popularity")]
    assert popularity[0] == 1.0 > popularity[1] > 0
    assert ((signals.scalars >= 0) & (signals.scalars <= 1)).all()


def test_a_locale_lifts_the_products_that_it_engages(signals: ProductSignals) -> None:
    english, german = (log().locales.index(name) for name in ("en-US", "de-DE"))
    assert signals.locales[0, english] > 0 > signals.locales[0, german]
    assert signals.locales[1, german] > 0 > signals.locales[1, english]


def test_saved_signals_are_found_by_id_and_new_products_have_none(signals: ProductSignals, tmp_path: Path) -> None:
    signals.save(tmp_path, IDS)
    found = SavedSignals(tmp_path).for_ids(["new", "B", "A"])
    np.testing.assert_array_equal(found.scalars[1:], signals.scalars[[1, 0]])
    np.testing.assert_array_equal(found.graph[1:], signals.graph[[1, 0]])
    assert not found.scalars[0].any()
    assert not found.locales[0].any()
