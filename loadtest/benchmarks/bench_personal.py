"""What personalisation costs: the same bundle round_queries plainly, for shoppers it knows, and with the events in the request."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import numpy as np

from aisle.v1 import search_pb2, search_pb2_grpc, shopper_pb2, shopper_pb2_grpc
from loadtest.benchmarks.floor import METHOD, search_messages
from loadtest.benchmarks.service import bundle_queries, served
from loadtest.benchmarks.setup import PATIENT, Setup, ratios
from loadtest.errors import LoadError
from loadtest.h2load import h2load
from models.bundles.bundle import Bundle

CLIENTS = 32
SHOPPERS = 8
EVENTS = 40  # of each
UNTYPED = search_pb2.PRODUCT_TYPE_USE_OFF  # bench_types tells what types cost
UNRANKED = search_pb2.RANK_MODEL_NONE  # and bench_ranking what the ranker does


def bench_personal(setup: Setup) -> None:
    """Throughput and p50; and the light tower against the text encoder, each with its own bundle."""
    if setup.personal is None:
        setup.leave_out("no --personal bundle")
        return
    queries = bundle_queries(setup.personal, 2000)
    histories = _histories(setup.personal)
    rates: dict[str, list[float]] = {"plain": [], "stored": [], "sent": [], "text": []}
    p50: dict[str, list[float]] = {"plain": [], "stored": [], "sent": []}
    with served(setup.personal, PATIENT) as service, served(setup.bundle, PATIENT) as text_service:
        _record(service.address, histories)
        text = bundle_queries(setup.bundle, 2000)
        for number in range(setup.rounds):
            setup.say(f"round {number + 1}")
            round_queries = [queries[(SHOPPERS * number + n) % len(queries)] for n in range(SHOPPERS)]
            sides = {
                "plain": [
                    search_pb2.SearchRequest(query=query, product_types=UNTYPED, rank_model=UNRANKED)
                    for query in round_queries
                ],
                "stored": [
                    search_pb2.SearchRequest(
                        query=query, shopper_id=f"bench-{n}", product_types=UNTYPED, rank_model=UNRANKED
                    )
                    for n, query in enumerate(round_queries)
                ],
                "sent": [
                    search_pb2.SearchRequest(
                        query=query, recent_events=events, product_types=UNTYPED, rank_model=UNRANKED
                    )
                    for query, events in zip(round_queries, histories, strict=True)
                ],
            }
            for side, requests in sides.items():
                messages = [request.SerializeToString() for request in requests]
                rates[side].append(
                    h2load(service.address, METHOD, messages, clients=CLIENTS, seconds=setup.seconds).goodput
                )
                p50[side].append(
                    h2load(
                        service.address, METHOD, messages[:1], clients=1, seconds=setup.seconds / 2, warm_up_s=0.5
                    ).percentile(50)
                )
            some = search_messages([text[(SHOPPERS * number + n) % len(text)] for n in range(SHOPPERS)])
            rates["text"].append(
                h2load(text_service.address, METHOD, some, clients=CLIENTS, seconds=setup.seconds).goodput
            )
    add = setup.figures.add
    names = {"plain": "plain", "stored": "for a known shopper", "sent": f"with {EVENTS} events in the request"}
    for side, name in names.items():
        add("personal", f"throughput, {name}, {CLIENTS} clients", "queries/s", rates[side])
        add("personal", f"p50, {name}, 1 client", "ms", p50[side])
    known = ratios(rates["stored"], rates["plain"])
    add("personal", "throughput, known shopper / plain", "ratio", known, goal=">= 0.85")
    add("personal", "throughput, events in the request / plain", "ratio", ratios(rates["sent"], rates["plain"]))
    add("personal", "throughput, text encoder's bundle, plain", "queries/s", rates["text"])
    light = ratios(rates["plain"], rates["text"])
    add("personal", "throughput, light tower / text encoder", "ratio", light, goal=">= 2")


def _histories(bundle: Path) -> list[list[shopper_pb2.Event]]:
    """Events on products drawn from the catalogue; simulated."""
    table = Bundle(bundle).products()
    rng = np.random.default_rng(0)
    now_ms = time.time_ns() // 1_000_000
    return [
        [
            shopper_pb2.Event(
                id=f"{shopper}-{n}",
                time_ms=now_ms - 60_000 * (EVENTS - n),
                shopper_id=f"bench-{shopper}",
                session_id=str(n // 4),
                kind=shopper_pb2.EVENT_KIND_PURCHASE if n % 8 == 0 else shopper_pb2.EVENT_KIND_CLICK,
                product_id=table.id(row),
                query=" ".join(table.string("title", row).split()[:2]),
            )
            for n, row in enumerate(rng.integers(0, len(table), EVENTS).tolist())
        ]
        for shopper in range(SHOPPERS)
    ]


def _record(address: str, histories: list[list[shopper_pb2.Event]]) -> None:
    with grpc.insecure_channel(address) as channel:
        recorder = shopper_pb2_grpc.ShopperServiceStub(channel)
        for events in histories:
            recorder.RecordEvents(shopper_pb2.RecordEventsRequest(events=events), timeout=10)
        answer = search_pb2_grpc.SearchServiceStub(channel).Search(
            search_pb2.SearchRequest(query="x", shopper_id="bench-0"), timeout=10
        )
    if answer.personalisation.source != search_pb2.PERSONALISATION_SOURCE_STORED:
        raise LoadError(f"searches are not personalised: {answer.personalisation.reason}")
