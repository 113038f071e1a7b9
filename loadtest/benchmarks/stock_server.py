"""The same search built the stock way, to compare with: Ray Serve's gRPC proxy in front and `@serve.batch` around the stages.

It shares the encoder, the retriever and the messages with Aisle; only what carries a call to them differs.

    python -m loadtest.benchmarks.stock_server bundles/sample 9100
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import LoggingConfig

from aisle.v1 import search_pb2
from models.bundles.bundle import Bundle
from models.text_encoder.spec import Text
from serving.catalogue.stages import load_retriever
from serving.compute.filter_masks import FilterMasks
from serving.compute.retrieval import EncodedQuery, SearchItem, Subject
from serving.compute.text_encoder import CPU_BATCH_TOKENS, TextStageEncoder
from serving.config import AisleConfig
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.search.results import Results


class StockEncoder:
    """The encoder behind `@serve.batch` with its defaults."""

    def __init__(self, bundle: Path) -> None:
        self._encoder = TextStageEncoder(bundle, "cpu", 0, CPU_BATCH_TOKENS)
        self._encoder.warm_up()

    @serve.batch
    async def encode(self, queries: list[str]) -> list[Any]:
        return list(await asyncio.to_thread(self._encoder.compute, [Text(query) for query in queries]))


class StockRetriever:
    def __init__(self, bundle: Path) -> None:
        self._retriever = load_retriever(bundle)
        self._retriever.warm_up()

    @serve.batch
    async def retrieve(self, items: list[SearchItem]) -> list[Any]:
        return list(await asyncio.to_thread(self._retriever.compute, items))


class StockSearch:
    """The ingress deployment that Serve's gRPC proxy calls."""

    def __init__(self, bundle: Path, encoder: Any, retriever: Any) -> None:
        opened = Bundle(bundle)
        products = opened.products()
        config = AisleConfig()
        self._messages = SearchMessages(
            opened.manifest,
            products,
            FilterMasks(products),
            config.limits,
            fields=RequestFields(opened.manifest.locales, config),
            ranking=RankingFields(config.limits, config.ranker),
        )
        self._encoder = encoder
        self._retriever = retriever

    async def Search(self, request: search_pb2.SearchRequest) -> search_pb2.SearchResponse:  # noqa: N802
        call = self._messages.read(request)
        vector = await self._encoder.encode.remote(call.search.query)
        size = call.search.page_size
        subject = Subject(query=EncodedQuery(call.search.query, call.search.locale, vector=vector))
        item = SearchItem(subject=subject, k=size + 1, filter=call.search.filter)
        retrieved = await self._retriever.retrieve.remote(item)
        return self._messages.write(call, Results.first_page(retrieved.candidates, size))


def run(bundle: Path, port: int) -> None:
    """Serves until SIGTERM."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        log_to_driver=False,
        logging_level="ERROR",
        include_dashboard=False,
        object_store_memory=256 * 1024**2,
    )
    serve.start(
        grpc_options=gRPCOptions(
            port=port, grpc_servicer_functions=["aisle.v1.search_pb2_grpc.add_SearchServiceServicer_to_server"]
        ),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    light = {"num_cpus": 0}

    def deployment(kind: type) -> Any:
        # Serve's default of five calls in progress would hold back everything; this is what its guide says to raise.
        return serve.deployment(kind, ray_actor_options=light, max_ongoing_requests=256)

    encoder = deployment(StockEncoder).bind(bundle)
    retriever = deployment(StockRetriever).bind(bundle)
    serve.run(deployment(StockSearch).bind(bundle, encoder, retriever), name="stock")
    print("ready", flush=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
