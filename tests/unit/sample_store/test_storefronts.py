"""The logs of storefronts have the requested number of searches, are the same for the same seed, and follow their truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.events.event import EVENT_SCHEMA
from models.events.event_log import open_log
from models.sample_store import (
    SampleStore,
    StorefrontLog,
    StorefrontParameters,
    StorefrontSearch,
    all_locales,
    load_product_types,
    write_sample_log,
)

VOLUMES = {"en-GB": 60_000, "pl-PL": 10_000, "ja-JP": 300, "de-AT": 1}


@pytest.fixture(scope="module")
def log() -> StorefrontLog:
    return StorefrontLog(SampleStore(5_000), VOLUMES)


@pytest.fixture(scope="module")
def events(log: StorefrontLog) -> pa.Table:
    return pa.Table.from_batches(log.batches())


def times_of(events: pa.Table) -> np.ndarray:
    return np.asarray(events["time"].cast(pa.int64()).to_numpy())


def search_ids(events: pa.Table) -> list[str]:
    return [event.rpartition("-")[0] for event in events["id"].to_pylist()]


def category_of(log: StorefrontLog, events: pa.Table) -> list[str]:
    types = log.assortment.latents.type
    return [load_product_types()[types[int(product[3:]) - 1]].category for product in events["product_id"].to_pylist()]


def searches_of(log: StorefrontLog) -> dict[str, StorefrontSearch]:
    return {search.id: search for search in log.searches()}


def targets_of(log: StorefrontLog, events: pa.Table) -> list[str]:
    truth = searches_of(log)
    return [truth[search].type for search in search_ids(events)]


class TestShape:
    def test_every_search_has_a_click_and_events_are_ordered(self, log: StorefrontLog, events: pa.Table) -> None:
        assert events.schema == EVENT_SCHEMA
        assert (np.diff(times_of(events)) >= 0).all()
        assert log.start_ms <= times_of(events)[0]
        assert pc.count_distinct(events["id"]).as_py() == events.num_rows
        clicks = events.filter(pc.equal(events["kind"].cast(pa.string()), "click"))
        assert Counter(of.rpartition("-")[0][1:] for of in set(search_ids(clicks))) == Counter(VOLUMES)

    def test_it_streams(self, log: StorefrontLog, events: pa.Table) -> None:
        batches = list(log.batches())
        assert len(batches) > 1
        assert pa.Table.from_batches(batches) == events

    def test_a_cart_follows_a_click_and_a_purchase_a_cart(self, events: pa.Table) -> None:
        steps = Counter(event[-1] for event in events["id"].to_pylist())
        assert steps["c"] > 3 * steps["a"] > 3 * steps["p"] > 0
        ids = set(events["id"].to_pylist())
        assert all(event[:-1] + "a" in ids for event in ids if event.endswith("p"))

    def test_positions_are_those_of_a_page(self, events: pa.Table) -> None:
        positions = events["position"].to_numpy()
        assert positions.min() == 1
        assert positions.max() <= 24

    def test_some_shoppers_are_anonymous_and_a_session_has_one_shopper(
        self, log: StorefrontLog, events: pa.Table
    ) -> None:
        sessions = events.group_by(["session_id", "shopper_id"]).aggregate([])
        assert sessions.num_rows == pc.count_distinct(events["session_id"]).as_py()
        anonymous = pc.mean(pc.equal(sessions["shopper_id"], "").cast(pa.int8())).as_py()
        assert anonymous == pytest.approx(log.parameters.anonymous_share, abs=0.02)

    def test_products_appear_only_after_their_launch(self, log: StorefrontLog, events: pa.Table) -> None:
        products = np.array([int(product[3:]) - 1 for product in events["product_id"].to_pylist()])
        assert (times_of(events) >= log.assortment.launch_ms[products]).all()
        assert (log.assortment.launch_ms[products] >= log.start_ms).mean() > 0.02


class TestTruth:
    def test_it_is_that_of_the_events(self, log: StorefrontLog, events: pa.Table) -> None:
        truth = searches_of(log)
        assert len(truth) == sum(VOLUMES.values())
        part = events.slice(20_000, 500)
        assert part["query"].to_pylist() == [truth[search].query for search in search_ids(part)]
        assert part["locale"].to_pylist() == [truth[search].locale for search in search_ids(part)]

    def test_clicks_go_to_the_target_type_as_often_as_stated(self, log: StorefrontLog, events: pa.Table) -> None:
        clicks = events.slice(0, 20_000)
        clicks = clicks.filter(pc.equal(clicks["kind"].cast(pa.string()), "click"))
        hits = [a == b for a, b in zip(category_of(log, clicks), targets_of(log, clicks), strict=True)]
        assert np.mean(hits) == pytest.approx(log.parameters.wanted_share, abs=0.02)

    def test_without_noise_every_click_goes_to_the_target_type(self) -> None:
        exact = replace(StorefrontParameters(), wanted_share=1.0, related_share=0.0)
        log = StorefrontLog(SampleStore(5_000), {"fr-CA": 2_000}, parameters=exact)
        events = pa.Table.from_batches(log.batches())
        hits = [a == b for a, b in zip(category_of(log, events), targets_of(log, events), strict=True)]
        assert np.mean(hits) > 0.995  # the rest: nothing of the type was launched yet

    def test_short_queries_come_often_and_most_seldom(self, log: StorefrontLog) -> None:
        counts = Counter(search.query for search in log.searches() if search.locale == "en-GB")
        assert counts.most_common(1)[0][1] > 100
        assert sum(count == 1 for count in counts.values()) > 0.3 * len(counts)


class TestSameForTheSameSeed:
    def test_same_events_and_others(self) -> None:
        store = SampleStore(500)
        first, again, other = (
            pa.Table.from_batches(StorefrontLog(store, {"sv-SE": 400}, seed).batches()) for seed in (1, 1, 2)
        )
        assert first == again
        assert first["query"].to_pylist() != other["query"].to_pylist()

    def test_more_of_a_locale_begins_with_the_same_and_no_locale_changes_another(self) -> None:
        store = SampleStore(500)
        few = list(StorefrontLog(store, {"nl-BE": 100}).searches())
        more = list(StorefrontLog(store, {"it-IT": 50, "nl-BE": 1_000}).searches())
        assert more[50:150] == few

    def test_any_locale_in_any_volume(self) -> None:
        log = StorefrontLog(SampleStore(300), dict.fromkeys(all_locales(), 3))
        assert len(list(log.searches())) == 3 * len(all_locales())
        assert list(StorefrontLog(SampleStore(300), {"pl-PL": 0}).batches()) == []


class TestRefusals:
    def test_sizes_and_locales_outside_the_limits(self) -> None:
        store = SampleStore(10)
        with pytest.raises(ValueError, match="no locale 'pl'; it has en-US"):
            StorefrontLog(store, {"pl": 1})
        with pytest.raises(ValueError, match="volume of pl-PL is 0 to 50,000,000 searches, not -1"):
            StorefrontLog(store, {"pl-PL": -1})
        with pytest.raises(ValueError, match="days of a simulated log is 1 to 3,650, not 0"):
            StorefrontLog(store, {"pl-PL": 1}, days=0)
        with pytest.raises(ValueError, match="must have a time zone"):
            StorefrontLog(store, {"pl-PL": 1}, start=datetime(2025, 1, 1))


def test_the_written_file_is_read_without_a_problem_and_shares_no_id_with_the_main_log(tmp_path: Path) -> None:
    write_sample_log(tmp_path, 500, 50, 5_000, 3, lambda *_: None)
    products = set(pq.read_table(tmp_path / "catalogue.parquet")["id"].to_pylist())
    log = open_log(tmp_path / "storefronts.parquet")
    assert set(log.products.to_pylist()) <= products
    assert set(log.locales.to_pylist()) <= set(all_locales()) - {"en-US"}
    assert len(log) == pytest.approx(0.38 * 5_000, rel=0.1)
    written, main = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("storefronts", "events"))
    assert written["time"].to_pylist() == sorted(written["time"].to_pylist())
    for column in ("id", "session_id"):
        assert not set(written[column].to_pylist()) & set(main[column].to_pylist())
