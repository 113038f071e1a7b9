"""Metrics and traces of a running service: what boards and rules ask for is there, calls count once, nothing that dies takes counts along,
and a traced search shows its stages."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from aisle.v1 import catalogue_pb2, product_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from loadtest.benchmarks.service import Service, free_port, served
from serving.edge.keys import new_key
from serving.metrics.metric import METRICS
from tests.otlp_collector import NOT_SAMPLED, SAMPLED, TRACE, Collector, collecting

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
NAMES = re.compile(r"\b(?:aisle_|rpc_server_|process_)[a-z_]+\b")
# Nothing of them is on a machine without a GPU.
WITHOUT_GPU = {"aisle_gpu_utilisation_ratio", "aisle_gpu_memory_used_bytes", "aisle_gpu_memory_bytes"}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Metered:
    service: Service
    url: str
    key: str  # of a caller that may search, record and change
    reader: str  # of one that may only search
    collector: Collector

    def scrape(self) -> Samples:
        with urllib.request.urlopen(self.url, timeout=5) as answer:  # noqa: S310
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            value
            for (found, of_sample), value in self.scrape().items()
            if found == name and labels.items() <= dict(of_sample).items()
        )

    def call(self, method: str, request: object = None, key: str | None = None, traceparent: str = "") -> str:
        """Calls a method of `aisle.v1`; returns the name of its code."""
        data = request.SerializeToString() if request is not None else b""  # type: ignore[attr-defined]
        metadata = [("authorization", f"Bearer {self.key if key is None else key}")]
        metadata += [("traceparent", traceparent)] if traceparent else []
        with grpc.insecure_channel(
            self.service.address, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        ) as channel:
            try:
                channel.unary_unary(f"/aisle.v1.{method}")(data, timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"


@pytest.fixture(scope="module")
def metered(personal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Metered]:
    (key, line), (reader, reader_line) = new_key("shop", ["*"]), new_key("reader", ["search"])
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{line}\n{reader_line} calls_per_s=1\n")
    port = free_port()
    traces = free_port()
    config = f'[server]\nreplicas = 2\n[metrics]\nport = {port}\n[auth]\nkeys_file = "{keys}"\n'
    config += f'[traces]\nendpoint = "http://127.0.0.1:{traces}"\nshare = 0\n'
    with collecting(traces) as collector, served(personal_folder, config) as service:
        service.wait_for("gateway ready", 2)
        metered = Metered(service, f"http://127.0.0.1:{port}/metrics", key, reader, collector)
        use_everything(metered)
        time.sleep(1.5)  # a gateway looks at itself each second
        yield metered


def use_everything(metered: Metered) -> None:
    """Some traffic of every kind. Only what is refused is not OK."""
    search = search_pb2.SearchRequest(query="grey sofa", shopper_id="anna")
    event = shopper_pb2.Event(
        id="e1", shopper_id="anna", session_id="s", time_ms=int(time.time() * 1000), locale="en-US",
        kind=shopper_pb2.EVENT_KIND_CLICK, product_id="P0",
    )  # fmt: skip
    record = shopper_pb2.RecordEventsRequest(events=[event, shopper_pb2.Event(id="bad")])
    product = product_pb2.Product(id="new-1", title="grey sofa")
    change = catalogue_pb2.UpsertProductsRequest(
        products=[product], acknowledgement=catalogue_pb2.ACKNOWLEDGEMENT_VISIBLE
    )
    for method, request in (
        ("SearchService/Search", search),
        ("ShopperService/RecordEvents", record),
        ("SearchService/Search", search),
        ("RankingService/Rank", ranking_pb2.RankRequest(query="sofa", product_ids=["new-1"])),
        ("CatalogueService/UpsertProducts", change),
        ("QueryService/Classify", query_pb2.ClassifyRequest(queries=[query_pb2.LocaleQuery(query="sofa")])),
    ):
        assert metered.call(method, request) in ("OK", "FAILED_PRECONDITION"), method
    nothing = search_pb2.SearchRequest(query="sofa", filter=product_pb2.ProductFilter(brands=["no such brand"]))
    assert metered.call("SearchService/Search", nothing) == "OK"
    assert metered.call("SearchService/Search", search, key="wrong") == "UNAUTHENTICATED"
    assert metered.call("ShopperService/RecordEvents", record, key=metered.reader) == "PERMISSION_DENIED"
    codes = {metered.call("SearchService/Search", search, key=metered.reader) for _ in range(6)}
    assert codes == {"OK", "RESOURCE_EXHAUSTED"}


def test_what_boards_and_rules_name_is_there(metered: Metered) -> None:
    named = {name for board in BOARDS for name in NAMES.findall(board.read_text(encoding="utf-8"))}
    named |= set(NAMES.findall(RULES.read_text(encoding="utf-8")))
    assert len(BOARDS) == 4
    assert len(named) > 40
    there = {name for name, _ in metered.scrape()}
    assert named - there - WITHOUT_GPU == set()


def test_every_metric_that_is_declared_counts(metered: Metered) -> None:
    there = {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in metered.scrape()}
    assert set(METRICS) - there == set()


def test_a_call_counts_once_whoever_ends_it(metered: Metered) -> None:
    name = "rpc_server_call_duration_seconds_count"
    before = metered.scrape()

    def more(method: str, code: str) -> float:
        labels = (("rpc_method", method), ("rpc_response_status_code", code))
        return metered.scrape()[name, labels] - before.get((name, labels), 0)

    search = search_pb2.SearchRequest(query="sofa")
    for _ in range(3):
        assert metered.call("SearchService/Search", search) == "OK"
    assert metered.call("SearchService/Search", search_pb2.SearchRequest(page_size=-1)) == "INVALID_ARGUMENT"
    assert metered.call("SearchService/Search", search, key="wrong") == "UNAUTHENTICATED"
    assert metered.call("SearchService/Nope-1") == metered.call("No.Such/Thing") == "UNIMPLEMENTED"
    assert more("aisle.v1.SearchService/Search", "OK") == 3
    assert more("aisle.v1.SearchService/Search", "INVALID_ARGUMENT") == 1
    assert more("aisle.v1.SearchService/Search", "UNAUTHENTICATED") == 1
    assert more("unknown", "UNIMPLEMENTED") == 2
    assert "Nope" not in str(metered.scrape())
    assert metered.value("aisle_requests_in_flight") == 0


def test_refusals_name_the_key_and_no_other_caller(metered: Metered) -> None:
    assert metered.value("aisle_auth_refused_total", key="reader") >= 1
    assert metered.value("aisle_auth_refused_total", key="") >= 1
    assert metered.value("aisle_quota_refused_total", key="reader") >= 1
    keys = {dict(labels)["key"] for _, labels in metered.scrape() if "key" in dict(labels)}
    assert keys == {"", "reader"}


def test_answers_events_and_changes_are_told_apart(metered: Metered) -> None:
    assert metered.value("aisle_zero_results_total", locale="en-US") >= 1
    assert metered.value("aisle_personalised_total", method="Search", source="none") >= 1
    assert metered.value("aisle_events_recorded_total", result="recorded") >= 1
    assert metered.value("aisle_events_recorded_total", result="refused") >= 1
    assert metered.value("aisle_shopper_store_seconds_count", op="record") >= 1
    assert metered.value("aisle_catalogue_sequence") == metered.value("aisle_catalogue_commit_seconds_count") >= 1
    assert metered.value("aisle_catalogue_overlay_rows") >= 1
    assert metered.value("aisle_stage_batch_items_sum", stage="retriever") >= 3


def test_a_traced_search_shows_its_stages_and_nobody_else_s_words(metered: Metered) -> None:
    search = search_pb2.SearchRequest(query="grey sofa", shopper_id="anna")
    assert metered.call("SearchService/Search", search, traceparent=SAMPLED) == "OK"
    collector = metered.collector
    wait_until(lambda: collector.named("aisle.v1.SearchService/Search"), 20)
    time.sleep(0.2)  # it comes with the others of its batch
    server = collector.one("aisle.v1.SearchService/Search")
    names = {span.name for span in collector.spans if span.trace_id.hex() == TRACE}
    assert {"stage retriever", "fetch"} <= names
    assert all(span.parent_span_id == server.span_id for span in collector.spans if span.name.startswith("stage"))
    assert collector.one("batch retriever").links[0].span_id == collector.one("stage retriever").span_id
    sent = b"".join(span.SerializeToString() for span in collector.spans)
    assert b"anna" not in sent
    assert b"sofa" not in sent


def test_lines_of_failed_calls_name_the_trace_whoever_refused_them(metered: Metered) -> None:
    bad = search_pb2.SearchRequest(page_size=-1)
    assert metered.call("SearchService/Search", bad, traceparent=NOT_SAMPLED) == "INVALID_ARGUMENT"  # by a gateway
    assert metered.call("SearchService/Search", bad, key="wrong", traceparent=NOT_SAMPLED) == "UNAUTHENTICATED"
    wait_until(
        lambda: (
            {line["code"] for line in metered.service.events("call") if line.get("trace_id") == TRACE}
            == {"INVALID_ARGUMENT", "UNAUTHENTICATED"}
        )
    )


@contextmanager
def never_falling(metered: Metered) -> Iterator[None]:
    """Scrapes all the time: no counter and no bucket may ever fall, nor a series of one vanish."""
    last: Samples = {}
    fallen: list[str] = []
    scrapes = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal last, scrapes
        while not stop.wait(0.1):
            samples = {
                key: value
                for key, value in metered.scrape().items()
                if key[0].endswith(("_total", "_count", "_bucket")) and not key[0].startswith("process_")
            }
            fallen.extend(
                f"{key}: {value} to {samples.get(key)}" for key, value in last.items() if samples.get(key, -1) < value
            )
            last, scrapes = samples, scrapes + 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert scrapes > 10
    assert fallen == []


def wait_until(what: object, seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < give_up
        time.sleep(0.2)


def pid_of(metered: Metered, process: str) -> int:
    return next(
        int(dict(labels)["pid"])
        for name, labels in metered.scrape()
        if name == "process_resident_memory_bytes" and dict(labels)["process"] == process
    )


def test_nothing_that_ends_takes_its_counts_along(metered: Metered) -> None:
    search = search_pb2.SearchRequest(query="sofa")
    with never_falling(metered):
        gateway, edge = pid_of(metered, "gateway"), pid_of(metered, "edge")
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: not any(("pid", str(gateway)) in labels for _, labels in metered.scrape()))
        assert metered.call("SearchService/Search", search) == "OK"  # by the other
        os.kill(edge, signal.SIGKILL)
        wait_until(lambda: metered.call("SearchService/Search", search) == "OK")
        wait_until(lambda: metered.value("aisle_gateways_ready") == 2)
        config = metered.service.config
        config.write_text(config.read_text() + "[limits]\ndefault_page_size = 10\n")
        metered.service.update()
        assert metered.call("SearchService/Search", search) == "OK"
        wait_until(lambda: metered.value("aisle_processes", process="gateway") == 2)
    assert metered.value("aisle_gateways_ready") == 2
    assert metered.value("aisle_requests_in_flight") == 0


def test_a_gateway_that_cannot_count_serves_on_and_says_so(metered: Metered) -> None:
    folder = next(
        Path(os.readlink(path)).parent
        for path in Path(f"/proc/{pid_of(metered, 'gateway')}/fd").iterdir()
        if "/metrics/" in os.readlink(path)
    )
    hidden = folder.rename(folder.with_name("hidden"))
    folder.write_text("no folder")
    try:
        os.kill(pid_of_gateway(metered), signal.SIGKILL)
        metered.service.wait_for("this process has no metrics", 1)
        metered.service.wait_for("gateway ready", len(metered.service.events("gateway ready")))
        wait_until(lambda: metered.call("SearchService/Search", search_pb2.SearchRequest(query="sofa")) == "OK")
        assert metered.value("process_cpu_seconds_total", process="serve") > 0
    finally:
        folder.unlink()
        hidden.rename(folder)


def pid_of_gateway(metered: Metered) -> int:
    return min(metered.service.gateways())


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_prometheus_answers_every_query_of_the_boards(metered: Metered, tmp_path: Path) -> None:
    port = free_port()
    scrape = {
        "job_name": "aisle",
        "scrape_interval": "1s",
        "static_configs": [{"targets": [metered.url.split("/")[2]]}],
    }
    config = {"rule_files": [str(RULES)], "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        prometheus = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(port, "sum(rate(rpc_server_call_duration_seconds_count[10s]))"))
        use_everything(metered)
        time.sleep(2.5)
        empty = [
            f"{board.stem}: {panel['title']}"
            for board in BOARDS
            for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]
            for target in panel["targets"]
            if not answers(port, target["expr"].replace("$__rate_interval", "10s"))
        ]
        assert [title for title in empty if "GPU" not in title] == []
    finally:
        prometheus.terminate()
        prometheus.wait(20)


def answers(port: int, query: str) -> bool:
    """Whether a query has an answer. Raises HTTPError for one that is refused."""
    data = urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{data}", timeout=5) as answer:
            return bool(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code != 503:  # it starts
            raise
        return False
    except OSError:
        return False
