"""The gRPC services: each method reads its request, calls the pipeline and writes its answer."""

from __future__ import annotations

import importlib.metadata
import time
from dataclasses import dataclass

from aisle.v1 import embedding_pb2, info_pb2, search_pb2
from models.bundle import Manifest
from models.product_table import ProductTable
from serving.config import AisleConfig
from serving.messages import Messages, write_stage_stats, write_vectors
from serving.pipeline import SearchPipeline
from serving.rpc import Call, Guard, Servicer, guarded


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
        texts, dimensions = self._messages.read_products(request)
        vectors = await self._pipeline.embed(texts, call.deadline)
        return embedding_pb2.EmbedProductsResponse(
            vectors=write_vectors(vectors, dimensions, request.encoding),
            request_id=call.request_id,
            bundle_version=self._version,
        )


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
            ),
            limits=info_pb2.Limits(
                max_query_chars=limits.max_query_chars,
                default_page_size=limits.default_page_size,
                max_page_size=limits.max_page_size,
                max_results=limits.max_results,
                max_embed_items=limits.max_embed_items,
                max_message_bytes=server.max_message_bytes,
                max_deadline_ms=server.max_deadline_ms,
            ),
            request_id=call.request_id,
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
