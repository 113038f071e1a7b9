"""The edge's side of its connections with gateways, and the calls that they have."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass
from typing import Any

from serving.edge.frames import FrameReader, Kind, frame
from serving.edge.http2 import ServerCall
from serving.edge.keys import ApiKey

RECEIVE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contract. `stages` are those that do its work."""

    number: int
    path: str
    scope: str
    is_stream: bool
    stages: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(slots=True, eq=False)
class OpenCall:
    """A call in progress. Times are of `time.monotonic`."""

    number: int
    call: ServerCall
    method: Method
    caller: str
    key: ApiKey | None
    request_id: str
    started: float
    deadline: float
    cost: float = 1.0
    message: bytes = b""
    link: Link | None = None
    tries: int = 0
    is_reading: bool = False
    traceparent: str = ""

    def values(self) -> tuple[Any, ...]:
        key = (self.key.name, tuple(self.key.scopes)) if self.key else None
        return (
            self.number,
            self.method.number,
            self.caller,
            key,
            self.request_id,
            self.started,
            self.deadline,
            self.traceparent,
        )


class Link:
    """One gateway. It takes calls while it is ready and does not leave. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.ready = False
        self.leaving = False
        self.greeted = False
        self.calls: dict[int, OpenCall] = {}
        self.last_call = 0  # number of the call that it was given last
        self.speeds: dict[int, tuple[float, float]] = {}  # by stage: cost a second, longest wait in seconds
        self.reader = FrameReader()
        self._unsent: deque[memoryview] = deque()

    @property
    def takes_calls(self) -> bool:
        return self.ready and not self.leaving

    def send(self, kind: Kind, values: tuple[Any, ...] = (), body: bytes = b"") -> bool:
        """Sends a frame, or as much of it as the socket takes. Returns False if there is a rest for `flush`."""
        data = memoryview(frame(kind, values, body))
        if not self._unsent:
            data = data[self._write(data) :]
        if len(data):
            self._unsent.append(data)
        return not self._unsent

    def flush(self) -> bool:
        """Sends what is left. Returns False if there is still a rest."""
        while self._unsent:
            sent = self._write(self._unsent[0])
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
                return False
            self._unsent.popleft()
        return True

    def receive(self) -> bytes:
        """Returns what has arrived; nothing if the gateway is gone. Raises BlockingIOError if nothing has."""
        try:
            return self.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def _write(self, data: memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # the gateway is gone: reading tells
            return len(data)
