"""Rankers see the query and what came before it; baselines rank as their names say; results hold each case's figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import Ints
from models.evaluation.cases import Cases, Split, build_cases
from models.evaluation.numbered_log import numbered_log
from models.evaluation.results import Results, evaluate_rankers
from models.events.event import EVENT_SCHEMA
from models.lexical.bm25 import Bm25
from models.studies import rankers
from models.studies.baselines import (
    Bm25Ranker,
    BuyAgainRanker,
    PopularAmongRanker,
    PopularInCategoryRanker,
    PopularRanker,
    popularity,
)
from models.studies.rankers import WithOthersHistories, WithoutHistories, nearest

TITLES = ("velvet sofa", "leather sofas", "desk lamp", "floor lamp", "oak desk", "sofa bed")
CATEGORIES = ("Sofas", "Sofas", "Lamps", "Lamps", "Desks", "Sofas")
SPLIT = Split(train_end_ms=100)

# time, shopper, kind, product, query; each event is a session of its own
TRAINING = [
    (1, "u1", "purchase", 1, "couch"),
    (2, "u1", "purchase", 0, "couch"),
    (3, "u1", "purchase", 0, "couch"),
    (4, "u2", "purchase", 5, "sofa bed"),
    (5, "u2", "click", 5, "sofa bed"),
    (6, "u3", "purchase", 2, "lamp"),
    (7, "u3", "click", 4, "lamp"),
    (8, "u3", "click", 3, "reading lamp"),
]
AFTER = [
    (200, "u1", "purchase", 0, "couch"),
    (201, "u4", "purchase", 3, "lamp"),
    (202, "u4", "purchase", 5, "couch bed"),
    (203, "u3", "purchase", 2, "zzz"),
]


def cases_of(rows: list[tuple[int, str, str, int, str]]) -> Cases:
    values = [
        {
            "id": f"e{number}",
            "time": time,
            "shopper_id": shopper,
            "session_id": f"s{number}",
            "locale": "en-US",
            "kind": kind,
            "product_id": f"p{product}",
            "query": query,
        }
        for number, (time, shopper, kind, product, query) in enumerate(rows)
    ]
    log = numbered_log(pa.Table.from_pylist(values, EVENT_SCHEMA), [f"p{row}" for row in range(len(TITLES))])
    return build_cases(log, SPLIT)


@pytest.fixture(scope="module")
def cases() -> Cases:
    return cases_of(TRAINING + AFTER)


def test_popularity_is_learned_from_the_training_window_alone(cases: Cases) -> None:
    assert popularity(cases.events, cases.split).tolist() == [6, 3, 3, 1, 1, 4]
    ranked = PopularRanker(cases.events, cases.split).rank(cases, 8)
    assert ranked.tolist() == [[0, 5, 1, 2, 3, 4, -1, -1]] * 4


def test_what_was_bought_a_half_life_ago_counts_half() -> None:
    day = 86_400_000
    rows = [
        (0, "u1", "purchase", 0, "couch"),
        (9 * day, "u2", "purchase", 1, "couch"),
        (11 * day, "u1", "purchase", 1, "couch"),
    ]
    events = cases_of(rows).events
    assert popularity(events, Split(train_end_ms=10 * day), half_life_days=1.0)[:2].tolist() == [3 / 2**10, 3 / 2]


def test_bm25_finds_the_words_of_the_query_whatever_their_form(cases: Cases) -> None:
    ranked = Bm25(TITLES).best(["Sofas", "LAMP", "zzz", "", "the"], 8)
    assert [set(row[row >= 0].tolist()) for row in ranked] == [{0, 1, 5}, {2, 3}, set(), set(), set()]
    assert Bm25Ranker(TITLES).rank(cases, 3)[1].tolist() in ([2, 3, -1], [3, 2, -1])


def test_the_popular_ones_of_the_category_that_the_query_led_to_come_first(cases: Cases) -> None:
    ranker = PopularInCategoryRanker(cases.events, cases.split, CATEGORIES)
    couch, lamp, bed, unknown = ranker.rank(cases, 6).tolist()
    assert couch[:3] == [0, 5, 1]
    assert lamp == [2, 3, 4, 0, 5, 1]  # lamps, then the desk that a search for lamps led to, then the rest
    assert bed[:3] == [0, 5, 1]  # unseen, but its words are known
    assert unknown[:3] == [0, 5, 1]  # nothing is known, so the most popular category
    assert all(sorted(row) == list(range(6)) for row in (couch, lamp, bed, unknown))


def test_what_was_bought_before_comes_first_the_most_often_bought_before_the_latest(cases: Cases) -> None:
    ranked = BuyAgainRanker(PopularRanker(cases.events, cases.split)).rank(cases, 4).tolist()
    assert ranked[0] == [0, 1, 5, 2]  # twice 0, once 1
    assert ranked[1] == [0, 5, 1, 2]  # nothing was bought before
    assert ranked[2] == [3, 0, 5, 1]  # bought after training, yet before this case
    assert ranked[3] == [2, 0, 5, 1]


def test_earlier_purchases_that_do_not_fit_the_query_stay_out(cases: Cases) -> None:
    ranked = BuyAgainRanker(Bm25Ranker(TITLES)).rank(cases, 4)
    assert ranked[3].tolist() == [-1, -1, -1, -1]


def test_popularity_among_matches_keeps_to_them(cases: Cases) -> None:
    ranker = PopularAmongRanker(Bm25Ranker(TITLES), popularity(cases.events, cases.split), "popular among")
    assert ranker.rank(cases, 4).tolist()[1:3] == [[2, 3, -1, -1], [5, -1, -1, -1]]


@given(
    queries=st.integers(1, 5),
    products=st.integers(1, 30),
    dim=st.integers(1, 6),
    k=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_exact_search_is_the_sorted_matrix_product(queries: int, products: int, dim: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = rng.normal(size=(queries, dim)).astype(np.float32)
    vectors = rng.normal(size=(products, dim)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rankers, "PRODUCT_BLOCK", 7)
        found = nearest(asked, vectors, k)
    scores = asked.astype(np.float64) @ vectors.T
    assert found.shape == (queries, k)
    for row in range(queries):
        got = found[row][found[row] >= 0]
        assert len(set(got.tolist())) == len(got) == min(k, products)
        assert scores[row][got] == pytest.approx(np.sort(scores[row])[::-1][:k], abs=1e-5)


def test_vectors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 dimensions"):
        nearest(np.zeros((2, 4), np.float32), np.zeros((5, 3), np.float32), 1)
    for queries, products in ((np.nan, 0.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="must be finite"):
            nearest(np.full((2, 3), queries, np.float32), np.full((5, 3), products, np.float32), 1)


class HistoryRanker:
    """Ranks first what the shopper had engaged with before."""

    name = "model"

    def rank(self, cases: Cases, k: int) -> Ints:
        starts, stops = cases.history_slices()
        vectors = np.zeros((len(cases), len(TITLES)), np.float32)
        for case, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            vectors[case, cases.events.products[cases.histories.rows[start:stop]]] = 1
        return nearest(vectors, np.eye(len(TITLES), dtype=np.float32), k)


def test_a_model_that_lives_on_histories_loses_by_others_and_by_none() -> None:
    rng = np.random.default_rng(0)
    rows = [(n, f"u{n}", "purchase", int(rng.integers(6)), "couch") for n in range(60)]
    rows += [(200 + n, f"u{n}", "purchase", rows[n][3], "couch") for n in range(60)]
    cases = cases_of(rows)
    model = HistoryRanker()
    results = evaluate_rankers(
        [model, WithoutHistories(model, "no history"), WithOthersHistories(model, "others' histories")], cases, ks=(1,)
    )
    means = {name: results.values(name, "recall@1").mean() for name in results.scores}
    assert means["model"] == 1.0
    assert means["no history"] < 0.5
    assert means["others' histories"] < 0.5


class TestEvaluation:
    def test_figures_are_those_of_each_case(self, cases: Cases) -> None:
        results = evaluate_rankers([PopularRanker(cases.events, cases.split)], cases, ks=(1, 4))
        assert results.metrics == ("recall@1", "recall@4", "ndcg@10", "mrr", "map")
        assert results.values("popular", "recall@1").tolist() == [1, 0, 0, 0]
        assert results.values("popular", "recall@4").tolist() == [1, 0, 1, 1]
        assert results.values("popular", "mrr").tolist() == pytest.approx([1, 1 / 5, 1 / 2, 1 / 4])

    def test_blocks_change_nothing(self, cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
        ranker = BuyAgainRanker(Bm25Ranker(TITLES))
        whole = evaluate_rankers([ranker], cases)
        monkeypatch.setattr("models.evaluation.results.BLOCK", 3)
        np.testing.assert_array_equal(evaluate_rankers([ranker], cases).scores[ranker.name], whole.scores[ranker.name])

    def test_models_can_be_evaluated_one_by_one(self, cases: Cases) -> None:
        first = PopularRanker(cases.events, cases.split, "a")
        second = PopularRanker(cases.events, cases.split, "b")
        both = evaluate_rankers([first], cases).with_rankers_of(evaluate_rankers([second], cases))
        assert list(both.scores) == ["a", "b"]
        with pytest.raises(ValueError, match="other cases"):
            both.with_rankers_of(evaluate_rankers([second], cases.take(np.array([0]))))

    def test_progress_is_told(self, cases: Cases) -> None:
        told: list[tuple[str, int, int | None]] = []
        evaluate_rankers([PopularRanker(cases.events, cases.split)], cases, progress=lambda *step: told.append(step))
        assert told == [("rank with popular", 0, 4), ("rank with popular", 4, 4)]

    def test_what_cannot_be_told_apart_or_does_not_fit_is_refused(self, cases: Cases) -> None:
        popular = PopularRanker(cases.events, cases.split)
        with pytest.raises(ValueError, match="different names"):
            evaluate_rankers([popular, popular], cases)
        with pytest.raises(ValueError, match="ks are"):
            evaluate_rankers([popular], cases, ks=(0, 10))

        @dataclass(frozen=True)
        class Short:
            name: str = "short"

            def rank(self, cases: Cases, k: int) -> Ints:  # noqa: ARG002
                return np.zeros((len(cases), 1), np.int64)

        with pytest.raises(ValueError, match=r"short returned a ranking of shape \(4, 1\), not \(4, 1000\)"):
            evaluate_rankers([Short()], cases)


def test_results_know_their_units(cases: Cases) -> None:
    results = evaluate_rankers([PopularRanker(cases.events, cases.split)], cases)
    assert isinstance(results, Results)
    assert len(set(results.units.tolist())) == 3  # u1, u4 twice, u3
