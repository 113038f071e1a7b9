"""Slopes of known series, recovery, scenarios and their errors."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from loadtest.errors import LoadError
from loadtest.generator.plan import Stage
from loadtest.generator.tally import SecondTally, StageTally
from loadtest.judge.measures import failed_by_second, recovery_s, stage_row
from loadtest.judge.scenario import PROFILES, profile, read_scenario
from loadtest.judge.search_rate import Target
from loadtest.judge.slopes import slope

TARGET = Target(100.0, 0.001)
SECONDS = [float(n) for n in range(600)]


def test_a_leak_is_told_from_noise_and_noise_from_a_leak() -> None:
    leaks, falls, level = 0, 0, 0
    for seed in range(40):
        rng = random.Random(seed)
        noise = [rng.gauss(0, 3) for _ in SECONDS]
        leak = slope(SECONDS, [700 + 60 * at / 3600 + one for at, one in zip(SECONDS, noise, strict=True)])
        assert leak.low <= leak.per_hour <= leak.high
        leaks += leak.is_growth and leak.low <= 60 <= leak.high
        falls += slope(SECONDS, [one - at / 60 for at, one in zip(SECONDS, noise, strict=True)]).high < 0
        level += slope(SECONDS, [700 + one for one in noise]).differs_from_zero
    assert leaks >= 36
    assert falls == 40
    assert level <= 5  # of 40, by chance


def test_a_line_without_noise_has_its_slope_exactly() -> None:
    line = slope(SECONDS, [5 + 7 * at / 3600 for at in SECONDS])
    assert line.per_hour == pytest.approx(7)
    assert (line.low, line.high) == (pytest.approx(7), pytest.approx(7))
    assert line.mean == pytest.approx(5.58, abs=0.01)


def test_a_series_that_is_too_short_or_has_gaps_says_nothing_or_uses_the_rest() -> None:
    assert math.isnan(slope([1.0, 2.0], [1.0, 2.0]).per_hour)
    gaps = [math.nan if n % 3 else 2.0 * at / 3600 for n, at in enumerate(SECONDS)]
    assert slope(SECONDS, gaps).per_hour == pytest.approx(2)


def second(ok: int, late_ms: float = 10.0, **codes: int) -> SecondTally:
    one = SecondTally(sent=ok + sum(codes.values()))
    one.codes.update({"OK": ok, **codes})
    for _ in range(ok):
        one.latency.record(late_ms / 1000)
    return one


def test_recovery_ends_where_two_seconds_in_a_row_are_as_they_should_be() -> None:
    seconds = {
        10: second(10, UNAVAILABLE=90),
        11: second(99, late_ms=500),
        12: second(100),
        13: second(80, RESOURCE_EXHAUSTED=20),
        14: second(99, UNAVAILABLE=1),
        15: second(100),
    }
    assert recovery_s(seconds, 10, 20, TARGET) == 4.0
    assert recovery_s(seconds, 10.5, 20, TARGET) == 3.5
    assert recovery_s(seconds, 14, 20, TARGET) == 0.0
    assert recovery_s(seconds, 10, 14, TARGET) == math.inf


def test_failed_calls_are_listed_by_second_and_refusals_are_none() -> None:
    from loadtest.generator.tally import Tally

    tally = Tally([])
    tally.seconds.update({3: second(5, UNAVAILABLE=2, RESOURCE_EXHAUSTED=7), 4: second(5), 9: second(0, UNAVAILABLE=1)})
    assert failed_by_second(tally, 3.4, 9) == [(3, "UNAVAILABLE", 2)]


def test_a_stage_tells_goodput_refusals_and_failures_apart() -> None:
    tally = StageTally(sent=100, late=5)
    tally.codes.update({("search", "OK"): 70, ("rank", "RESOURCE_EXHAUSTED"): 20, ("search", "UNAVAILABLE"): 10})
    row = stage_row(Stage("a", 10, 10), tally)
    assert (row.goodput, row.refused, row.failed) == (6.5, 0.2, pytest.approx(0.1))


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_length_that_is_asked_for(name: str) -> None:
    assert profile(name, None).seconds > 0
    assert profile(name, 120).seconds == pytest.approx(120)


def test_faults_come_one_after_the_other_with_time_to_recover() -> None:
    scenario = profile("steady", 60, ("kill-gateway", "update"))
    assert [(fault.kind, fault.at_s) for fault in scenario.faults] == [("kill-gateway", 6.0), ("update", 36.0)]


STAGE = '[[stages]]\nname = "a"\nseconds = 5\nrate = 1\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"nonsense = 1\n{STAGE}", "nonsense: there is no such name; there are stages, mix"),
        (f"{STAGE}speed = 1", r"stages\.0\.speed: there is no such name; there are name, seconds, rate, to"),
        (STAGE.replace("rate = 1", ""), r"stages\.0\.rate: Field required"),
        (STAGE.replace("5", "0"), r"stages\.0\.seconds: .*greater than or equal to 1"),
        (f"{STAGE}[mix]\nsearch = 0", "mix: all weights are 0"),
        (f"{STAGE}[mix]\nsuggest = 1", r"mix\.suggest: there is no such name; there are search, rank"),
        (f"{STAGE}[traffic]\npages = 2", r"traffic\.pages: .*less than or equal to 1"),
        (f'{STAGE}[[faults]]\nkind = "flood"\nat_s = 1', r"faults\.0\.kind: .*'kill-gateway'"),
        (f'{STAGE}[[faults]]\nkind = "update"\nat_s = 9', "comes after the last stage"),
        ("stages = [", "Invalid value"),
    ],
)
def test_a_scenario_with_a_mistake_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(LoadError, match=says):
        read_scenario(tmp_path / "s.toml")


def test_a_scenario_of_ones_own(tmp_path: Path) -> None:
    text = '[[stages]]\nname = "up"\nseconds = 5\nrate = 0.1\nto = 1\n[mix]\nsearch = 3\nevents = 1\n[traffic]\nfilters = 0.5\n'
    (tmp_path / "s.toml").write_text(text)
    scenario = read_scenario(tmp_path / "s.toml")
    assert (scenario.stages[0].to, scenario.mix.events, scenario.traffic.filters) == (1, 1, 0.5)


@pytest.mark.parametrize(
    ("name", "faults", "says"),
    [
        ("flood", (), "no such profile; there are sweep"),
        ("sweep", ("update",), "goes with --profile steady"),
        ("steady", ("flood",), "kill-gateway"),
    ],
)
def test_a_profile_or_fault_that_does_not_exist_is_refused(name: str, faults: tuple[str, ...], says: str) -> None:
    with pytest.raises(LoadError, match=says):
        profile(name, None, faults)
