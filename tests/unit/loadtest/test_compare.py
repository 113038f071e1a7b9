"""Better, same or worse; and reports that do not compare."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import LoadError
from loadtest.judge.compare import FORMAT, KIND, check_comparable, compare, read_report
from loadtest.judge.search_rate import Found

SETTINGS = {
    "p99_ms": 100.0,
    "max_errors": 0.001,
    "deadline_ms": 1000.0,
    "mix": {"search": 1.0},
    "traffic": {"zipf": 1.0},
    "retries": False,
}
MACHINE = {"processor": "a", "cores": 2}
BEFORE: dict[str, Any] = {
    "kind": KIND,
    "format": FORMAT,
    "verdict": {"rate": 200.0, "low": 195.0, "high": 205.1},
    "settings": SETTINGS,
    "environment": {"machine": MACHINE, "bundle_version": "one"},
}


def found(rate: float, width: float = 0.025) -> Found:
    return Found(rate, rate / (1 + width), rate * (1 + width), [])


@pytest.mark.parametrize(
    ("rate", "width", "finding"),
    [
        (200, 0.025, "same"),
        (192, 0.025, "same"),  # within the margin
        (185, 0.025, "worse"),
        (216, 0.025, "better"),
        (185, 0.15, "same"),  # nobody knows
        (240, 0.25, "same"),
        (0, 0.0, "worse"),
    ],
)
def test_a_difference_counts_beyond_its_interval_and_the_margin(rate: float, width: float, finding: str) -> None:
    one = compare(BEFORE, found(rate, width), margin=0.05)
    assert one.finding == finding
    assert one.ratio == rate / 200
    assert one.before_bundle == "one"


def written(path: Path, values: object) -> Path:
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "evaluation"}, "its kind is 'evaluation'"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}; this version reads {FORMAT}"),
        ({"verdict": {"void": "the generator sends late"}}, "holds no rate: the generator sends late"),
        ({"verdict": {}}, "was given one with --rate"),
    ],
)
def test_a_report_of_another_kind_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError, match=says):
        read_report(written(tmp_path / "r.json", BEFORE | change))


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such file"):
        read_report(tmp_path / "nowhere.json")
    with pytest.raises(LoadError, match="its kind is None"):
        read_report(written(tmp_path / "list.json", [1]))
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(LoadError, match=r"Expecting value.*report\.json of an earlier run"):
        read_report(tmp_path / "page.html")


def test_rates_of_other_targets_calls_or_machines_do_not_compare(tmp_path: Path) -> None:
    before = read_report(written(tmp_path / "r.json", BEFORE))
    check_comparable(before, copy.deepcopy(SETTINGS), MACHINE)
    with pytest.raises(LoadError, match=r"with p99_ms 100\.0, this run has 50\.0"):
        check_comparable(before, SETTINGS | {"p99_ms": 50.0}, MACHINE)
    with pytest.raises(LoadError, match="with mix"):
        check_comparable(before, SETTINGS | {"mix": {"search": 1.0, "rank": 1.0}}, MACHINE)
    with pytest.raises(LoadError, match="cores 2, this one has 8"):
        check_comparable(before, SETTINGS, MACHINE | {"cores": 8})
