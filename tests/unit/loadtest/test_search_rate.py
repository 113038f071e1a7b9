"""The search for the highest rate, against services whose rate is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from loadtest.judge.search_rate import LEAST_RATE, Found, Target, Window, search_rate

TARGET = Target(p99_ms=100.0, max_errors=0.001)


def window(rate: float, *, p99: float = 10.0, service_p99: float | None = None, errors: float = 0.0) -> Window:
    return Window(rate, 1.0, 1000, p99 / 2, p99, p99 if service_p99 is None else service_p99, errors, 0.1, 0.1)


def service(capacity: float, noise: float, seed: int) -> Callable[[float, float], Window]:
    """A queue whose p99 passes 100 ms at `capacity`; every window is off by some noise."""
    rng = random.Random(seed)

    def measure(rate: float, _seconds: float) -> Window:
        return window(rate, p99=100 * (rate / capacity * math.exp(rng.gauss(0, noise))) ** 4)

    return measure


def search(measure: Callable[[float, float], Window], start: float = 50.0, turns: int = 10) -> Found:
    return search_rate(measure, start, TARGET, turns=turns, window_s=1.0)


@pytest.mark.parametrize("start", [3.0, 190.0, 5000.0])
def test_it_finds_a_known_rate_from_wherever_it_starts(start: float) -> None:
    found = search(service(200, 0.0, 0), start)
    assert found.rate == pytest.approx(200, rel=0.04)
    assert found.low <= found.rate <= found.high
    assert not found.void


def test_with_noise_the_interval_holds_the_rate_nineteen_times_of_twenty_and_tells_two_services_apart() -> None:
    found = [search(service(200, 0.05, seed)) for seed in range(60)]
    assert sum(one.low <= 200 <= one.high for one in found) >= 54
    assert all(180 <= one.rate <= 220 for one in found)
    slower = [search(service(150, 0.05, seed)) for seed in range(60)]
    assert all(fast.low > slow.high for fast, slow in zip(found, slower, strict=True))


def test_errors_beyond_the_limit_miss_the_target_however_fast_the_answers_are() -> None:
    found = search(lambda rate, _: window(rate, errors=0.002 if rate > 80 else 0.0005))
    assert found.rate == pytest.approx(80, rel=0.04)


def test_a_service_that_keeps_the_target_at_no_rate_gets_0() -> None:
    found = search(lambda rate, _: window(rate, p99=500))
    assert (found.rate, found.void) == (0.0, "")
    assert found.windows[-1].rate == LEAST_RATE


def test_a_target_that_only_the_generator_misses_is_void_after_three_tries() -> None:
    found = search(lambda rate, _: window(rate, p99=150 if rate > 100 else 10, service_p99=10))
    assert "generator was late" in found.void
    assert math.isnan(found.rate)
    assert [one.p99_ms for one in found.windows[-3:]] == [150, 150, 150]


def test_one_spoilt_window_is_measured_again() -> None:
    spoilt = iter([True, *[False] * 1000])
    plain = service(200, 0.0, 0)
    found = search(lambda rate, s: window(rate, p99=150, service_p99=10) if next(spoilt) else plain(rate, s))
    assert found.rate == pytest.approx(200, rel=0.04)


def test_a_window_at_a_low_rate_is_longer_so_that_it_holds_calls_enough_for_a_p99() -> None:
    seconds: dict[float, float] = {}

    def measure(rate: float, s: float) -> Window:
        seconds[rate] = s
        return service(20, 0.0, 0)(rate, s)

    search_rate(measure, 20, TARGET, turns=2, window_s=2.0)
    assert seconds[20] == 10.0


def test_more_windows_narrow_the_interval_and_noise_widens_it() -> None:
    def width(noise: float, turns: int) -> float:
        found = [search(service(200, noise, seed), turns=turns) for seed in range(20)]
        return sum(math.log(one.high / one.low) for one in found) / len(found)

    assert width(0.02, 20) < width(0.02, 6) < width(0.1, 6)


def test_a_walk_that_does_not_turn_in_time_is_void() -> None:
    """A service that becomes slower with each window."""
    capacity = iter(200 * 0.97**n for n in range(1000))
    found = search(lambda rate, _: service(next(capacity), 0.0, 0)(rate, 1.0), turns=60)
    assert "changes as it is measured" in found.void
