"""One connection of the generator: gRPC's C core, driven through its completion queue.

It is the client's side of `serving/edge/http2.py`, and the one module of the load test that reaches below grpc's public interface: a call
costs some 50 us of a core, with the answer read, where `grpc.aio` takes several times that. `grpc/_channel.py` is built on the same
interface.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from aisle.client import channel_options

Then = Callable[[int, str, bytes | None], None]  # number of the gRPC code, details, serialised answer
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_MESSAGE, _STATUS = 4, 5  # places in the batch of operations
_CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call, and how. Certificates are PEM; the deadline counts from the start of a call."""

    address: str
    deadline_s: float = 1.0
    api_key: str = ""
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    retries: bool = False  # the documented policy; without it every error is counted as it comes


class Connection:
    """Starts calls and hands their ends to callbacks, which run one at a time on a thread of this connection."""

    def __init__(self, target: Target) -> None:
        options = [*channel_options(retries=target.retries), ("grpc.use_local_subchannel_pool", 1)]
        options.append(("grpc.enable_http_proxy", 0))
        self._deadline_s = target.deadline_s
        self._metadata = (("authorization", f"Bearer {target.api_key}"),) if target.api_key else None
        self._channel = cygrpc.Channel(
            target.address.encode(),
            tuple((name.encode(), value.encode() if isinstance(value, str) else value) for name, value in options),
            _credentials(target),
        )
        self._thread: threading.Thread | None = None

    def wait_until_connected(self) -> bool:
        """Returns whether there is a connection within some seconds."""
        give_up = time.time() + _CONNECT_S
        state = self._channel.check_connectivity_state(True)
        while state != cygrpc.ConnectivityState.ready and time.time() < give_up:
            self._channel.watch_connectivity_state(state, min(give_up, time.time() + 1))
            state = self._channel.check_connectivity_state(True)
        return bool(state == cygrpc.ConnectivityState.ready)

    def start(self, method: bytes, message: bytes, then: Then) -> None:
        """Sends one call; `then` gets its end."""

        def ended(event: Any) -> None:
            status = event.batch_operations[_STATUS]
            then(int(status.code()), status.details() or "", event.batch_operations[_MESSAGE].message())

        self._begin(method, message, time.time() + self._deadline_s, ended)
        if self._thread is None:
            self._thread = threading.Thread(target=self._take_ends, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Closes the connection once all calls have ended."""
        if self._thread is not None:
            # Nobody may wait for the queue while it is destroyed: a call that is over at once wakes the thread for the last time.
            self._begin(b"/over", b"", time.time() - 1, _OVER)
            self._thread.join(_CONNECT_S)
        self._channel.close(cygrpc.StatusCode.cancelled, "the load test is over")

    def _begin(self, method: bytes, message: bytes, deadline: float, tag: object) -> None:
        operations = (
            cygrpc.SendInitialMetadataOperation(self._metadata, 0),
            cygrpc.SendMessageOperation(message, 0),
            cygrpc.SendCloseFromClientOperation(0),
            cygrpc.ReceiveInitialMetadataOperation(0),
            cygrpc.ReceiveMessageOperation(0),
            cygrpc.ReceiveStatusOnClientOperation(0),
        )
        self._channel.integrated_call(
            _PROPAGATE, method, None, deadline, self._metadata, None, ((operations, tag),), None
        )

    def _take_ends(self) -> None:
        while True:
            event = self._channel.next_call_event()
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                continue
            if event.tag is _OVER:
                return
            event.tag(event)
            event = None  # a reference to a finished call would keep it


_OVER = object()
_PROPAGATE = cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS


def _credentials(target: Target) -> Any:
    if target.ca is None:
        return None
    wrapped: Any = grpc.ssl_channel_credentials(target.ca, target.key, target.certificate)
    return wrapped._credentials
