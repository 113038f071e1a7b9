"""Planned times, histograms that merge, and what the sender counts: against a real server that answers at once."""

from __future__ import annotations

import os
import pickle
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import grpc
import numpy as np
import pytest

from aisle.v1 import search_pb2, shopper_pb2
from loadtest.benchmarks.service import free_port, module_server
from loadtest.errors import LoadError
from loadtest.generator.calls import EVENTS, SEARCH, Call, Calls
from loadtest.generator.connection import Target
from loadtest.generator.empty_server import prepared_answer
from loadtest.generator.histogram import Histogram, merged
from loadtest.generator.plan import Plan, Stage, planned_times
from loadtest.generator.sender import send
from loadtest.generator.tally import StageTally, Tally, all_tallies
from loadtest.generator.workers import joined
from loadtest.judge.measures import OUTSIDE, quality_shares, time_parts
from loadtest.judge.proof import Proof, prove

MESSAGE = search_pb2.SearchRequest(query="lamp").SerializeToString()
IDLE = tuple(hit.product_id for hit in prepared_answer().hits[:10])
CALLS = Calls((Call("search", SEARCH.encode(), MESSAGE, sample=0),), idle=(IDLE,))


@pytest.fixture(scope="module")
def empty() -> Iterator[Target]:
    with module_server("loadtest.generator.empty_server", ["127.0.0.1"]) as server:
        yield Target(server.address)


def test_times_are_those_of_a_poisson_process_of_the_stages_rates() -> None:
    stages = [Stage("slow", 100, 10), Stage("ramp", 100, 10, 90), Stage("fast", 100, 90)]
    times = list(planned_times(stages, seed=1))
    by_stage = [[at for at, stage in times if stage == number] for number in range(3)]
    assert [len(one) for one in by_stage] == [pytest.approx(n, rel=0.1) for n in (1000, 5000, 9000)]
    assert all(100 * n <= at < 100 * (n + 1) for n, one in enumerate(by_stage) for at in one)
    assert [at for at, _ in times] == sorted(at for at, _ in times)
    gaps = np.diff(by_stage[0])
    assert statistics.fmean(gaps) == pytest.approx(statistics.stdev(gaps), rel=0.1)  # as exponential gaps have it
    first, last = (sum(100 + 50 * n <= at < 150 + 50 * n for at in by_stage[1]) for n in range(2))
    assert last / first == pytest.approx(70 / 30, rel=0.1)  # the rate grows


def test_the_shares_of_workers_add_up() -> None:
    plan = Plan((Stage("a", 10, 90, 30), Stage("b", 5, 60)))
    share = plan.share(3)
    assert [(one.rate, one.end_rate, one.seconds) for one in share.stages] == [(30, 10, 10), (20, 20, 5)]
    counts = [sum(1 for _ in planned_times(share.stages, seed)) for seed in range(3)]
    assert sum(counts) == pytest.approx(900, rel=0.1)
    assert len(set(counts)) > 1


def test_merged_histograms_are_the_histogram_of_all_times() -> None:
    rng = random.Random(0)
    times = [rng.lognormvariate(-4, 1) for _ in range(5000)]
    parts = [Histogram() for _ in range(3)]
    for number, one in enumerate(times):
        parts[number % 3].record(one)
    total = merged(pickle.loads(pickle.dumps(parts)))  # noqa: S301 - as workers send them
    assert total.count == 5000
    for q in (50, 99, 99.9):
        assert total.percentile(q) == pytest.approx(
            1000 * float(np.percentile(times, q, method="inverted_cdf")), rel=0.002
        )
    assert merged([]).count == 0


def test_tallies_of_workers_add_up() -> None:
    parts = []
    for codes in ({("search", "OK"): 3}, {("search", "OK"): 1, ("rank", "UNAVAILABLE"): 2}):
        stage = StageTally(sent=sum(codes.values()))
        stage.codes.update(codes)
        stage.latency["search"].record(0.01 * stage.sent)
        tally = Tally([stage], cpu_s=1.0, busiest_cpu=stage.sent / 10)
        tally.seconds[0].sent = stage.sent
        parts.append(tally)
    total = all_tallies(parts)
    assert total.stages[0].by_code() == {"OK": 4, "UNAVAILABLE": 2}
    assert (total.stages[0].sent, total.seconds[0].sent, total.cpu_s, total.busiest_cpu) == (6, 6, 2.0, 0.3)
    assert total.stages[0].latencies().count == 2


def test_every_planned_call_is_sent_and_counted_in_its_stage_and_second(empty: Target) -> None:
    stages = (Stage("a", 1.0, 80), Stage("b", 1.0, 200))
    tally = send(empty, CALLS, Plan(stages), seed=3)
    planned = [sum(1 for _, stage in planned_times(stages, 3) if stage == number) for number in range(2)]
    assert [stage.sent for stage in tally.stages] == planned
    assert [stage.by_code()["OK"] for stage in tally.stages] == planned
    assert [tally.seconds[second].sent for second in range(2)] == planned
    assert tally.unfinished == 0
    for stage in tally.stages:
        assert stage.latencies().count == stage.slip.count == stage.sent
        assert stage.quality["compared"] == stage.quality["as when idle"] == stage.sent
        parts = time_parts(stage)
        assert sum(ms for name, ms in parts.items() if name != "latency") == pytest.approx(parts["latency"])
        assert parts[OUTSIDE] > 0
    assert quality_shares(tally)["the same ten products as when idle"] == 1.0


def test_another_answer_than_when_idle_is_seen(empty: Target) -> None:
    calls = Calls((Call("search", SEARCH.encode(), MESSAGE, sample=0),), idle=(("other", *IDLE[1:]),))
    shares = quality_shares(send(empty, calls, Plan((Stage("a", 0.5, 100),))))
    assert shares["the same ten products as when idle"] == 0.0
    assert shares["first ten products that are there when idle"] == pytest.approx(0.9)


async def test_errors_are_counted_by_code_and_refusals_timed() -> None:
    async def answer(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
        raise AssertionError

    class Refusing(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    import asyncio

    tally = await asyncio.to_thread(send, Target(f"127.0.0.1:{port}"), CALLS, Plan((Stage("a", 0.5, 40),)))
    await server.stop(None)
    (stage,) = tally.stages
    assert stage.by_code() == {"RESOURCE_EXHAUSTED": stage.sent}
    assert stage.errors == {"search: RESOURCE_EXHAUSTED: too much": stage.sent}
    assert stage.refusal.count == stage.sent > 0
    assert stage.latencies().count == 0


def test_nobody_to_call_is_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.generator.connection._CONNECT_S", 0.5)
    with pytest.raises(LoadError, match="nothing that speaks gRPC answers"):
        send(Target(f"127.0.0.1:{free_port()}"), CALLS, Plan((Stage("a", 1, 1),)))


def test_two_workers_share_a_plan_and_the_proof_says_what_they_can(empty: Target) -> None:
    told: list[str] = []
    with joined(2, tell=told.append) as workers:
        workers.load(CALLS)
        tally = workers.run(empty, Plan((Stage("a", 1.0, 300),)), seed=1)
        proof = prove(workers, empty, rate=100, seed=2)
    assert not told
    assert tally.stages[0].sent == pytest.approx(300, rel=0.3)
    assert tally.stages[0].by_code() == {"OK": tally.stages[0].sent}
    assert proof.workers == 2
    assert proof.ceiling > 100
    assert 0 < proof.p50 <= proof.p99
    assert 0 < proof.slip_p50 <= proof.slip_p999


def test_a_worker_joins_by_its_key_from_outside_and_not_without(empty: Target) -> None:
    """As another machine does."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "loadtest.generator.worker", address]
    refused: list[bytes] = []
    ended: list[int] = []

    def join(key: str) -> None:
        """One after the other: a listener that has all its workers is closed to a stranger who comes late."""
        wrong, right = ({**os.environ, "AISLE_LOAD_KEY": one} for one in ("wrong", key))
        refused.append(subprocess.run(command, check=False, env=wrong, stderr=subprocess.PIPE).stderr)
        ended.append(subprocess.run(command, check=False, env=right).returncode)

    def tell(text: str) -> None:
        assert f"aisle load --join {address}" in text
        others.submit(join, text.split("AISLE_LOAD_KEY=")[1].split(maxsplit=1)[0])

    with ThreadPoolExecutor(1) as others, joined(0, 1, address, tell) as workers:
        workers.load(CALLS)
        tally = workers.run(empty, Plan((Stage("a", 0.5, 100),)), seed=1)
    assert tally.stages[0].by_code()["OK"] > 0
    assert b"does not take the key" in refused[0]
    assert ended == [0]


def test_a_worker_that_dies_is_an_expected_error(empty: Target) -> None:
    with joined(1) as workers:
        workers.load(CALLS)
        workers._send(workers.connections[0], (empty, "no plan", 0, 0.0))  # it knows no such thing
        with pytest.raises(LoadError, match="has died"):
            workers.run(empty, Plan((Stage("a", 1, 1),)), 0)


@pytest.mark.parametrize("listen", ["0.0.0.0:7000", "nowhere", ":7000"])
def test_an_address_that_nobody_can_join_is_refused(listen: str) -> None:
    with pytest.raises(LoadError, match="--listen"), joined(0, 1, listen):
        pass


def test_events_are_new_each_time_and_other_calls_are_sent_as_they_are() -> None:
    calls = Calls((Call(EVENTS, b"/e", b""), CALLS.pool[0]), shoppers=("s1", "s2"), products=("p1",))
    drawn = list(islice(calls.endless(1), 40))
    events = [
        event
        for call in drawn
        if call.kind == EVENTS
        for event in shopper_pb2.RecordEventsRequest.FromString(call.message).events
    ]
    assert len(events) == len({event.id for event in events}) == 20
    assert {event.shopper_id for event in events} == {"s1", "s2"}
    assert {call.message for call in drawn if call.kind == "search"} == {MESSAGE}


def test_a_generator_that_is_at_fault_says_which_limit_it_broke() -> None:
    good = {"rate": 100.0, "slip_p50": 0.1, "slip_p999": 1.0, "p50": 0.5, "p99": 2.0, "cpu": 0.1, "ceiling": 5000.0}
    good["call_us"] = 80.0
    rest = {"workers": 1, "raised": True}

    def void(**change: float) -> str:
        return Proof(**(good | change), **rest).void  # type: ignore[arg-type]

    assert void() == ""
    assert "sends late: slip p99.9 9.0 ms" in void(slip_p999=9.0)
    assert "busiest worker uses 90% of a core" in void(cpu=0.9)
    assert "150 calls/s at most, less than 2 times the 100" in void(ceiling=150.0)
