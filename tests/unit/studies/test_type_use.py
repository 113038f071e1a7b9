"""A bundle's searches are measured on what came after its training, and on nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.sources import catalogue_source
from models.evaluation.learned_until import learned_until, retrieval_learned_until
from models.evaluation.page import JSON_FILE
from models.events.errors import LogError
from models.events.event import EVENT_SCHEMA
from models.events.event_log import EventLog
from models.index.tuner import IndexTarget
from models.query_types.recipe import STARTER as TYPES_STARTER
from models.query_types.tokens import QueryHashing
from models.sample_store import CATALOGUE, EVENTS, SAMPLE_COLUMNS, STOREFRONTS, write_sample_log
from models.studies.types.search_effect import evaluate_type_use, later_searches, measured_from
from models.unified.embed_products import UnifiedEmbedding
from models.unified.shopping_log import ShoppingLog
from tests.unit.studies.test_unified import TINY

TYPES = replace(TYPES_STARTER, hashing=QueryHashing(bits=10), dim=8, epochs=1)


def log_of(*events: tuple[int, str, str, str, str, str]) -> EventLog:
    """Takes time, session, locale, kind, product and query of each event."""
    names = ("time", "session_id", "locale", "kind", "product_id", "query")
    rows = [
        {"id": str(at), "shopper_id": "", "position": None, "price_minor": None, **dict(zip(names, event, strict=True))}
        for at, event in enumerate(events)
    ]
    return EventLog.from_table(pa.Table.from_pylist(rows, EVENT_SCHEMA))


LOG = log_of(
    (0, "a", "en-US", "click", "P", "sofa"),
    (70, "b", "en-US", "impression", "P", "sofa"),  # this search began before 80
    (85, "c", "en-GB", "click", "Q", "sofa"),
    (88, "c", "en-GB", "click", "P", "sofa"),
    (90, "b", "en-US", "click", "P", "sofa"),
    (95, "d", "de-DE", "click", "Q", "sofa"),
    (100, "e", "en-US", "purchase", "P", "rug"),
)


def test_what_is_measured_began_after_what_the_bundle_learned_from() -> None:
    assert measured_from(LOG, 40) == 80  # the classifier gets 80 % of the time
    assert measured_from(LOG, 85) == 85
    with pytest.raises(
        LogError, match="learned from events until 1970-01-01 00:00 UTC, and the log ends at .* no later"
    ):
        measured_from(LOG, 101)


def test_a_search_that_began_before_is_none_of_them() -> None:
    events = ShoppingLog.from_log(LOG, ["P", "Q"])
    later = later_searches(events, 80, "en-US", 10, 0)
    assert {group: list(zip(one.queries, one.product.tolist(), strict=True)) for group, one in later.items()} == {
        "en-US": [("rug", 0)],
        "other en": [("sofa", 1)],  # the first product that it led to
        "other languages": [("sofa", 1)],
    }
    with pytest.raises(LogError, match="led to a product of the bundle"):
        later_searches(events, 101, "en-US", 10, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_sample_log(folder, 1000, 80, 20_000, 0, lambda *_: None)
    return folder


def unified_bundle(store: Path, out: Path, train_share: float) -> Bundle:
    source = catalogue_source(store / CATALOGUE, {}, tuple(SAMPLE_COLUMNS.text), (), "USD")
    embedding = UnifiedEmbedding((store / EVENTS,), replace(TINY, train_share=train_share))
    recipe = Recipe(name="shop", index=IndexTarget(latency_ms=100))
    build_bundle(source, recipe, out, lambda *_: None, embedding=embedding)
    return Bundle(out)


def test_a_report_says_from_when_on_it_measures(store: Path, tmp_path: Path) -> None:
    bundle = unified_bundle(store, tmp_path / "bundle", 0.9)
    until = retrieval_learned_until(bundle)
    assert learned_until(bundle) == until
    logs = [store / EVENTS, store / STOREFRONTS]
    out = tmp_path / "report"
    evaluate_type_use(bundle, logs, out, lambda *_: None, simulated=True, recipe=TYPES, max_searches=50)
    data = json.loads((out / JSON_FILE).read_text())["facts"]["data"]
    assert data["searches from"] == f"{datetime.fromtimestamp(until / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    assert data["searches"]["en-US"] > 10
