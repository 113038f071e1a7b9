"""The load generators and benchmarks, run for seconds: that they work and count right, not what they reach."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from typer.testing import CliRunner

from aisle.client import AisleClient
from aisle.v1 import search_pb2, search_pb2_grpc
from loadtest.asked import ask, combinations_of
from loadtest.benchmarks.floor import Floor
from loadtest.benchmarks.service import Service, bundle_queries, served
from loadtest.errors import LoadError
from loadtest.generator.histogram import MAX_US
from loadtest.generator.tally import SECOND_DIGITS
from loadtest.h2load import h2load
from loadtest.judge.run import PASSED, VOID
from loadtest.open_loop import open_loop
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


@pytest.fixture(scope="module")
def queries_file(queries: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queries") / "queries.txt"
    write_queries(path, queries)
    return path


@pytest.fixture(scope="module")
def judged(service: Service, queries_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run with short windows, with Locust's next to it."""
    out = tmp_path_factory.mktemp("load")
    asked = ["load", "--server", service.address, "--queries", str(queries_file), "--out", str(out), "--profile", "mix"]
    asked += ["--p99-ms", "500", "--window-s", "1", "--turns", "2", "--seconds", "4", "--locust-users", "2"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code in (PASSED, VOID), result.output  # void where the machine does other things
    return out


def test_a_load_test_finds_a_rate_and_tells_where_the_time_went(judged: Path) -> None:
    report = json.loads((judged / "report.json").read_text())
    verdict, (stage,) = report["verdict"], report["stages"]
    assert 0 < verdict["low"] <= verdict["rate"] <= verdict["high"]
    assert bool(verdict["void"]) == (verdict["exit_code"] == VOID)
    assert stage["offered"] == pytest.approx(0.6 * verdict["rate"], rel=0.01)
    assert set(stage["codes"]) <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    (parts,) = report["time"]
    assert {"encode: compute", "retrieve: compute"} <= set(parts)
    assert sum(ms for name, ms in parts.items() if name != "latency") == pytest.approx(parts["latency"])
    assert report["quality"]["ranked as asked"] == 1.0
    assert report["environment"]["bundle_version"]
    left_out = " ".join(report["environment"]["left_out"])
    assert all(
        kind in left_out for kind in ("rank", "classify", "upserts")
    )  # of this bundle, and of a service of others
    assert set(report["calls"][0]) == {"search", "events"}
    assert {"aisle serve", "edge"} <= set(report["processes"][0])
    assert report["proof"]["ceiling"] > 100


def test_the_page_shows_the_verdict_and_the_histograms_are_readable(judged: Path) -> None:
    page = (judged / "report.html").read_text()
    report = json.loads((judged / "report.json").read_text())
    assert html.escape(report["verdict"]["finding"]) in page
    assert page.count("<svg") >= 3
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)  # all in one file
    log = HistogramLogReader(str(judged / "seconds.hlog"), HdrHistogram(1, MAX_US, SECOND_DIGITS))
    counts = 0
    while (one := log.get_next_interval_histogram()) is not None:
        counts += one.get_total_count()
    assert counts == sum(second["codes"].get("OK", 0) for second in report["seconds"])


def test_locusts_users_go_on_journeys_and_check_their_answers(judged: Path) -> None:
    arguments = re.search(r"window\.templateArgs = (\{.*\})", (judged / "locust.html").read_text())
    assert arguments
    rows = {row["name"]: row for row in json.loads(arguments[1])["requests_statistics"]}
    assert rows["Search"]["num_requests"] > 0
    failed = {row["error"] for row in json.loads(arguments[1])["failures_statistics"]}
    assert all("DEADLINE_EXCEEDED" in error or "RESOURCE_EXHAUSTED" in error for error in failed)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--server", "127.0.0.1:1"], "is there a service on 127.0.0.1:1"),
        (["--profile", "flood"], "there is no such profile"),
        (["--profile", "steady", "--fault", "update"], "faults are for a service that this command starts"),
        (["--workers", "0"], "somebody must send"),
        (["--before", "nowhere.json"], "leave out --at-least and --before"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    service: Service, queries_file: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    asked = ["load", "--server", service.address, "--queries", str(queries_file), "--out", str(tmp_path), "--rate", "5"]
    result = CliRunner().invoke(app, [*asked, *options])
    assert result.exit_code == 1
    assert says in " ".join(result.output.split())


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
