"""All the wiring on one screen: a bundle and a configuration become a Ray Serve application.

gateway (grpc.aio) -> understand: encoder stage, shopper stage, types stage
                   -> retrieve: retriever stage, with its student; or its shards, and what brings them together
                   -> rank: teacher stage
                   -> page
                   products stage, of the unified model: products to vectors
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve

from models.bundle_parts import load_speller
from models.bundles.bundle import Bundle
from models.devices import cuda_is_usable
from models.products.scripts import KnownScripts
from models.query_types.bundle_part import TYPES_PART
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.shards import shards_of
from models.text_encoder.spec import EncoderSpec
from models.unified.bundle_part import UNIFIED_PART
from serving.catalogue.generation import Generation
from serving.catalogue.open_catalogue import shared_catalogue
from serving.catalogue.stages import (
    load_retriever,
    load_shard,
    load_shard_merge,
    load_shopper_encoder,
    load_teacher_reader,
)
from serving.compute import teacher as teacher_compute
from serving.compute import text_encoder
from serving.compute.product_encoder import ProductEncoder, product_cost
from serving.compute.query_encoder import LightQueryEncoder, light_tower
from serving.compute.query_typer import QueryTyper
from serving.compute.retriever import MAX_BATCH
from serving.compute.shopper_encoder import ShopperEncoder
from serving.compute.teacher import PairCosts
from serving.compute.text_encoder import TextStageEncoder
from serving.config import AisleConfig, CatalogueConfig, LightStageConfig, StageConfig
from serving.edge.door import NOTICE_S
from serving.gateway.catalogue_service import CatalogueService
from serving.gateway.messages.catalogue import CatalogueMessages
from serving.gateway.messages.embedding import EmbeddingMessages
from serving.gateway.messages.events import EventMessages
from serving.gateway.messages.fields import RequestFields
from serving.gateway.messages.info import InfoMessages
from serving.gateway.messages.query import QueryMessages
from serving.gateway.messages.rank import RankMessages
from serving.gateway.messages.ranking_fields import RankingFields
from serving.gateway.messages.search import SearchMessages
from serving.gateway.replica import Gateway, Wired
from serving.gateway.rpc import Guard, Servicer
from serving.gateway.services import EmbeddingService, InfoService, QueryService, RankingService, SearchService
from serving.gateway.shopper_service import ShopperService
from serving.request_log.request_log import RequestLog
from serving.search.page import Page
from serving.search.personaliser import Personaliser
from serving.search.pipeline import SearchPipeline
from serving.search.product_vectors import ProductVectors, TextProducts, TowerProducts
from serving.search.query_text import Negations, QueryTexts
from serving.search.ranker import Ranker
from serving.search.readers import TextReader, TextStage, UnifiedReader
from serving.search.retrieve import Retrieve
from serving.search.teacher_stage import TeacherStage
from serving.search.understand import Understand
from serving.shoppers.store import ShopperStore, now_ms
from serving.stages.remote import stage_app, stage_app_name
from serving.stages.stage import Stage, StagePlan

Stages = Mapping[str, Stage[Any, Any]]
Load = Callable[[Path], Any]
MARK = 0.0001  # the least of a resource that Ray can reserve


def plan_stages(bundle: Bundle, config: AisleConfig) -> tuple[StagePlan[Any, Any], ...]:
    """Plans the stages of a bundle: encoder and retriever, and one for each other model that it holds."""
    generation = generation_of(bundle)
    plans: list[StagePlan[Any, Any]] = []

    def plan(name: str, stage: LightStageConfig, load: Load, max_batch_cost: int, *, is_long: bool = False) -> None:
        found = partial(_load, load, generation)
        plans.append(StagePlan(name=name, config=stage, load=found, max_batch_cost=max_batch_cost, is_long=is_long))

    def follows(stage: LightStageConfig) -> CatalogueConfig | None:
        """Returns the log that a stage follows: one in the gateway's process changes with the gateway."""
        return config.catalogue if stage.placement == "remote" else None

    encoder, retriever, teacher = config.encoder, config.retriever, config.teacher
    if UNIFIED_PART.is_in(bundle):
        plan("encoder", encoder, LightQueryEncoder, LightQueryEncoder.max_batch_cost)
        plan(
            "shopper",
            config.shopper_encoder,
            partial(load_shopper_encoder, follows=follows(config.shopper_encoder)),
            ShopperEncoder.max_batch_cost,
        )
        plan("products", config.product_encoder, ProductEncoder, ProductEncoder.max_batch_cost)
    else:
        tokens = text_encoder.CUDA_BATCH_TOKENS if _on_cuda(encoder) else text_encoder.CPU_BATCH_TOKENS
        encode = partial(TextStageEncoder, device=encoder.device, threads=encoder.threads, max_batch_tokens=tokens)
        plan("encoder", encoder, encode, tokens)
    devices: dict[str, Any] = {
        "device": retriever.device,
        "threads": retriever.threads,
        "on_gpu": retriever.gpu_index,
        "follows": follows(retriever),
    }
    plan("retriever", retriever, partial(load_retriever, **devices), MAX_BATCH)
    if retriever.shards > 1:
        whole = plans.pop()
        for shard in shards_of(retriever.shards):
            plan(f"retriever-{shard.number}", retriever, partial(load_shard, shard=shard, **devices), MAX_BATCH)
        shards = tuple(plans[-retriever.shards :])
        merge = partial(_load, partial(load_shard_merge, count=retriever.shards), generation)
        plans[-retriever.shards :] = [replace(whole, shards=shards, load_merge=merge)]
    if TYPES_PART.is_in(bundle):
        plan("types", config.types, QueryTyper, QueryTyper.max_batch_cost)
    if TEACHER_PART.is_in(bundle):
        tokens = teacher_compute.CUDA_BATCH_TOKENS if _on_cuda(teacher) else teacher_compute.CPU_BATCH_TOKENS
        read = partial(
            load_teacher_reader,
            device=teacher.device,
            threads=teacher.threads,
            max_batch_tokens=tokens,
            follows=follows(teacher),
        )
        plan("teacher", teacher, read, tokens, is_long=True)
    return tuple(plans)


def wire(
    folder: Path, config: AisleConfig, stages: Stages, store: ShopperStore | None, guard: Guard, replica_id: str
) -> Wired:
    """Wires one gateway: the search path over its stages, and the services in front of it."""
    catalogue, limits = shared_catalogue(folder), config.limits
    bundle, products, masks = catalogue.bundle, catalogue.table, catalogue.masks
    manifest, lexical, identifiers = bundle.manifest, catalogue.lexical, catalogue.identifiers
    speller = load_speller(bundle)
    costs = PairCosts(TEACHER_PART.open(bundle), products) if TEACHER_PART.is_in(bundle) else None
    catalogue.live.attach(speller, *filter(None, [costs]))
    follower = catalogue.follow(config.catalogue)

    # understand -> retrieve -> rank -> page
    texts = TextStage(stages["encoder"], EncoderSpec(**manifest.encoder))
    retrieve = Retrieve(stages["retriever"], limits.max_results, catalogue.live)
    reader: TextReader | UnifiedReader = TextReader(texts, retrieve.expected_s)
    products_by: ProductVectors = TextProducts(texts, manifest.text_attributes)
    if UNIFIED_PART.is_in(bundle):
        shopper, wait_ms = stages["shopper"], config.shoppers.max_wait_ms
        reader = UnifiedReader(texts, Personaliser(shopper, store, wait_ms, light_tower(folder), catalogue.vectors))
        products_by = TowerProducts(stages["products"], product_cost(folder))
    query_texts = QueryTexts(
        speller,
        identifiers,
        manifest.locales[0],
        manifest.currency,
        Negations(products, lexical) if lexical else None,
        KnownScripts(speller.counts, manifest.locales) if lexical else None,
    )
    understand = Understand(reader, stages.get("types"), query_texts)
    teacher = None
    if costs:
        teacher = TeacherStage(stages["teacher"], costs, config.teacher.depth, catalogue.live)
    ranker = Ranker(retrieve, masks, teacher)
    page = Page(reader, ranker, masks, limits.max_results)
    pipeline = SearchPipeline(texts, products_by, understand, retrieve, ranker, page, follower)

    # messages -> services
    threshold = light_tower(folder).spec.threshold if UNIFIED_PART.is_in(bundle) else None
    fields = RequestFields(manifest.locales, config)
    ranking = RankingFields(
        limits, config.ranker, has_ranker=RANKER_PART.is_in(bundle), has_teacher=TEACHER_PART.is_in(bundle)
    )
    search = SearchMessages(
        manifest,
        products,
        masks,
        limits,
        fields=fields,
        ranking=ranking,
        relevance_threshold=threshold,
        types=config.types if TYPES_PART.is_in(bundle) else None,
    )
    rank = RankMessages(manifest.version, products, limits, fields=fields, ranking=ranking)
    info = InfoMessages(
        manifest,
        config,
        products=products,
        attributes=masks.attributes,
        encoder_backend=stages["encoder"].backend,
        relevance_threshold=threshold,
    )
    request_log = None
    if config.request_log.share:
        request_log = RequestLog(config.request_log, manifest, products, store.page_tag if store else None)
    services: list[Servicer] = [
        SearchService(pipeline, search, guard, request_log),
        EmbeddingService(pipeline, EmbeddingMessages(manifest, limits, fields=fields), guard),
        QueryService(pipeline, QueryMessages(manifest.version, limits, fields=fields), guard),
        RankingService(pipeline, rank, guard),
        InfoService(pipeline, info, guard, replica_id, request_log),
        CatalogueService(
            follower,
            CatalogueMessages(products, masks.attributes, config.catalogue, config.server.max_message_bytes),
            pipeline,
            guard,
            encoder=manifest.encoder_version,
            bundle_version=manifest.version,
            max_wait_ms=config.catalogue.max_wait_ms,
        ),
        ShopperService(
            store, EventMessages(manifest.locales, config, store.believed_ms if store else now_ms), guard, reader.forget
        ),
    ]
    return Wired(
        version=manifest.version, pipeline=pipeline, services=services, follower=follower, request_log=request_log
    )


def build_stages(bundle: Bundle, config: AisleConfig, log_socket: str = "") -> dict[str, serve.Application]:
    """Returns the Serve applications of the remote stages by their names. Each generation has its own: gateways of two generations, as
    there are while one is rolled out, never ask the other's."""
    return {
        stage_app_name(one, bundle.manifest.version): stage_app(one, config.log, log_socket)
        for plan in plan_stages(bundle, config)
        if plan.config.placement == "remote"
        for one in plan.shards or (plan,)
    }


def build_app(bundle: Bundle, config: AisleConfig, log_socket: str = "") -> serve.Application:
    """Returns the Serve application of the gateway, which calls those of `build_stages`."""
    gateway = serve.deployment(
        Gateway,
        name="gateway",
        num_replicas=config.server.replicas,
        ray_actor_options={
            "num_cpus": config.server.num_cpus,
            # It marks nodes, and is never used up: in a rollout a node has old and new gateways.
            "resources": {config.server.ray_resource: MARK} if config.server.ray_resource else {},
        },
        # A rolling update starts new replicas before it stops old ones, a quarter of them at a time and at least one: while they load,
        # they take the processors from those that serve.
        max_surge_percent=25,
        health_check_period_s=0.5,  # a killed replica is noticed by it: with 2 seconds its place was empty half a second longer
        max_constructor_retry_count=1,  # what fails once at a rollout fails again; a replica that is lost later is always replaced
        graceful_shutdown_wait_loop_s=0.1,  # Serve sees no calls that it might wait for, and would wait 2 seconds before it drains
        graceful_shutdown_timeout_s=NOTICE_S + config.server.drain_s + 5,
    )
    return gateway.bind(generation_of(bundle), config, plan_stages(bundle, config), wire, log_socket)


def generation_of(bundle: Bundle) -> Generation:
    return Generation(bundle.folder, bundle.manifest.version)


def _load(load: Load, generation: Generation) -> Any:
    with generation.named():
        return load(generation.path())


def _on_cuda(stage: StageConfig) -> bool:
    """Says whether `device` means CUDA where the stage computes."""
    if stage.device != "auto":
        return stage.device == "cuda"
    return stage.num_gpus > 0 if stage.placement == "remote" else cuda_is_usable()
