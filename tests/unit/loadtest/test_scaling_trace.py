"""What is read from the trace of a stage that scales."""

from __future__ import annotations

import math

import pytest

from loadtest.benchmarks.bench_scaling import Sample, Second, Trace, first_fall, good_from, turns


def test_ends_are_counted_in_the_second_of_their_plan() -> None:
    trace = Trace(ends=[(0.2, "answered", 0.01), (0.9, "answered", 1.5), (1.1, "refused", 0.0), (1.2, "late", 1.0)])
    trace.ends.append((1.3, "lost", 0.3))
    first, second = trace.by_second()
    assert (first.offered, first.answered, second.offered) == (2, 2, 3)
    assert (second.refused, second.late, second.lost, second.p99_ms) == (1, 1, 1, None)
    assert first.p99_ms == pytest.approx(1485.1)


def second(number: int, p99_ms: float, refused: int = 0) -> Second:
    return Second(number, 10, 10 - refused, refused, 0, 0, p99_ms)


def test_the_p99_is_back_with_the_first_good_seconds_in_a_row() -> None:
    seconds = [second(n, 100) for n in range(12)]
    assert good_from(seconds, 2, 12, 200) == 2
    seconds[4] = second(4, 300)
    assert good_from(seconds, 2, 12, 200) == 5
    seconds[6] = second(6, 100, refused=1)
    assert good_from(seconds, 2, 12, 200) == 7
    assert good_from(seconds, 2, 9, 200) == math.inf


def samples(*asked: int) -> list[Sample]:
    return [Sample(float(at), number, number, number, 0.0) for at, number in enumerate(asked)]


def test_turns_are_counted_within_one_load_only() -> None:
    assert turns(samples(1, 2, 4, 4, 3, 3), [0.0]) == 1
    assert turns(samples(1, 2, 4, 4, 3, 3), [0.0, 3.0]) == 0
    assert turns(samples(1, 2, 1, 2), [0.0]) == 2
    assert first_fall(samples(1, 4, 4, 3)) == 3.0
    assert first_fall(samples(1, 4)) == math.inf
