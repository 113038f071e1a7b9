"""Ray from start to end: join or start it, check what is to be served, deploy or update it, stop."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import LoggingConfig

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.ranking.teacher.bundle_part import TEACHER_PART
from serving.app import build_app
from serving.config import AisleConfig, ConfigError
from serving.gateway.security import read_keys
from serving.shoppers.open_store import check_shoppers

APP = "aisle"


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
