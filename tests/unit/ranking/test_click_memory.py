"""What a log told of each query's clicks, before each search and at its end, and what a catalogue that changes makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.bundles.bundle import Bundle
from models.events.event import EVENT_SCHEMA
from models.products.changes import AddedProducts, RemovedProducts
from models.ranking.click_history import HALF_LIFE_DAYS, LEAST_WEIGHT, MOST_PRODUCTS, ClickHistory
from models.ranking.click_memory import FILE, NOTHING, PRIOR, CatalogueClicks, Clicked, ClickMemory, clicks_of
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.parse_log import parse_log

DAY_MS = 86_400_000
START = datetime(2025, 1, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
Told = tuple[float, str, str, str, str, str]  # day, shopper, query, locale, product, kind


@pytest.fixture(scope="module")
def bundle(shop_bundle: Path) -> Bundle:
    return Bundle(shop_bundle)


def log_of(told: Sequence[Told]) -> pa.Table:
    rows = [
        {
            "id": f"e{at}",
            "time": START + timedelta(days=day),
            "shopper_id": shopper,
            "session_id": f"{shopper} {query} {at}",
            "locale": locale,
            "kind": kind,
            "product_id": product,
            "query": query,
            "position": None,
            "price_minor": None,
        }
        for at, (day, shopper, query, locale, product, kind) in enumerate(told)
    ]
    return pa.Table.from_pylist(rows, EVENT_SCHEMA)


def history(bundle: Bundle, told: Sequence[Told], until_day: float | None = None) -> ClickHistory:
    until_ms = None if until_day is None else START_MS + round(until_day * DAY_MS)
    return ClickHistory.from_events(parse_log(log_of(told), bundle.products()).events, until_ms)


def memory(bundle: Bundle, told: Sequence[Told], at_day: float) -> CatalogueClicks:
    table = bundle.products()
    return CatalogueClicks(history(bundle, told).memory(table, START_MS + round(at_day * DAY_MS)), table)


def as_dict(found: Clicked) -> dict[int, float]:
    assert np.array_equal(found.rows, np.unique(found.rows))
    return {row: round(weight, 4) for row, weight in zip(found.rows.tolist(), found.weights.tolist(), strict=True)}


def ids(bundle: Bundle) -> list[str]:
    return bundle.products().strings("id")


def test_each_search_knows_the_clicks_before_it(bundle: Bundle) -> None:
    first, second, *_ = ids(bundle)
    told: list[Told] = [
        (0, "ada", "Velvet  Sofa", "en-US", first, "click"),
        (1, "ben", "velvet sofa", "en-GB", first, "purchase"),
        (2, "cy", "velvet sofa", "en-US", second, "cart"),
        (2, "cy", "velvet sofa", "de-DE", second, "click"),
        (3, "cy", "oak bed", "en-US", second, "click"),
        (3, "dee", "velvet sofa", "en-US", first, "impression"),
    ]
    clicks = history(bundle, told)

    def known(day: float, locale: str = "en-US") -> dict[int, float]:
        return as_dict(clicks.find("VELVET sofa", locale, START_MS + round(day * DAY_MS)))

    half = HALF_LIFE_DAYS
    assert known(0) == {}
    assert known(half) == {0: round(0.5 + 0.5 ** ((half - 1) / half), 4), 1: round(0.5 ** ((half - 2) / half), 4)}
    assert list(known(2)) == [0]
    assert list(known(3, "de-AT")) == [1]
    assert known(9, "fr-FR") == {}
    with pytest.raises(ValueError, match="time"):
        clicks.find("velvet sofa", "en-US")


def test_a_shopper_counts_once_for_a_query_and_product(bundle: Bundle) -> None:
    first, second, *_ = ids(bundle)
    robot: list[Told] = [(at / 100, "robot", "sofa", "en-US", second, "click") for at in range(100)]
    people: list[Told] = [(at / 10, f"s{at}", "sofa", "en-US", first, "click") for at in range(9)]
    found = memory(bundle, sorted(robot + people), 1.0).find("sofa", "en-US")
    assert found.weights[0] > 8 * found.weights[1] > 7


def test_a_memory_is_the_history_at_its_time(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    products = ids(bundle)
    told: list[Told] = sorted(
        (
            float(rng.uniform(0, 2 * HALF_LIFE_DAYS)),
            f"s{rng.integers(20)}",
            str(rng.choice(["sofa", "bed", "red lamp", "ТУМБА"])),
            str(rng.choice(["en-US", "uk-UA"])),
            str(rng.choice([*products, "unknown"])),
            str(rng.choice(["impression", "click", "cart", "purchase"])),
        )
        for _ in range(600)
    )
    clicks = history(bundle, told)
    for day in (5.0, 100.0, 181.0):
        kept = memory(bundle, told, day)
        for query in ("sofa", "bed", "red lamp", "тумба", "nobody"):
            for locale in ("en-US", "uk-UA", ""):
                then = clicks.find(query, locale, START_MS + round(day * DAY_MS))
                wanted = {row: weight for row, weight in as_dict(then).items() if weight >= LEAST_WEIGHT}
                assert as_dict(kept.find(query, locale)) == pytest.approx(wanted, abs=2e-4)
    assert len(history(bundle, told, until_day=0).queries) == 0
    assert len(bundle.products()) <= MOST_PRODUCTS


def test_a_click_of_a_clock_that_is_ahead_makes_no_other_old(bundle: Bundle) -> None:
    first, second, *_ = ids(bundle)
    told: list[Told] = [(at / 100, f"s{at}", "sofa", "en-US", first, "click") for at in range(200)]
    ahead = memory(bundle, [*told, (9_000, "s", "sofa", "en-US", second, "click")], 9_001)
    found = as_dict(ahead.find("sofa", "en-US"))
    assert found[0] == pytest.approx(as_dict(memory(bundle, told, 2.0).find("sofa", "en-US"))[0], rel=0.02)
    assert found[1] == 1


def test_clicks_are_features_and_none_of_the_page_itself(bundle: Bundle) -> None:
    first, second, *_ = ids(bundle)
    told: list[Told] = [(day, f"s{day}", "velvet sofa", "en-US", first, "click") for day in range(3)]
    told.append((3, "s9", "velvet sofa", "en-US", second, "click"))
    axis = np.eye(bundle.manifest.dim, dtype=np.float32)[0]
    ask = QueryInput("velvet sofa", "en-US", axis, None, axis, time_ms=START_MS + 3 * DAY_MS)
    features = CandidateFeatures(bundle, clicks=history(bundle, told))
    found = features.compute(ask, np.array([1, 0, 2]))
    share, clicked = (found[:, FEATURES.index(name)] for name in ("clicked_share", "clicked"))
    weight = sum(0.5 ** (days / HALF_LIFE_DAYS) for days in (1, 2, 3))
    assert share == pytest.approx([0, weight / (weight + PRIOR), 0], abs=1e-4)
    assert clicked == pytest.approx([0, np.log1p(weight), 0], abs=1e-4)
    later = features.compute(replace(ask, time_ms=START_MS + 4 * DAY_MS), np.array([1, 0, 2]))
    assert later[0, FEATURES.index("clicked_share")] > 0
    served = features.with_clicks(memory(bundle, told, 3.0)).compute(replace(ask, time_ms=None), np.array([1, 0, 2]))
    assert np.allclose(served, found, atol=1e-6)
    assert not CandidateFeatures(bundle).compute(ask, np.array([0]))[0, FEATURES.index("clicked_share")]


def test_a_product_that_changes_keeps_its_clicks_and_one_that_goes_loses_them(bundle: Bundle) -> None:
    table = bundle.products()
    first, second, *_ = ids(bundle)
    told: list[Told] = [(0, "ada", "sofa", "en-US", first, "click"), (0, "ben", "sofa", "en-US", second, "click")]
    clicks = memory(bundle, told, 1.0)
    before = clicks.find("sofa", "en-US")
    assert before.rows.tolist() == [0, 1]
    product, size = table.product(0), len(table)
    nothing = np.zeros((1, 0), np.float16)
    clicks.remove(RemovedProducts(np.array([0]), [product]))
    assert clicks.find("sofa", "en-US").rows.tolist() == [1]
    clicks.append(AddedProducts(size, [product], nothing))
    changed = clicks.find("sofa", "en-US")
    assert changed.rows.tolist() == [1, size]
    assert changed.weights.tolist() == before.weights[::-1].tolist()
    clicks.append(AddedProducts(size + 1, [product], nothing))  # the new version first, then the old one goes
    clicks.remove(RemovedProducts(np.array([size]), [product]))
    assert clicks.find("sofa", "en-US").rows.tolist() == [1, size + 1]


def test_clicks_of_rows_in_any_order() -> None:
    found = Clicked(np.array([2, 5, 9]), np.array([1, 3, 0.5], np.float32), 5.5)
    values = clicks_of(found, np.array([9, 0, 5, 10, 2]))
    assert values[:, 0] == pytest.approx(np.array([0.5, 0, 3, 0, 1]) / (5.5 + 3))
    assert values[:, 1] == pytest.approx(np.log1p([0.5, 0, 3, 0, 1]))
    assert not clicks_of(NOTHING, np.arange(3)).any()


def test_a_memory_is_kept_in_a_file_and_a_damaged_one_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    told: list[Told] = [
        (at, f"s{at}", f"query {at % 3}", "en-US", product, "click") for at, product in enumerate(ids(bundle))
    ]
    kept = history(bundle, told).memory(bundle.products(), START_MS + 50 * DAY_MS)
    for one in (kept, ClickMemory.none()):
        one.save(tmp_path)
        read = ClickMemory.load(tmp_path)
        assert read.product_ids == one.product_ids
        for name in ("queries", "starts", "products", "weights"):
            assert np.array_equal(getattr(read, name), getattr(one, name))
    replace(kept, weights=kept.weights[1:]).save(tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        ClickMemory.load(tmp_path)
    replace(kept, product_ids=kept.product_ids[:1]).save(tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        ClickMemory.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=FILE):
        ClickMemory.load(tmp_path)
