"""The gateway: a `grpc.aio` server inside a Ray Serve deployment.

Ray Serve places, updates and restarts it; the calls never pass through Serve. The replicas of one node listen on the same port
(`SO_REUSEPORT`). A stopping replica turns its health to NOT_SERVING, sends GOAWAY and finishes the calls in progress.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from models.bundles.bundle import Bundle
from serving.config import AisleConfig
from serving.gateway.listener import Listener
from serving.gateway.rpc import Guard, Servicer
from serving.gateway.security import KeyRing
from serving.logs import configure_logging, log
from serving.search.pipeline import SearchPipeline
from serving.shoppers.open_store import open_shoppers
from serving.shoppers.store import ShopperStore
from serving.stages.local import LocalStage
from serving.stages.lone_calls import LoneCalls
from serving.stages.remote import RemoteStage
from serving.stages.stage import Stage, StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """What one gateway serves: the search path, and the services in front of it."""

    version: str  # of the bundle
    pipeline: SearchPipeline
    services: list[Servicer]


Wire = Callable[[Path, AisleConfig, Mapping[str, Stage[Any, Any]], ShopperStore | None, Guard, str], Wired]


class Gateway:
    """One replica: the bundle's products, the stages, the listener."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        bundle_folder: Path,
        config: AisleConfig,
        plans: tuple[StagePlan[Any, Any], ...],
        wire: Wire,
        log_socket: str,
        *handles: DeploymentHandle | None,
    ) -> None:
        configure_logging(config.log.format, config.log.level, log_socket)
        started = time.monotonic()
        keys = KeyRing(config.auth.keys_file) if config.auth.keys_file else None
        guard = Guard(keys, config.server.max_deadline_ms / 1000, config.log)
        stages = {
            plan.name: await _start_stage(plan, handle, guard.lone_calls)
            for plan, handle in zip(plans, handles, strict=True)
        }
        self._stages = list(stages.values())
        self._shoppers = await open_shoppers(config.shoppers, Bundle(bundle_folder).manifest.name)
        self._replica_id = serve.get_replica_context().replica_id.unique_id
        wired = await asyncio.to_thread(wire, bundle_folder, config, stages, self._shoppers, guard, self._replica_id)
        self._listener = Listener(config, wired.services, wired.pipeline.is_ready)
        await self._listener.start()
        self._readiness = asyncio.ensure_future(self._listener.follow_readiness())
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

    async def __del__(self) -> None:
        """Drains the replica. Serve calls it when it stops the replica, and waits for it."""
        listener = getattr(self, "_listener", None)
        if listener is None:
            return
        log.info("gateway draining", extra={"fields": {"replica": self._replica_id}})
        self._readiness.cancel()
        await listener.drain()
        for stage in self._stages:
            await stage.close()
        if self._shoppers:
            await self._shoppers.close()
        log.info("gateway stopped", extra={"fields": {"replica": self._replica_id}})


async def _start_stage(
    plan: StagePlan[Any, Any], handle: DeploymentHandle | None, lone_calls: LoneCalls
) -> Stage[Any, Any]:
    return await RemoteStage.start(plan, handle) if handle else await LocalStage.start(plan, lone_calls)
