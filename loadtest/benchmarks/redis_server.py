"""A Redis of its own for a test or a benchmark: on a free port of loopback, with its files in a temporary folder."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.benchmarks.service import free_port
from loadtest.errors import LoadError

START_S = 120.0


def redis_is_installed() -> bool:
    return shutil.which("redis-server") is not None


@dataclass(slots=True)
class RedisServer:
    """Can be stopped and started again with the data that it had saved."""

    folder: Path
    settings: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "everysec")
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise RuntimeError("redis-server is not running")
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers. Raises LoadError with its log if it does not."""
        log = self.folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "",
                 *self.settings],
                stdout=output, stderr=output,
            )  # fmt: skip
        give_up = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > give_up or self._process.poll() is not None:
                self.stop()
                raise LoadError(f"redis-server did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(*settings: str) -> Iterator[RedisServer]:
    """A running server until the block ends. `settings` are options of `redis-server` in place of the usual ones."""
    with tempfile.TemporaryDirectory(prefix="aisle-redis-") as folder:
        server = RedisServer(Path(folder), settings) if settings else RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
