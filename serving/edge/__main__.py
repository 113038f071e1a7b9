"""The edge process of one port: `python -m serving.edge FD PARENT`. A gateway starts it, see `serving.gateway.edge`.

It ends when the last gateway leaves it, and when its gateways are gone for good: their parent has died, or none came back.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from serving.config import AisleConfig
from serving.edge.door import NOTICE_S, Door
from serving.edge.frames import Kind
from serving.edge.http2 import Http2Server
from serving.edge.keys import server_credentials
from serving.edge.links import Link, Method
from serving.logs import configure_logging, log
from serving.metrics.metric import open_metrics

TICK_S = 0.25
SWITCH_S = 0.0002  # the two threads take turns often: each has little to do and much to wait for
LINGER_S = 60.0  # without a gateway; one that was killed is back in seconds
MAX_STREAMS = 1000  # calls of one connection at a time
MAX_CONNECTIONS = 4096


class EdgeProcess:
    """The sockets and threads around a door. `listener` is the Unix socket to which gateways connect."""

    def __init__(self, listener: socket.socket, parent: int) -> None:
        self._listener = listener
        self._path = Path(listener.getsockname())
        self._parent = parent
        self._selector = selectors.DefaultSelector()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        for sock in (listener, self._wake_receiver, self._wake_sender):
            sock.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._connect)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ, self._woken)
        self._links: set[Link] = set()
        self._version: tuple[Any, ...] = ()
        self._door: Door | None = None
        self._server: Http2Server | None = None
        self._drain_s = 0.0
        self._stop_at = self._cancel_at = float("inf")
        self._ended = threading.Event()  # the server has stopped and its last call has ended
        self._seen = time.monotonic()  # when there was a gateway last
        self._over = False

    def run(self) -> None:
        while not self._over:
            for key, events in self._selector.select(self._tick()):
                key.data(events)
        log.info("edge stopped")

    def _tick(self) -> float:
        """Does what is due. Returns the seconds until something is."""
        now = time.monotonic()
        if self._links:
            self._seen = now
        elif not _is_alive(self._parent) or now - self._seen > LINGER_S or self._ended.is_set():
            self._over = True
        if now >= self._stop_at and self._server:
            self._stop_at, self._cancel_at = float("inf"), now + self._drain_s
            self._server.stop()
        if now >= self._cancel_at and self._server:
            self._cancel_at = float("inf")
            self._server.cancel_all()
        if self._ended.is_set():
            for link in list(self._links):
                link.send(Kind.GONE)
        return min(TICK_S, self._door.end_late_calls()) if self._door else TICK_S

    def _connect(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            link = Link(self._listener.accept()[0])
            self._links.add(link)
            self._selector.register(link.sock, selectors.EVENT_READ, lambda events: self._serve(link, events))

    def _serve(self, link: Link, events: int) -> None:
        lock = self._door.lock if self._door else contextlib.nullcontext()
        with lock:
            if events & selectors.EVENT_WRITE and link.flush():
                self._watch(link, selectors.EVENT_READ)
        if not events & selectors.EVENT_READ:
            return
        try:
            data = link.receive()
        except BlockingIOError:
            return
        if not data:
            self._drop(link)
            return
        for kind, values, body in link.reader.feed(data):
            self._take(link, kind, values, body)

    def _take(self, link: Link, kind: int, values: tuple[Any, ...], body: bytes) -> None:
        if kind == Kind.HELLO:
            self._greet(link, *values)
        elif self._door is None or not link.greeted:
            self._drop(link)
        elif kind == Kind.READY:
            self._door.set_ready(link, values[0])
        elif kind == Kind.LEAVE:
            if not self._door.set_leaving(link):
                self._door.stop()
                self._unlink()
                self._stop_at = time.monotonic() + NOTICE_S
        else:
            self._door.take_frame(link, kind, values, body)

    def _greet(
        self, link: Link, version: str, settings: dict[str, Any], services: Any, methods: Any, ready: bool
    ) -> None:
        if self._door is None:
            config = AisleConfig.model_validate(settings["config"])
            configure_logging(config.log.format, config.log.level, settings["log_socket"])
            open_metrics("edge", settings["log_socket"])
            try:
                self._listen(config, services, [Method(*method) for method in methods])
            except OSError as error:
                link.send(Kind.REFUSED, (str(error),))
                self._unlink()
                self._over = True
                return
            self._version = (version, settings, services, methods)
        if self._door is None or self._door.stopping or (version, settings, services, methods) != self._version:
            link.send(Kind.RETIRED)
            self._unlink()
            return
        self._door.greet(link, ready)

    def _listen(self, config: AisleConfig, services: list[str], methods: list[Method]) -> None:
        """Raises OSError if the port cannot be bound."""
        host, port = config.server.host, config.server.port
        door = Door(config, services, methods, self._wake)
        server = Http2Server(server_options(config))
        credentials = server_credentials(config.tls) if config.tls.certificate else None
        server.listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", credentials)
        self._door, self._server, self._drain_s = door, server, config.server.drain_s
        threading.Thread(target=self._serve_calls, args=(server, door), name="aisle-calls", daemon=True).start()
        gc.collect()
        gc.freeze()
        log.info("edge ready", extra={"fields": {"pid": os.getpid(), "port": port}})

    def _serve_calls(self, server: Http2Server, door: Door) -> None:
        server.serve(door.accept, lambda error: log.error("edge failed at a call", exc_info=error))
        self._ended.set()
        self._wake()

    def _drop(self, link: Link) -> None:
        self._selector.unregister(link.sock)
        self._links.discard(link)
        link.sock.close()
        if self._door:
            self._door.lost(link)

    def _wake(self) -> None:
        """Makes the loop look for what is left to send."""
        with contextlib.suppress(BlockingIOError):
            self._wake_sender.send(b"\0")

    def _woken(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(4096)
        for link in self._links:
            self._watch(link, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _watch(self, link: Link, events: int) -> None:
        self._selector.modify(link.sock, events, self._selector.get_key(link.sock).data)

    def _unlink(self) -> None:
        """Leaves the path to another edge."""
        with contextlib.suppress(OSError):
            if self._listener.fileno() >= 0:
                self._selector.unregister(self._listener)
                self._path.unlink(missing_ok=True)
                self._listener.close()


def server_options(config: AisleConfig) -> list[tuple[str, int]]:
    """Returns the channel arguments of the server."""
    server = config.server
    return [
        ("grpc.so_reuseport", 1),  # an edge of other settings takes over the port before this one leaves it
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_send_message_length", server.max_message_bytes),
        ("grpc.keepalive_time_ms", int(server.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.max_connection_age_ms", int(server.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", server.max_deadline_ms),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main() -> None:
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal of `aisle serve`, which stops its gateways in order
    listener = socket.socket(fileno=int(sys.argv[1]))
    EdgeProcess(listener, int(sys.argv[2])).run()
    os._exit(0)


if __name__ == "__main__":
    main()
