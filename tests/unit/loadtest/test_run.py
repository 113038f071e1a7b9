"""Services that refuse, ask for a key or die: each is an error that says so; and the exit codes of a verdict."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from aisle.v1 import search_pb2
from loadtest.benchmarks.service import module_server
from loadtest.errors import LoadError
from loadtest.generator.calls import SEARCH, Call, Calls
from loadtest.generator.connection import Target
from loadtest.generator.plan import Plan, Stage
from loadtest.generator.tally import Tally
from loadtest.generator.workers import joined
from loadtest.judge.compare import compare
from loadtest.judge.prepare import Prepared, Service, prepare
from loadtest.judge.proof import Proof
from loadtest.judge.report import finding
from loadtest.judge.resources import Watch
from loadtest.judge.run import MISSED, PASSED, VOID, WORSE, LoadSettings, Outcome, _Meter
from loadtest.judge.scenario import HABITS, MIXED, Mix, Traffic
from loadtest.judge.search_rate import Found
from loadtest.judge.search_rate import Target as Goal
from serving.cli.main import app

MESSAGE = search_pb2.SearchRequest(query="lamp").SerializeToString()
HIT = search_pb2.Hit(product_id="p1")


@contextmanager
def shop(code: grpc.StatusCode | None, answer: search_pb2.SearchResponse | None = None) -> Iterator[Service]:
    """A server whose searches end with a code, or an answer; it has no other methods."""
    serialised = (answer or search_pb2.SearchResponse()).SerializeToString()

    def handle(_: object, context: grpc.ServicerContext) -> bytes:
        if code:
            context.abort(code, "as told")
        return serialised

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
            return grpc.unary_unary_rpc_method_handler(handle) if details.method == SEARCH else None

    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Service(Target(f"127.0.0.1:{port}")) as service:
            yield service
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED: as told; set --api-key or AISLE_API_KEY"),
        (grpc.StatusCode.PERMISSION_DENIED, "a search for 'lamp': PERMISSION_DENIED: as told"),
    ],
)
def test_a_service_that_refuses_is_an_error_with_its_code(code: grpc.StatusCode, says: str) -> None:
    with shop(code) as service, pytest.raises(LoadError, match=says):
        prepare(service, ["lamp"], Mix(), Traffic(), 0, strict=False, writes=False)


def test_queries_that_find_nothing_and_no_queries_are_refused() -> None:
    with shop(None) as service:
        with pytest.raises(LoadError, match="the first 1 queries find nothing"):
            prepare(service, ["lamp"], Mix(), Traffic(), 0, strict=False, writes=False)
        with pytest.raises(LoadError, match="no queries to send"):
            prepare(service, [], Mix(), Traffic(), 0, strict=False, writes=False)


def test_what_is_not_served_is_left_out_of_a_profile_and_refused_in_a_scenario() -> None:
    with shop(None, search_pb2.SearchResponse(hits=[HIT], bundle_version="v")) as service:
        prepared = prepare(service, ["lamp"], MIXED, HABITS, 0, strict=False, writes=True)
        assert {call.kind for call in prepared.calls.pool} == {"search"}
        told = " ".join(prepared.left_out)
        for what in ("shoppers with a history (RecordEvents: UNIMPLEMENTED", "rank (", "classify (", "upserts ("):
            assert what in told
        assert (prepared.bundle_version, prepared.idle_again) == ("v", 1.0)
        with pytest.raises(LoadError, match=r"rank: Rank: UNIMPLEMENTED.*leave it out of the scenario"):
            prepare(service, ["lamp"], Mix(rank=1), Traffic(), 0, strict=True, writes=True)
        with pytest.raises(LoadError, match="upserts: they would change the catalogue"):
            prepare(service, ["lamp"], Mix(upserts=1), Traffic(), 0, strict=True, writes=False)


def test_a_service_that_dies_while_it_is_measured_is_an_error() -> None:
    calls = Calls((Call("search", SEARCH.encode(), MESSAGE),))
    with module_server("loadtest.generator.empty_server", ["127.0.0.1"]) as server, joined(1) as workers:
        workers.load(calls)
        meter = _Meter(workers, Target(server.address), None, seed=0)
        threading.Timer(1.0, server.process.kill).start()
        died = meter._run(Plan((Stage("a", 2.0, 100), Stage("b", 0.5, 100)))).stages
    assert meter._answered(died[0], "100 calls/s") > 0
    with pytest.raises(LoadError, match=r"at 100 calls/s no call was answered: .*UNAVAILABLE"):
        meter._answered(died[1], "100 calls/s")


def outcome(found: Found | None, *, at_least: float | None = None, before: float = 0.0, void: str = "") -> Outcome:
    settings = LoadSettings(
        server=Target("127.0.0.1:9000"), bundle=None, config=None, queries=None, profile="steady", scenario=None, faults=(),
        seconds=None, target=Goal(100.0, 0.001), rate=None, at_least=at_least, before=None, margin=0.05, window_s=4.0, turns=10,
        workers=1, remote_workers=0, listen="", locust_users=0, seed=0, out=Path("out"), command="aisle load",
    )  # fmt: skip
    report = {"verdict": {"rate": before, "low": before * 0.98, "high": before * 1.02}, "environment": {}}
    prepared = Prepared(Calls(()), None, "v", 1.0)
    proof = Proof(100.0, 0.1, 1.0, 0.5, 2.0, 0.1, 5000.0, 80.0, 1, raised=True)
    comparison = compare(report, found, settings.margin) if before and found else None
    return Outcome(
        settings, settings.plan(), prepared, found, proof, [], Tally([]), Watch(0.0), [], [], comparison, (0, 0), void
    )


FOUND = Found(200.0, 190.0, 210.0, [])


@pytest.mark.parametrize(
    ("one", "code", "says"),
    [
        (outcome(FOUND), PASSED, "200 calls/s (190 to 210) keep p99 <= 100 ms and errors <= 0.10%"),
        (outcome(FOUND, at_least=205), PASSED, "goal of 205 calls/s is reached"),  # nobody can say that it is missed
        (outcome(FOUND, at_least=215), MISSED, "goal of 215 calls/s is MISSED"),
        (outcome(FOUND, before=260), WORSE, "WORSE, 0.77 times"),
        (outcome(FOUND, at_least=300, before=260), MISSED, "MISSED"),
        (outcome(FOUND, before=150), PASSED, "BETTER, 1.33 times"),
        (outcome(FOUND, before=205), PASSED, "SAME"),
        (outcome(FOUND, at_least=300, before=260, void="the generator sends late"), VOID, "Void: the generator sends late"),
        (outcome(Found(0.0, 0.0, 0.0, []), at_least=1), MISSED, "No rate keeps"),
        (outcome(None), PASSED, "no verdict"),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_verdict(one: Outcome, code: int, says: str) -> None:
    assert one.exit_code == code
    assert says in finding(one)


def test_a_file_of_queries_without_a_query_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("\n\n")
    result = CliRunner().invoke(app, ["load", "--queries", str(tmp_path / "none.txt"), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no query" in " ".join(result.output.split())
