"""Pages are divided by what was known before the measured time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.evaluation.bundle_figures import BundleFigures
from models.evaluation.by_kind import by_kind_section
from models.evaluation.page_buckets import CATEGORY, LOCALE, PRODUCT, QUERY, SHOPPER, page_buckets, searches_before
from models.evaluation.simple_searches import popularity_before
from models.evaluation.whole_catalogue import SEARCH_METRICS, SERVED, VECTORS
from models.events.event import EVENT_SCHEMA
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.ranking.impressions import Impressions, read_impressions
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import ShoppingLog

SINCE = 1_000
EVENTS = (  # time, shopper, session, locale, kind, product, query
    (100, "ann", "1", "en-US", "click", "P-1", "Sofa"),
    (200, "ann", "1", "en-US", "click", "P-1", "sofa "),
    (300, "bob", "2", "en-US", "purchase", "P-2", "rug"),
    (990, "ann", "3", "en-US", "impression", "P-1", "sofa"),
    (1_100, "ann", "3", "en-US", "click", "P-3", "sofa"),  # its search began before
    (1_200, "ann", "4", "en-US", "click", "P-1", "SOFA"),
    (1_300, "", "5", "en-GB", "click", "P-3", "lamp"),
    (1_400, "bob", "6", "en-US", "impression", "P-2", "rug"),
)


@pytest.fixture
def table(tmp_path: Path) -> ProductTable:
    paths = {"P-1": "Home > Sofas", "P-2": "Home > Rugs", "P-3": "Garden > Lamps"}
    products = [Product(name, name, "Nord", path, 1000) for name, path in paths.items()]
    write_products(tmp_path / "products.arrow", products, ())
    return ProductTable(tmp_path / "products.arrow")


@pytest.fixture
def events() -> pa.Table:
    names = ("time", "shopper_id", "session_id", "locale", "kind", "product_id", "query")
    empty = {"position": None, "price_minor": None}
    rows = [{"id": str(at), **empty, **dict(zip(names, event, strict=True))} for at, event in enumerate(EVENTS)]
    return pa.Table.from_pylist(rows, EVENT_SCHEMA)


@pytest.fixture
def log(events: pa.Table) -> ShoppingLog:
    return ShoppingLog.from_table(events, ["P-1", "P-2", "P-3"])


@pytest.fixture
def shown(events: pa.Table, table: ProductTable) -> Impressions:
    bands = PriceBands.from_products(table.products())
    logged = read_impressions(events, table, bands, since_ms=SINCE)
    return read_impressions(events, table, bands, since_ms=SINCE, logged=False).with_pages(logged)


def test_counts_and_products_are_those_before_the_time(
    shown: Impressions, log: ShoppingLog, table: ProductTable
) -> None:
    assert searches_before(log, SINCE) == {"sofa": 2, "rug": 1}
    buckets = page_buckets(shown, log, table, SINCE, task=0)
    values = {
        name: [bucket.values[code] if code >= 0 else None for code in bucket.codes] for name, bucket in buckets.items()
    }
    assert values == {
        QUERY: ["head", "unseen", "torso"],
        PRODUCT: ["known", "new", None],  # nobody clicked on the last page
        SHOPPER: ["fewer than 10 events", "anonymous", "fewer than 10 events"],
        LOCALE: ["en-US", "en-GB", "en-US"],
        CATEGORY: ["Home", "Garden", None],
    }


def test_popularity_knows_nothing_of_the_measured_time(log: ShoppingLog) -> None:
    assert popularity_before(log, SINCE) == pytest.approx([2, 1, 0], abs=1e-3)


def test_small_parts_are_left_out_and_named(shown: Impressions, log: ShoppingLog, table: ProductTable) -> None:
    many = shown.take(np.tile(np.arange(2), 40)[np.argsort(np.tile(np.arange(2), 40), kind="stable")][:45])
    buckets = page_buckets(many, log, table, SINCE, task=0)
    values = np.tile(np.arange(45.0)[:, None] / 45, (1, len(SEARCH_METRICS)))
    figures = BundleFigures(
        pages=[],
        units=np.arange(45),
        target="click",
        search={VECTORS: values / 2, SERVED: values},
        ranking={},
        calibration={},
        buckets=buckets,
    )
    section = by_kind_section(figures, None, 0)
    (row,) = next(table for table in section.tables if table.corner == QUERY).rows
    assert row[0] == "head"
    assert row[1][0] == 40
    assert row[1][1].value == pytest.approx(values[:40, 0].mean())  # type: ignore[union-attr]
    assert "query unseen (5)" in section.footnote
