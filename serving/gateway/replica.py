"""The gateway: a `grpc.aio` server inside a Ray Serve deployment.

Ray Serve places, updates and restarts it; the calls never pass through Serve. The replicas of one node listen on the same port
(`SO_REUSEPORT`). A stopping replica turns its health to NOT_SERVING, sends GOAWAY and finishes the calls in progress.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

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
from serving.gateway.listener import Listener
from serving.gateway.messages.embedding import EmbeddingMessages
from serving.gateway.messages.events import EventMessages
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.info import InfoMessages
from serving.gateway.messages.query import QueryMessages
from serving.gateway.messages.rank import RankMessages
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.gateway.rpc import Guard, Servicer
from serving.gateway.security import KeyRing
from serving.gateway.services import EmbeddingService, InfoService, QueryService, RankingService, SearchService
from serving.gateway.shopper_service import ShopperService
from serving.logs import configure_logging, log
from serving.search.personaliser import Personaliser
from serving.search.pipeline import SearchPipeline
from serving.search.ranker import TeacherStage
from serving.shoppers.open_store import open_shoppers
from serving.stages.lone_calls import LoneCalls
from serving.stages.stage import LocalStage, RemoteStage, Stage, StagePlan


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
        services: list[Servicer] = [
            SearchService(pipeline, search_messages, guard),
            EmbeddingService(pipeline, embedding_messages, guard),
            QueryService(pipeline, query_messages, guard),
            RankingService(pipeline, rank_messages, guard),
            InfoService(pipeline, info_messages, guard, self._replica_id),
            ShopperService(self._shoppers, event_messages, guard, forget),
        ]
        self._listener = Listener(config, services, pipeline.is_ready)
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
                    "bundle": bundle.manifest.version,
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


def _threshold(bundle: Bundle) -> float | None:
    """Returns the similarity below which shoppers seldom engage, or None if the bundle's model learned no threshold."""
    return light_tower(bundle.folder).spec.threshold if UNIFIED_PART.is_in(bundle) else None


async def _start_stage(
    plan: StagePlan[Any, Any], handle: DeploymentHandle | None, lone_calls: LoneCalls
) -> Stage[Any, Any]:
    return await RemoteStage.start(plan, handle) if handle else await LocalStage.start(plan, lone_calls)
