"""Search against its floor: the same stages called in this process, without gRPC, queue or threads in between."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from aisle.v1 import search_pb2
from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.text_encoder.spec import Text
from serving.compute.filter_masks import FilterMasks
from serving.compute.retrieval import EncodedQuery, Retrieved, SearchItem, Subject
from serving.compute.retriever import Retriever
from serving.compute.text_encoder import CPU_BATCH_TOKENS, TextStageEncoder
from serving.config import AisleConfig
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.search.results import Results

METHOD = "/aisle.v1.SearchService/Search"


class Floor:
    """What one process can do with the stages of a bundle: read the request, encode, retrieve, write the answer."""

    def __init__(self, bundle_folder: Path) -> None:
        bundle = Bundle(bundle_folder)
        self._encoder = TextStageEncoder(bundle_folder, "cpu", 0, CPU_BATCH_TOKENS)
        self._encoder.warm_up()
        self._retriever = Retriever(bundle)
        self._retriever.warm_up()
        self._speller = load_speller(bundle)
        products = bundle.products()
        config = AisleConfig()
        self._messages = SearchMessages(
            bundle.manifest,
            products,
            FilterMasks(products),
            config.limits,
            fields=RequestFields(bundle.manifest.locales, config),
            ranking=RankingFields(config.limits, config.ranker),
        )

    def answer(self, requests: Sequence[bytes]) -> list[bytes]:
        """A batch of serialised requests, answered."""
        calls = [self._messages.read(search_pb2.SearchRequest.FromString(data)) for data in requests]
        queries = [self._speller.correct(call.search.query) for call in calls]
        vectors = self._encoder.compute([Text(query) for query in queries])
        items = [
            SearchItem(
                subject=Subject(query=EncodedQuery(query, call.search.locale, vector=vector)),
                k=call.search.page_size + 1,
                filter=call.search.filter,
            )
            for call, query, vector in zip(calls, queries, vectors, strict=True)
            if not isinstance(vector, Exception)
        ]
        answers = []
        for call, retrieved in zip(calls, self._retriever.compute(items), strict=True):
            if not isinstance(retrieved, Retrieved):
                raise RuntimeError(f"the retriever returned {retrieved!r}")
            results = Results.first_page(retrieved.candidates, call.search.page_size)
            answers.append(self._messages.write(call, results).SerializeToString())
        return answers

    def p50_ms(self, requests: Sequence[bytes], seconds: float, pause_s: float = 0.0) -> float:
        """Median time of one request by itself, with a pause before each: after one, threads have to wake and caches to fill."""
        times = []
        end = time.perf_counter() + seconds
        for request in itertools.cycle(requests):
            time.sleep(pause_s)
            started = time.perf_counter()
            self.answer([request])
            times.append(time.perf_counter() - started)
            if started > end:
                return statistics.median(times) * 1000
        raise AssertionError("unreachable")

    def throughput(self, requests: Sequence[bytes], batch: int, seconds: float) -> float:
        """Requests a second in batches of `batch`, one after the other."""
        endless = itertools.cycle(requests)
        started = time.perf_counter()
        done = 0
        while time.perf_counter() - started < seconds:
            done += len(self.answer([next(endless) for _ in range(batch)]))
        return done / (time.perf_counter() - started)


def search_messages(queries: Sequence[str]) -> list[bytes]:
    return [search_pb2.SearchRequest(query=query).SerializeToString() for query in queries]
