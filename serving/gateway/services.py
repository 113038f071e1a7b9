"""The gRPC services: each method reads its request, calls the pipeline and writes its answer."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from aisle.v1 import embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2
from serving.errors import Unavailable
from serving.gateway.messages.embedding import EmbeddingMessages, write_vectors
from serving.gateway.messages.info import InfoMessages, write_stats
from serving.gateway.messages.query import QueryMessages
from serving.gateway.messages.rank import RankMessages
from serving.gateway.messages.search import SearchMessages
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.request_log.request_log import RequestLog
from serving.search.pipeline import SearchPipeline
from serving.search.product_vectors import PRODUCT_COST
from serving.search.request import Caller
from serving.search.retrieve import INLINE_PER_COST, ROWS_PER_COST
from serving.search.search_metrics import RankMetrics, SearchMetrics

EXPLAINED_COST = 8  # what the reasons for a page cost more than the page


class SearchService(Servicer):
    descriptor = search_pb2.DESCRIPTOR.services_by_name["SearchService"]

    def __init__(
        self, pipeline: SearchPipeline, messages: SearchMessages, guard: Guard, request_log: RequestLog | None = None
    ) -> None:
        """`request_log` gets a share of the pages; None if none are logged."""
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages
        self._request_log = request_log
        self._metrics = SearchMetrics()

    def stages_of(self, method: str) -> tuple[int, ...]:  # noqa: ARG002
        return self._pipeline.search_stages

    @guarded("search")
    async def Search(self, request: search_pb2.SearchRequest, call: Call) -> search_pb2.SearchResponse:
        self._pipeline.check_admission(call.deadline)
        if request.explain:
            call.set_cost(1 + EXPLAINED_COST)
        search_call = self._messages.read(request)
        if search_call.search.explain:
            _check_explanation(search_call.search, call)
        search, shown = search_call.search, self._request_log
        if shown and not shown.samples(search.shopper_id, call.request_id):
            shown = None
        if shown and shown.keeps_features:
            search = dataclasses.replace(search, keeps_features=True)
        results = await self._pipeline.search(search, call.deadline)
        self._metrics.answered(search, results)
        fetched = time.monotonic()
        response = self._messages.write(search_call, results)
        if shown:
            shown.add(call.request_id, search, results)
        _stamp(response, call, fetched)
        return response


class EmbeddingService(Servicer):
    descriptor = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"]

    def __init__(self, pipeline: SearchPipeline, messages: EmbeddingMessages, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages

    def stages_of(self, method: str) -> tuple[int, ...]:
        return self._pipeline.product_stages if method == "EmbedProducts" else self._pipeline.embedding_stages

    @guarded("embed")
    async def EmbedQueries(
        self, request: embedding_pb2.EmbedQueriesRequest, call: Call
    ) -> embedding_pb2.EmbedQueriesResponse:
        read = self._messages.read_queries(request)
        if len(read.texts) > 1:
            call.set_cost(len(read.texts))
        vectors = await self._pipeline.embed(read.texts, call.deadline)
        return embedding_pb2.EmbedQueriesResponse(
            vectors=write_vectors(vectors, read.dimensions, request.encoding),
            request_id=call.request_id,
            bundle_version=self._messages.version,
        )

    @guarded("embed")
    async def EmbedProducts(
        self, request: embedding_pb2.EmbedProductsRequest, call: Call
    ) -> embedding_pb2.EmbedProductsResponse:
        read = self._messages.read_products(request)
        call.set_cost(PRODUCT_COST * len(read.products))
        vectors = await self._pipeline.embed_products(read.products, call.deadline)
        return embedding_pb2.EmbedProductsResponse(
            vectors=write_vectors(vectors, read.dimensions, request.encoding),
            request_id=call.request_id,
            bundle_version=self._messages.version,
        )

    @guarded("embed")
    async def EmbedShopper(
        self, request: embedding_pb2.EmbedShopperRequest, call: Call
    ) -> embedding_pb2.EmbedShopperResponse:
        shopper_id, events = self._messages.read_shopper(request)
        caller = Caller(query="", shopper_id=shopper_id, recent_events=events)
        if caller.reads_stored_events:
            call.require("history", "shopper_id", "the vector is that of the stored events; or send recent_events")
        shopper = await self._pipeline.read_shopper(caller, call.deadline)
        if shopper.failed:
            raise Unavailable(shopper.reason)
        dim = self._messages.dim
        vector = np.zeros(dim, np.float32) if shopper.vector is None else shopper.vector
        return embedding_pb2.EmbedShopperResponse(
            vectors=write_vectors(vector[None], dim, request.encoding),
            events=shopper.num_events,
            request_id=call.request_id,
            bundle_version=self._messages.version,
        )


class QueryService(Servicer):
    descriptor = query_pb2.DESCRIPTOR.services_by_name["QueryService"]

    def __init__(self, pipeline: SearchPipeline, messages: QueryMessages, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages

    def stages_of(self, method: str) -> tuple[int, ...]:  # noqa: ARG002
        return self._pipeline.classification_stages

    @guarded("search")
    async def Classify(self, request: query_pb2.ClassifyRequest, call: Call) -> query_pb2.ClassifyResponse:
        if len(request.queries) > 1:
            call.set_cost(len(request.queries))
        predictions = await self._pipeline.classify(self._messages.read(request), call.deadline)
        response = self._messages.write(predictions)
        response.request_id = call.request_id
        return response


class RankingService(Servicer):
    descriptor = ranking_pb2.DESCRIPTOR.services_by_name["RankingService"]

    def __init__(self, pipeline: SearchPipeline, messages: RankMessages, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages
        self._metrics = RankMetrics()

    def stages_of(self, method: str) -> tuple[int, ...]:  # noqa: ARG002
        return self._pipeline.search_stages

    @guarded("search")
    async def Rank(self, request: ranking_pb2.RankRequest, call: Call) -> ranking_pb2.RankResponse:
        inline = len(request.products)
        call.set_cost(1 + len(request.product_ids) // ROWS_PER_COST + inline // INLINE_PER_COST)
        self._pipeline.check_admission(call.deadline)
        is_long = self._messages.is_long(request)
        read, write, long_work = self._messages.read, self._messages.write, self.guard.long_work
        rank_call, unknown = await long_work(call.caller, read, request) if is_long else read(request)
        if rank_call.num_explained:
            _check_explanation(rank_call, call)
        results = await self._pipeline.rank(rank_call, call.deadline) if len(rank_call.candidates) else None
        if results:
            self._metrics.answered(results)
        fetched = time.monotonic()
        answer = (rank_call, unknown, results)
        response = await long_work(call.caller, write, *answer) if is_long else write(*answer)
        _stamp(response, call, fetched)
        return response


class InfoService(Servicer):
    descriptor = info_pb2.DESCRIPTOR.services_by_name["InfoService"]

    def __init__(
        self,
        pipeline: SearchPipeline,
        messages: InfoMessages,
        guard: Guard,
        replica_id: str,
        request_log: RequestLog | None = None,
    ) -> None:
        self.guard = guard
        self._request_log = request_log
        self._pipeline = pipeline
        self._messages = messages
        self._replica_id = replica_id
        self._started = time.monotonic()

    @guarded("info")
    async def GetInfo(self, request: info_pb2.GetInfoRequest, call: Call) -> info_pb2.GetInfoResponse:
        self._messages.check(request)
        response = self._messages.write_info()
        response.request_id = call.request_id
        return response

    @guarded("stats")
    async def GetStats(self, request: info_pb2.GetStatsRequest, call: Call) -> info_pb2.GetStatsResponse:
        self._messages.check(request)
        uptime_s = time.monotonic() - self._started
        pages = self._request_log.counts() if self._request_log else None
        response = write_stats(self._replica_id, uptime_s, self._pipeline.stages, self.guard.ended(), pages)
        response.request_id = call.request_id
        return response


def _check_explanation(caller: Caller, call: Call) -> None:
    """Raises NotPermitted if the reasons would tell of events that the caller did not send and may not read."""
    if caller.reads_stored_events:
        purpose = "reasons tell of the shopper's stored events; leave out explain or shopper_id, or send recent_events"
        call.require("history", "explain", purpose)


def _stamp(response: search_pb2.SearchResponse | ranking_pb2.RankResponse, call: Call, fetched: float) -> None:
    """Adds what only the gateway knows: the request id, the time of writing the answer since `fetched`, and the total time."""
    now = time.monotonic()
    response.request_id = call.request_id
    response.timing.phases.add(name="fetch", compute_ms=(now - fetched) * 1000, batch_size=1)
    response.timing.total_ms = (now - call.started) * 1000
    if call.trace:
        call.trace.phase("fetch", fetched, now)
        call.trace.describe(
            bundle=response.bundle_version,
            degraded=[degradation.part for degradation in response.degradations],
        )
