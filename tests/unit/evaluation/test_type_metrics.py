"""Figures about types agree with hand-worked cases, and with scikit-learn where it has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from models.evaluation.ranked_types import RankedTypes, rank_types
from models.evaluation.type_metrics import (
    CalibrationError,
    MacroF1,
    RecallAtPrecision,
    accuracy_at,
    query_metrics,
    type_statistics,
)
from models.query_types.examples import TypeExamples
from models.query_types.type_model import TypePrediction
from models.unified.words import Ragged


def ranked(
    types: Sequence[Sequence[int]],
    probabilities: Sequence[Sequence[float]],
    labels: Sequence[Sequence[int]],
    num_types: int,
    abstained: Sequence[bool] | None = None,
) -> RankedTypes:
    said = np.array(types, np.int64)
    nothing = np.zeros(len(said), np.bool_) if abstained is None else np.array(abstained, np.bool_)
    empty = np.zeros(said.shape, np.bool_)
    of_labels = Ragged.from_rows(labels)
    answers = RankedTypes(said, np.array(probabilities, np.float32), empty, nothing, of_labels, num_types)
    return answers.judged_by(of_labels)


def random_answers(num_queries: int, num_types: int, seed: int = 0) -> tuple[RankedTypes, np.ndarray, np.ndarray]:
    """All types of every query, with scores that know something; scores and labels too."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_types, size=num_queries)
    scores = rng.random((num_queries, num_types)).round(2)  # with ties
    scores[np.arange(num_queries), labels] += 0.3
    order = np.argsort(-scores, axis=1, kind="stable")
    answers = ranked(
        order.tolist(), np.take_along_axis(scores, order, axis=1).tolist(), [[label] for label in labels], num_types
    )
    return answers, scores, labels


def test_any_of_several_right_types_is_right() -> None:
    answers = ranked([[0, 1, 2], [2, 1, 0], [1, 0, 2]], [[0.5, 0.3, 0.2]] * 3, [[0], [0, 1], [2]], 3)
    assert accuracy_at(answers, 1).tolist() == [1, 0, 0]
    assert accuracy_at(answers, 2).tolist() == [1, 1, 0]
    assert accuracy_at(answers, 3).tolist() == [1, 1, 1]


def test_what_was_abstained_from_does_not_count_for_precision() -> None:
    answers = ranked([[0], [1], [1]], [[0.9], [0.8], [0.1]], [[0], [0], [1]], 2, abstained=[False, False, True])
    coverage, precision = np.nanmean(query_metrics(answers)[:, 2:], axis=0)
    assert coverage == pytest.approx(2 / 3)
    assert precision == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_macro_f1_is_that_of_scikit_learn(seed: int) -> None:
    answers, scores, labels = random_answers(300, 7, seed)
    weights = np.random.default_rng(seed + 9).integers(4, size=300).astype(np.float64)
    kept = weights > 0
    expected = f1_score(
        labels, scores.argmax(axis=1), labels=np.unique(labels[kept]), average="macro", sample_weight=weights
    )
    assert MacroF1.from_ranked(answers)(weights) == pytest.approx(expected)


def test_a_query_of_two_types_counts_as_the_one_that_was_said() -> None:
    answers = ranked([[1], [0]], [[1.0], [1.0]], [[0, 1], [0]], 2)
    assert MacroF1.from_ranked(answers)(np.ones(2)) == 1.0


def test_recall_at_precision_of_a_hand_worked_type() -> None:
    """Right, right, right, right, wrong, right: 4 of 5 above keep 0.8, and so do 5 of 6: recall is 5 of the 6 queries of the type."""
    is_right = [True, True, True, True, False, True, False]
    labels = [[0] if right else [1] for right in is_right] + [[0]]
    scores = [[0.9], [0.8], [0.7], [0.6], [0.5], [0.4], [0.3], [0.2]]
    answers = ranked([[0]] * 7 + [[1]], scores, labels, 2)
    assert RecallAtPrecision.from_ranked(answers, min_positives=5).by_type(np.ones(8)) == pytest.approx([5 / 6])


def test_a_threshold_cannot_lie_within_equal_scores() -> None:
    """Of four equal scores three are right: all four must be taken, at a precision of 0.75."""
    answers = ranked([[0]] * 4, [[0.5]] * 4, [[0], [0], [0], [1]], 2)
    assert RecallAtPrecision.from_ranked(answers, min_positives=1).by_type(np.ones(4)).tolist() == [0, 0]


def test_types_that_few_queries_want_are_left_out() -> None:
    answers = ranked([[0]] * 11, [[0.5]] * 11, [[0]] * 10 + [[1]], 2)
    recall = RecallAtPrecision.from_ranked(answers)
    assert recall.num_types == 1
    assert recall(np.ones(11)) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_recall_at_precision_is_that_of_scikit_learns_curve(seed: int) -> None:
    answers, scores, labels = random_answers(400, 5, seed)
    weights = np.random.default_rng(seed + 9).integers(3, size=400).astype(np.float64)
    expected = []
    for kind in range(5):
        precision, recall, _ = precision_recall_curve(labels == kind, scores[:, kind], sample_weight=weights)
        expected.append(recall[:-1][precision[:-1] >= 0.8].max(initial=0.0))
    assert RecallAtPrecision.from_ranked(answers, min_positives=1).by_type(weights) == pytest.approx(expected)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """Fifteen bins of two: half are right throughout, and 0.7 is said: each bin is 0.2 off."""
    answers = ranked([[0]] * 30, [[0.7 + at * 1e-6] for at in range(30)], [[at % 2] for at in range(30)], 2)
    error = CalibrationError.from_ranked(answers)
    assert error(np.ones(30)) == pytest.approx(0.2, abs=1e-4)
    assert np.allclose(error.points(), (0.7, 0.5), atol=1e-4)


def test_figures_change_with_how_often_queries_count() -> None:
    answers, _, _ = random_answers(200, 4)
    statistic = type_statistics(answers)
    twice = answers.take(np.repeat(np.arange(200), 2))
    assert np.allclose(statistic(np.full(200, 2.0))[:2], type_statistics(twice)(np.ones(400))[:2])
    assert not np.allclose(statistic(np.ones(200)), statistic(np.arange(200, dtype=np.float64)))


class Fake:
    """Knows the types "b", "c" and "new"; says what its table holds for a query, and nothing where that is below one half."""

    types = ("b", "c", "new")

    def __init__(self, table: dict[str, list[float]]) -> None:
        self.table = table

    def probabilities(self, queries: Sequence[str], locales: Sequence[str]) -> np.ndarray:
        return np.array([self.table[f"{query} {locale}"] for query, locale in zip(queries, locales, strict=True)])

    def classify(self, queries: Sequence[str], locales: Sequence[str], max_types: int = 3) -> list[TypePrediction]:
        assert max_types == 1
        best = self.probabilities(queries, locales).max(axis=1)
        return [TypePrediction((), bool(one < 0.5), "") for one in best]


def test_a_model_is_asked_in_the_querys_locale_and_by_its_own_types() -> None:
    examples = TypeExamples.from_rows([("x", "en", ["b"]), ("x", "de", ["a"])], types=("a", "b", "c"))
    answers = rank_types(Fake({"x en": [0.9, 0.1, 0.0], "x de": [0.1, 0.2, 0.3]}), examples)
    assert answers.types.tolist() == [[1, 2, -1], [-1, 2, 1]]
    assert answers.is_right[:, 0].tolist() == [True, False]
    assert answers.abstained.tolist() == [False, True]


def test_equal_probabilities_are_calibrated_in_any_order_of_the_queries() -> None:
    """Queries of one locale, all right, come before those of another, all wrong."""
    answers = ranked([[0]] * 1500, [[0.5]] * 1500, [[0]] * 750 + [[1]] * 750, 2)
    assert CalibrationError.from_ranked(answers)(np.ones(1500)) < 0.05
