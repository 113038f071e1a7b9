"""What shoppers did, over real gRPC: recorded once, read in order, forgotten; with Redis gone and gateways killed in between."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.client import channel_options
from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from loadtest.benchmarks.redis_server import RedisServer, redis_is_installed, redis_server
from loadtest.benchmarks.service import Service, served
from models.events.event import Event, EventKind
from serving.edge.keys import new_key
from serving.shoppers.sqlite_store import SqliteStore
from serving.shoppers.store import DAY_MS, Retention

Stub = shopper_pb2_grpc.ShopperServiceStub
RECORD = shopper_pb2.RecordEventsRequest
STREAM = shopper_pb2.StreamEventsRequest

_shoppers = itertools.count()


@pytest.fixture(scope="module")
def shoppers(channel: grpc.Channel) -> Stub:
    return Stub(channel)


@pytest.fixture
def ann() -> str:
    """A shopper whom no other test knows."""
    return f"shopper-{next(_shoppers)}"


def event(shopper: str, number: int, **changes: object) -> shopper_pb2.Event:
    fields: dict[str, object] = {
        "id": f"e{number:04}", "time_ms": now_ms() - 10_000_000 + number, "shopper_id": shopper, "session_id": "s1",
        "locale": "en-US", "kind": shopper_pb2.EVENT_KIND_CLICK, "product_id": f"AS-{number:07}", "query": "red sofa",
        "position": 2, "price_minor": 1999,
    }  # fmt: skip
    return shopper_pb2.Event(**{**fields, **changes})  # type: ignore[arg-type]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ids(stub: Stub, shopper: str, **options: object) -> list[str]:
    answer = stub.GetHistory(shopper_pb2.GetHistoryRequest(shopper_id=shopper), **{"timeout": 60, **options})
    return [kept.id for kept in answer.events]


@dataclass(frozen=True)
class Refusal:
    code: grpc.StatusCode
    message: str
    reason: str
    violations: dict[str, str]


def refusal(call: object) -> Refusal:
    """How a call failed that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()  # type: ignore[operator]
    status = rpc_status.from_call(caught.value)
    violations: dict[str, str] = {}
    about = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            violations = {violation.field: violation.description for violation in bad.field_violations}
        detail.Unpack(about)
    return Refusal(caught.value.code(), caught.value.details() or "", about.reason, violations)


class TestRecord:
    def test_what_was_recorded_is_read_at_once_the_newest_first(self, shoppers: Stub, ann: str) -> None:
        events = [event(ann, n) for n in (2, 0, 1)]
        answer = shoppers.RecordEvents(RECORD(events=events), timeout=60)
        assert (answer.recorded, answer.duplicates, answer.refused, len(answer.rejected)) == (3, 0, 0, 0)
        assert answer.request_id
        history = shoppers.GetHistory(shopper_pb2.GetHistoryRequest(shopper_id=ann), timeout=60)
        assert list(history.events) == sorted(events, key=lambda kept: -kept.time_ms)
        assert history.version > 0
        assert history.request_id

    def test_a_repeat_changes_nothing(self, shoppers: Stub, ann: str) -> None:
        batch = RECORD(events=[event(ann, n) for n in (1, 2, 1)])
        first = shoppers.RecordEvents(batch, timeout=60)
        assert (first.recorded, first.duplicates) == (2, 1)
        before = shoppers.GetHistory(shopper_pb2.GetHistoryRequest(shopper_id=ann), timeout=60)
        again = shoppers.RecordEvents(batch, timeout=60)
        assert (again.recorded, again.duplicates) == (0, 3)
        after = shoppers.GetHistory(shopper_pb2.GetHistoryRequest(shopper_id=ann), timeout=60)
        assert (after.version, after.events) == (before.version, before.events)

    def test_bad_events_are_refused_alone_each_with_its_field(self, shoppers: Stub, ann: str) -> None:
        bad: list[tuple[dict[str, object], str]] = [
            ({"id": ""}, "id"),
            ({"shopper_id": ""}, "shopper_id"),
            ({"session_id": "s" * 129}, "session_id"),
            ({"product_id": ""}, "product_id"),
            ({"time_ms": 5}, "time_ms"),
            ({"time_ms": now_ms() + 3_600_000}, "time_ms"),
            ({"locale": "xx"}, "locale"),
            ({"kind": 0}, "kind"),
            ({"query": "so\x00fa"}, "query"),
            ({"position": 0}, "position"),
            ({"price_minor": -1}, "price_minor"),
        ]
        events = [event(ann, n, **changes) for n, (changes, _) in enumerate(bad)]
        answer = shoppers.RecordEvents(RECORD(events=[*events, event(ann, 99)]), timeout=60)
        assert (answer.recorded, answer.refused) == (1, len(bad))
        assert [(rejection.index, rejection.field) for rejection in answer.rejected] == [
            (n, field) for n, (_, field) in enumerate(bad)
        ]
        assert all(rejection.reason for rejection in answer.rejected)
        assert ids(shoppers, ann) == ["e0099"]

    def test_a_product_that_the_catalogue_does_not_hold_may_be_newer(self, shoppers: Stub, ann: str) -> None:
        batch = RECORD(events=[event(ann, 1, product_id="of-tomorrow")])
        assert shoppers.RecordEvents(batch, timeout=60).recorded == 1

    def test_a_long_history_keeps_the_newest(self, shoppers: Stub, ann: str) -> None:
        for first in range(0, 500, 100):
            shoppers.RecordEvents(RECORD(events=[event(ann, n) for n in range(first, first + 100)]), timeout=60)
        assert ids(shoppers, ann) == [f"e{n:04}" for n in range(499, 299, -1)]


class TestStream:
    def test_the_answer_has_the_totals_of_every_batch(self, shoppers: Stub, ann: str) -> None:
        batches = [
            STREAM(events=[event(ann, 1), event(ann, 2)]),
            STREAM(events=[event(ann, 2), event(ann, 3), event(ann, 4, position=-1)]),
            STREAM(events=[event(ann, 5)]),
        ]
        answer = shoppers.StreamEvents(iter(batches), timeout=60)
        assert [(b.recorded, b.duplicates, b.refused) for b in answer.batches] == [(2, 0, 0), (1, 1, 1), (1, 0, 0)]
        assert [(r.index, r.field) for r in answer.batches[1].rejected] == [(2, "position")]
        assert answer.request_id
        assert ids(shoppers, ann) == ["e0005", "e0003", "e0002", "e0001"]

    def test_an_empty_stream_is_answered(self, shoppers: Stub) -> None:
        assert not shoppers.StreamEvents(iter([]), timeout=60).batches

    def test_a_bad_batch_ends_it_and_those_before_stay(self, shoppers: Stub, ann: str) -> None:
        batches = [STREAM(events=[event(ann, 1)]), STREAM(), STREAM(events=[event(ann, 2)])]
        refused = refusal(lambda: shoppers.StreamEvents(iter(batches), timeout=60))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "has 0 events" in refused.violations["batches[1].events"]
        assert ids(shoppers, ann) == ["e0001"]

    def test_what_does_not_parse_is_the_callers_mistake(self, channel: grpc.Channel) -> None:
        call = channel.stream_unary("/aisle.v1.ShopperService/StreamEvents")
        refused = refusal(lambda: call(iter([b"\x0a\xff"]), timeout=60))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "UTF-8" in refused.violations["batches[0]"]

    def test_one_that_is_never_closed_ends_at_its_deadline_and_what_came_is_kept(
        self, shoppers: Stub, ann: str
    ) -> None:
        closed = threading.Event()

        def endless() -> Iterator[shopper_pb2.StreamEventsRequest]:
            yield STREAM(events=[event(ann, 1)])
            closed.wait()

        try:
            refused = refusal(lambda: shoppers.StreamEvents(endless(), timeout=3))
        finally:
            closed.set()
        assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ids(shoppers, ann) == ["e0001"]

    def test_it_is_counted_like_every_call(self, shoppers: Stub, info: info_pb2_grpc.InfoServiceStub, ann: str) -> None:
        def calls() -> int:
            stats = info.GetStats(info_pb2.GetStatsRequest(), timeout=60)
            return sum(c.count for c in stats.calls if (c.method, c.code) == ("StreamEvents", "OK"))

        before = calls()
        shoppers.StreamEvents(iter([STREAM(events=[event(ann, 1)])]), timeout=60)
        assert calls() == before + 1


class TestForget:
    def test_nothing_is_left_of_the_shopper(self, shoppers: Stub, ann: str) -> None:
        batch = RECORD(events=[event(ann, n) for n in range(5)])
        shoppers.RecordEvents(batch, timeout=60)
        request = shopper_pb2.ForgetShopperRequest(shopper_id=ann)
        assert shoppers.ForgetShopper(request, timeout=60).forgotten == 5
        history = shoppers.GetHistory(shopper_pb2.GetHistoryRequest(shopper_id=ann), timeout=60)
        assert (list(history.events), history.version) == ([], 0)
        assert shoppers.ForgetShopper(request, timeout=60).forgotten == 0
        assert shoppers.RecordEvents(batch, timeout=60).recorded == 5


class TestPurge:
    def test_an_operator_purges_what_is_expired(self, bundle_folder: Path, tmp_path: Path) -> None:
        path, config = tmp_path / "shoppers.db", tmp_path / "aisle.toml"
        config.write_text(f'[shoppers]\npath = "{path}"\nretention_days = 30\n')

        async def record() -> None:
            store = SqliteStore(path, Retention(), "normal")
            times = {"old": now_ms() - 31 * DAY_MS, "young": now_ms()}
            await store.record(
                [Event(id_, time_ms, "ann", "s", "en-US", EventKind.CLICK, "p") for id_, time_ms in times.items()]
            )
            await store.close()

        asyncio.run(record())
        command = [sys.executable, "-m", "serving.cli", "purge", "--bundle", bundle_folder, "--config", config]
        for says in ("1 events deleted", "0 events deleted"):
            assert says in subprocess.run(command, check=True, capture_output=True, text=True).stdout


class TestBadCalls:
    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (RECORD(), "events"),
            (RECORD(events=[shopper_pb2.Event()] * 1001), "events"),
            (RECORD.FromString(b"\xa0\x06\x01"), "100"),
        ],
    )
    def test_a_batch_that_breaks_a_rule_is_refused_as_a_whole(
        self, shoppers: Stub, request_: shopper_pb2.RecordEventsRequest, field: str
    ) -> None:
        refused = refusal(lambda: shoppers.RecordEvents(request_, timeout=60))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert field in refused.violations

    def test_a_thousand_bad_events_get_an_answer_that_can_be_sent(self, shoppers: Stub) -> None:
        answer = shoppers.RecordEvents(RECORD(events=[shopper_pb2.Event()] * 1000), timeout=60)
        assert answer.refused == 1000
        assert answer.rejected

    def test_reading_and_forgetting_name_their_fields(self, shoppers: Stub, ann: str) -> None:
        nobody = shopper_pb2.ForgetShopperRequest()
        assert "shopper_id" in refusal(lambda: shoppers.ForgetShopper(nobody, timeout=60)).violations
        none_of_ann = shopper_pb2.GetHistoryRequest(shopper_id=ann, max_events=0)
        assert "max_events" in refusal(lambda: shoppers.GetHistory(none_of_ann, timeout=60)).violations


@dataclass(frozen=True)
class OverRedis:
    """A service with Redis and API keys."""

    stub: Stub
    search: search_pb2_grpc.SearchServiceStub
    redis: RedisServer
    recorder: tuple[tuple[str, str], ...]
    reader: tuple[tuple[str, str], ...]
    searcher: tuple[tuple[str, str], ...]


@pytest.fixture(scope="module")
def over_redis(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OverRedis]:
    if not redis_is_installed():
        pytest.skip("redis-server is not installed")
    made = [new_key(scope, [scope]) for scope in ("events", "history", "search")]
    keys_file = tmp_path_factory.mktemp("keys") / "keys"
    keys_file.write_text("".join(line + "\n" for _, line in made))
    metadata = [(("authorization", f"Bearer {key}"),) for key, _ in made]
    with redis_server() as redis:
        config = f'[auth]\nkeys_file = "{keys_file}"\n[shoppers]\nstore = "redis"\nurl = "{redis.url}"\n'
        with served(bundle_folder, config) as service, grpc.insecure_channel(service.address) as channel:
            yield OverRedis(Stub(channel), search_pb2_grpc.SearchServiceStub(channel), redis, *metadata)


class TestOverRedis:
    def test_recording_and_reading_need_scopes_of_their_own(self, over_redis: OverRedis, ann: str) -> None:
        stub = over_redis.stub
        batch, stream = RECORD(events=[event(ann, 1)]), STREAM(events=[event(ann, 2)])
        read, forget = shopper_pb2.GetHistoryRequest(shopper_id=ann), shopper_pb2.ForgetShopperRequest(shopper_id=ann)
        for metadata in (over_redis.reader, over_redis.searcher):
            for record in (
                lambda m=metadata: stub.RecordEvents(batch, timeout=60, metadata=m),
                lambda m=metadata: stub.StreamEvents(iter([stream]), timeout=60, metadata=m),
            ):
                refused = refusal(record)
                assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
                assert "'events'" in refused.message
        for metadata in (over_redis.recorder, over_redis.searcher):
            for look in (
                lambda m=metadata: stub.GetHistory(read, timeout=60, metadata=m),
                lambda m=metadata: stub.ForgetShopper(forget, timeout=60, metadata=m),
            ):
                assert refusal(look).code is grpc.StatusCode.PERMISSION_DENIED
        no_key = refusal(lambda: stub.StreamEvents(iter([stream]), timeout=60))
        assert no_key.code is grpc.StatusCode.UNAUTHENTICATED
        assert ids(stub, ann, metadata=over_redis.reader) == []
        stub.RecordEvents(batch, timeout=60, metadata=over_redis.recorder)
        stub.StreamEvents(iter([stream]), timeout=60, metadata=over_redis.recorder)
        assert ids(stub, ann, metadata=over_redis.reader) == ["e0002", "e0001"]
        assert stub.ForgetShopper(forget, timeout=60, metadata=over_redis.reader).forgotten == 2

    def test_redis_may_go_and_come_back(self, over_redis: OverRedis, ann: str) -> None:
        stub, recorder = over_redis.stub, over_redis.recorder
        stub.RecordEvents(RECORD(events=[event(ann, 1)]), timeout=60, metadata=recorder)
        over_redis.redis.stop()
        try:
            batch = RECORD(events=[event(ann, 2)])
            refused = refusal(lambda: stub.RecordEvents(batch, timeout=60, metadata=recorder))
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
            assert "shopper store" in refused.message
            stream = refusal(
                lambda: stub.StreamEvents(iter([STREAM(events=batch.events)]), timeout=60, metadata=recorder)
            )
            assert stream.code is grpc.StatusCode.UNAVAILABLE
            wanted = search_pb2.SearchRequest(query="sofa", shopper_id=ann)
            assert over_redis.search.Search(wanted, timeout=60, metadata=over_redis.searcher).hits
        finally:
            over_redis.redis.start()
        stub.RecordEvents(batch, timeout=60, metadata=recorder)
        assert ids(stub, ann, metadata=over_redis.reader) == ["e0002", "e0001"]

    def test_a_redis_that_hangs_costs_no_more_than_the_deadline(self, over_redis: OverRedis, ann: str) -> None:
        os.kill(over_redis.redis.pid, signal.SIGSTOP)
        try:
            batch = RECORD(events=[event(ann, 1)])
            for timeout in (0.3, 5):
                refused = refusal(
                    lambda t=timeout: over_redis.stub.RecordEvents(batch, timeout=t, metadata=over_redis.recorder)
                )
                assert refused.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        finally:
            os.kill(over_redis.redis.pid, signal.SIGCONT)
        over_redis.stub.RecordEvents(batch, timeout=60, metadata=over_redis.recorder)
        assert ids(over_redis.stub, ann, metadata=over_redis.reader) == ["e0001"]


@pytest.fixture(scope="module")
def two_gateways(bundle_folder: Path) -> Iterator[Service]:
    with served(bundle_folder, '[server]\nreplicas = 2\n[log]\nrequests = "off"\n') as service:
        give_up = time.monotonic() + 240
        while len(gateway_pids(service)) < 2 and time.monotonic() < give_up:
            time.sleep(0.1)
        yield service


class TestTwoGateways:
    def test_each_sees_at_once_what_the_other_recorded(self, two_gateways: Service) -> None:
        asked = set()
        with fresh_channel(two_gateways) as one:
            for n in range(30):
                Stub(one).RecordEvents(RECORD(events=[event("cat", n)]), timeout=60)
                with fresh_channel(two_gateways) as any_one:
                    assert ids(Stub(any_one), "cat")[0] == f"e{n:04}"
                    asked.add(replica_of(any_one))
        assert len(asked) == 2

    def test_a_killed_gateway_loses_no_acknowledged_event_and_doubles_none(self, two_gateways: Service) -> None:
        failures = []
        with grpc.insecure_channel(two_gateways.address, channel_options()) as channel:
            stub = Stub(channel)
            for n in range(190):  # all within one history
                if n == 100:
                    victim = gateway_pids(two_gateways)[replica_of(channel)]
                    killer = threading.Timer(0.02, os.kill, (victim, signal.SIGKILL))
                    killer.start()
                while True:
                    try:
                        stub.RecordEvents(RECORD(events=[event("dan", n)]), timeout=60)
                        break
                    except grpc.RpcError as error:
                        failures.append(error.code())
                        time.sleep(0.05)
        killer.join()
        assert set(failures) <= {grpc.StatusCode.UNAVAILABLE}
        with fresh_channel(two_gateways) as another:
            assert ids(Stub(another), "dan") == [f"e{n:04}" for n in reversed(range(190))]


def fresh_channel(service: Service) -> grpc.Channel:
    """With a connection of its own, which the kernel gives to any of the gateways."""
    return grpc.insecure_channel(service.address, [("grpc.use_local_subchannel_pool", 1)])


def replica_of(channel: grpc.Channel) -> str:
    """Which gateway this channel is connected to."""
    told = info_pb2_grpc.InfoServiceStub(channel).GetStats(info_pb2.GetStatsRequest(), timeout=60)
    return str(told.replica_id)


def gateway_pids(service: Service) -> dict[str, int]:
    """Process by replica id."""
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return {str(line["replica"]): int(line["pid"]) for line in lines if line["event"] == "gateway ready"}
