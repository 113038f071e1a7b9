"""The simulated shopping log is the same for the same seed, holds together, and shows what was planted in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.events.event import EVENT_SCHEMA, EventKind
from models.events.event_log import open_log
from models.products.reader import CatalogueReader
from models.sample_store import (
    SAMPLE_COLUMNS,
    LogParameters,
    Oracle,
    OracleRanking,
    SampleStore,
    SimulatedLog,
    load_product_types,
    write_sample_log,
)
from models.sample_store.additive import Additive
from models.sample_store.preferences import brands_of
from models.sample_store.result_pages import ResultPages
from models.sample_store.weighted_lists import WeightedLists

Numbers = npt.NDArray[np.int64]

NO_PREFERENCES = LogParameters(
    brand_liking=0, style_liking=0, colour_liking=0, audience_liking=0, size_liking=0, price_dislike=0
)


@pytest.fixture(scope="module")
def log() -> SimulatedLog:
    return SimulatedLog(SampleStore(20_000), num_shoppers=800, num_events=150_000)


@pytest.fixture(scope="module")
def events(log: SimulatedLog) -> pa.Table:
    return pa.Table.from_batches(log.batches())


def pages_of(log: SimulatedLog) -> ResultPages:
    assert isinstance(log.family, Additive)
    return log.family.pages


def kinds_of(events: pa.Table) -> npt.NDArray[np.str_]:
    return np.array(events["kind"].cast(pa.string()).to_pylist())


def numbers(column: pa.ChunkedArray, prefix: str) -> Numbers:
    return np.array([int(text[len(prefix) :]) for text in column.to_pylist()])


def products_of(events: pa.Table) -> Numbers:
    return numbers(events["product_id"], "AS-") - 1


def times_of(events: pa.Table) -> Numbers:
    return np.asarray(events["time"].cast(pa.int64()).to_numpy())


def of_kind(events: pa.Table, kind: EventKind) -> pa.Table:
    return events.filter(pc.equal(events["kind"].cast(pa.string()), str(kind)))


def favourite_brand(log: SimulatedLog, shopper: int, department: str, time_ms: int) -> int:
    brands = np.array(brands_of(department))
    preference = log.shoppers.preference(np.full(len(brands), shopper), brands, np.full(len(brands), time_ms))
    return int(brands[preference.argmax()])


@pytest.fixture(scope="module")
def late(log: SimulatedLog, events: pa.Table) -> pa.Table:
    """Purchases in the last third of the window."""
    bought = of_kind(events, EventKind.PURCHASE)
    return bought.filter(pa.array(times_of(bought) > log.start_ms + (log.end_ms - log.start_ms) * 2 // 3))


class TestShape:
    def test_number_schema_and_order(self, log: SimulatedLog, events: pa.Table) -> None:
        assert events.num_rows == 150_000
        assert events.schema == EVENT_SCHEMA
        times = times_of(events)
        assert (np.diff(times) >= 0).all()
        assert times[0] >= log.start_ms
        assert times[-1] < log.end_ms + 3_600_000
        assert pc.count_distinct(events["id"]).as_py() == 150_000
        # No season was planted: each tenth of the window has about a tenth of the events.
        tenths = np.bincount((times - log.start_ms) * 10 // (log.end_ms - log.start_ms), minlength=11)[:10]
        assert tenths / 150_000 == pytest.approx(0.1, abs=0.02)

    def test_the_reader_finds_nothing_wrong(self, tmp_path: Path) -> None:
        progress: list[tuple[str, int, int | None]] = []
        write_sample_log(tmp_path, 500, 50, 5_000, 3, lambda *step: progress.append(step))
        ids = {product.id for product in CatalogueReader(tmp_path / "catalogue.parquet", SAMPLE_COLUMNS).products()}
        log = open_log(tmp_path / "events.parquet")
        assert (len(log), log.num_repeated, log.locales.to_pylist()) == (5_000, 0, ["en-US"])
        assert set(log.products.to_pylist()) <= ids
        assert ("Writing the events", 5_000, 5_000) in progress
        truth = json.loads((tmp_path / "truth.json").read_text())
        assert (truth["simulated"], truth["seed"]) == (True, 3)
        assert truth["parameters"] == json.loads(json.dumps(asdict(LogParameters())))

    def test_every_step_follows_from_the_one_before(self, events: pa.Table) -> None:
        keys = list(zip(*(events[name].to_pylist() for name in ("session_id", "query", "product_id")), strict=True))
        kinds = kinds_of(events)
        steps = [{key for key, kind in zip(keys, kinds, strict=True) if kind == wanted} for wanted in EventKind]
        for before, after in pairwise(steps):
            assert set() < after < before

    def test_a_page_shows_a_product_once_and_positions_count_from_1(self, events: pa.Table) -> None:
        shown = of_kind(events, EventKind.IMPRESSION)
        search = numbers(pc.list_element(pc.split_pattern(shown["id"], "-"), 0), "e")
        pairs = search * 100_000 + products_of(shown)
        assert len(np.unique(pairs)) == len(pairs)
        positions = shown["position"].to_numpy()
        assert positions.min() == 1
        assert positions.max() == 24
        _, first = np.unique(search, return_index=True)
        assert (positions[first] == 1).all()

    def test_shares_of_shoppers(self, log: SimulatedLog, events: pa.Table) -> None:
        sessions = events.group_by(["session_id", "shopper_id"]).aggregate([])
        anonymous = pc.mean(pc.equal(sessions["shopper_id"], "").cast(pa.int8())).as_py()
        assert anonymous == pytest.approx(log.parameters.anonymous_share, abs=0.03)
        assert pc.count_distinct(sessions["session_id"]).as_py() == sessions.num_rows
        named = numbers(sessions.filter(pc.not_equal(sessions["shopper_id"], ""))["shopper_id"], "u")
        counts = np.bincount(named, minlength=800)
        habitual = log.shoppers.is_habitual
        assert habitual.mean() == pytest.approx(log.parameters.habitual_share, abs=0.04)
        assert counts[habitual].mean() > 8 * counts[~habitual].mean()

    def test_a_few_queries_are_common_and_most_are_rare(self, events: pa.Table) -> None:
        counts = np.sort(events["query"].value_counts().field("counts").to_numpy())[::-1]
        assert counts[: len(counts) // 10].sum() > 0.3 * counts.sum()
        assert len(counts) > 1_000

    def test_new_products_appear_only_after_their_launch(self, log: SimulatedLog, events: pa.Table) -> None:
        launches = log.assortment.launch_ms
        is_new = launches >= log.start_ms
        assert is_new.mean() == pytest.approx(log.parameters.new_share, abs=0.01)
        products = products_of(events)
        assert (times_of(events) >= launches[products]).all()
        assert is_new[products].mean() > 0.03


class TestSameForTheSameSeed:
    def test_same_bytes_and_other_bytes(self, tmp_path: Path) -> None:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            write_sample_log(tmp_path / name, 300, 40, 4_000, seed, lambda *_: None)
        for file in ("catalogue.parquet", "events.parquet", "storefronts.parquet", "truth.json"):
            first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
            assert first == again
            assert first != other

    def test_sizes_outside_the_limits_are_refused(self) -> None:
        store = SampleStore(10)
        for sizes, message in (
            ((0, 10), "num_shoppers of a simulated log is 1 to"),
            ((10, 100_000_001), "num_events of a simulated log is 1 to 100,000,000, not 100,000,001"),
        ):
            with pytest.raises(ValueError, match=message):
                SimulatedLog(store, *sizes)
        with pytest.raises(ValueError, match="must have a time zone"):
            SimulatedLog(store, 1, 1, start=datetime(2025, 1, 1))

    @pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 3, 500), (30, 2, 3_000)])
    def test_smallest_sizes(self, sizes: tuple[int, int, int]) -> None:
        log = SimulatedLog(SampleStore(sizes[0], seed=4), sizes[1], sizes[2])
        events = pa.Table.from_batches(log.batches())
        assert events.num_rows == sizes[2]
        assert products_of(events).max() < sizes[0]


class TestWhatWasPlanted:
    def test_higher_results_are_clicked_more_but_not_without_position_bias(self, events: pa.Table) -> None:
        def ratio(table: pa.Table) -> float:
            shown, clicked = (of_kind(table, kind)["position"].to_numpy() for kind in list(EventKind)[:2])
            rates = [(part(clicked)).sum() / part(shown).sum() for part in (lambda p: p <= 2, lambda p: p >= 9)]
            return float(rates[0] / rates[1])

        flat = LogParameters(look_exponent=0, word_weight=0)
        control = SimulatedLog(SampleStore(5_000), 300, 60_000, parameters=flat)
        assert ratio(events) > 1.5
        assert ratio(pa.Table.from_batches(control.batches())) == pytest.approx(1, abs=0.15)

    def test_the_query_decides_the_type(self, log: SimulatedLog, events: pa.Table) -> None:
        bought = of_kind(events, EventKind.PURCHASE)
        target = log.intents.types[Oracle(log).searches(bought).intent]
        assert (log.assortment.latents.type[products_of(bought)] == target).mean() > 0.98

    def test_habitual_shoppers_buy_their_brand_and_price_and_not_those_of_another(
        self, log: SimulatedLog, events: pa.Table
    ) -> None:
        bought = of_kind(events, EventKind.PURCHASE)
        truth = Oracle(log).searches(bought)
        rows = np.nonzero(log.shoppers.is_habitual[truth.shopper] & ~truth.is_anonymous)[0]
        assert len(rows) > 300
        products, times = products_of(bought)[rows], times_of(bought)[rows]
        shoppers = truth.shopper[rows]
        others = np.random.default_rng(0).permutation(shoppers)

        def brand_share(of: Numbers) -> float:
            hits = (
                favourite_brand(log, shopper, load_product_types()[kind].department, time) == brand
                for shopper, kind, brand, time in zip(
                    of.tolist(),
                    log.assortment.latents.type[products].tolist(),
                    log.assortment.latents.brand[products].tolist(),
                    times.tolist(),
                    strict=True,
                )
            )
            return float(np.mean(list(hits)))

        def price_distance(of: Numbers) -> float:
            bands = log.assortment.latents.price_band[products]
            return float(np.abs(bands - log.shoppers.price_band(of, times)).mean())

        assert brand_share(shoppers) > 2.5 * brand_share(others)
        assert price_distance(shoppers) < 0.7 * price_distance(others)

    def test_without_taste_it_is_the_same_brand_for_all(self) -> None:
        log = SimulatedLog(SampleStore(5_000), 200, 60_000, parameters=NO_PREFERENCES)
        clicked = of_kind(pa.Table.from_batches(log.batches()), EventKind.CLICK)  # 2,000; of purchases there are 38
        truth = Oracle(log).searches(clicked)
        brands = log.assortment.latents.brand[products_of(clicked)]
        liked = log.shoppers.preference(truth.shopper, brands, times_of(clicked))
        others = np.random.default_rng(0).permutation(truth.shopper)
        assert liked.mean() == pytest.approx(
            log.shoppers.preference(others, brands, times_of(clicked)).mean(), abs=0.04
        )


class TestOracle:
    def recall(self, ranked: Numbers, events: pa.Table) -> float:
        return float((ranked == products_of(events)[:, None]).any(axis=1).mean())

    def expected_recall(self, ranking: OracleRanking) -> float:
        return float(ranking.chances.sum(axis=1).mean())

    def test_it_reaches_what_it_expects_and_beats_popularity(
        self, log: SimulatedLog, events: pa.Table, late: pa.Table
    ) -> None:
        best = Oracle(log).best(late, 10)
        assert late.num_rows > 400
        assert self.recall(best.products, late) == pytest.approx(self.expected_recall(best), abs=0.07)
        popular = self.most_bought(log, events, late)
        assert self.recall(best.products, late) > 2 * self.recall(popular, late)

    def most_bought(self, log: SimulatedLog, events: pa.Table, late: pa.Table) -> Numbers:
        """Returns the 10 most clicked products of each query's type."""
        before = events.filter(pa.array(times_of(events) < times_of(late)[0]))
        clicks = np.bincount(products_of(of_kind(before, EventKind.CLICK)), minlength=20_000)
        types = log.assortment.latents.type
        top = {
            kind: np.argsort(-clicks * (types == kind), kind="stable")[:10] for kind in range(len(load_product_types()))
        }
        target = log.intents.types[Oracle(log).searches(late).intent]
        return np.stack([top[kind] for kind in target.tolist()])

    def test_preferences_help_much_for_habitual_shoppers(self, log: SimulatedLog, late: pa.Table) -> None:
        oracle = Oracle(log)
        habitual = late.filter(pa.array(oracle.is_habitual(late)))
        personal, without = (oracle.best(habitual, 10, knows_shopper=knows) for knows in (True, False))
        assert self.recall(personal.products, habitual) > 1.4 * self.recall(without.products, habitual)

    def test_preferences_help_nothing_where_none_were_planted(self) -> None:
        log = SimulatedLog(SampleStore(5_000), 200, 30_000, parameters=NO_PREFERENCES)
        bought = of_kind(pa.Table.from_batches(log.batches()), EventKind.PURCHASE)
        personal, without = (Oracle(log).best(bought, 10, knows_shopper=knows) for knows in (True, False))
        assert self.expected_recall(personal) == pytest.approx(self.expected_recall(without), abs=1e-9)

    def test_text_alone_is_never_better_than_the_intent(self, log: SimulatedLog, late: pa.Table) -> None:
        oracle = Oracle(log)
        known, guessed = (oracle.best(late, 10, knows_intent=knows) for knows in (True, False))
        assert self.recall(guessed.products, late) <= self.recall(known.products, late) + 0.02

    def test_it_ranks_live_products_once_and_pads_with_none(self, log: SimulatedLog, late: pa.Table) -> None:
        ranked = Oracle(log).best(late.slice(0, 30), 2_000).products
        assert ranked.shape == (30, 2_000)
        for row, time in zip(ranked, times_of(late), strict=False):
            found = row[row >= 0]
            assert len(np.unique(found)) == len(found) > 10
            assert (row[len(found) :] == -1).all()
            assert (log.assortment.launch_ms[found] <= time).all()

    def test_the_chance_to_be_examined_is_that_of_the_pages(self, log: SimulatedLog) -> None:
        rng = np.random.default_rng(0)
        intent = int(np.argmax(log.plan.intent_frequencies()))
        count = 4_000
        time_ms = (log.start_ms + log.end_ms) // 2
        pages = pages_of(log).draw(np.full(count, intent), np.full(count, time_ms), rng.random((count, 128)))
        seen = np.arange(24) < pages_of(log).depth(rng.random(count))[:, None]
        examined = np.bincount(
            pages[pages >= 0],
            (seen * pages_of(log).examination())[pages >= 0] / count,
            minlength=len(log.assortment.launch_ms),
        )
        products, chances = pages_of(log).candidates(intent, time_ms)
        assert chances.sum() == pytest.approx(examined.sum(), rel=0.02)
        assert np.corrcoef(chances, examined[products])[0, 1] > 0.97
        assert set(np.nonzero(examined)[0]) <= set(products.tolist())


class TestWeightedLists:
    def test_draws_follow_the_weights_of_their_own_list(self) -> None:
        lists = WeightedLists(np.array([5, 6, 7, 8]), np.array([1.0, 3.0, 1.0, 1e-12]), np.array([2, 0, 2]))
        uniforms = np.linspace(0, 1, 10_000, endpoint=False)
        first, last = (lists.draw(np.full(10_000, number), uniforms) for number in (0, 2))
        assert (first == 6).mean() == pytest.approx(0.75, abs=0.001)
        assert set(first.tolist()) == {5, 6}
        assert set(last.tolist()) <= {7, 8}
        assert [part.tolist() for part in lists.distribution(0)] == [[5, 6], [0.25, 0.75]]


def test_the_log_streams(log: SimulatedLog, events: pa.Table) -> None:
    batches = list(log.batches())
    assert len(batches) > 1
    assert pa.Table.from_batches(batches) == events  # the second time as well
