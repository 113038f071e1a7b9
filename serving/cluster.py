"""Ray from start to end: join or start it, check what is to be served, deploy or update it, stop."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import ray
from ray import serve
from ray._private import ray_constants
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, DeploymentStatus, LoggingConfig

from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.shards import cut_shards, has_shards
from serving.app import build_app, build_stages
from serving.catalogue.open_log import check_log
from serving.config import AisleConfig, ConfigError
from serving.edge.keys import read_keys
from serving.logs import log as messages
from serving.ray_address import check_answers
from serving.request_log.page_files import check_request_log
from serving.run_folder import RAY
from serving.shoppers.open_store import check_shoppers
from serving.stages.remote import STAGE_APPS
from serving.traces.open_tracer import check_traces

APP = "aisle"
STATUS_POLL_S = 0.2
TELL_EVERY_S = 60.0


# What keeps a Ray of one machine to itself. Its processes inherit it.
_OWN_RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # one machine: whatever listens, listens on loopback
    "RAY_AUTH_MODE": "token",
    "RAY_enable_metrics_collection": "0",  # no port for metrics that nobody reads
    "RAY_grpc_enable_http_proxy": "0",
    "RAY_ROTATION_MAX_BYTES": str(16 * 1024**2),
    "RAY_ROTATION_BACKUP_COUNT": "1",
}


def start_ray(folder: Path) -> None:
    """Starts a Ray of this machine alone: with its files in the private `folder`, a token of its own, and on loopback."""
    os.environ.update(_OWN_RAY, RAY_AUTH_TOKEN=secrets.token_hex(32))
    # Ray reads these two when it is imported.
    ray_constants.ENABLE_RAY_CLUSTER = False
    Config.initialize("")
    _init(
        address="local",
        object_store_memory=256 * 1024**2,  # batches are small; Ray would reserve a third of the memory
        include_dashboard=False,
        _node_ip_address="localhost",
        _temp_dir=str(folder / RAY),
    )


def join_ray(address: str) -> None:
    """Joins a Ray cluster, with the token and the settings of its administrator. Raises ClusterError if none answers there."""
    check_answers(address)
    _init(address=address)


def _init(**options: object) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would let everything else on the machine go before its workers.
    os.environ.setdefault("RAY_worker_niceness", "0")
    for name, level in (("ray.serve", logging.WARNING), ("ray._private.authentication", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
    ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=False, **options)
    serve.start(proxy_location="Disabled", logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False))


def check(bundle_folder: Path, config: AisleConfig) -> None:
    """Refuses at start what would fail later: reads the keys and every file of the bundle, opens the shopper store, the log of the
    catalogue's changes and the folder of the request log. Cuts the bundle into the shards that the configuration asks for, if it is not.

    Raises ConfigError, BundleError.
    """
    check_traces(config.traces)
    if config.auth.keys_file:
        read_keys(config.auth.keys_file)
    bundle = Bundle(bundle_folder)
    verify_bundle(bundle)
    if config.retriever.shards > 1:
        _cut(bundle, config.retriever.shards)
    if config.ranker.model == "teacher" and not TEACHER_PART.is_in(bundle):
        raise ConfigError(
            f"ranker.model is 'teacher', and {bundle_folder} holds none: set 'student' or 'none', or train one into the bundle with "
            "'aisle train ranker'"
        )
    check_shoppers(config.shoppers, bundle.manifest.name)
    check_request_log(config.request_log, bundle.manifest.name)
    check_log(config.catalogue, bundle.manifest.name, bundle.manifest.line, bundle.manifest.sequence)


def _cut(bundle: Bundle, count: int) -> None:
    started, are_new = time.monotonic(), not has_shards(bundle, count)
    try:
        cut_shards(bundle, count)
    except BundleError as error:
        raise ConfigError(f"retriever.shards is {count}: {error}") from None
    if are_new:
        messages.info("shards cut", extra={"fields": {"shards": count, "seconds": time.monotonic() - started}})


def deploy(
    bundle_folder: Path, config: AisleConfig, log_socket: str = "", is_stopped: Callable[[], bool] = lambda: False
) -> None:
    """Deploys, or updates what is deployed replica by replica; returns when it serves.

    Raises what `check` does before anything starts, and RuntimeError when a replica cannot start, or `is_stopped` says so while replicas
    wait for processors.
    """
    bundle_folder = bundle_folder.resolve()
    check(bundle_folder, config)
    bundle = Bundle(bundle_folder)
    stages = build_stages(bundle, config, log_socket)
    before = _stage_apps()
    try:
        _run(stages, is_stopped)
    except RuntimeError as error:
        cause = _cause(list(stages)) or str(error)
        _delete(stages.keys() - before)
        raise RuntimeError(cause) from None
    try:
        _run({APP: build_app(bundle, config, log_socket)}, is_stopped)
    except RuntimeError as error:
        # Gateways that did start go on serving, and call the new stages: the next deployment that succeeds ends what is not used.
        raise RuntimeError(_cause([APP]) or str(error)) from None
    # The gateways that were replaced have ended: an application runs when none of its replicas is stopping.
    _delete(before - stages.keys())


def _run(apps: Mapping[str, serve.Application], is_stopped: Callable[[], bool]) -> None:
    """Deploys applications, and waits until all run. Says each minute what it waits for: a cluster may lack processors for a long time."""
    if not apps:
        return
    targets = [serve.RunTarget(app, name=name, route_prefix=None) for name, app in apps.items()]
    serve.run_many(targets, wait_for_applications_running=False)
    waiting, told = list(apps), time.monotonic()
    while waiting:
        app = serve.status().applications.get(waiting[0])
        if app and app.status is ApplicationStatus.RUNNING:
            waiting.pop(0)
            continue
        if app and app.status is ApplicationStatus.DEPLOY_FAILED:
            raise RuntimeError(app.message)
        if is_stopped():
            raise RuntimeError("stopped before all replicas were up")
        if app and time.monotonic() - told > TELL_EVERY_S:
            told = time.monotonic()
            said = {
                name: deployment.message or dict(deployment.replica_states)
                for name, deployment in app.deployments.items()
            }
            messages.warning("still waits for replicas", extra={"fields": {"app": waiting[0], "deployments": said}})
        time.sleep(STATUS_POLL_S)


def _stage_apps() -> set[str]:
    return {name for name in serve.status().applications if name.startswith(STAGE_APPS)}


def _delete(apps: Iterable[str]) -> None:
    for name in apps:
        serve.delete(name, _blocking=False)


def _cause(apps: Sequence[str]) -> str:
    """Returns the errors of the replicas that did not start, which Serve has in the messages of their deployments, below a traceback."""
    found = serve.status().applications
    deployments = [app.deployments for name in apps if (app := found.get(name))]
    failed = {
        name: deployment.message.strip().splitlines()
        for name, deployment in chain.from_iterable(each.items() for each in deployments)
        if deployment.status is not DeploymentStatus.HEALTHY and deployment.message.strip()
    }
    return "; ".join(f"{name} cannot start: {lines[-1]}" for name, lines in failed.items())


def stop(*, is_own: bool) -> None:
    """Drains and ends what was deployed. A Ray of its own ends too; a cluster that was joined keeps whatever else it serves."""
    if not ray.is_initialized():  # Serve would find another Ray of this machine, and end what that serves
        return
    # Ray prints that its own controller died of being stopped; whoever reads the log would look for a fault.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        if is_own:
            serve.shutdown()
        else:
            for app in (APP, *_stage_apps()):  # gateways first: they call the stages
                # Where nothing was deployed Serve may not run; and it waits a minute, where calls may drain for longer: it ends them alone.
                with contextlib.suppress(RayServeException, TimeoutError):
                    serve.delete(app)
        ray.shutdown()
