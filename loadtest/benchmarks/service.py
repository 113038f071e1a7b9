"""A service to measure: `aisle serve` as a process of its own, on a free port, for as long as a block lasts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest.traffic import queries_from_titles
from models.bundles.bundle import Bundle

START_S = 120.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service and the file with its log."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(bundle: Path, config: str = "", credentials: grpc.ChannelCredentials | None = None) -> Iterator[Service]:
    """Serves `bundle` with the configuration text `config` (TOML) until the block ends. Raises RuntimeError with the log if it
    does not start."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "aisle.toml").write_text(config, encoding="utf-8")
        log = folder / "log"
        command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(bundle), "--port", str(port)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--config", str(folder / "aisle.toml"), "--log-format", "json"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1", "XDG_STATE_HOME": str(folder / "state")},
            )
        service = Service(f"127.0.0.1:{port}", process, log)
        try:
            wait_until_serving(service, credentials)
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_serving(service: Service, credentials: grpc.ChannelCredentials | None) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if service.process.poll() is not None:
            raise RuntimeError(
                f"the service stopped while starting:\n{service.log.read_text(errors='replace')[-3000:]}"
            )
        if is_serving(service.address, credentials):
            return
        time.sleep(0.1)
    raise RuntimeError(
        f"the service did not start in {START_S:.0f} s:\n{service.log.read_text(errors='replace')[-3000:]}"
    )


def is_serving(address: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    options = [("grpc.use_local_subchannel_pool", 1)]
    opened = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    )
    with opened as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def bundle_queries(bundle: Path, count: int, seed: int = 0) -> list[str]:
    """Queries in the words of the bundle's titles, the most popular first."""
    table = Bundle(bundle).products()
    step = max(1, len(table) // 20_000)
    return queries_from_titles([table.string("title", row) for row in range(0, len(table), step)], count, seed)
