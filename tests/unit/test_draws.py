"""Draws are splitmix64, whether made one by one or as arrays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.draws import Draws, draw_words, mix


@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 10**7))
def test_array_and_integer_hash_agree(seed: int, start: int) -> None:
    golden = 0x9E3779B97F4A7C15
    expected = [mix(mix(seed + golden) + (3 * start + step) * golden) for step in range(1, 7)]
    assert draw_words(seed, start, start + 2, 3).ravel().tolist() == expected


def test_a_stream_of_draws_is_that_of_splitmix64() -> None:
    draws = Draws(0)
    state = mix(0x9E3779B97F4A7C15)
    assert [draws.word() for _ in range(3)] == [mix(state + step * 0x9E3779B97F4A7C15) for step in range(1, 4)]


@given(seed=st.integers(0, 2**32), stop=st.integers(1, 1000))
def test_below_stays_in_range_and_chance_is_certain_at_0_and_1(seed: int, stop: int) -> None:
    draws = Draws(seed)
    assert 0 <= draws.below(stop) < stop
    assert not draws.chance(0.0)
    assert draws.chance(1.0)
