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
from models.products.scripts import KnownScripts
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.text_encoder.spec import Text
from models.unified.bundle_part import UNIFIED_PART
from serving.catalogue.stages import load_retriever
from serving.compute.filter_masks import FilterMasks
from serving.compute.query_typer import QueryTyper, TypeQuestion
from serving.compute.retrieval import EncodedQuery, Query, Retrieved, SearchItem, Subject
from serving.compute.text_encoder import CPU_BATCH_TOKENS, TextStageEncoder
from serving.config import AisleConfig, LimitsConfig
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.search.order import as_retrieved, by_student, num_leading
from serving.search.query_text import Negations, QueryText, QueryTexts, reworded
from serving.search.request import Search
from serving.search.results import Results
from serving.search.retrieve import FACET_HITS
from serving.search.type_use import TypeFinding, facets, type_boosts, usable

METHOD = "/aisle.v1.SearchService/Search"


class Floor:
    """What one process can do with the stages of a bundle: read the request, classify, encode, retrieve, order, write the answer."""

    def __init__(self, bundle_folder: Path) -> None:
        bundle, config = Bundle(bundle_folder), AisleConfig()
        products = bundle.products()
        masks = FilterMasks(products)
        self._encoder = None  # the retriever reads queries itself where the bundle holds the unified model
        self.first_stage = "retriever"  # that a service of this bundle reads a query with
        if not UNIFIED_PART.is_in(bundle):
            self.first_stage = "encoder"
            self._encoder = TextStageEncoder(bundle_folder, "cpu", 0, CPU_BATCH_TOKENS)
            self._encoder.warm_up()
        self._typer = QueryTyper(bundle_folder) if TYPES_PART.is_in(bundle) else None
        self._retriever = load_retriever(bundle_folder)
        self._retriever.warm_up()
        manifest = bundle.manifest
        lexical = bundle.lexical()
        negations = Negations(products, lexical) if lexical else None
        speller = load_speller(bundle)
        self._texts = QueryTexts(
            speller,
            bundle.identifiers(),
            manifest.locales[0],
            manifest.currency,
            negations,
            KnownScripts(speller.counts, manifest.locales),
        )
        self._masks = masks
        self._messages = SearchMessages(
            bundle.manifest,
            products,
            masks,
            config.limits,
            fields=RequestFields(bundle.manifest.locales, config),
            ranking=RankingFields(config.limits, config.ranker, has_ranker=RANKER_PART.is_in(bundle)),
            types=config.types if self._typer else None,
        )

    def answer(self, requests: Sequence[bytes]) -> list[bytes]:
        """A batch of serialised requests for first pages, answered."""
        calls = [self._messages.read(search_pb2.SearchRequest.FromString(data)) for data in requests]
        read = [self._texts.read(call.search.query, call.search.locale, call.search.filter) for call in calls]
        searches = [reworded(call.search, text) for call, text in zip(calls, read, strict=True)]
        texts = [search.query for search in searches]
        findings = self._types(searches, texts)
        queries = self._queries(searches, texts)
        items = [
            self._item(search, query, types) for search, query, types in zip(searches, queries, findings, strict=True)
        ]
        answers = []
        found = self._retriever.compute(items)
        for call, text, types, item, retrieved in zip(calls, read, findings, items, found, strict=True):
            if not isinstance(retrieved, Retrieved):
                raise RuntimeError(f"the retriever returned {retrieved!r}")
            results = self._page(call.search, text, types, item, retrieved)
            answers.append(self._messages.write(call, results).SerializeToString())
        return answers

    def _types(self, searches: Sequence[Search], texts: Sequence[str]) -> list[TypeFinding]:
        if self._typer is None:
            return [TypeFinding()] * len(searches)
        questions = [TypeQuestion(((text, search.locale),)) for search, text in zip(searches, texts, strict=True)]
        findings = []
        for search, answer in zip(searches, self._typer.compute(questions), strict=True):
            if isinstance(answer, Exception):
                raise answer
            findings.append(TypeFinding(answer[0], usable(answer[0], search.type_use)))
        return findings

    def _queries(self, searches: Sequence[Search], texts: Sequence[str]) -> list[Query]:
        if self._encoder is None:
            return [Query(text, search.locale) for search, text in zip(searches, texts, strict=True)]
        vectors = self._encoder.compute(
            [Text(text, locale=search.locale) for search, text in zip(searches, texts, strict=True)]
        )
        return [
            EncodedQuery(text, search.locale, vector=vector)
            for search, text, vector in zip(searches, texts, vectors, strict=True)
            if not isinstance(vector, Exception)
        ]

    def _item(self, search: Search, query: Query, types: TypeFinding) -> SearchItem:
        most = FACET_HITS if types.has_facets(types.use) else 0
        return SearchItem(
            subject=Subject(query=query, types=types.prediction if self._typer else None),
            k=max(search.page_size + 1, search.ranking.depth, most),
            filter=search.filter,
            type_boosts=type_boosts(types, search.type_boost),
            depth=search.ranking.depth,
            weights=search.ranking.weights,
            asked_weight=search.ranking.asked_weight,
        )

    def _page(
        self, search: Search, read: QueryText, types: TypeFinding, item: SearchItem, retrieved: Retrieved
    ) -> Results:
        candidates, scores = retrieved.candidates, retrieved.scores
        count = len(candidates.rows)
        order = as_retrieved(count)
        if len(scores):
            order = by_student(scores, count, num_leading(candidates, min(item.depth, count)))
        places = order.places[: search.page_size]
        counted: tuple[tuple[str, int], ...] = ()
        if types.has_facets(types.use):
            counted = facets(self._masks.categories([candidates.rows[place] for place in order.places[:FACET_HITS]]))
        return Results(
            hits=candidates.take(places),
            offset=0,
            has_more=count > search.page_size,
            retrieval_ranks=[place + 1 for place in places],
            chances=order.chances(0, search.page_size),
            ranked_by=order.by,
            ranked_depth=order.num_ranked,
            corrected_query=read.corrected,
            understood=read.parts,
            alternative_queries=read.alternatives,
            sequence=retrieved.sequence,
            num_rows=retrieved.num_rows,
            total=min(retrieved.num_matching, LimitsConfig().max_results),
            total_is_exact=retrieved.num_matching <= LimitsConfig().max_results,
            prediction=types.prediction,
            type_use=types.use,
            type_facets=counted,
        )

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
