"""The gRPC services: each method reads its request, calls the pipeline and writes its answer."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from dataclasses import dataclass

import numpy as np

from aisle.v1 import embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2
from models.bundles.manifest import Manifest
from models.products.product_table import ProductTable
from serving.compute.order import RankModel
from serving.config import AisleConfig
from serving.errors import NotServed, Unavailable
from serving.gateway.messages.rank import MANY, RankMessages
from serving.gateway.messages.ranking_fields import FEATURE_NAMES, MODEL_NUMBERS, write_weights
from serving.gateway.messages.search import (
    TYPE_USE_NUMBERS,
    Messages,
    write_prediction,
    write_stage_stats,
    write_vectors,
)
from serving.gateway.rpc import Call, Guard, Servicer, guarded
from serving.search.pipeline import SearchPipeline
from serving.search.shopper_vectors import MAX_EVENTS
from serving.search.type_use import TypeUse


@dataclass(frozen=True, slots=True)
class Served:
    """What one gateway replica serves."""

    replica_id: str
    started: float  # time.monotonic
    manifest: Manifest
    config: AisleConfig
    pipeline: SearchPipeline
    products: ProductTable
    messages: Messages
    rank_messages: RankMessages


class SearchService(Servicer):
    def __init__(self, served: Served, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = served.pipeline
        self._messages = served.messages

    def check_load(self) -> None:
        self._pipeline.check_admission()

    @guarded("search")
    async def Search(self, request: search_pb2.SearchRequest, call: Call) -> search_pb2.SearchResponse:  # noqa: N802
        self._pipeline.check_admission(call.deadline)
        wanted = self._messages.read_search(request)
        results = await self._pipeline.search(wanted.search, call.deadline)
        fetched = time.monotonic()
        response = self._messages.write_search(wanted, results)
        now = time.monotonic()
        response.request_id = call.request_id
        response.timing.phases.add(name="fetch", compute_ms=(now - fetched) * 1000, batch_size=1)
        response.timing.total_ms = (now - call.started) * 1000
        return response


class EmbeddingService(Servicer):
    def __init__(self, served: Served, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = served.pipeline
        self._messages = served.messages
        self._version = served.manifest.version
        self._dim = served.manifest.dim
        self._unified = served.pipeline.personaliser is not None

    def check_load(self) -> None:
        self._pipeline.encoder.batcher.check_admission()

    @guarded("embed")
    async def EmbedQueries(  # noqa: N802
        self, request: embedding_pb2.EmbedQueriesRequest, call: Call
    ) -> embedding_pb2.EmbedQueriesResponse:
        texts, dimensions = self._messages.read_queries(request)
        vectors = await self._pipeline.embed(texts, call.deadline)
        return embedding_pb2.EmbedQueriesResponse(
            vectors=write_vectors(vectors, dimensions, request.encoding),
            request_id=call.request_id,
            bundle_version=self._version,
        )

    @guarded("embed")
    async def EmbedProducts(  # noqa: N802
        self, request: embedding_pb2.EmbedProductsRequest, call: Call
    ) -> embedding_pb2.EmbedProductsResponse:
        if self._unified:
            raise NotServed(
                "the product tower of this bundle is not served; its products were encoded when it was built"
            )
        texts, dimensions = self._messages.read_products(request)
        vectors = await self._pipeline.embed(texts, call.deadline)
        return embedding_pb2.EmbedProductsResponse(
            vectors=write_vectors(vectors, dimensions, request.encoding),
            request_id=call.request_id,
            bundle_version=self._version,
        )

    @guarded("embed")
    async def EmbedShopper(  # noqa: N802
        self, request: embedding_pb2.EmbedShopperRequest, call: Call
    ) -> embedding_pb2.EmbedShopperResponse:
        personaliser = self._pipeline.personaliser
        if personaliser is None:
            raise NotServed("this bundle has no shopper model")
        shopper_id, events = self._messages.read_shopper(request)
        shopper = await personaliser.shopper(shopper_id, events, 1.0, call.deadline)
        if shopper.failed:
            raise Unavailable(shopper.reason)
        vector = np.zeros(self._dim, np.float32) if shopper.vector is None else shopper.vector
        return embedding_pb2.EmbedShopperResponse(
            vectors=write_vectors(vector[None], self._dim, request.encoding),
            events=shopper.num_events,
            request_id=call.request_id,
            bundle_version=self._version,
        )


class QueryService(Servicer):
    def __init__(self, served: Served, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = served.pipeline
        self._messages = served.messages
        self._version = served.manifest.version

    def check_load(self) -> None:
        if self._pipeline.typer:
            self._pipeline.typer.batcher.check_admission()

    @guarded("search")
    async def Classify(self, request: query_pb2.ClassifyRequest, call: Call) -> query_pb2.ClassifyResponse:  # noqa: N802
        told = await self._pipeline.classify(self._messages.read_classify(request), call.deadline)
        return query_pb2.ClassifyResponse(
            results=[write_prediction(one) for one in told], request_id=call.request_id, bundle_version=self._version
        )


class RankingService(Servicer):
    def __init__(self, served: Served, guard: Guard) -> None:
        self.guard = guard
        self._pipeline = served.pipeline
        self._messages = served.rank_messages
        self._has_ranker = bool(served.manifest.ranker)

    def check_load(self) -> None:
        self._pipeline.check_admission()

    @guarded("search")
    async def Rank(self, request: ranking_pb2.RankRequest, call: Call) -> ranking_pb2.RankResponse:  # noqa: N802
        if not self._has_ranker:
            raise NotServed("this bundle holds no ranker; 'aisle train ranker' puts one in")
        beside = len(request.product_ids) + len(request.products) > MANY
        read, write = self._messages.read, self._messages.write
        wish, unknown = await asyncio.to_thread(read, request) if beside else read(request)
        results = await self._pipeline.rank(wish, call.deadline) if len(wish.candidates) else None
        fetched = time.monotonic()
        response = await asyncio.to_thread(write, wish, unknown, results) if beside else write(wish, unknown, results)
        now = time.monotonic()
        response.request_id = call.request_id
        response.timing.phases.add(name="fetch", compute_ms=(now - fetched) * 1000, batch_size=1)
        response.timing.total_ms = (now - call.started) * 1000
        return response


class InfoService(Servicer):
    def __init__(self, served: Served, guard: Guard) -> None:
        self.guard = guard
        self._served = served

    @guarded("info")
    async def GetInfo(self, _: info_pb2.GetInfoRequest, call: Call) -> info_pb2.GetInfoResponse:  # noqa: N802
        manifest, limits = self._served.manifest, self._served.config.limits
        pipeline, server = self._served.pipeline, self._served.config.server
        return info_pb2.GetInfoResponse(
            server_version=importlib.metadata.version("aisle"),
            bundle_version=manifest.version,
            catalogue=info_pb2.CatalogueInfo(
                name=manifest.name,
                products=manifest.products,
                currency=manifest.currency,
                locales=manifest.locales,
                product_fields=self._served.products.fields,
            ),
            encoder=info_pb2.EncoderInfo(
                model=manifest.encoder["model"],
                dimensions=manifest.encoder["dimensions"],
                max_query_tokens=manifest.encoder["max_query_tokens"],
                max_product_tokens=manifest.encoder["max_product_tokens"],
                text_attributes=manifest.text_attributes,
                backend=pipeline.encoder.backend,
            ),
            index=info_pb2.IndexInfo(
                version=manifest.version,
                kind=manifest.index["spec"]["kind"],
                recall_at_100=manifest.index["recall"],
                bytes_per_product=manifest.index["bytes_per_product"],
                boosts=manifest.boosts,
            ),
            limits=info_pb2.Limits(
                max_query_chars=limits.max_query_chars,
                default_page_size=limits.default_page_size,
                max_page_size=limits.max_page_size,
                max_results=limits.max_results,
                max_embed_items=limits.max_embed_items,
                max_message_bytes=server.max_message_bytes,
                max_deadline_ms=server.max_deadline_ms,
                max_recent_events=limits.max_recent_events,
                max_batch_events=self._served.config.shoppers.max_batch_events,
                max_events_per_shopper=self._served.config.shoppers.max_events_per_shopper,
                max_rank_depth=limits.max_rank_depth,
                max_rank_candidates=limits.max_rank_candidates,
            ),
            shopper_model=self._shopper_model(),
            type_model=self._type_model(),
            ranker=self._ranker(),
            request_id=call.request_id,
        )

    def _shopper_model(self) -> info_pb2.ShopperModelInfo | None:
        threshold = self._served.messages.relevance_threshold
        if threshold is None:
            return None
        return info_pb2.ShopperModelInfo(
            model=self._served.manifest.encoder["model"],
            relevance_threshold=threshold,
            max_events=MAX_EVENTS,
            store=self._served.config.shoppers.store,
        )

    def _type_model(self) -> info_pb2.TypeModelInfo | None:
        told, types = self._served.manifest.query_types, self._served.config.types
        if not told:
            return None
        return info_pb2.TypeModelInfo(
            types=told["types"],
            locales=told["locales"],
            precision=told["precision"],
            default_use=TYPE_USE_NUMBERS[TypeUse(types.use)],
            boost=types.boost,
        )

    def _ranker(self) -> info_pb2.RankerInfo | None:
        told, config = self._served.manifest.ranker, self._served.config
        if not told:
            return None
        return info_pb2.RankerInfo(
            recipe=told["recipe"],
            features=FEATURE_NAMES,
            teacher=bool(told["teacher"]),
            default_model=MODEL_NUMBERS[RankModel(config.ranker.model)],
            default_depth=config.ranker.depth,
            default_weights=write_weights(config.ranker.weights),
            teacher_depth=config.teacher.depth if told["teacher"] else 0,
        )

    @guarded("info")
    async def GetStats(self, _: info_pb2.GetStatsRequest, call: Call) -> info_pb2.GetStatsResponse:  # noqa: N802
        ended = self.guard.ended
        return info_pb2.GetStatsResponse(
            replica_id=self._served.replica_id,
            uptime_s=time.monotonic() - self._served.started,
            stages=[write_stage_stats(stage) for stage in self._served.pipeline.stages],
            calls=[
                info_pb2.CallCount(method=method, code=code, count=count)
                for (method, code), count in sorted(ended.items())
            ],
            request_id=call.request_id,
        )
