"""Makes the calls of a run: asks the idle service a few things first, so that filters, candidates and page tokens are real."""

from __future__ import annotations

import functools
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from aisle.client import channel_options
from aisle.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    product_pb2,
    query_pb2,
    query_pb2_grpc,
    ranking_pb2,
    ranking_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
    shopper_pb2_grpc,
)
from loadtest.errors import LoadError
from loadtest.generator.calls import EVENTS, SEARCH, Call, Calls
from loadtest.generator.connection import Target
from loadtest.generator.sender import COMPARED
from loadtest.judge.scenario import Mix, Traffic
from loadtest.traffic import QueryMix

POOL = 4000  # prepared calls
LOOKED_AT = 40  # queries whose hits give filters, candidates and products
SAMPLES = 60  # answers that are compared with those of the idle service
SHOPPERS, CLICKS = 50, 6  # with a history, and the events of each
RANKED = 50  # candidates of a Rank call
CLASSIFIED = 4  # queries of a Classify call
PAGES = 40  # page tokens
TIMEOUT_S = 10.0
_METHODS = {
    "search": SEARCH,
    "rank": "/aisle.v1.RankingService/Rank",
    "classify": "/aisle.v1.QueryService/Classify",
    EVENTS: "/aisle.v1.ShopperService/RecordEvents",
    "upserts": "/aisle.v1.CatalogueService/UpsertProducts",
}

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(slots=True)
class Prepared:
    """The calls, and what was learned of the service. `idle_again` is the share of sampled answers that came the same twice from the idle
    service; `left_out` says what it does not serve."""

    calls: Calls
    info: info_pb2.GetInfoResponse | None
    bundle_version: str
    idle_again: float
    left_out: list[str] = field(default_factory=list)


class Service:
    """Blocking calls to the service under test, one at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if target.ca is None:
            self.channel = grpc.insecure_channel(target.address, options)
        else:
            credentials = grpc.ssl_channel_credentials(target.ca, target.key, target.certificate)
            self.channel = grpc.secure_channel(target.address, credentials, options)
        self._metadata = (("authorization", f"Bearer {target.api_key}"),) if target.api_key else ()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, what: str) -> Response:
        """Raises LoadError that says what failed and what to do."""
        try:
            return method(request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            hint = {
                grpc.StatusCode.UNAUTHENTICATED: "; set --api-key or AISLE_API_KEY",
                grpc.StatusCode.UNAVAILABLE: f"; is there a service on {self._target.address}?"
                + ("" if self._target.ca else " If it uses TLS, give --ca"),
            }.get(code, "")
            raise _Refused(f"{what}: {code.name}: {error.details()}{hint}", code) from None


class _Refused(LoadError):
    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


def prepare(
    service: Service, queries: Sequence[str], mix: Mix, traffic: Traffic, seed: int, *, strict: bool, writes: bool
) -> Prepared:
    """Makes the calls of a mix.

    What the service does not serve is left out, or refused with `strict`; so are upserts unless it `writes`: they would stay. Shoppers with
    a history are made up and recorded. Raises LoadError.
    """
    if not queries:
        raise LoadError("there are no queries to send: the file of --queries is empty")
    return _Preparing(service, queries, traffic, seed, strict=strict).calls_of(mix, writes=writes)


def forget(service: Service, shoppers: Sequence[str]) -> None:
    """Deletes the histories that `prepare` recorded, where the key may."""
    stub = shopper_pb2_grpc.ShopperServiceStub(service.channel)
    for shopper_id in shoppers:
        try:
            service.call(stub.ForgetShopper, shopper_pb2.ForgetShopperRequest(shopper_id=shopper_id), "ForgetShopper")
        except LoadError:
            return


class _Preparing:
    def __init__(self, service: Service, queries: Sequence[str], traffic: Traffic, seed: int, *, strict: bool) -> None:
        self._service, self._traffic, self._strict = service, traffic, strict
        self._rng = random.Random(seed)
        self._queries = list(queries)
        self._draws = QueryMix(queries, seed, traffic.zipf)
        self._left_out: list[str] = []
        self._search = search_pb2_grpc.SearchServiceStub(service.channel).Search
        self._hits: list[search_pb2.Hit] = []
        self._tokens: list[tuple[str, str]] = []  # query, token of its second page
        self._shoppers: tuple[str, ...] = ()

    def calls_of(self, mix: Mix, *, writes: bool) -> Prepared:
        first = self._look()
        info = self._info()
        weights = {kind: weight for kind, weight in mix.weights().items() if weight}
        if "upserts" in weights and not writes:
            self._leave_out(
                "upserts", "they would change the catalogue of a service that others use; they are sent with --bundle"
            )
            del weights["upserts"]
        known = self._traffic.known_shoppers if "search" in weights else 0.0
        if known or EVENTS in weights:
            self._shoppers = tuple(f"load-{uuid.uuid4().hex[:8]}-{n}" for n in range(SHOPPERS))
            if not self._tried("shoppers with a history", self._record_histories):
                self._shoppers = ()
                weights.pop(EVENTS, None)
        for kind in ("rank", "classify", "upserts"):
            if kind in weights and not self._tried(kind, functools.partial(self._try, kind)):
                del weights[kind]
        if not weights:
            raise LoadError(f"no call of the mix is left: {'; '.join(self._left_out)}")
        kinds = self._rng.choices(list(weights), list(weights.values()), k=POOL)
        pool = [self._call(kind, is_known=kind == "search" and self._rng.random() < known) for kind in kinds]
        pool, idle, again = self._sampled(pool)
        calls = Calls(
            tuple(pool), first.ranked_by, tuple(idle), self._shoppers, tuple({hit.product_id for hit in self._hits})
        )
        return Prepared(calls, info, first.bundle_version, again, self._left_out)

    def _look(self) -> search_pb2.SearchResponse:
        """Asks the most popular queries, and returns the first answer."""
        answers = []
        for query in self._queries[:LOOKED_AT]:
            answer = self._service.call(self._search, search_pb2.SearchRequest(query=query), f"a search for {query!r}")
            answers.append(answer)
            self._hits += answer.hits
            if answer.next_page_token and len(self._tokens) < PAGES:
                self._tokens.append((query, answer.next_page_token))
        if not self._hits:
            raise LoadError(f"the first {len(answers)} queries find nothing: give --queries that fit the catalogue")
        return answers[0]

    def _info(self) -> info_pb2.GetInfoResponse | None:
        stub = info_pb2_grpc.InfoServiceStub(self._service.channel)
        try:
            return self._service.call(stub.GetInfo, info_pb2.GetInfoRequest(), "GetInfo")
        except LoadError as error:
            self._left_out.append(f"what the service says of itself ({error})")
            return None

    def _tried(self, what: str, act: Callable[[], object]) -> bool:
        try:
            act()
        except _Refused as error:
            self._leave_out(what, str(error))
            return False
        return True

    def _leave_out(self, what: str, reason: str) -> None:
        if self._strict:
            raise LoadError(f"{what}: {reason}; leave it out of the scenario")
        self._left_out.append(f"{what} ({reason})")

    def _record_histories(self) -> None:
        stub = shopper_pb2_grpc.ShopperServiceStub(self._service.channel)
        now = time.time_ns() // 1_000_000
        events = [
            shopper_pb2.Event(
                id=f"before-{n}", time_ms=now - 60_000 * n, shopper_id=shopper_id, kind=shopper_pb2.EVENT_KIND_CLICK,
                product_id=self._rng.choice(self._hits).product_id,
            )
            for shopper_id in self._shoppers
            for n in range(1, CLICKS + 1)
        ]  # fmt: skip
        answer = self._service.call(stub.RecordEvents, shopper_pb2.RecordEventsRequest(events=events), "RecordEvents")
        if answer.refused:
            raise LoadError(
                f"RecordEvents refused {answer.refused} of {len(events)} events: {answer.rejected[0].reason}"
            )

    def _try(self, kind: str) -> None:
        """Sends one call of a kind, so that what is not served is known before the load."""
        channel, message = self._service.channel, self._call(kind, is_known=False).message
        if kind == "rank":
            stub = ranking_pb2_grpc.RankingServiceStub(channel)
            self._service.call(stub.Rank, ranking_pb2.RankRequest.FromString(message), "Rank")
        elif kind == "classify":
            types = query_pb2_grpc.QueryServiceStub(channel)
            self._service.call(types.Classify, query_pb2.ClassifyRequest.FromString(message), "Classify")
        else:
            catalogue = catalogue_pb2_grpc.CatalogueServiceStub(channel)
            request = catalogue_pb2.UpsertProductsRequest.FromString(message)
            self._service.call(catalogue.UpsertProducts, request, "UpsertProducts")

    def _call(self, kind: str, *, is_known: bool) -> Call:
        if kind == "search":
            message = self._search_request(is_known=is_known).SerializeToString()
        elif kind == "rank":
            ids = list({hit.product_id for hit in self._rng.sample(self._hits, min(RANKED, len(self._hits)))})
            message = ranking_pb2.RankRequest(query=self._draws.draw(), product_ids=ids).SerializeToString()
        elif kind == "classify":
            asked = [query_pb2.LocaleQuery(query=self._draws.draw()) for _ in range(CLASSIFIED)]
            message = query_pb2.ClassifyRequest(queries=asked).SerializeToString()
        elif kind == "upserts":
            hit = self._rng.choice(self._hits)
            product = product_pb2.Product()
            product.CopyFrom(hit.product)
            product.id, product.price_minor = hit.product_id, self._rng.randrange(100, 100_000)
            message = catalogue_pb2.UpsertProductsRequest(products=[product]).SerializeToString()
        else:
            message = b""  # events are made when they are sent
        return Call(kind, _METHODS[kind].encode(), message, is_known and bool(self._shoppers))

    def _search_request(self, *, is_known: bool) -> search_pb2.SearchRequest:
        rng, traffic = self._rng, self._traffic
        request = search_pb2.SearchRequest(query=self._draws.draw())
        if is_known and self._shoppers:
            request.shopper_id = rng.choice(self._shoppers)
        elif self._tokens and rng.random() < traffic.pages:
            request.query, request.page_token = rng.choice(self._tokens)
            return request
        if rng.random() < traffic.filters:
            request.filter.CopyFrom(self._filter())
        if rng.random() < traffic.facets:
            request.facets.add(name="brand")
            request.facets.add(name="price")
        return request

    def _filter(self) -> product_pb2.ProductFilter:
        """Draws a filter: wide (in stock), of a category, within a price, or narrow (a brand)."""
        product = self._rng.choice(self._hits).product
        kinds = [product_pb2.ProductFilter(in_stock_only=True)]
        if product.category:
            kinds.append(product_pb2.ProductFilter(categories=[product.category.split(" > ")[0]]))
        if product.HasField("price_minor"):
            kinds.append(product_pb2.ProductFilter(max_price_minor=product.price_minor))
        if product.brand:
            kinds.append(product_pb2.ProductFilter(brands=[product.brand]))
        return self._rng.choice(kinds)

    def _sampled(self, pool: list[Call]) -> tuple[list[Call], list[tuple[str, ...]], float]:
        """Asks some plain searches of the pool twice while the service is idle. Returns the pool with these numbered, the first answers,
        and the share of second answers that are the same."""
        plain = [n for n, call in enumerate(pool) if call.kind == "search" and not call.is_known]
        idle, same = [], 0
        for number, place in enumerate(plain[:SAMPLES]):
            call = pool[place]
            request = search_pb2.SearchRequest.FromString(call.message)
            first, second = (self._first_hits(request) for _ in range(2))
            idle.append(first)
            same += first == second
            pool[place] = Call(call.kind, call.method, call.message, sample=number)
        return pool, idle, same / len(idle) if idle else float("nan")

    def _first_hits(self, request: search_pb2.SearchRequest) -> tuple[str, ...]:
        answer = self._service.call(self._search, request, f"a search for {request.query!r}")
        return tuple(hit.product_id for hit in answer.hits[:COMPARED])
