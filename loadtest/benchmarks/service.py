"""A service to measure: `aisle serve` as a process of its own, on a free port, for as long as a block lasts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest.errors import LoadError
from loadtest.traffic import queries_from_titles
from models.bundles.bundle import Bundle

START_S = 240.0
STOP_S = 120.0
CONFIG = "aisle.toml"
UPDATE_S = 240.0


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, the file with its log and the file with its configuration."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    config: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the lines of the log that tell of an event, as `gateway ready`."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str, count: int, seconds: float = 600) -> list[dict[str, Any]]:
        """Returns the lines of an event when it has happened `count` times. Raises LoadError after `seconds`."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if len(found := self.events(name)) >= count:
                return found
            time.sleep(0.2)
        raise LoadError(f"{len(self.events(name))} of {count} times '{name}' in {seconds:.0f} s:\n{_end_of(self.log)}")

    def update(self) -> None:
        """Rolls out what the configuration and the bundle are now. Returns when the last old gateway has stopped."""
        rolled_out = len(self.events("rolled out"))
        old = self.gateways()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("rolled out", rolled_out + 1)
        give_up = time.monotonic() + UPDATE_S
        while old & self.gateways():
            if time.monotonic() > give_up:
                raise LoadError(f"old gateways still run {UPDATE_S:.0f} s after an update:\n{_end_of(self.log)}")
            time.sleep(0.2)

    def gateways(self) -> set[int]:
        """Returns the processes of the gateways that run."""
        stopped = {line["pid"] for line in self.events("gateway stopped")}
        started = {line["pid"] for line in self.events("gateway ready")}
        return {pid for pid in started - stopped if Path(f"/proc/{pid}").exists()}

    def stop(self) -> None:
        """Drains and stops; kills what has not stopped in STOP_S."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(bundle: Path, config: str = "", credentials: grpc.ChannelCredentials | None = None) -> Iterator[Service]:
    """Serves `bundle` with the configuration text `config` (TOML) until the block ends. Raises LoadError with the end of the
    log if it does not start."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / CONFIG).write_text(config, encoding="utf-8")
        command = ["serving.cli", "serve", "--bundle", str(bundle), "--port", str(port)]
        command += ["--config", str(folder / CONFIG), "--log-format", "json"]
        environment = {"NO_COLOR": "1", "XDG_STATE_HOME": str(folder / "state")}
        with _started(command, port, folder, environment, lambda address: is_serving(address, credentials)) as service:
            yield service


@contextmanager
def module_server(
    module: str, arguments: Sequence[str], is_up: Callable[[str], bool] | None = None
) -> Iterator[Service]:
    """A server process of this package; it gets its port as the last argument. `is_up` says whether it answers, by default whether
    it takes gRPC connections. Raises LoadError with the end of its log if it does not start."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        _started([module, *arguments, str(port)], port, Path(folder), {}, is_up or takes_grpc) as service,
    ):
        yield service


@contextmanager
def _started(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str], is_up: Callable[[str], bool]
) -> Iterator[Service]:
    """A module of Python with its arguments, as a process that ends with the block. Its log is in `folder`."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env={**os.environ, **environment}
        )
    service = Service(f"127.0.0.1:{port}", process, log, folder / CONFIG)
    try:
        _wait_until_up(service, command[0], is_up)
        yield service
    finally:
        service.stop()


def _wait_until_up(service: Service, module: str, is_up: Callable[[str], bool]) -> None:
    give_up = time.monotonic() + START_S
    while not is_up(service.address):
        stopped = service.process.poll() is not None
        if stopped or time.monotonic() > give_up:
            how = "stopped while starting" if stopped else f"did not start in {START_S:.0f} s"
            raise LoadError(f"{module} {how}:\n{_end_of(service.log)}")
        time.sleep(0.1)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:].strip()


def takes_grpc(address: str) -> bool:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=1)
        except grpc.FutureTimeoutError:
            return False
        return True


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
