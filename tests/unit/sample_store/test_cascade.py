"""Each mechanism of the family "cascade" shows in the log that it makes, and is absent where it is switched off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.events.event import EVENT_SCHEMA
from models.sample_store import CascadeParameters, Oracle, SampleStore, SimulatedLog
from models.sample_store.cascade import Cascade
from models.sample_store.parameters import DAY_MS
from models.sample_store.purchase_memory import PurchaseMemory

Numbers = npt.NDArray[np.int64]
IMPRESSION, CLICK, CART, PURCHASE = range(4)
DEFAULT = CascadeParameters()


@dataclass(frozen=True)
class Played:
    """A log and its events as numbers, in the order of time."""

    log: SimulatedLog
    events: pa.Table
    kind: Numbers
    product: Numbers
    time: Numbers
    search: Numbers
    shopper: Numbers  # -1: anonymous

    @property
    def target(self) -> Numbers:
        """The type that the search of each event asked for."""
        return self.log.intents.types[Oracle(self.log).searches(self.events).intent]


@cache
def play(parameters: CascadeParameters) -> Played:
    log = SimulatedLog(SampleStore(3_000), num_shoppers=300, num_events=80_000, parameters=parameters)
    events = pa.Table.from_batches(log.batches())
    search = pc.cast(pc.utf8_slice_codeunits(pc.list_element(pc.split_pattern(events["id"], "-"), 0), 1), pa.int64())
    shoppers = [int(text[1:]) if text else -1 for text in events["shopper_id"].to_pylist()]
    return Played(
        log,
        events,
        np.concatenate([chunk.indices.to_numpy() for chunk in events["kind"].chunks]).astype(np.int64),
        np.array([int(text[3:]) - 1 for text in events["product_id"].to_pylist()]),
        np.asarray(events["time"].cast(pa.int64())),
        np.asarray(search),
        np.array(shoppers),
    )


def switched(**off: object) -> Played:
    return play(replace(DEFAULT, **off))  # type: ignore[arg-type]


class TestTheLog:
    def test_it_has_the_schema_of_all_logs_and_is_the_same_again(self) -> None:
        played = play(DEFAULT)
        assert played.events.num_rows == 80_000
        assert played.events.schema == EVENT_SCHEMA
        assert (np.diff(played.time) >= 0).all()
        assert pa.Table.from_batches(played.log.batches()) == played.events
        again = SimulatedLog(SampleStore(3_000), 300, 80_000, parameters=DEFAULT)
        again.play()
        assert pa.Table.from_batches(again.batches()) == played.events

    @pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 3, 500), (30, 2, 3_000)])
    def test_smallest_sizes(self, sizes: tuple[int, int, int]) -> None:
        log = SimulatedLog(SampleStore(sizes[0], seed=4), sizes[1], sizes[2], parameters=DEFAULT)
        assert sum(batch.num_rows for batch in log.batches()) == sizes[2]

    def test_the_truth_about_a_search_has_the_query_of_the_log(self) -> None:
        played = play(DEFAULT)
        fresh = SimulatedLog(SampleStore(3_000), 300, 80_000, parameters=DEFAULT)  # the oracle plays it first
        intents = Oracle(fresh).searches(played.events).intent
        assert [fresh.intents.texts[at] for at in intents.tolist()] == played.events["query"].to_pylist()
        assert (intents != fresh.plan.searches(np.unique(played.search // 6)).intent[:1]).any()


class TestReading:
    def clicks_of_searches(self, played: Played) -> Numbers:
        clicks = np.bincount(played.search[played.kind == CLICK])
        return clicks[clicks > 0]

    def test_a_click_that_is_enough_is_the_last(self) -> None:
        one = switched(stop_after_click=1.0, stop_after_cart=1.0)
        assert self.clicks_of_searches(one).max() == 1
        assert self.clicks_of_searches(switched(stop_after_click=0.0, stop_after_cart=0.0)).mean() > 1.5

    def test_a_patient_shopper_reads_the_whole_page(self) -> None:
        patient = switched(patience=1.0, stop_after_click=0.0, stop_after_cart=0.0)
        hasty = switched(patience=0.5)
        lengths = [np.bincount(one.search[one.kind == IMPRESSION]) for one in (patient, hasty)]
        patient_length, hasty_length = (float(counts[counts > 0].mean()) for counts in lengths)
        assert patient_length > 15  # of 24: many types of 3,000 products have fewer
        assert 4 <= hasty_length < 6  # rows of four, of which the first is always shown
        assert hasty.events.filter(pa.array(hasty.kind == CLICK))["position"].to_numpy().mean() < 3


class TestTaste:
    def tastes(self, played: Played) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Returns the taste of shoppers for what they clicked, and of others for the same."""
        rows = np.flatnonzero((played.kind == CLICK) & (played.shopper >= 0))
        truth = play(replace(DEFAULT, repeat_rate=0, complement_rate=0)).log.family.engagement
        others = np.random.default_rng(0).permutation(played.shopper[rows])
        own, other = (
            truth.preference(shoppers, played.product[rows], played.time[rows])
            for shoppers in (played.shopper[rows], others)
        )
        return own, other

    def test_shoppers_click_what_is_to_their_taste_unless_they_have_none(self) -> None:
        own, other = self.tastes(play(DEFAULT))
        assert own.mean() > 1.4 * other.mean()
        all_alike = {f"other_{name}": 1.0 for name in ("brand", "style", "colour", "audience", "size", "price")}
        own, other = self.tastes(switched(repeat_rate=0, complement_rate=0, **all_alike))
        assert own.mean() == pytest.approx(other.mean(), rel=0.1)

    def test_one_miss_spoils_a_product(self) -> None:
        products, shoppers = np.arange(3_000)[None, :], np.arange(40)[:, None]
        time = np.array([[play(DEFAULT).log.start_ms]])
        by_product = play(DEFAULT).log.family.engagement.preference(shoppers, products, time)
        by_worst = switched(taste="worst").log.family.engagement.preference(shoppers, products, time)
        assert (by_product <= by_worst + 1e-12).all()
        assert by_product.mean() < 0.7 * by_worst.mean()
        hopeless = replace(DEFAULT, other_brand=0.0)
        log = SimulatedLog(SampleStore(3_000), 300, 1_000, parameters=hopeless)
        level = log.shoppers.preference(shoppers, log.assortment.latents.brand[products], time)
        assert (log.family.engagement.preference(shoppers, products, time)[level == 0] == 0).all()

    def test_shoppers_who_name_something_buy_what_has_it(self) -> None:
        assert fitting_purchases(play(DEFAULT)) > 0.95
        assert fitting_purchases(switched(unasked_fit=1.0)) < 0.6


def fitting_purchases(played: Played) -> float:
    """Returns the share of purchases that have all that their query named, of those whose query named something."""
    truth = Oracle(played.log).searches(played.events.filter(pa.array(played.kind == PURCHASE)))
    product = played.product[played.kind == PURCHASE]
    fit = played.log.family.engagement.relevance(truth.intent, product)
    names = (played.log.intents.fields[truth.intent] >= 0).any(axis=1)
    return float((fit[names] == 0).mean())


class TestWhatFollowsFromPurchases:
    def repeats(self, played: Played) -> float:
        """Returns the share of known shoppers' purchases of what they had bought 5 to 30 days before."""
        rows = np.flatnonzero((played.kind == PURCHASE) & (played.shopper >= 0))
        shopper, product, time = played.shopper[rows], played.product[rows], played.time[rows]
        days = (time[:, None] - time[None, :]) / DAY_MS
        same = (shopper[:, None] == shopper) & (product[:, None] == product) & (days >= 5) & (days <= 30)
        return float(same.any(axis=1).mean())

    def test_the_same_is_bought_again_after_some_days(self) -> None:
        assert self.repeats(play(DEFAULT)) > 2 * self.repeats(switched(repeat_rate=0.0))

    def accessories(self, played: Played) -> float:
        """Returns the share of known shoppers' searches for an accessory of what they bought last, of those after such a purchase."""
        rows = np.flatnonzero((played.kind == PURCHASE) & (played.shopper >= 0))
        memory = PurchaseMemory(3_000)
        memory.add(played.shopper[rows], played.product[rows], played.time[rows])
        first = np.flatnonzero((played.kind == IMPRESSION) & (played.shopper >= 0) & (played.search % 6 == 0))
        bought = memory.last_bought(played.shopper[first], played.time[first], (2 * DAY_MS, 20 * DAY_MS))
        accessory_of = played.log.assortment.accessory_of
        kind = played.log.assortment.latents.type[bought]
        counts = (bought >= 0) & np.isin(kind, accessory_of[accessory_of >= 0])
        return float((accessory_of[played.target[first]] == kind)[counts].mean())

    def test_what_goes_with_a_purchase_is_searched_for(self) -> None:
        assert self.accessories(play(DEFAULT)) > 2 * self.accessories(switched(complement_rate=0.0))

    def test_what_was_bought_is_known_as_of_any_time(self) -> None:
        memory = PurchaseMemory(10)
        shoppers, products = np.array([1, 1, 2, 1]), np.array([3, 4, 3, 3])
        memory.add(shoppers[:2], products[:2], np.array([100, 300]))
        memory.add(shoppers[2:], products[2:], np.array([200, 900]))
        at = np.array([50, 150, 350, 1_000])
        assert memory.last_bought(np.full(4, 1), at, (1, 10_000)).tolist() == [-1, 3, 4, 3]
        assert memory.bought_within(np.full(4, 1), np.full(4, 3), at, (1, 200)).tolist() == [False, True, False, True]
        assert memory.last_bought(np.array([2, 3]), np.array([999, 999]), (1, 10_000)).tolist() == [3, -1]


class TestStock:
    def out(self, played: Played) -> npt.NDArray[np.bool_]:
        """Returns which events are of products that are out of stock then, by the default parameters."""
        family = play(DEFAULT).log.family
        assert isinstance(family, Cascade)
        return family.pages.stock.is_out(played.product, played.time)

    def test_a_product_that_ran_out_is_on_no_page(self) -> None:
        shown = play(DEFAULT).kind == IMPRESSION
        assert not self.out(play(DEFAULT))[shown].any()
        always = switched(out_rate=0.0)
        assert self.out(always)[always.kind == IMPRESSION].mean() > 0.05

    def test_others_get_its_clicks(self) -> None:
        with_gaps, always = play(DEFAULT), switched(out_rate=0.0)
        rates = [(one.kind == CLICK).sum() / len(np.unique(one.search)) for one in (with_gaps, always)]
        assert rates[0] == pytest.approx(rates[1], rel=0.1)


class TestEarlierModel:
    def late_share(self, played: Played) -> float:
        """Returns the share of the first four places of the last third's pages that the most clicked twentieth of products have."""
        late = played.time > played.log.start_ms + 40 * DAY_MS
        clicks = np.bincount(played.product[(played.kind == CLICK) & ~late], minlength=3_000)
        first = late & (played.kind == IMPRESSION) & (played.events["position"].to_numpy() <= 4)
        shown = np.bincount(played.product[first], minlength=3_000)
        return float(shown[np.argsort(-clicks)[:150]].sum() / shown.sum())

    def test_what_was_clicked_is_shown_more(self) -> None:
        shares = [self.late_share(switched(click_exponent=exponent)) for exponent in (0.0, DEFAULT.click_exponent, 1.0)]
        assert shares[1] > 1.1 * shares[0]
        assert shares[2] > 1.2 * shares[1]

    def test_words_of_the_query_come_first(self) -> None:
        def first_fits(played: Played) -> float:
            rows = np.flatnonzero((played.kind == IMPRESSION) & (played.events["position"].to_numpy() <= 4))
            truth = Oracle(played.log).searches(played.events.take(pa.array(rows)))
            typed = (played.log.intents.word_lists[truth.intent] >= 0).any(axis=1)
            fit = played.log.family.engagement.relevance(truth.intent, played.product[rows])
            return float((fit[typed] == 0).mean())

        assert first_fits(play(DEFAULT)) > 1.2 * first_fits(switched(match_weight=0.0))


class TestOracle:
    def test_its_chances_have_all_three_steps_for_known_and_unknown_shoppers(self) -> None:
        played = play(DEFAULT)
        events, rows = played.events.slice(0, 400), np.arange(400)
        oracle = Oracle(played.log)
        for knows_shopper in (True, False):
            chances = oracle.chances(events, rows, played.product[:400], knows_shopper=knows_shopper)
            assert chances.shape == (400, 3)
            assert (np.diff(chances, axis=1) <= 0).all()
            assert (chances > 0).all()

    def test_it_beats_popularity_and_knows_its_own_chances(self) -> None:
        played = play(DEFAULT)
        bought = played.events.filter(
            pa.array((played.kind == PURCHASE) & (played.time > played.log.start_ms + 40 * DAY_MS))
        )
        product = np.array([int(text[3:]) - 1 for text in bought["product_id"].to_pylist()])
        oracle = Oracle(played.log)
        known, unknown = (oracle.best(bought, 10, knows_shopper=knows) for knows in (True, False))
        recalls = [float((ranking.products == product[:, None]).any(axis=1).mean()) for ranking in (known, unknown)]
        clicks = np.bincount(played.product[played.kind == CLICK], minlength=3_000)
        types = played.log.assortment.latents.type
        target = played.log.intents.types[oracle.searches(bought).intent]
        popular = np.stack([np.argsort(-clicks * (types == kind), kind="stable")[:10] for kind in target.tolist()])
        assert recalls[0] > recalls[1] > float((popular == product[:, None]).any(axis=1).mean())
        assert recalls[0] == pytest.approx(float(known.chances.sum(axis=1).mean()), abs=0.1)
