"""The admission of calls, against a stage whose speed is known, on a clock of the test."""

from __future__ import annotations

from collections import deque

import pytest

from serving.edge.admission import BURST_COST, Admission

STAGE = (0,)
STEP_S = 0.001


def goodput(admission: Admission, *, speed: float, offered: float, batch: int, is_slow_at_first: bool) -> float:
    """Returns the calls a second that a stage answers which computes `speed` of them a second, up to `batch` at a time, when `offered`
    come each second: in ten seconds after the first five."""
    queue, computed, answered, due, ready = 0, 0, 0, 0.0, 0.0
    for step in range(int(15 / STEP_S)):
        now = step * STEP_S
        due += offered * STEP_S
        while due >= 1:
            due -= 1
            if admission.wait_s("caller", STAGE) is None:
                admission.begin("caller", STAGE, 1.0)
                queue += 1
        if computed and now >= ready:
            for _ in range(computed):
                admission.end("caller", STAGE, 1.0, now)
            answered += computed if now > 5 else 0
            computed = 0
        if queue and not computed:
            computed = min(queue, batch)
            queue -= computed
            ready = now + computed / (speed / 5 if now < 1 and is_slow_at_first else speed)
    return answered / 10


@pytest.mark.parametrize("speed", [40.0, 100.0, 400.0])
@pytest.mark.parametrize("told", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("is_slow_at_first", [False, True])
def test_a_flood_leaves_the_stage_busy_whatever_was_thought_of_its_speed(
    speed: float, told: float, is_slow_at_first: bool
) -> None:
    admission = Admission()
    admission.set_speed(0, told * speed, 0.25)
    assert goodput(admission, speed=speed, offered=4 * speed, batch=32, is_slow_at_first=is_slow_at_first) > 0.9 * speed


def test_a_burst_that_finds_the_stage_free_is_admitted_and_the_next_call_refused() -> None:
    admission = Admission()
    admission.set_speed(0, 100.0, 0.25)
    admitted = deque[float]()
    while admission.wait_s("caller", STAGE) is None:
        admission.begin("caller", STAGE, 1.0)
        admitted.append(1.0)
    assert len(admitted) == BURST_COST + 1  # a burst that finds the stage free
    for _ in admitted:
        admission.end("caller", STAGE, 1.0, 1.0)
    assert admission.wait_s("caller", STAGE) is None


def test_a_call_that_costs_much_does_not_make_the_stage_slow() -> None:
    """While it is computed nothing ends; a light caller's call is admitted all the same."""
    admission = Admission()
    admission.set_speed(0, 100.0, 0.25)
    for _ in range(16):
        admission.begin("heavy", STAGE, 1.0)
        admission.change("heavy", STAGE, 400.0)
    for tick in range(20):
        admission.begin("light", STAGE, 1.0)
        admission.end("light", STAGE, 1.0, tick * 0.1)
        assert admission.wait_s("light", STAGE) is None


def test_a_light_caller_is_admitted_where_a_heavy_one_is_refused() -> None:
    admission = Admission()
    admission.set_speed(0, 100.0, 0.25)
    while admission.wait_s("heavy", STAGE) is None:
        admission.begin("heavy", STAGE, 1.0)
    assert admission.wait_s("light", STAGE) is None
    assert admission.wait_s("light", STAGE, remaining_s=0.01) is not None  # it would be late
