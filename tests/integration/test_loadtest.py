"""The load generators and benchmarks, run for seconds: that they work and count right, not what they reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aisle.v1 import search_pb2
from loadtest.benchmarks.service import Service, bundle_queries
from loadtest.h2load import LoadError, h2load
from loadtest.open_loop import open_loop
from loadtest.run import run_locust
from loadtest.traffic import QueryMix, write_queries
from serving.cli.main import app

METHOD = "/aisle.v1.SearchService/Search"
needs_h2load = pytest.mark.skipif(not shutil.which("h2load"), reason="h2load is not installed (Debian: nghttp2-client)")


@pytest.fixture(scope="module")
def queries(bundle_folder: Path) -> list[str]:
    return bundle_queries(bundle_folder, 200)


def test_locust_searches_headless_and_reports_percentiles(service: Service, queries: list[str], tmp_path: Path) -> None:
    write_queries(tmp_path / "queries.txt", queries)
    report = run_locust(service.address, tmp_path / "queries.txt", users=4, seconds=3)
    assert set(report.codes) == {"OK"}
    assert report.calls == len(report.latencies_ms) > 20
    assert 0 < report.percentile(50) <= report.percentile(99) <= report.percentile(100)


async def test_the_open_loop_sends_what_was_planned_and_counts_from_the_planned_time(
    service: Service, queries: list[str]
) -> None:
    report = await open_loop(service.address, QueryMix(queries), rate=50, seconds=3, deadline_s=5)
    assert 100 <= report.calls <= 200  # Poisson, mean 150
    assert set(report.codes) == {"OK"}


@needs_h2load
def test_h2load_gets_real_answers(service: Service, queries: list[str]) -> None:
    messages = [search_pb2.SearchRequest(query=query).SerializeToString() for query in queries[:4]]
    report = h2load(service.address, METHOD, messages, clients=4, seconds=1, warm_up_s=0.2)
    assert report.codes["failed"] == 0
    assert report.codes["OK"] == len(report.latencies_ms) > 10


@needs_h2load
def test_h2load_does_not_take_a_refusal_for_an_answer(service: Service) -> None:
    with pytest.raises(LoadError, match="INVALID_ARGUMENT"):
        h2load(service.address, METHOD, [search_pb2.SearchRequest(query="").SerializeToString()], clients=1, seconds=1)


@needs_h2load
@pytest.mark.parametrize("name", ["echo", "search", "encoder", "index"])
def test_a_benchmark_runs_and_writes_its_figures(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    arguments = [
        "bench",
        "--bundle",
        str(bundle_folder),
        "--only",
        name,
        "--quick",
        "--json",
        str(tmp_path / "figures.json"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["cores"] >= 1
    rows = [figure for figure in figures["figures"] if figure["benchmark"] == name]
    assert rows
    assert all(figure["median"] > 0 and len(figure["rounds"]) >= 1 for figure in rows)


def test_an_unknown_benchmark_is_named_with_the_known(bundle_folder: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--bundle", str(bundle_folder), "--only", "nonsense"])
    assert result.exit_code == 1
