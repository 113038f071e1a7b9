"""The gateway: a `grpc.aio` server inside a Ray Serve deployment.

Ray Serve places it, updates it and restarts it; the calls never pass through Serve. Replicas of one node listen on the same port
(`SO_REUSEPORT`); a stopping one turns its health to NOT_SERVING, sends GOAWAY and finishes the calls it has.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from ray import serve
from ray.serve.handle import DeploymentHandle

from aisle.v1 import embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2
from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.text_encoder.spec import EncoderSpec
from models.unified.bundle_part import UNIFIED_PART
from serving.compute.filter_masks import FilterMasks
from serving.compute.shopper_encoder import light_tower
from serving.compute.teacher import PairCosts
from serving.config import AisleConfig
from serving.gateway.messages.embedding import EmbeddingMessages
from serving.gateway.messages.events import EventMessages
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.info import InfoMessages
from serving.gateway.messages.query import QueryMessages
from serving.gateway.messages.rank import RankMessages
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.gateway.rpc import Guard, Servicer, add_service
from serving.gateway.security import KeyRing, server_credentials
from serving.gateway.services import EmbeddingService, InfoService, QueryService, RankingService, SearchService
from serving.gateway.shopper_service import ShopperService
from serving.logs import configure_logging, log
from serving.search.personaliser import Personaliser
from serving.search.pipeline import SearchPipeline
from serving.search.ranker import TeacherStage
from serving.shoppers.open_store import open_shoppers
from serving.stages.lone_calls import LoneCalls
from serving.stages.stage import LocalStage, RemoteStage, Stage, StagePlan

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service
    for contract in (search_pb2, embedding_pb2, query_pb2, ranking_pb2, info_pb2, shopper_pb2)
    for service in contract.DESCRIPTOR.services_by_name.values()
)
SERVICE_NAMES = tuple(service.full_name for service in SERVICES)
READINESS_S = 0.5
# Between NOT_SERVING and GOAWAY: the time in which a client that watches health turns elsewhere.
NOTICE_S = 0.5
# A `grpc.aio` server takes in one call for each few turns of its loop, and beside busy stages a turn takes milliseconds. At four times
# the capacity 4, 16 and 32 servers on one port kept 0.40, 0.49 and 0.63 of the peak; since batches are ranked in few calls 32 add nothing.
NUM_ACCEPTORS = 16


def server_options(config: AisleConfig) -> list[tuple[str, int]]:
    """The channel arguments of the gateway's server."""
    server = config.server
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_send_message_length", server.max_message_bytes),
        ("grpc.keepalive_time_ms", int(server.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.max_connection_age_ms", int(server.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", server.max_deadline_ms),
    ]


class Listener:
    """The gRPC servers of a port, with health and reflection. Binds only when it may serve, so that a starting replica takes no call."""

    def __init__(self, config: AisleConfig, is_ready: Callable[[], bool]) -> None:
        self._config = config
        self._is_ready = is_ready
        self._health = health.aio.HealthServicer()
        self._ready = True
        self._acceptors = [grpc.aio.server(options=server_options(config)) for _ in range(NUM_ACCEPTORS)]
        for server in self._acceptors:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            if config.server.reflection:
                reflection.enable_server_reflection(
                    (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
                )

    def add_service(self, service: ServiceDescriptor, servicer: Servicer) -> None:
        for server in self._acceptors:
            add_service(server, service, servicer)

    async def start(self) -> None:
        """Raises OSError when the address cannot be had."""
        host = self._config.server.host
        address = f"[{host}]:{self._config.server.port}" if ":" in host else f"{host}:{self._config.server.port}"
        try:
            for server in self._acceptors:
                if self._config.tls.certificate:
                    server.add_secure_port(address, server_credentials(self._config.tls))
                else:
                    server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        await self._set_health(True)
        for server in self._acceptors:
            await server.start()

    async def follow_readiness(self) -> None:
        """Turns health with the readiness of the stages, for ever."""
        while True:
            await asyncio.sleep(READINESS_S)
            if self._is_ready() != self._ready:
                await self._set_health(not self._ready)
                log.warning("health", extra={"fields": {"serving": self._ready}})

    async def drain(self) -> None:
        """NOT_SERVING, then GOAWAY, then the end of the calls in progress or of their time."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(NOTICE_S)
        await asyncio.gather(*(server.stop(self._config.server.drain_s) for server in self._acceptors))

    async def _set_health(self, ready: bool) -> None:
        self._ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICE_NAMES):
            await self._health.set(service, status)


class Gateway:
    """One replica: the bundle's products, the stages, the listener."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        bundle_folder: Path,
        config: AisleConfig,
        plans: tuple[StagePlan[Any, Any], ...],
        log_socket: str,
        *handles: DeploymentHandle | None,
    ) -> None:
        configure_logging(config.log.format, config.log.level, log_socket)
        started = time.monotonic()
        bundle = Bundle(bundle_folder)
        products = await asyncio.to_thread(bundle.products)
        masks = await asyncio.to_thread(FilterMasks, products)
        keys = KeyRing(config.auth.keys_file) if config.auth.keys_file else None
        guard = Guard(keys, config.server.max_deadline_ms / 1000, config.log)
        stages = {
            plan.name: await _start_stage(plan, handle, guard.lone_calls)
            for plan, handle in zip(plans, handles, strict=True)
        }
        self._stages = list(stages.values())
        self._shoppers = await open_shoppers(config.shoppers, bundle.manifest.name)
        personaliser = None
        if UNIFIED_PART.is_in(bundle):
            personaliser = Personaliser(
                stages["shopper"],
                self._shoppers,
                config.shoppers.max_wait_ms,
                await asyncio.to_thread(light_tower, bundle_folder),
                bundle.unit_vectors(),
            )
        teacher = None
        if TEACHER_PART.is_in(bundle):
            costs = await asyncio.to_thread(PairCosts, TEACHER_PART.open(bundle), products)
            teacher = TeacherStage(stages["teacher"], costs, config.teacher.depth)
        pipeline = SearchPipeline(
            stages["encoder"],
            stages["retriever"],
            EncoderSpec(**bundle.manifest.encoder),
            await asyncio.to_thread(load_speller, bundle),
            config.limits.max_results,
            personaliser,
            stages.get("types"),
            masks,
            bundle.manifest.locales[0],
            teacher,
        )
        manifest, limits = bundle.manifest, config.limits
        threshold = await asyncio.to_thread(_threshold, bundle)
        fields = RequestFields(manifest.locales, config)
        ranking = RankingFields(
            limits, config.ranker, has_ranker=RANKER_PART.is_in(bundle), has_teacher=TEACHER_PART.is_in(bundle)
        )
        self._replica_id = serve.get_replica_context().replica_id.unique_id
        search_messages = SearchMessages(
            manifest,
            products,
            masks,
            limits,
            fields=fields,
            ranking=ranking,
            relevance_threshold=threshold,
            types=config.types if TYPES_PART.is_in(bundle) else None,
        )
        embedding_messages = EmbeddingMessages(manifest, limits, fields=fields)
        query_messages = QueryMessages(manifest.version, limits, fields=fields)
        rank_messages = RankMessages(manifest.version, products, limits, fields=fields, ranking=ranking)
        event_messages = EventMessages(manifest.locales, config)
        info_messages = InfoMessages(
            manifest,
            config,
            product_fields=products.fields,
            encoder_backend=stages["encoder"].backend,
            relevance_threshold=threshold,
        )
        forget = personaliser.shoppers.forget if personaliser else None
        services: dict[str, Servicer] = {
            "SearchService": SearchService(pipeline, search_messages, guard),
            "EmbeddingService": EmbeddingService(pipeline, embedding_messages, guard),
            "QueryService": QueryService(pipeline, query_messages, guard),
            "RankingService": RankingService(pipeline, rank_messages, guard),
            "InfoService": InfoService(pipeline, info_messages, guard, self._replica_id),
            "ShopperService": ShopperService(self._shoppers, event_messages, guard, forget),
        }
        self._listener = Listener(config, pipeline.is_ready)
        for descriptor in SERVICES:
            self._listener.add_service(descriptor, services[descriptor.name])
        await self._listener.start()
        self._readiness = asyncio.ensure_future(self._listener.follow_readiness())
        gc.collect()
        gc.freeze()  # what is loaded now stays: no need to look through it again
        log.info(
            "gateway ready",
            extra={
                "fields": {
                    "replica": self._replica_id,
                    "pid": os.getpid(),
                    "port": config.server.port,
                    "bundle": bundle.manifest.version,
                    "encoder": stages["encoder"].backend,
                    "retriever": stages["retriever"].backend,
                    "seconds": time.monotonic() - started,
                }
            },
        )

    async def __del__(self) -> None:
        """Called by Serve when it stops the replica, and waited for."""
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


def _threshold(bundle: Bundle) -> float | None:
    """The similarity below which shoppers seldom engage, where the bundle's model learned one."""
    return light_tower(bundle.folder).spec.threshold if UNIFIED_PART.is_in(bundle) else None


async def _start_stage(
    plan: StagePlan[Any, Any], handle: DeploymentHandle | None, lone_calls: LoneCalls
) -> Stage[Any, Any]:
    return await RemoteStage.start(plan, handle) if handle else await LocalStage.start(plan, lone_calls)
