"""The simulated store is judged by what it wrote its queries for; the training pairs decide which are seen, near and unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.sample_store import EVENTS, TRUTH, SampleStore, write_sample_log
from models.studies.oracle_ranker import load_simulated_log
from models.studies.text_encoder.judged_set import JudgedSetError
from models.studies.text_encoder.simulated_judgements import FREQUENCY, SEEN, Judgements, judge_simulation
from models.studies.text_encoder.wording import near_duplicates
from models.text_tuning.pairs import ClickPairs, PairRules, gather_pairs
from models.text_tuning.query_keys import plain_key
from models.unified.shopping_log import ShoppingLog

NUM_PRODUCTS, MAX_PAIRS = 400, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store")
    write_sample_log(out, NUM_PRODUCTS, 200, 20_000, 3, lambda *_: None)
    return out


@pytest.fixture(scope="module")
def log(folder: Path) -> ShoppingLog:
    return ShoppingLog.read(folder / EVENTS, [product.id for product in SampleStore(NUM_PRODUCTS, 3).products()])


@pytest.fixture(scope="module")
def training(log: ShoppingLog) -> ClickPairs:
    return gather_pairs(log, PairRules(), before_ms=log.time_at(0.6))


@pytest.fixture(scope="module")
def judged(folder: Path, log: ShoppingLog, training: ClickPairs) -> Judgements:
    titles = [product.title for product in SampleStore(NUM_PRODUCTS, 3).products()]
    simulation = load_simulated_log(folder / TRUTH)
    return judge_simulation(simulation, log, training, log.time_at(0.6), titles, max_queries=300, max_pairs=MAX_PAIRS)


def test_exact_products_are_what_the_simulation_calls_a_full_fit(folder: Path, judged: Judgements) -> None:
    simulation, ranking = load_simulated_log(folder / TRUTH), judged.ranking
    keys = [plain_key(text) for text in simulation.intents.texts]
    every = np.arange(NUM_PRODUCTS)
    for query in range(0, len(ranking.queries), 37):
        intents = np.flatnonzero(np.array([key == plain_key(ranking.queries[query]) for key in keys]))
        fit = simulation.family.engagement.relevance(intents[:, None], every[None, :]).max(axis=0)
        of_query = ranking.query_rows == query
        exact = ranking.product_rows[of_query & (ranking.gains == 1.0)]
        partial = ranking.product_rows[of_query & (ranking.gains == 0.5)]
        assert exact.tolist() == np.flatnonzero(fit == 0).tolist()
        wanted = set(simulation.intents.types[intents].tolist())
        assert {int(kind) for kind in simulation.assortment.latents.type[partial]} <= wanted


def test_a_seen_query_was_trained_on_and_an_unseen_one_is_not_even_near_one(
    judged: Judgements, training: ClickPairs
) -> None:
    known = {plain_key(training.queries[at]) for at in training.query.tolist()}
    codes = judged.ranking.query_buckets[SEEN].codes
    for query, code in zip(judged.ranking.queries, codes.tolist(), strict=True):
        assert (plain_key(query) in known) == (code == 0)
    unseen = [judged.ranking.queries[at] for at in np.flatnonzero(codes == 2).tolist()]
    assert unseen
    assert not near_duplicates(unseen, known).any()


def test_a_product_is_seen_when_a_training_pair_holds_it(judged: Judgements, training: ClickPairs) -> None:
    codes = judged.ranking.product_buckets[SEEN].codes
    assert set(np.flatnonzero(codes == 0).tolist()) == set(training.product.tolist())
    assert (codes == 1).any()


def test_head_queries_make_about_half_of_the_searches_before_the_cut(judged: Judgements, log: ShoppingLog) -> None:
    cut = log.time_at(0.6)
    events = np.flatnonzero((log.searched_ms < cut) & (log.query > 0))
    _, first = np.unique(log.search[events], return_index=True)
    asked = [plain_key(log.queries[code]) for code in log.query[events][first].tolist()]
    bucket = judged.ranking.query_buckets[FREQUENCY]
    of_key = dict(zip(map(plain_key, judged.ranking.queries), bucket.codes.tolist(), strict=True))
    counts = {key: asked.count(key) for key in of_key}
    least_head = min(counts[key] for key, code in of_key.items() if code == 0)
    assert least_head >= max(counts[key] for key, code in of_key.items() if code == 2)
    assert all((counts[key] == 0) == (code == 3) for key, code in of_key.items())


def test_pairs_hold_what_was_shown_and_as_many_products_at_random(judged: Judgements, log: ShoppingLog) -> None:
    pairs = judged.pairs
    after = np.flatnonzero((log.searched_ms >= log.time_at(0.6)) & (log.query > 0))
    shown = {
        (plain_key(log.queries[code]), product)
        for code, product in zip(log.query[after].tolist(), log.product[after].tolist(), strict=True)
    }
    of_pair = zip(pairs.query_rows.tolist(), pairs.product_rows.tolist(), pairs.is_relevant.tolist(), strict=True)
    assert all((plain_key(pairs.queries[query]), product) in shown for query, product, right in of_pair if right)
    per_query = np.bincount(pairs.query_rows[pairs.is_relevant], minlength=len(pairs.queries))
    assert 0 < per_query.max() <= 2 * MAX_PAIRS
    assert 0.2 < pairs.is_relevant.mean() < 0.6


def test_another_log_s_truth_is_refused(folder: Path, log: ShoppingLog, training: ClickPairs) -> None:
    simulation = load_simulated_log(folder / TRUTH)
    with pytest.raises(JudgedSetError, match="there are 3 product texts"):
        judge_simulation(simulation, log, training, 0, ["a", "b", "c"])
    with pytest.raises(JudgedSetError, match="there is no query after the training window"):
        judge_simulation(simulation, log, training, int(log.time_ms[-1]) + 1, ["a"] * NUM_PRODUCTS)
