"""A Locust user that searches. Run it through `python -m loadtest.run`, or by itself:

AISLE_QUERIES=queries.txt locust -f loadtest/locustfile.py --host 127.0.0.1:9000
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental.gevent as grpc_gevent
from locust import User, constant, events, task

from aisle.v1 import product_pb2, search_pb2, search_pb2_grpc
from loadtest.report import LoadReport
from loadtest.traffic import QueryMix, read_queries

grpc_gevent.init_gevent()  # without it the first call blocks every user of the process

report = LoadReport(0.0)


@events.init.add_listener
def load_queries(environment: Any, **_: Any) -> None:
    path = os.environ.get("AISLE_QUERIES")
    if not path:
        raise SystemExit("set AISLE_QUERIES to a file with one query a line, the most popular first")
    environment.queries = QueryMix(read_queries(Path(path)))
    environment.channel = grpc.insecure_channel(environment.host)


@events.test_start.add_listener
def start_clock(environment: Any, **_: Any) -> None:
    environment.started = time.perf_counter()


@events.quitting.add_listener
def write_report(environment: Any, **_: Any) -> None:
    report.seconds = time.perf_counter() - getattr(environment, "started", time.perf_counter())
    if path := os.environ.get("AISLE_REPORT"):
        latencies = ",".join(f"{ms:.3f}" for ms in report.latencies_ms)
        Path(path).write_text(f"{report.seconds}\n{latencies}\n{dict(report.codes)!r}\n", encoding="utf-8")


class Shopper(User):
    """Searches, sometimes within a price, now and then turns a page."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.stub = search_pb2_grpc.SearchServiceStub(self.environment.channel)

    @task(8)
    def search(self) -> None:
        self._call("Search", search_pb2.SearchRequest(query=self.environment.queries.draw()))

    @task(1)
    def search_in_stock(self) -> None:
        in_stock = product_pb2.ProductFilter(in_stock_only=True)
        self._call("Search, in stock", search_pb2.SearchRequest(query=self.environment.queries.draw(), filter=in_stock))

    @task(1)
    def turn_page(self) -> None:
        request = search_pb2.SearchRequest(query=self.environment.queries.draw())
        first = self._call("Search", request)
        if first is not None and first.next_page_token:
            request.page_token = first.next_page_token
            self._call("Search, page 2", request)

    def _call(self, name: str, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse | None:
        started = time.perf_counter()
        answer, error = None, None
        try:
            answer = self.stub.Search(request, timeout=5)
        except grpc.RpcError as failed:
            error = failed
        ms = (time.perf_counter() - started) * 1000
        report.codes[error.code().name if error else "OK"] += 1
        if answer is not None:
            report.latencies_ms.append(ms)
        self.environment.events.request.fire(
            request_type="grpc", name=name, response_time=ms, exception=error, context={},
            response_length=answer.ByteSize() if answer else 0,
        )  # fmt: skip
        return answer
