"""The boards and rules in `deploy` name what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from serving.metrics import table as _table  # noqa: F401 - declares the metrics
from serving.metrics.metric import METRICS, Kind

DEPLOY = Path(__file__).parents[3] / "deploy"
BOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RULES = DEPLOY / "prometheus" / "alerts.yml"
NAME = re.compile(r"\b((?:aisle_|rpc_server_)[a-z_]+)\b(\{[^}]*\})?")
EXPORTED = {"aisle_processes": {"process"}} | {
    f"aisle_gpu_{name}": {"gpu"} for name in ("utilisation_ratio", "memory_used_bytes", "memory_bytes")
}
SAMPLES = {name: set(metric.label_names) for name, metric in METRICS.items() if metric.kind is not Kind.HISTOGRAM} | {
    f"{name}_{suffix}": {*metric.label_names, "le"}
    for name, metric in METRICS.items()
    if metric.kind is Kind.HISTOGRAM
    for suffix in ("bucket", "count", "sum")
}
needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian: prometheus)"
)


def queries(board: Path) -> list[str]:
    return [
        target["expr"]
        for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]


def test_there_are_the_boards_of_the_documentation() -> None:
    assert [board.stem for board in BOARDS] == ["catalogue", "search", "service", "stages"]


@pytest.mark.parametrize("file", [*BOARDS, RULES], ids=lambda file: file.stem)
def test_metrics_and_labels_of_queries_are_declared(file: Path) -> None:
    texts = queries(file) if file.suffix == ".json" else [file.read_text(encoding="utf-8")]
    found = [match for text in texts for match in NAME.findall(text)]
    assert found
    for name, selector in found:
        assert name in SAMPLES | EXPORTED, name
        stated = set(re.findall(r"(\w+)\s*=~?", selector))
        assert stated <= (SAMPLES | EXPORTED)[name], name


def test_every_metric_is_on_a_board() -> None:
    named = {name for board in BOARDS for text in queries(board) for name, _ in NAME.findall(text)}
    shown = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in named}
    assert set(METRICS) | set(EXPORTED) == shown


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for command in (["check", "rules", str(RULES)], ["check", "config", str(RULES.with_name("prometheus.yml"))]):
        done = subprocess.run(["promtool", *command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@needs_promtool
def test_rules_fire_for_a_sick_service_and_for_no_other(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("alerts.yml").read_text(encoding="utf-8").replace("RULES", str(RULES))
    (tmp_path / "cases.yml").write_text(cases)
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "cases.yml")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
