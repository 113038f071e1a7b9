"""All wiring on one screen: a bundle and a configuration become a Ray Serve application.

gateway (grpc.aio) -> pipeline -> encoder stage    \\
                               -> shopper stage     -> retriever stage -> products
                               -> types stage      /   and its student -> teacher stage
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from models.arrays import Floats
from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.devices import cuda_is_usable
from models.index.spec import Device
from models.query_types.bundle_part import TYPES_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from models.unified.bundle_part import UNIFIED_PART
from serving.compute.query_typer import QueryTyper
from serving.compute.retriever import MAX_BATCH, Retriever
from serving.compute.shopper_encoder import LightQueryEncoder, ShopperEncoder
from serving.compute.teacher import CPU_BATCH_TOKENS as CPU_TEACHER_TOKENS
from serving.compute.teacher import CUDA_BATCH_TOKENS as CUDA_TEACHER_TOKENS
from serving.compute.teacher import TeacherReader
from serving.config import AisleConfig, ConfigError, StageConfig
from serving.gateway.listener import NOTICE_S
from serving.gateway.replica import Gateway
from serving.gateway.security import read_keys
from serving.shoppers.open_store import check_shoppers
from serving.stages.stage import StagePlan, stage_deployment

APP = "aisle"
# Padded tokens of one batch. On two cores the time per query is level from 128 tokens on (0.54 to 0.65 ms), so a larger
# batch only makes the next one wait; a GPU needs far more to be busy.
CPU_BATCH_TOKENS = 384
CUDA_BATCH_TOKENS = 16_384


class Encoder:
    """The compute of the encoder stage."""

    def __init__(self, encoder: TextEncoder, max_batch_tokens: int) -> None:
        self._encoder = encoder
        self.max_batch_cost = max_batch_tokens
        self.backend = encoder.backend.name

    def warm_up(self) -> None:
        self._encoder.warm_up(self.max_batch_cost)

    def compute(self, items: Sequence[Text]) -> Sequence[Floats | Exception]:
        return list(self._encoder.encode(items))


def load_encoder(bundle_folder: Path, device: str, threads: int, max_batch_tokens: int) -> Encoder:
    return Encoder(TextEncoder(TEXT_ENCODER_PART.open(Bundle(bundle_folder)), device, threads), max_batch_tokens)


def load_retriever(bundle_folder: Path, device: Device, threads: int) -> Retriever:
    return Retriever(Bundle(bundle_folder), device, threads)


def plan_stages(bundle_folder: Path, config: AisleConfig) -> tuple[StagePlan[Any, Any], ...]:
    """Of the encoder, the retriever and, where the bundle has them, of the shopper encoder, the classifier of queries and the teacher."""
    bundle = Bundle(bundle_folder)
    types: tuple[StagePlan[Any, Any], ...] = ()
    if TYPES_PART.is_in(bundle):
        load = functools.partial(QueryTyper, bundle_folder)
        types = (StagePlan("types", config.types, load, QueryTyper.max_batch_cost),)
    teacher = (_plan_teacher(bundle_folder, config.teacher),) if TEACHER_PART.is_in(bundle) else ()
    retriever: StagePlan[Any, Any] = StagePlan(
        "retriever",
        config.retriever,
        functools.partial(load_retriever, bundle_folder, config.retriever.device, config.retriever.threads),
        MAX_BATCH,
    )
    if UNIFIED_PART.is_in(bundle):
        queries: StagePlan[Any, Any] = StagePlan(
            "encoder",
            config.encoder,
            functools.partial(LightQueryEncoder, bundle_folder),
            LightQueryEncoder.max_batch_cost,
        )
        shoppers: StagePlan[Any, Any] = StagePlan(
            "shopper",
            config.shopper_encoder,
            functools.partial(ShopperEncoder, bundle_folder),
            ShopperEncoder.max_batch_cost,
        )
        return queries, retriever, shoppers, *types, *teacher
    tokens = CUDA_BATCH_TOKENS if _on_cuda(config.encoder) else CPU_BATCH_TOKENS
    texts: StagePlan[Any, Any] = StagePlan(
        "encoder",
        config.encoder,
        functools.partial(load_encoder, bundle_folder, config.encoder.device, config.encoder.threads, tokens),
        tokens,
    )
    return texts, retriever, *types


def _plan_teacher(bundle_folder: Path, config: StageConfig) -> StagePlan[Any, Any]:
    tokens = CUDA_TEACHER_TOKENS if _on_cuda(config) else CPU_TEACHER_TOKENS
    load = functools.partial(TeacherReader, bundle_folder, config.device, config.threads, tokens)
    return StagePlan("teacher", config, load, tokens, is_long=True)


def _on_cuda(stage: StageConfig) -> bool:
    """Whether `device` means CUDA where the stage computes."""
    if stage.device != "auto":
        return stage.device == "cuda"
    return stage.num_gpus > 0 if stage.placement == "remote" else cuda_is_usable()


def build_app(bundle_folder: Path, config: AisleConfig, log_socket: str = "") -> serve.Application:
    """The Serve application: the gateway, and a deployment for each remote stage."""
    plans = plan_stages(bundle_folder, config)
    remote = [
        stage_deployment(plan, config.log, log_socket) if plan.config.placement == "remote" else None for plan in plans
    ]
    gateway = serve.deployment(
        Gateway,
        name="gateway",
        num_replicas=config.server.replicas,
        ray_actor_options={"num_cpus": config.server.num_cpus},
        max_surge_percent=100,  # a rolling update starts the new replica before it stops the old one
        health_check_period_s=2,
        graceful_shutdown_timeout_s=NOTICE_S + config.server.drain_s + 5,
    )
    return gateway.bind(bundle_folder, config, plans, log_socket, *remote)


def start_ray(address: str = "local", num_cpus: int | None = None) -> None:
    """Joins or starts Ray with the settings that Aisle needs; they must be set before Ray starts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # Ray would let everything else on the machine go before its workers
    options: dict[str, Any] = {}
    if address == "local":
        # Batches are small and short-lived; Ray would reserve a third of the memory for its object store.
        options = {"num_cpus": num_cpus, "object_store_memory": 256 * 1024**2, "include_dashboard": False}
    for name, level in (("ray.serve", logging.WARNING), ("ray._private.authentication", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False, **options)
    serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False))


def check(bundle_folder: Path, config: AisleConfig) -> None:
    """Refuses at start what would fail later: reads the keys and every file of the bundle, opens the shopper store.

    Raises ConfigError, BundleError.
    """
    if config.auth.keys_file:
        read_keys(config.auth.keys_file)
    bundle = Bundle(bundle_folder)
    verify_bundle(bundle)
    if config.ranker.model == "teacher" and not TEACHER_PART.is_in(bundle):
        raise ConfigError(
            f"ranker.model is 'teacher', and {bundle_folder} holds none: set 'student' or 'none', or train one into the bundle with "
            "'aisle train ranker'"
        )
    check_shoppers(config.shoppers, bundle.manifest.name)


def deploy(bundle_folder: Path, config: AisleConfig, log_socket: str = "") -> None:
    """Deploys, or updates what is deployed replica by replica; returns when it serves.

    Raises what `check` does before anything starts, and RuntimeError when a replica cannot start.
    """
    bundle_folder = bundle_folder.resolve()
    check(bundle_folder, config)
    serve.run(build_app(bundle_folder, config, log_socket), name=APP, route_prefix=None)


def stop() -> None:
    """Drains and ends what was deployed, and the Ray that was started."""
    # Ray prints that its own controller died of being stopped; whoever reads the log would look for a fault.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        serve.shutdown()
        ray.shutdown()
