"""The gRPC services: each method reads its request, calls the pipeline and writes its answer."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from aisle.v1 import embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2
from serving.errors import NotServed, Unavailable
from serving.gateway.messages.embedding import EmbeddingMessages, write_vectors
from serving.gateway.messages.info import InfoMessages, write_stats
from serving.gateway.messages.query import QueryMessages
from serving.gateway.messages.rank import RankMessages
from serving.gateway.messages.search import SearchMessages
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.search.pipeline import SearchPipeline
from serving.search.request import Caller


class SearchService(Servicer):
    descriptor = search_pb2.DESCRIPTOR.services_by_name["SearchService"]

    def __init__(self, pipeline: SearchPipeline, messages: SearchMessages, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages

    def check_load(self) -> None:
        self._pipeline.check_admission()

    @guarded("search")
    async def Search(self, request: search_pb2.SearchRequest, call: Call) -> search_pb2.SearchResponse:
        self._pipeline.check_admission(call.deadline)
        search_call = self._messages.read(request)
        results = await self._pipeline.search(search_call.search, call.deadline)
        fetched = time.monotonic()
        response = self._messages.write(search_call, results)
        _stamp(response, call, fetched)
        return response


class EmbeddingService(Servicer):
    descriptor = embedding_pb2.DESCRIPTOR.services_by_name["EmbeddingService"]

    def __init__(self, pipeline: SearchPipeline, messages: EmbeddingMessages, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages

    def check_load(self) -> None:
        self._pipeline.check_embedding()

    @guarded("embed")
    async def EmbedQueries(
        self, request: embedding_pb2.EmbedQueriesRequest, call: Call
    ) -> embedding_pb2.EmbedQueriesResponse:
        read = self._messages.read_queries(request)
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
        if self._pipeline.knows_shoppers:
            raise NotServed(
                "the product tower of this bundle is not served; its products were encoded when it was built"
            )
        read = self._messages.read_products(request)
        vectors = await self._pipeline.embed(read.texts, call.deadline)
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

    def check_load(self) -> None:
        self._pipeline.check_classification()

    @guarded("search")
    async def Classify(self, request: query_pb2.ClassifyRequest, call: Call) -> query_pb2.ClassifyResponse:
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

    def check_load(self) -> None:
        self._pipeline.check_admission()

    @guarded("search")
    async def Rank(self, request: ranking_pb2.RankRequest, call: Call) -> ranking_pb2.RankResponse:
        is_long = self._messages.is_long(request)
        read, write = self._messages.read, self._messages.write
        rank_call, unknown = await asyncio.to_thread(read, request) if is_long else read(request)
        results = await self._pipeline.rank(rank_call, call.deadline) if len(rank_call.candidates) else None
        fetched = time.monotonic()
        answer = (rank_call, unknown, results)
        response = await asyncio.to_thread(write, *answer) if is_long else write(*answer)
        _stamp(response, call, fetched)
        return response


class InfoService(Servicer):
    descriptor = info_pb2.DESCRIPTOR.services_by_name["InfoService"]

    def __init__(self, pipeline: SearchPipeline, messages: InfoMessages, guard: Guard, replica_id: str) -> None:
        self.guard = guard
        self._pipeline = pipeline
        self._messages = messages
        self._replica_id = replica_id
        self._started = time.monotonic()

    @guarded("info")
    async def GetInfo(self, _: info_pb2.GetInfoRequest, call: Call) -> info_pb2.GetInfoResponse:
        response = self._messages.write_info()
        response.request_id = call.request_id
        return response

    @guarded("info")
    async def GetStats(self, _: info_pb2.GetStatsRequest, call: Call) -> info_pb2.GetStatsResponse:
        uptime_s = time.monotonic() - self._started
        response = write_stats(self._replica_id, uptime_s, self._pipeline.stages, self.guard.ended)
        response.request_id = call.request_id
        return response


def _stamp(response: search_pb2.SearchResponse | ranking_pb2.RankResponse, call: Call, fetched: float) -> None:
    """Adds what only the gateway knows: the request id, the time of writing the answer since `fetched`, and the total time."""
    now = time.monotonic()
    response.request_id = call.request_id
    response.timing.phases.add(name="fetch", compute_ms=(now - fetched) * 1000, batch_size=1)
    response.timing.total_ms = (now - call.started) * 1000
