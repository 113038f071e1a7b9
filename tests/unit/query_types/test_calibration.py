from __future__ import annotations

import numpy as np
import pytest

from models.query_types.calibration import (
    NEVER,
    Calibration,
    expected_calibration_error,
    log_odds_of_softmax,
    sigmoid,
    threshold_for,
)


def test_an_overconfident_score_is_calibrated() -> None:
    random = np.random.default_rng(0)
    true_odds = random.normal(0, 2, 20_000).astype(np.float32)
    right = random.random(20_000) < sigmoid(true_odds)
    claimed = 3 * true_odds - 1
    fitted = Calibration.fit(claimed, right)
    assert fitted.slope == pytest.approx(1 / 3, abs=0.02)
    assert expected_calibration_error(sigmoid(claimed), right) > 0.1
    assert expected_calibration_error(fitted.apply(claimed), right) < 0.02


def test_nothing_is_fitted_to_one_class() -> None:
    assert Calibration.fit(np.ones(5, np.float32), np.ones(5, np.bool_)) == Calibration()


def test_classes_that_do_not_overlap_stay_finite() -> None:
    odds = np.array([-5, -4, 4, 5], np.float32)
    fitted = Calibration.fit(odds, odds > 0)
    assert 0 < fitted.slope < 50


def test_log_odds_are_those_of_the_softmax() -> None:
    scores = np.array([[2.0, 0.0, -1.0], [500.0, 0.0, 0.0]], np.float32)
    share = np.exp(scores[0]) / np.exp(scores[0]).sum()
    found = log_odds_of_softmax(scores)
    np.testing.assert_allclose(found[0], np.log(share / (1 - share)), rtol=1e-5)
    assert np.isfinite(found).all()


def test_the_threshold_is_the_lowest_that_is_precise_enough() -> None:
    probability = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    right = np.array([True, True, False, True, False])
    assert threshold_for(probability, right, 0.75, at_least=1) == pytest.approx(0.6)
    assert threshold_for(probability, right, 0.9, at_least=1) == pytest.approx(0.8)
    assert threshold_for(probability, right, 0.75) == NEVER  # five predictions are too few to tell
    assert threshold_for(probability, ~right, 0.9, at_least=1) == NEVER


def test_equal_probabilities_pass_together_or_not_at_all() -> None:
    probability = np.full(4, 0.5, np.float32)
    assert threshold_for(probability, np.array([True, True, False, False]), 0.9, at_least=1) == NEVER


def test_bad_calibrations_are_refused() -> None:
    with pytest.raises(ValueError, match="slope must be above 0"):
        Calibration(slope=0)
    with pytest.raises(ValueError, match="no prediction"):
        expected_calibration_error(np.zeros(0, np.float32), np.zeros(0, np.bool_))
