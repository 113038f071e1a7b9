"""Locust's users: shoppers who search, look, refine, click, fill a cart, buy, and come back as known shoppers.

    AISLE_QUERIES=queries.txt locust -f loadtest/locustfile.py --host 127.0.0.1:9000                  # web UI on :8089
    ... --headless --users 50 --run-time 2m --html locust.html --shape double-wave                    # or without
    ... --master, and on each further core or machine: ... --worker --master-host HOST

Every option can be given as a variable of the environment. Users wait for their answers and so hide queueing: latencies that judge a
release come from `aisle load`.
"""

from __future__ import annotations

import random
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
import grpc.experimental.gevent as grpc_gevent
from locust import LoadTestShape, User, between, events, tag, task

from aisle.client import ClientTls, connect
from aisle.v1 import info_pb2, info_pb2_grpc, search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from loadtest.traffic import QueryMix, read_queries

grpc_gevent.init_gevent()  # without it the first call blocks every user of the process

TIMEOUT_S = 5.0
PERSONALISED, STORED = "Search, known shopper", search_pb2.PERSONALISATION_SOURCE_STORED
# Shape: (share of --run-time at which it ends, share of --users), the next follows at once.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "constant": ((1.0, 1.0),),
    "step": ((0.2, 0.2), (0.4, 0.4), (0.6, 0.6), (0.8, 0.8), (1.0, 1.0)),
    "spike": ((0.4, 0.3), (0.5, 1.0), (1.0, 0.3)),
    "double-wave": ((0.1, 0.2), (0.2, 0.6), (0.3, 1.0), (0.4, 0.6), (0.55, 0.2), (0.65, 0.6), (0.75, 1.0), (0.85, 0.6), (1.0, 0.2)),
    "soak": ((0.05, 0.5), (1.0, 1.0)),
}  # fmt: skip
DEFAULT_RUN_S = 300.0


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument(
        "--queries", env_var="AISLE_QUERIES", default="", help="One query a line, the most popular first"
    )
    parser.add_argument(
        "--shape", env_var="AISLE_SHAPE", default="constant", choices=list(SHAPES), help="How --users come and go"
    )
    parser.add_argument(
        "--api-key", env_var="AISLE_API_KEY", default="", is_secret=True, help="API key: search and events"
    )
    parser.add_argument("--ca", env_var="AISLE_CA", default="", help="CA certificate of a TLS service")
    parser.add_argument("--cert", env_var="AISLE_CERT", default="", help="Client certificate for mTLS")
    parser.add_argument("--cert-key", env_var="AISLE_CERT_KEY", default="", help="Key of the client certificate")
    parser.add_argument("--known", env_var="AISLE_KNOWN", type=float, default=0.7, help="Share of shoppers with an id")


@events.init.add_listener
def open_service(environment: Any, **_: Any) -> None:
    options = environment.parsed_options
    if not options.queries:
        raise SystemExit("give --queries or AISLE_QUERIES: a file with one query a line, the most popular first")
    if not environment.host:
        raise SystemExit("give --host, the address of the service as host:port")
    if bool(options.cert) != bool(options.cert_key) or (options.cert and not options.ca):
        raise SystemExit("give --cert and --cert-key together, and --ca with them")
    try:
        environment.queries = QueryMix(read_queries(Path(options.queries)))
    except (OSError, ValueError) as error:
        raise SystemExit(f"--queries {options.queries}: {error}") from None
    tls = None
    if options.ca:
        tls = ClientTls(Path(options.ca), *(Path(path) if path else None for path in (options.cert, options.cert_key)))
    environment.channel = connect(environment.host, tls)
    environment.metadata = (("authorization", f"Bearer {options.api_key}"),) if options.api_key else ()
    environment.knows_shoppers = knows_shoppers(environment)


def knows_shoppers(environment: Any) -> bool:
    """Says whether the service has a shopper model, as far as the key may ask."""
    stub = info_pb2_grpc.InfoServiceStub(environment.channel)
    try:
        info = stub.GetInfo(info_pb2.GetInfoRequest(), timeout=TIMEOUT_S, metadata=environment.metadata)
    except grpc.RpcError:
        return False
    return bool(info.HasField("shopper_model"))


class Shape(LoadTestShape):
    """The shape that --shape names, over --run-time and with up to --users."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        options = self.runner.environment.parsed_options
        users, seconds = options.num_users or 1, options.run_time
        if options.shape == "constant" and not seconds:
            return users, options.spawn_rate or users
        share = self.get_run_time() / (seconds or DEFAULT_RUN_S)
        for end, part in SHAPES[options.shape]:
            if share < end:
                return max(1, round(part * users)), options.spawn_rate or users
        return None


class WrongAnswer(Exception):
    """An answer that came, and is not what was asked for."""


class Shopper(User):
    """Goes on one journey after the other, a new shopper each time."""

    wait_time = between(0.1, 1.0)

    def on_start(self) -> None:
        self.search_stub = search_pb2_grpc.SearchServiceStub(self.environment.channel)
        self.shopper_stub = shopper_pb2_grpc.ShopperServiceStub(self.environment.channel)

    @tag("browse")
    @task(3)
    def browse(self) -> None:
        """Searches, turns the page, and leaves."""
        request = search_pb2.SearchRequest(query=self.environment.queries.draw())
        first = self._search("Search", request)
        if first is not None and first.next_page_token:
            self.wait()
            request.page_token = first.next_page_token
            self._search("Search, page 2", request)

    @tag("filters")
    @task(2)
    def refine(self) -> None:
        """Searches with facets, then keeps to a brand of the first page and to what is in stock."""
        request = search_pb2.SearchRequest(query=self.environment.queries.draw())
        request.facets.add(name="brand")
        first = self._search("Search, facets", request)
        if first is None or not first.hits:
            return
        self.wait()
        brand = next((hit.product.brand for hit in first.hits if hit.product.brand), "")
        request.ClearField("facets")
        request.filter.in_stock_only = not brand
        request.filter.brands.extend([brand] if brand else [])
        wanted = self._search("Search, filter", request, may_be_empty=not brand)
        if wanted is not None and brand and any(hit.product.brand != brand for hit in wanted.hits):
            self._wrong("Search, filter", f"a hit is not of the brand {brand!r}")

    @tag("journey")
    @task(5)
    def buy(self) -> None:
        """Searches, clicks, puts into the cart, perhaps buys, and searches again: the second answer must know what the shopper did."""
        shopper_id = f"locust-{uuid.uuid4().hex}" if random.random() < self.environment.parsed_options.known else ""
        first = self._search(
            "Search", search_pb2.SearchRequest(query=self.environment.queries.draw(), shopper_id=shopper_id)
        )
        if first is None or not first.hits or not shopper_id:
            return
        self.wait()
        hit = random.choice(first.hits[:10])
        kinds = [shopper_pb2.EVENT_KIND_CLICK, shopper_pb2.EVENT_KIND_CART, shopper_pb2.EVENT_KIND_PURCHASE]
        for kind in kinds[: random.choices((1, 2, 3), (6, 3, 1))[0]]:
            if not self._record(shopper_id, hit.product_id, kind, first.request_id):
                return
            self.wait()
        request = search_pb2.SearchRequest(query=self.environment.queries.draw(), shopper_id=shopper_id)
        again = self._search(PERSONALISED, request)
        if again is not None and self.environment.knows_shoppers and again.personalisation.source != STORED:
            self._wrong(PERSONALISED, f"not personalised: {again.personalisation.reason}")

    def _search(
        self, name: str, request: search_pb2.SearchRequest, *, may_be_empty: bool = False
    ) -> search_pb2.SearchResponse | None:
        answer = self._call(name, self.search_stub.Search, request)
        if answer is not None and not answer.hits and not may_be_empty:
            self._wrong(name, "no hits")
        return answer

    def _record(self, shopper_id: str, product_id: str, kind: Any, request_id: str) -> bool:
        event = shopper_pb2.Event(
            id=uuid.uuid4().hex, time_ms=time.time_ns() // 1_000_000, shopper_id=shopper_id, kind=kind, product_id=product_id,
            request_id=request_id,
        )  # fmt: skip
        answer = self._call(
            "RecordEvents", self.shopper_stub.RecordEvents, shopper_pb2.RecordEventsRequest(events=[event])
        )
        if answer is not None and answer.recorded != 1:
            self._wrong("RecordEvents", f"recorded {answer.recorded} of 1 events")
            return False
        return answer is not None

    def _call(self, name: str, method: Any, request: Any) -> Any:
        started = time.perf_counter()
        answer, error = None, None
        try:
            answer = method(request, timeout=TIMEOUT_S, metadata=self.environment.metadata)
        except grpc.RpcError as failed:
            error = WrongAnswer(f"{failed.code().name}: {failed.details()}")
        self.environment.events.request.fire(
            request_type="grpc", name=name, response_time=1000 * (time.perf_counter() - started), exception=error, context={},
            response_length=answer.ByteSize() if answer is not None else 0,
        )  # fmt: skip
        return answer

    def _wrong(self, name: str, what: str) -> None:
        """Counts an answer that was right by its code and wrong by what it holds, as a failure of its own."""
        self.environment.events.request.fire(
            request_type="check", name=name, response_time=0, exception=WrongAnswer(what), context={}, response_length=0
        )
