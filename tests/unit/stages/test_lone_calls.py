"""Calls are lone while each comes after the last was answered, and no longer."""

from __future__ import annotations

from serving.stages.lone_calls import GAP_S, STREAK, LoneCalls
from tests.fake_clock import FakeClock


def after(calls: int, gap_s: float) -> tuple[LoneCalls, FakeClock]:
    clock = FakeClock()
    lone = LoneCalls(clock)
    for _ in range(calls):
        clock.now += gap_s
        lone.begin()
        lone.end()
    clock.now += gap_s
    lone.begin()
    return lone, clock


def test_one_caller_who_waits_for_each_answer_is_lone_after_a_few_calls() -> None:
    assert not after(STREAK - 2, 2 * GAP_S)[0].is_lone()
    assert after(STREAK - 1, 2 * GAP_S)[0].is_lone()


def test_calls_that_waited_to_be_read_are_not_lone() -> None:
    assert not after(100, GAP_S / 4)[0].is_lone()


def test_a_second_call_ends_it_for_both_and_for_those_that_follow() -> None:
    lone, clock = after(100, 2 * GAP_S)
    lone.begin()
    assert not lone.is_lone()
    lone.end()
    lone.end()
    clock.now += 2 * GAP_S
    lone.begin()
    assert not lone.is_lone()
