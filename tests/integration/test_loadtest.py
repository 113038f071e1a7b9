"""The load generators and benchmarks, run for seconds: that they work and count right, not what they reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aisle.client import AisleClient
from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.asked import ask, combinations_of
from loadtest.benchmarks.floor import Floor
from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.errors import LoadError
from loadtest.h2load import h2load
from loadtest.open_loop import open_loop
from loadtest.run import run_locust
from loadtest.traffic import QueryMix, write_queries
from models.bundles.bundle import Bundle
from serving.app import plan_stages, wire
from serving.cli.main import app
from serving.edge.call_log import CallLog
from serving.gateway.rpc import Guard
from serving.stages.local import LocalStage
from tests.real_edge import channel, edge_config, gateway

METHOD = "/aisle.v1.SearchService/Search"
needs_h2load = pytest.mark.skipif(not shutil.which("h2load"), reason="h2load is not installed (Debian: nghttp2-client)")


@pytest.fixture(scope="module")
def queries(bundle_folder: Path) -> list[str]:
    return bundle_queries(bundle_folder, 200)


def test_locust_searches_headless_and_reports_percentiles(service: Service, queries: list[str], tmp_path: Path) -> None:
    write_queries(tmp_path / "queries.txt", queries)
    report = run_locust(service.address, tmp_path / "queries.txt", users=4, seconds=5)
    assert set(report.codes) <= {"OK", "DEADLINE_EXCEEDED"}  # a slow machine may miss the load generator's deadline
    assert report.codes["OK"] == len(report.latencies_ms) > 0
    assert 0 < report.percentile(50) <= report.percentile(99) <= report.percentile(100)


async def test_the_open_loop_sends_what_was_planned_and_counts_from_the_planned_time(
    service: Service, queries: list[str]
) -> None:
    report = await open_loop(service.address, QueryMix(queries), rate=20, seconds=3, deadline_s=60)
    assert 30 <= report.calls <= 90  # Poisson, mean 60
    assert set(report.codes) == {"OK"}


@needs_h2load
def test_h2load_gets_real_answers(service: Service, queries: list[str]) -> None:
    messages = [search_pb2.SearchRequest(query=query).SerializeToString() for query in queries[:4]]
    report = h2load(service.address, METHOD, messages, clients=4, seconds=3, warm_up_s=0.2)
    assert report.codes["failed"] == 0
    assert report.codes["OK"] == len(report.latencies_ms) > 0


@needs_h2load
def test_h2load_does_not_take_a_refusal_for_an_answer(service: Service) -> None:
    with pytest.raises(LoadError, match="INVALID_ARGUMENT"):
        h2load(service.address, METHOD, [search_pb2.SearchRequest(query="").SerializeToString()], clients=1, seconds=1)


def test_a_service_that_does_not_start_is_an_expected_error(bundle_folder: Path) -> None:
    with pytest.raises(LoadError, match="stopped while starting"), served(bundle_folder, "[server]\nnonsense = 1\n"):
        pass


@pytest.mark.parametrize("name", ["bundle_folder", "ranked_folder"])
async def test_the_floor_answers_as_a_gateway_does(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(name)
    config = edge_config()
    guard = Guard(CallLog(config.log))
    stages = {plan.name: await LocalStage.start(plan, guard.lone_calls) for plan in plan_stages(Bundle(folder), config)}
    floor, services = Floor(folder), wire(folder, config, stages, None, guard, "replica").services
    async with gateway(config, tmp_path, services), channel(config) as opened:
        for query in bundle_queries(folder, 20):
            message = search_pb2.SearchRequest(query=query)
            theirs = await search_pb2_grpc.SearchServiceStub(opened).Search(message)
            ours = search_pb2.SearchResponse.FromString(floor.answer([message.SerializeToString()])[0])
            for answer in (ours, theirs):
                for only_the_gateways in ("request_id", "timing", "personalisation"):
                    answer.ClearField(only_the_gateways)
            assert ours == theirs
    for stage in stages.values():
        await stage.close()


@needs_h2load
def test_the_overload_benchmark_tells_refusals_from_answers(bundle_folder: Path, tmp_path: Path) -> None:
    bench = ["bench", "--bundle", str(bundle_folder), "--only", "overload", "--quick"]
    result = CliRunner().invoke(app, [*bench, "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    medians = {
        figure["name"]: figure["median"] for figure in json.loads((tmp_path / "figures.json").read_text())["figures"]
    }
    # How many are refused depends on what the generator gets of the machine; with refusals more calls end than are answered.
    assert 0 <= medians["text: RESOURCE_EXHAUSTED"] < 1
    assert 0 < medians["text: goodput"] <= medians["text: calls that ended at the service"]


@needs_h2load
@pytest.mark.parametrize("name", ["echo", "search", "encoder", "encoder_service", "index"])
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
    assert all(figure["median"] >= 0 and len(figure["rounds"]) >= 1 for figure in rows)


@needs_h2load
def test_the_catalogue_benchmark_changes_searches_and_replays(
    bundle_folder: Path, ranked_folder: Path, tmp_path: Path
) -> None:
    bench = ["bench", "--bundle", str(bundle_folder), "--personal", str(ranked_folder), "--only", "catalogue"]
    result = CliRunner().invoke(app, [*bench, "--quick", "--json", str(tmp_path / "figures.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    medians = {figure["name"]: figure["median"] for figure in figures}
    assert len(medians) == 25
    assert medians["searches that failed during a build and swap"] == 0
    assert Bundle(ranked_folder).manifest.sequence == 0  # what is measured stays as it is
    for name in ("text: upserts", "personal: upserts", "personal: offers", "upserts beside searches"):
        assert medians[name] > 0, name


def test_a_benchmark_that_lacks_its_bundle_says_so(bundle_folder: Path, tmp_path: Path) -> None:
    bench = ["bench", "--bundle", str(bundle_folder), "--only", "types", "--json", str(tmp_path / "figures.json")]
    result = CliRunner().invoke(app, bench)
    assert result.exit_code == 0, result.output
    assert "types: left out: no --personal bundle" in result.output


def test_an_unknown_benchmark_is_named_with_the_known(bundle_folder: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--bundle", str(bundle_folder), "--only", "nonsense"])
    assert result.exit_code == 1


def test_what_was_asked_for_is_counted_among_the_first_hits(service: Service, bundle: Bundle) -> None:
    with AisleClient(service.address) as client:
        asked = ask(client, combinations_of(bundle, 20, seed=1, rare=True))
    assert all(0 <= share <= 1 for shares in asked.shares.values() for share in shares)
    assert len(asked.shares["not ranked"]) == 20
    assert asked.mean("not ranked") > asked.mean("vectors alone, not ranked")
