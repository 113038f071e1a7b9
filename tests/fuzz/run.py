"""One run: many calls at once against a running service, and the questions before and after them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aisle.v1 import (
    embedding_pb2,
    info_pb2,
    info_pb2_grpc,
    query_pb2,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
    shopper_pb2_grpc,
)
from tests.fuzz.calls import Caller, Outcome
from tests.fuzz.checks import fault
from tests.fuzz.plans import Plans
from tests.fuzz.values import DAY_MS, SHOPPERS, Catalogue

MODULES = (search_pb2, ranking_pb2, query_pb2, embedding_pb2, info_pb2, shopper_pb2)
METHODS: tuple[MethodDescriptor, ...] = tuple(
    method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
HEALTH_EVERY = 500  # calls
CALM_S = 10.0  # for the calls that are not part of the noise
KNOWN = search_pb2.SearchRequest(query="sofa", page_size=20)
SAMPLE_QUERIES = (
    "sofa",
    "grey wool rug",
    "noise cancelling headphones",
    "shoes",
    "laptop",
    "red dress",
    "zapatos rojos",
    "käse",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong, and the number of the call; None if it was no call of the run."""

    number: int | None
    what: str
    outcome: Outcome | None = None


@dataclass(slots=True)
class Report:
    """How the calls of a run ended, by method and code; and by kind and code."""

    by_method: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def num_calls(self) -> int:
        return self.by_method.total()


class Service:
    """A service under test. Leave it by `close`."""

    def __init__(self, target: str, key: str = "") -> None:
        self._target = target
        self._key = key
        self._calm = grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._search = search_pb2_grpc.SearchServiceStub(self._calm)

    async def close(self) -> None:
        await self._calm.close()

    async def run(
        self,
        seed: int,
        numbers: Iterable[int],
        *,
        at_once: int = 32,
        max_faults: int = 20,
        told: Callable[[Outcome], None] = lambda _: None,
    ) -> Report:
        """Carries out the calls of these numbers, `at_once` at a time, and stops early at `max_faults`. Raises grpc.RpcError if the service
        does not answer before the first call."""
        info = await self._info()
        limits = info.limits
        patience_s = limits.max_deadline_ms / 1000 + 5
        plans = Plans(seed, METHODS, await self._catalogue(info), patience_s)
        before = await self._known()
        internal = await self._num_internal()
        report = Report()
        caller = Caller(self._target, self._key, patience_s, limits.max_message_bytes)
        started = time.monotonic()
        plan_numbers = iter(numbers)

        async def work() -> None:
            for number in plan_numbers:
                if len(report.faults) >= max_faults:
                    return
                plan = plans.draw(number)
                outcome = await caller.carry_out(plan)
                told(outcome)
                report.by_method[plan.name, outcome.code] += 1
                report.by_kind[plan.kind, outcome.code] += 1
                if what := fault(outcome, limits.max_message_bytes):
                    report.faults.append(Fault(number, what, outcome))
                if report.num_calls % HEALTH_EVERY == 0:
                    report.faults.extend(await self._unhealthy())

        await asyncio.gather(*(work() for _ in range(at_once)))
        report.seconds = time.monotonic() - started
        await caller.close()
        report.faults.extend(await self._unhealthy())
        report.faults.extend(await self._changed(before, internal))
        await self._forget()
        return report

    async def _info(self) -> info_pb2.GetInfoResponse:
        stub = info_pb2_grpc.InfoServiceStub(self._calm)
        return await stub.GetInfo(info_pb2.GetInfoRequest(), timeout=CALM_S, metadata=self._metadata)

    async def _catalogue(self, info: info_pb2.GetInfoResponse) -> Catalogue:
        """Asks for the words of the catalogue, always the same ones."""
        requests = [search_pb2.SearchRequest(query=query, page_size=40) for query in SAMPLE_QUERIES]
        answers = [await self._search.Search(r, timeout=CALM_S, metadata=self._metadata) for r in requests]
        products = [hit.product for answer in answers for hit in answer.hits]
        limits = info.limits
        return Catalogue(
            queries=(*SAMPLE_QUERIES, *sorted({product.title for product in products})[:200]),
            product_ids=sorted({product.id for product in products})[:200],
            brands=sorted({product.brand for product in products})[:20],
            categories=sorted({product.category for product in products})[:20],
            locales=info.catalogue.locales,
            product_fields=info.catalogue.product_fields,
            boosts=info.index.boosts,
            dimensions=info.encoder.dimensions,
            page_tokens=[answer.next_page_token for answer in answers if answer.next_page_token],
            day_ms=time.time_ns() // 1_000_000 // DAY_MS * DAY_MS,
            max_items={
                "recent_events": limits.max_recent_events,
                "events": limits.max_batch_events,
                "queries": limits.max_embed_items,
                "product_ids": limits.max_rank_candidates,
                "brands": 64,
                "categories": 64,
            },
        )

    async def _known(self) -> list[tuple[str, float]]:
        answer = await self._search.Search(KNOWN, timeout=CALM_S, metadata=self._metadata)
        return [(hit.product_id, hit.score) for hit in answer.hits]

    async def _num_internal(self) -> int:
        """Counts the calls that ended as INTERNAL, also those whose caller had left. Each gateway counts its own."""
        stub = info_pb2_grpc.InfoServiceStub(self._calm)
        stats = await stub.GetStats(info_pb2.GetStatsRequest(), timeout=CALM_S, metadata=self._metadata)
        return sum(count.count for count in stats.calls if count.code == "INTERNAL")

    async def _unhealthy(self) -> list[Fault]:
        stub = health_pb2_grpc.HealthStub(self._calm)
        try:
            status = (await stub.Check(health_pb2.HealthCheckRequest(), timeout=CALM_S)).status
        except grpc.aio.AioRpcError as error:
            return [Fault(None, f"health cannot be asked: {error.code().name} {error.details()}")]
        if status == health_pb2.HealthCheckResponse.SERVING:
            return []
        return [Fault(None, f"health is {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")]

    async def _changed(self, before: list[tuple[str, float]], internal: int) -> list[Fault]:
        faults = []
        after = await self._known()
        same = [a == b and abs(x - y) < 1e-3 for (a, x), (b, y) in zip(before, after, strict=False)]
        if len(before) != len(after) or not all(same):
            faults.append(Fault(None, f"the search {KNOWN.query!r} answers otherwise than before: {before} {after}"))
        if more := await self._num_internal() - internal:
            faults.append(Fault(None, f"{more} calls ended as INTERNAL inside the service; its log says why"))
        return faults

    async def _forget(self) -> None:
        """Deletes what the run has recorded of its own shoppers."""
        stub = shopper_pb2_grpc.ShopperServiceStub(self._calm)
        for shopper_id in SHOPPERS:
            try:
                request = shopper_pb2.ForgetShopperRequest(shopper_id=shopper_id)
                await stub.ForgetShopper(request, timeout=CALM_S, metadata=self._metadata)
            except grpc.aio.AioRpcError:
                return  # it keeps none, or the key may not
