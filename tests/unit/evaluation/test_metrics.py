"""Ranking metrics are those of trec_eval, for every case at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.arrays import Ints
from models.evaluation.metrics import Relevance, average_precision, ndcg_at, places, recall_at, reciprocal_rank

NUM_PRODUCTS = 12
DEPTH = 6

rankings = st.permutations(range(NUM_PRODUCTS)).flatmap(
    lambda order: st.integers(0, DEPTH).map(lambda found: [*order[:found], *[-1] * (DEPTH - found)])
)
relevance_sets = st.dictionaries(st.integers(0, NUM_PRODUCTS - 1), st.integers(1, 3).map(float), max_size=5)
cases = st.lists(st.tuples(rankings, relevance_sets), min_size=1, max_size=6)
Case = tuple[list[int], dict[int, float]]


def relevance_of(sets: Sequence[Iterable[int] | Mapping[int, float]]) -> Relevance:
    """Of a set of rows, or rows with grades, per case; rows of a set have grade 1."""
    graded = [dict(rows) if isinstance(rows, Mapping) else dict.fromkeys(rows, 1.0) for rows in sets]
    return Relevance(
        np.repeat(np.arange(len(graded)), [len(rows) for rows in graded]),
        np.array([row for rows in graded for row in rows], np.int64),
        np.array([grade for rows in graded for grade in rows.values()], np.float64),
        len(graded),
    )


def arrays(cases: list[Case]) -> tuple[Ints, Relevance]:
    return np.array([ranking for ranking, _ in cases]), relevance_of([relevant for _, relevant in cases])


def all_metrics(ranked: Ints, relevance: Relevance, k: int) -> npt.NDArray[np.float64]:
    found = places(ranked, relevance)
    metrics = (recall_at, ndcg_at, reciprocal_rank, average_precision)
    return np.stack([metric(found, relevance, k) for metric in metrics])


def test_a_case_computed_by_hand() -> None:
    ranked = np.array([[5, 3, 9, 1], [0, 1, 2, 3]])
    relevance = relevance_of([{3: 2.0, 1: 1.0, 7: 3.0}, {8: 1.0}])
    found = places(ranked, relevance)
    assert found.tolist() == [1, 3, -1, -1]
    assert recall_at(found, relevance, 2).tolist() == [pytest.approx(1 / 3), 0.0]
    assert recall_at(found, relevance, 4).tolist() == [pytest.approx(2 / 3), 0.0]
    assert reciprocal_rank(found, relevance).tolist() == [0.5, 0.0]
    assert average_precision(found, relevance).tolist() == [pytest.approx((1 / 2 + 2 / 4) / 3), 0.0]
    gained = 2 / np.log2(3) + 1 / np.log2(5)
    best = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    assert ndcg_at(found, relevance, 4).tolist() == [pytest.approx(gained / best), 0.0]


@given(cases=cases, k=st.integers(1, DEPTH))
def test_the_figures_are_those_of_trec_eval(cases: list[Case], k: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
    ranked, relevance = arrays(cases)
    names = [f"recall_{k}", f"ndcg_cut_{k}", f"map_cut_{k}"]
    judged = {str(n): {str(row): int(grade) for row, grade in case[1].items()} for n, case in enumerate(cases)}
    run = {
        str(n): {str(row): float(-place) for place, row in enumerate(case[0]) if row >= 0}
        for n, case in enumerate(cases)
    }
    expected = pytrec_eval.RelevanceEvaluator(
        {n: grades for n, grades in judged.items() if grades}, set(_asked(k))
    ).evaluate({n: ranking for n, ranking in run.items() if judged[n] and ranking})
    recall, ndcg, _, precision = all_metrics(ranked, relevance, k)
    for case, (ranking, relevant) in enumerate(cases):
        if not relevant:
            assert np.isnan([recall[case], ndcg[case], precision[case]]).all()
        elif all(row < 0 for row in ranking):
            assert recall[case] == ndcg[case] == precision[case] == 0
        else:
            ours = dict(zip(names, (recall[case], ndcg[case], precision[case]), strict=True))
            assert ours == pytest.approx({name: expected[str(case)][name] for name in names})


def _asked(k: int) -> list[str]:
    return [f"recall.{k}", f"ndcg_cut.{k}", f"map_cut.{k}"]


@given(cases=cases, k=st.integers(1, DEPTH))
def test_metrics_are_between_none_and_all(cases: list[Case], k: int) -> None:
    values = all_metrics(*arrays(cases), k)
    known = values[:, [bool(relevant) for _, relevant in cases]]
    assert ((known >= 0) & (known <= 1 + 1e-12)).all()


@given(cases=cases)
def test_recall_never_falls_with_depth(cases: list[Case]) -> None:
    ranked, relevance = arrays(cases)
    found = places(ranked, relevance)
    by_depth = np.nan_to_num([recall_at(found, relevance, k) for k in range(1, DEPTH + 1)])
    assert (np.diff(by_depth, axis=0) >= 0).all()


@given(relevant=relevance_sets.filter(bool))
def test_the_best_ranking_scores_one(relevant: dict[int, float]) -> None:
    best = sorted(relevant, key=lambda row: -relevant[row])
    ranked = np.array([[*best, *[-1] * (DEPTH - len(best))]])
    assert all_metrics(ranked, relevance_of([relevant]), DEPTH) == pytest.approx(1.0)


@given(cases=cases, order=st.randoms(use_true_random=False))
def test_taken_cases_keep_their_figures(cases: list[Case], order: np.random.Generator) -> None:
    ranked, relevance = arrays(cases)
    chosen = np.array([n for n in range(len(cases)) for _ in range(2)])
    order.shuffle(chosen)  # type: ignore[arg-type]
    taken = all_metrics(ranked[chosen], relevance.take(chosen), 3)
    np.testing.assert_array_equal(taken, all_metrics(ranked, relevance, 3)[:, chosen])


def test_a_product_ranked_twice_counts_once_at_its_first_place() -> None:
    relevance = relevance_of([{4}])
    found = places(np.array([[1, 4, 4]]), relevance)
    assert recall_at(found, relevance, 3).tolist() == [1.0]
    assert average_precision(found, relevance).tolist() == [0.5]


def test_what_cannot_be_measured_is_refused() -> None:
    relevance = relevance_of([{1}, {2}])
    with pytest.raises(ValueError, match=r"shape \(1, 3\), there are 2 cases"):
        places(np.zeros((1, 3), np.int64), relevance)
    with pytest.raises(ValueError, match="k is 0 and must be 1 or more"):
        recall_at(np.array([0, 0]), relevance, 0)
    with pytest.raises(ValueError, match="grades must be above 0"):
        relevance_of([{1: 0.0}])
    with pytest.raises(ValueError, match="cases must ascend"):
        Relevance(np.array([1, 0]), np.array([1, 1]), np.ones(2), 2)
