"""Intervals hold the truth as often as they say, and know that cases of one shopper are no independent evidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.bootstrap import difference_interval, mean_interval, mean_intervals, ratio_interval

RNG = np.random.default_rng(0)
VALUES = RNG.random(400)


def test_the_figure_is_the_mean_and_the_interval_is_about_the_textbooks() -> None:
    interval = mean_interval(VALUES)
    error = VALUES.std() / np.sqrt(len(VALUES))
    assert interval.value == pytest.approx(VALUES.mean())
    assert interval.low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.15 * error)
    assert (interval.num_cases, interval.num_units) == (400, 400)


def test_the_truth_is_within_the_interval_about_as_often_as_the_level_says() -> None:
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        units = np.repeat(np.arange(60), 3)
        values = rng.normal(size=60)[units] + rng.normal(size=180)  # what a shopper's cases share, and their own
        interval = mean_interval(values, units, num_resamples=200, seed=seed)
        held.append(interval.low <= 0 <= interval.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_repeating_every_case_of_a_shopper_narrows_nothing() -> None:
    once = mean_interval(VALUES)
    units = np.repeat(np.arange(400), 5)
    by_shopper = mean_interval(np.repeat(VALUES, 5), units)
    by_case = mean_interval(np.repeat(VALUES, 5))
    assert (by_shopper.low, by_shopper.high) == pytest.approx((once.low, once.high))
    assert by_case.high - by_case.low < 0.6 * (once.high - once.low)


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    assert mean_interval(VALUES, seed=3) == mean_interval(VALUES, seed=3)
    assert mean_interval(VALUES, seed=3) != mean_interval(VALUES, seed=4)


def test_a_paired_difference_is_told_where_the_two_intervals_overlap() -> None:
    better = VALUES + 0.01 + RNG.normal(scale=0.02, size=400)
    ours, theirs = mean_interval(better), mean_interval(VALUES)
    assert ours.low < theirs.high
    assert difference_interval(better, VALUES).excludes_zero
    assert not difference_interval(RNG.permutation(VALUES), VALUES).excludes_zero


def test_cases_without_a_value_are_left_out() -> None:
    with_gaps = np.concatenate([VALUES, np.full(100, np.nan)])
    interval = mean_interval(with_gaps)
    assert interval.value == pytest.approx(VALUES.mean())
    assert (interval.num_cases, interval.num_units) == (400, 400)
    assert difference_interval(with_gaps, np.ones(500)).num_cases == 400


def test_columns_of_one_call_are_the_same_as_each_by_itself() -> None:
    columns = np.stack([VALUES, VALUES**2, np.where(VALUES > 0.5, VALUES, np.nan)], axis=1)
    units = RNG.integers(50, size=400)
    for together, column in zip(mean_intervals(columns, units), columns.T, strict=True):
        alone = mean_interval(column, units)
        assert (together.value, together.low, together.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_a_ratio_is_of_the_means_and_paired() -> None:
    halved = VALUES / 2
    assert ratio_interval(halved, VALUES).value == pytest.approx(0.5)
    assert ratio_interval(halved, VALUES).low == pytest.approx(0.5)
    assert np.isnan(ratio_interval(VALUES, np.zeros(400)).value)


@pytest.mark.parametrize("values", [np.array([]), np.array([0.5]), np.array([np.nan, np.nan])])
def test_too_little_evidence_gives_no_interval(values: np.ndarray) -> None:
    interval = mean_interval(values)
    assert np.isnan([interval.low, interval.high]).all()
    assert not interval.excludes_zero


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20),
    units=st.lists(st.integers(-5, 5), min_size=20, max_size=20),
)
def test_the_interval_lies_within_the_values(values: list[float], units: list[int]) -> None:
    interval = mean_interval(np.array(values), np.array(units[: len(values)]), num_resamples=50)
    if np.isfinite(interval.low):
        assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_values_of_other_cases_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(400,\) and \(3,\)"):
        difference_interval(VALUES, np.ones(3))
    with pytest.raises(ValueError, match="400 cases and units of shape"):
        mean_interval(VALUES, np.arange(3))
    with pytest.raises(ValueError, match="level is 95"):
        mean_interval(VALUES, level=95)
