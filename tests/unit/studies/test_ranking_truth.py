"""The simulation's chances of shown products are those by which it drew its log, and segments say what they are named for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.evaluation.numbered_log import read_log
from models.evaluation.page_buckets import query_bucket
from models.products.product_table import ProductTable, write_products
from models.ranking.impressions import Impressions, read_impressions
from models.sample_store import EVENTS, FAMILIES, TRUTH, LogParameters, SampleStore, parameters_of, write_sample_log
from models.studies.oracle_ranker import TruthError, load_simulated_log
from models.studies.ranking.segments import HISTORY, QUERY, SHOPPER, page_segments, searches_before
from models.studies.ranking.truth import FIT, QUALITY, TASTE, StoreTruth
from models.unified.history import HistoryItem, HistoryKind
from models.unified.price_bands import PriceBands

NUM_PRODUCTS = 1000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_sample_log(folder, NUM_PRODUCTS, 150, 40_000, 0, lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ProductTable:
    path = tmp_path_factory.mktemp("table") / "products.arrow"
    write_products(path, SampleStore(NUM_PRODUCTS).products(), ())
    return ProductTable(path)


@pytest.fixture(scope="module")
def shown(store: Path, table: ProductTable) -> Impressions:
    return read_impressions(store / "events.parquet", table, PriceBands({}))


@pytest.fixture(scope="module")
def truth(store: Path, table: ProductTable) -> StoreTruth:
    return StoreTruth.read(store, table, 0)


def test_chances_are_those_that_the_log_was_drawn_by(truth: StoreTruth, shown: Impressions) -> None:
    chances = truth.for_pages(shown)
    assert (np.diff(chances, axis=1) <= 0).all()
    assert (chances > 0).all()
    looked = chances[:, 0] * shown.position ** -LogParameters().look_exponent
    assert shown.labels[:, 0].mean() == pytest.approx(looked.mean(), rel=0.1)
    likely = looked > np.quantile(looked, 0.95)
    assert shown.labels[likely, 0].mean() == pytest.approx(looked[likely].mean(), rel=0.15)


def test_who_does_not_know_the_shopper_takes_the_mean(truth: StoreTruth, shown: Impressions) -> None:
    known, unpersonal = truth.for_pages(shown), truth.for_pages(shown, knows_shopper=False)
    is_anonymous = shown.is_anonymous[shown.page]
    assert np.array_equal(known[is_anonymous], unpersonal[is_anonymous])
    assert known[~is_anonymous].std() > 1.2 * unpersonal[~is_anonymous].std()


def test_better_products_have_better_parts(truth: StoreTruth, shown: Impressions) -> None:
    parts, chances = truth.parts(shown), truth.for_pages(shown)
    assert set(parts) == {FIT, TASTE, QUALITY}
    known = ~shown.is_anonymous[shown.page]
    for part in parts.values():
        assert np.corrcoef(part[known], np.log(chances[known, 2]))[0, 1] > 0.1
    assert not parts[TASTE][~known].any()


def test_the_truth_of_another_catalogue_is_refused(store: Path, tmp_path: Path) -> None:
    write_products(tmp_path / "few.arrow", SampleStore(900).products(), ())
    with pytest.raises(TruthError, match="has 1,000 products, the bundle has 900"):
        StoreTruth.read(store, ProductTable(tmp_path / "few.arrow"), 0)


def test_a_search_that_the_log_does_not_have_is_named(truth: StoreTruth) -> None:
    with pytest.raises(TruthError, match="no such thing"):
        truth.searches(np.array([1]), ["no such thing"])


def test_queries_are_head_torso_and_tail_by_their_searches() -> None:
    counts = {"sofa": 50, "rug": 30, "lamp": 15, "bin": 5}
    found = query_bucket(["Sofa", "rug", " lamp", "bin", "kite"], counts)
    assert [found.values[code] for code in found.codes] == ["head", "torso", "tail", "tail", "unseen"]
    assert query_bucket(["sofa"], {}).codes.tolist() == [3]


def test_searches_before_a_moment_are_counted_once_each(store: Path, table: ProductTable, shown: Impressions) -> None:
    log = read_log(store / "events.parquet", [table.id(row) for row in range(len(table))])
    middle = int(shown.time_ms[shown.num_pages // 2])
    assert sum(searches_before(log, middle).values()) == pytest.approx(shown.num_pages // 2, rel=0.01)
    assert not searches_before(log, 0)


def test_shoppers_and_histories_are_told_apart(shown: Impressions) -> None:
    pages = np.flatnonzero(~shown.is_anonymous)[:3]
    some = shown.take(np.append(pages, np.flatnonzero(shown.is_anonymous)[0]))
    search = HistoryItem(HistoryKind.SEARCH, 0, query="sofa")
    click = HistoryItem(HistoryKind.CLICK, 0, terms="sofa")
    some.histories[:] = [[search] * 9, [search, click], [click] * 20, [click]]
    found = page_segments(some, {})
    named = {name: [one.values[code] for code in one.codes] for name, one in found.items()}
    assert named[HISTORY] == ["nothing", "1 to 4", "20 or more", "1 to 4"]
    assert named[SHOPPER] == ["new", "returning", "returning", "anonymous"]
    assert named[QUERY] == ["unseen"] * 4


def test_the_truth_of_each_family_makes_its_events_again(tmp_path: Path) -> None:
    for family in FAMILIES:
        parameters = parameters_of(family, {"anonymous_share": 0.5})
        write_sample_log(tmp_path, 300, 40, 4_000, 1, lambda *_: None, parameters=parameters)
        again = load_simulated_log(tmp_path / TRUTH)
        assert again.parameters == parameters
        assert pa.Table.from_batches(again.batches()) == pq.read_table(tmp_path / EVENTS)


def test_a_truth_without_a_family_is_of_another_version(tmp_path: Path) -> None:
    write_sample_log(tmp_path, 300, 40, 4_000, 1, lambda *_: None)
    truth = json.loads((tmp_path / TRUTH).read_text())
    del truth["family"]
    (tmp_path / TRUTH).write_text(json.dumps(truth))
    with pytest.raises(TruthError, match="is no truth of this version's simulated logs: 'family'"):
        load_simulated_log(tmp_path / TRUTH)
