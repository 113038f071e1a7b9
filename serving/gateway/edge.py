"""The gateway's side of the edge: it finds or starts the edge process of the port, and answers the calls that come through it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import serving.edge
from serving.config import AisleConfig
from serving.edge.frames import FrameReader, Kind, frame
from serving.gateway.rpc import Guard, Servicer, Stream
from serving.logs import log

GREET_S = 30.0  # for an edge to start and listen
LOAD_S = 0.05
MAX_EDGES = 5  # that are asked for before a gateway gives up: each of the others was of other settings
SEND_BUFFER_BYTES = 1 << 20
RECEIVE_BYTES = 1 << 18


# Ray kills the children of a worker that ends, and the edge outlives the gateway that started it: it is nobody's child.
_DETACHED = f"""
import os, runpy
if os.fork():
    os._exit(0)
runpy.run_module({serving.edge.__name__!r}, run_name="__main__", alter_sys=True)
"""


class Edge:
    """The connection of one gateway with the edge of its port. An edge that dies is started again.

    `is_ready` says whether the stages can compute, `speeds` what they can do: number, cost a second (0 if unknown) and longest wait in
    seconds of each. `log_socket` is in the folder where the socket of the edge goes too; without one it is in a private folder.
    """

    def __init__(
        self,
        config: AisleConfig,
        services: Sequence[Servicer],
        guard: Guard,
        *,
        is_ready: Callable[[], bool],
        speeds: Callable[[], tuple[tuple[int, float, float], ...]] = tuple,
        log_socket: str = "",
    ) -> None:
        self._guard = guard
        self._is_ready = is_ready
        self._speeds = speeds
        self._socket_path = _folder(log_socket) / f"edge-{config.server.port}"
        self._methods = [(service, method) for service in services for method in service.descriptor.methods]
        names = [service.descriptor.full_name for service in services]
        methods = [
            (
                number,
                f"/{method.containing_service.full_name}/{method.name}",
                service.scope_of(method.name),
                method.client_streaming,
                service.stages_of(method.name),
            )
            for number, (service, method) in enumerate(self._methods)
        ]
        sections = config.model_dump(mode="json", include={"server", "tls", "auth", "log"})
        for name in ("replicas", "num_cpus"):  # are nothing to the edge, which another gateway may have started
            del sections["server"][name]
        self._hello = (_version(), {"config": sections, "log_socket": log_socket}, names, methods)
        self._link: _Link | None = None
        self._leaving = False
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Joins the edge; calls arrive from now on. Raises OSError if the port cannot be bound."""
        await self._join()
        self._following = asyncio.ensure_future(self._follow())

    async def drain(self) -> None:
        """Leaves the edge: takes no more calls, and returns when those in progress have ended."""
        self._leaving = True
        if self._following:
            self._following.cancel()
        if self._link:
            self._link.send(Kind.LEAVE)
            await self._link.gone.wait()
            self._link.close()

    async def _join(self) -> None:
        for _ in range(MAX_EDGES):
            sock = await asyncio.to_thread(_connect, self._socket_path)
            link = _Link(self._methods, self._guard)
            await asyncio.get_running_loop().create_connection(functools.partial(_same, link), sock=sock)
            link.send(Kind.HELLO, (*self._hello, self._is_ready()))
            async with asyncio.timeout(GREET_S):
                greeting, reason = await link.greeting
            if greeting is Kind.WELCOME:
                self._link = link
                return
            link.close()
            if greeting is Kind.REFUSED:
                raise OSError(reason)
        raise OSError("the edge of the port is of other settings, and does not make way")

    async def _follow(self) -> None:
        """Tells the edge what changes, and joins another one if it dies."""
        told: object = None
        ready = self._is_ready()
        while True:
            link = self._link
            if link is None or link.gone.is_set():
                log.error("edge lost; starting it again")
                try:
                    await self._join()
                except Exception as error:
                    log.error("edge not started", extra={"fields": {"error": str(error)}})
                    await asyncio.sleep(1)
                told = None
                continue
            if ready != self._is_ready():
                ready = not ready
                link.send(Kind.READY, (ready,))
                log.warning("health", extra={"fields": {"serving": ready}})
            speeds = self._speeds()
            if speeds != told:
                told = speeds
                link.send(Kind.LOAD, speeds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(link.gone.wait(), LOAD_S)


class _Link(asyncio.Protocol):
    """One connection with an edge."""

    def __init__(self, methods: Sequence[tuple[Servicer, Any]], guard: Guard) -> None:
        self._methods = [(getattr(service, method.name), method) for service, method in methods]
        self._guard = guard
        self._reader = FrameReader()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, Stream] = {}
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[tuple[Kind, str]] = self._loop.create_future()
        self.gone = asyncio.Event()  # the edge has ended, or this gateway's last call has after it left

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        for task in self._tasks.values():
            task.cancel()
        if not self.greeting.done():
            self.greeting.set_result((Kind.RETIRED, ""))
        self.gone.set()

    def send(self, kind: Kind, values: tuple[Any, ...] = (), body: bytes = b"") -> None:
        """Sends a frame, together with the others of this turn of the event loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame(kind, values, body))

    def close(self) -> None:
        self._transport.close()

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not self._transport.is_closing():
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        for kind, values, body in self._reader.feed(data):
            if kind == Kind.CALL:
                number, method, *call = values
                self._tasks[number] = self._loop.create_task(self._answer(number, method, call, body))
            elif kind == Kind.CANCEL:
                if task := self._tasks.get(values[0]):
                    task.cancel()
            elif kind in (Kind.MESSAGE, Kind.END):
                if stream := self._streams.get(values[0]):
                    stream.feed(body if kind == Kind.MESSAGE else None)
            elif kind == Kind.COUNTS:
                self._guard.edge_ended = {(method, code): count for method, code, count in values}
            elif kind == Kind.GONE:
                self.gone.set()
            elif not self.greeting.done():
                self.greeting.set_result((Kind(kind), values[0] if values else ""))

    async def _answer(self, number: int, method: int, values: Sequence[Any], body: bytes) -> None:
        run, descriptor = self._methods[method]
        path = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        call = self._guard.begin(path, lambda cost: self.send(Kind.COST, (number, cost)), *values)
        request: bytes | Stream = body
        if descriptor.client_streaming:
            request = self._streams[number] = Stream(lambda: self.send(Kind.READ, (number,)))
        try:
            answer = await run(request, call)
            self.send(Kind.ANSWER, (number,), answer)
        except asyncio.CancelledError:  # the caller left; nobody waits
            return
        except Exception as error:
            status = self._guard.status(error, call)
            self.send(Kind.FAIL, (number, status.code.value[0], status.message, status.trailers))
        finally:
            self._tasks.pop(number, None)
            self._streams.pop(number, None)


def _same(link: _Link) -> _Link:
    return link


def _connect(path: Path) -> socket.socket:
    """Connects to the edge at `path`, and starts it if there is none: of several gateways one does."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        try:
            sock.connect(str(path))
        except OSError:
            _spawn(path)
            sock.connect(str(path))
    finally:
        os.close(lock)
    return sock


def _spawn(path: Path) -> None:
    """Starts an edge that takes connections at `path`."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(128)
        with path.with_suffix(".log").open("ab") as output:  # what it says before it knows the log, and if it crashes
            subprocess.run(  # noqa: S603 - our own module
                [sys.executable, "-c", _DETACHED, str(listener.fileno()), str(os.getppid())],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                check=True,
            )


def _folder(log_socket: str) -> Path:
    """Returns the private folder for the edge's socket: that of the log's socket, if it is on this machine."""
    folder = Path(log_socket).parent
    if log_socket and folder.is_dir():
        return folder
    folder = Path(tempfile.gettempdir()) / f"aisle-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise OSError(f"{folder} must belong to this user alone")
    return folder


def _version() -> str:
    """Returns what changes with the code of the edge: a gateway of another version needs another edge."""
    digest = hashlib.sha256(importlib.metadata.version("aisle").encode())
    for path in sorted(Path(serving.edge.__path__[0]).glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
