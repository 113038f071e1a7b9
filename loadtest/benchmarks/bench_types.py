"""The classifier of queries: by itself, over gRPC in batches, and what it adds to a search."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from aisle.v1 import query_pb2, search_pb2
from loadtest.benchmarks.floor import METHOD as SEARCH
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, Setup, differences, ratios
from loadtest.h2load import h2load
from models.bundles.bundle import Bundle
from models.query_types.bundle_part import TYPES_PART
from models.query_types.type_model import TypeModel

CLASSIFY = "/aisle.v1.QueryService/Classify"
BATCH = 256
CLIENTS = 32
THREADS = 2
USES = {
    "off": search_pb2.PRODUCT_TYPE_USE_OFF,
    "facets": search_pb2.PRODUCT_TYPE_USE_FACETS,
    "boost": search_pb2.PRODUCT_TYPE_USE_BOOST,
}


def bench_types(setup: Setup) -> None:
    """Queries a second of the model and of the service, and a search with its query's types against one without."""
    if setup.personal is None or not TYPES_PART.is_in(Bundle(setup.personal)):
        setup.leave_out("no --personal bundle with a classifier")
        return
    model = TYPES_PART.open(Bundle(setup.personal))
    queries = bundle_queries(setup.personal, 20_000)
    alone: list[float] = []
    rates: dict[str, list[float]] = {"classify": [], **{use: [] for use in USES}}
    p50: dict[str, list[float]] = {use: [] for use in USES}
    with served(setup.personal, PATIENT) as service:
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            alone.append(_in_process(model, queries))
            batches = [queries[BATCH * n : BATCH * (n + 1)] for n in range(8 * number, 8 * number + 8)]
            calls = [_classify(batch, model.locales) for batch in batches if batch]
            many = h2load(service.address, CLASSIFY, calls, clients=8, seconds=setup.seconds)
            rates["classify"].append(BATCH * many.goodput)
            round_queries = [queries[(8 * number + n) % len(queries)] for n in range(8)]
            for name, use in USES.items():
                messages = [
                    search_pb2.SearchRequest(
                        query=query, locale="en-US", product_types=use, rank_model=search_pb2.RANK_MODEL_NONE
                    ).SerializeToString()
                    for query in round_queries
                ]
                rates[name].append(
                    h2load(service.address, SEARCH, messages, clients=CLIENTS, seconds=setup.seconds).goodput
                )
                one = h2load(service.address, SEARCH, messages[:1], clients=1, seconds=setup.seconds / 2, warm_up_s=0.5)
                p50[name].append(one.percentile(50))
    add = setup.figures.add
    add("types", f"classify in process, batches of {BATCH}, {THREADS} threads", "queries/s", alone, goal=">= 10,000")
    add("types", f"QueryService.Classify, batches of {BATCH}, 8 clients", "queries/s", rates["classify"])
    add("types", "p50 of Search without types, 1 client", "ms", p50["off"])
    for name in ("facets", "boost"):
        goal = "< 1" if name == "facets" else ""
        add("types", f"p50 of Search, {name} - off, 1 client", "ms", differences(p50[name], p50["off"]), goal=goal)
        add(
            "types",
            f"throughput of Search, {name} / off, {CLIENTS} clients",
            "ratio",
            ratios(rates[name], rates["off"]),
        )


def _in_process(model: TypeModel, queries: list[str]) -> float:
    batches = [queries[at : at + BATCH] for at in range(0, len(queries), BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        started = time.perf_counter()
        predictions = list(pool.map(lambda batch: model.classify(batch, ["en-US"] * len(batch)), batches))
        return sum(map(len, predictions)) / (time.perf_counter() - started)


def _classify(queries: list[str], locales: tuple[str, ...]) -> bytes:
    round_queries = [
        query_pb2.LocaleQuery(query=query, locale=locales[at % len(locales)]) for at, query in enumerate(queries)
    ]
    return query_pb2.ClassifyRequest(queries=round_queries).SerializeToString()
