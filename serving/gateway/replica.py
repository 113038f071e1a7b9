"""The gateway: a Ray Serve deployment that answers the calls of an edge.

Ray Serve places, updates and restarts it; the calls never pass through Serve. The edge is a process that the gateways of a machine share
and start as they need it (see `serving.edge`); it has the port. A gateway that stops leaves it, and finishes the calls in progress.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve

from models.bundles.bundle import Bundle
from serving.catalogue.follower import Follower
from serving.catalogue.generation import Generation
from serving.config import AisleConfig
from serving.edge.call_log import CallLog
from serving.gateway.edge import Edge
from serving.gateway.rpc import Guard, Servicer
from serving.gateway.self_watch import SelfWatch
from serving.logs import configure_logging, log, logged_failure
from serving.metrics.metric import open_metrics
from serving.replica_address import bind_to_loopback
from serving.request_log.request_log import RequestLog
from serving.search.pipeline import SearchPipeline
from serving.shoppers.counted_store import CountedStore
from serving.shoppers.open_store import open_shoppers
from serving.shoppers.store import ShopperStore
from serving.stages.local import LocalStage
from serving.stages.remote import RemoteStage
from serving.stages.sharded import ShardedStage
from serving.stages.stage import Stage, StagePlan
from serving.traces.open_tracer import open_tracer

# A search passes between the event loop and the threads of the stages some ten times. While another thread runs Python, as for a Rank call
# of thousands of products, each of these waits this long for the interpreter.
SWITCH_S = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """What one gateway serves: the search path, and the services in front of it."""

    version: str  # of the bundle
    pipeline: SearchPipeline
    services: list[Servicer]
    follower: Follower | None  # of the catalogue's log; None if the catalogue takes no changes
    request_log: RequestLog | None = None  # None if no pages are logged


Wire = Callable[[Path, AisleConfig, Mapping[str, Stage[Any, Any]], ShopperStore | None, Guard, str], Wired]


async def _start(
    plan: StagePlan[Any, Any], generation: Generation, config: AisleConfig, guard: Guard
) -> LocalStage[Any, Any] | RemoteStage[Any, Any] | ShardedStage[Any, Any]:
    if plan.shards:
        return await ShardedStage.start(plan, generation.version, config.retriever.max_shard_wait_ms / 1000)
    if plan.config.placement == "remote":
        return await RemoteStage.start(plan, generation.version)
    return await LocalStage.start(plan, guard.lone_calls)


class Gateway:
    """One replica: the bundle's products, the stages, the way to the edge."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        generation: Generation,
        config: AisleConfig,
        plans: tuple[StagePlan[Any, Any], ...],
        wire: Wire,
        log_socket: str,
    ) -> None:
        bind_to_loopback()
        sys.setswitchinterval(SWITCH_S)
        configure_logging(config.log.format, config.log.level, log_socket)
        open_metrics("gateway", log_socket)
        with logged_failure("gateway"), generation.named():
            await self._start(generation, config, plans, wire, log_socket)

    async def _start(
        self,
        generation: Generation,
        config: AisleConfig,
        plans: tuple[StagePlan[Any, Any], ...],
        wire: Wire,
        log_socket: str,
    ) -> None:
        started = time.monotonic()
        bundle_folder = generation.path()
        self._guard = guard = Guard(CallLog(config.log), config.server.max_message_bytes)
        stages = {plan.name: await _start(plan, generation, config, guard) for plan in plans}
        self._stages = list(stages.values())
        manifest = Bundle(bundle_folder).manifest
        self._replica_id = serve.get_replica_context().replica_id.unique_id
        facts = {"service.instance.id": self._replica_id, "aisle.bundle": manifest.version}
        guard.tracer = open_tracer(config.traces, facts)
        store = await open_shoppers(config.shoppers, manifest.name)
        self._shoppers = CountedStore(store) if store else None
        wired = await asyncio.to_thread(wire, bundle_folder, config, stages, self._shoppers, guard, self._replica_id)
        self._follower, self._request_log = wired.follower, wired.request_log
        edge = Edge(
            config,
            wired.services,
            guard,
            is_ready=wired.pipeline.is_ready,
            speeds=wired.pipeline.speeds,
            log_socket=log_socket,
        )
        await edge.start()
        self._edge = edge
        self._watch = SelfWatch(self._stages, self._follower, manifest) if config.metrics.port else None
        if self._watch:
            self._watch.start()
        gc.collect()
        gc.freeze()  # what is loaded now stays: the collector need not scan it again
        log.info(
            "gateway ready",
            extra={
                "fields": {
                    "replica": self._replica_id,
                    "pid": os.getpid(),
                    "port": config.server.port,
                    "bundle": wired.version,
                    "encoder": stages["encoder"].backend,
                    "retriever": stages["retriever"].backend,
                    "seconds": time.monotonic() - started,
                }
            },
        )

    def check_health(self) -> None:
        """Serve replaces a replica for which this raises: one whose catalogue stopped following its log would serve old products."""
        follower = getattr(self, "_follower", None)
        if follower and follower.failure:
            raise RuntimeError(follower.failure)

    async def __del__(self) -> None:
        """Drains the replica. Serve calls it when it stops the replica, and waits for it."""
        edge = getattr(self, "_edge", None)
        if edge is None:
            return
        log.info("gateway draining", extra={"fields": {"replica": self._replica_id}})
        await edge.drain()
        if self._watch:
            self._watch.close()
        for stage in self._stages:
            await stage.close()
        if self._request_log:  # first: no store that fails to close may cost its pages
            await asyncio.to_thread(self._request_log.close)
        if self._shoppers:
            await self._shoppers.close()
        if self._follower:
            await self._follower.close()
        if self._guard.tracer:
            await asyncio.to_thread(self._guard.tracer.close)
        log.info("gateway stopped", extra={"fields": {"replica": self._replica_id, "calls": self._guard.log.codes()}})
