"""A bundle replaces another one only if its report says that it may."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.evaluation.bootstrap import Interval
from models.evaluation.gate import METRICS, OPEN, Figure, Gate, GateError
from serving.cli.main import app


def figure(value: float, low: float = np.nan, high: float = np.nan) -> Figure:
    """Takes the interval of the difference from the bundle before."""
    difference = None if np.isnan(high) else Interval((low + high) / 2, low, high, 100, 50)
    return Figure(Interval(value, value - 0.01, value + 0.01, 100, 50), difference)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    figures = {
        "search.recall@10": figure(0.3, -0.05, 0.01),
        "search.ndcg@10": figure(0.2, -0.05, -0.01),
        "vectors.ndcg@10": figure(0.1, -0.05, -0.01),
        "types.accuracy@1": figure(0.9),
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"figures": {name: one.to_json() for name, one in figures.items()}}))
    return path


def test_what_is_below_its_value_or_not_measured_is_missed(report: Path) -> None:
    assert OPEN.missed(report) == []
    assert Gate.parse(["search.recall@10=0.3", "types.accuracy@1=0.85"]).missed(report) == []
    assert Gate.parse(["search.recall@10=0.31", "ranking.purchase.ndcg@10=0.1"]).missed(report) == [
        "search.recall@10 is 0.300, and must be at least 0.31",
        "ranking.purchase.ndcg@10 was not measured, and must be at least 0.1",
    ]


def test_worse_than_before_is_worse_by_the_whole_interval_in_what_shoppers_get(report: Path) -> None:
    assert Gate.parse(["before"]).missed(report) == [
        "search.ndcg@10 is 0.200, -0.030 [-0.050, -0.010] compared with the bundle before"
    ]


@pytest.mark.parametrize(
    "condition", ["recall=0.2", "search.recall@10", "search.recall@10=high", "search.recall@10=20"]
)
def test_a_condition_that_no_report_can_tell_about_is_refused(condition: str) -> None:
    with pytest.raises(GateError, match=r"search\.recall@10"):
        Gate.parse([condition])


def test_the_command_names_every_metric_and_refuses_another_at_once(tmp_path: Path) -> None:
    runner, environment = CliRunner(), {"COLUMNS": "400", "TERM": "dumb"}
    told = runner.invoke(app, ["train", "all", "--help"], env=environment).output
    assert [name for name in METRICS if name not in told] == []
    stated = ["train", "all", "--store", str(tmp_path), "--out", str(tmp_path / "out"), "--fail-below", "recall=1"]
    refused = runner.invoke(app, stated, env=environment)
    assert refused.exit_code == 1
    assert "'recall=1' is no condition" in refused.output
