"""The processes that generate load: some on this machine, and any that join from others."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener

from loadtest.errors import LoadError
from loadtest.generator.calls import Calls
from loadtest.generator.connection import Target
from loadtest.generator.plan import Plan
from loadtest.generator.tally import Tally, all_tallies
from loadtest.generator.worker import KEY

ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 - nobody can call them
JOIN_S = 60.0  # for workers of this machine
REMOTE_JOIN_S = 600.0
START_IN_S = 0.2  # from the order to the first call, so that all begin together
SLACK_S = 30.0  # beyond a plan's time and the deadline


@dataclass(slots=True)
class Workers:
    """Workers that have joined. `raised` says whether all run with a raised priority."""

    connections: list[Connection] = field(default_factory=list)
    raised: bool = True

    def load(self, calls: Calls) -> None:
        """Gives every worker the calls of the next plans."""
        for connection in self.connections:
            self._send(connection, calls)

    def run(self, target: Target, plan: Plan, seed: int) -> Tally:
        """Sends a plan, each worker its share, and returns what came of it. Raises LoadError."""
        share = plan.share(len(self.connections))
        for number, connection in enumerate(self.connections):
            self._send(connection, (target, share, 1000 * seed + number, START_IN_S))
        answers = [
            self._receive(connection, plan.seconds + target.deadline_s + SLACK_S) for connection in self.connections
        ]
        for answer in answers:
            if isinstance(answer, LoadError):
                raise answer
        return all_tallies([answer for answer in answers if isinstance(answer, Tally)])

    def _send(self, connection: Connection, message: object) -> None:
        try:
            connection.send(message)
        except OSError:
            raise LoadError("a process of the load generator has died") from None

    def _receive(self, connection: Connection, seconds: float) -> object:
        try:
            if not connection.poll(seconds):
                raise LoadError(f"a process of the load generator has not answered in {seconds:.0f} s")
            return connection.recv()
        except (EOFError, ConnectionError):
            raise LoadError("a process of the load generator has died") from None


@contextmanager
def joined(
    local: int, remote: int = 0, listen: str = "", tell: Callable[[str], None] = lambda _: None
) -> Iterator[Workers]:
    """Starts `local` workers and waits for `remote` ones at the address `listen`. Raises LoadError if not all join.

    `tell` gets the command for the other machines. The workers end with the block.
    """
    key = os.environ.get(KEY) or secrets.token_hex(16)
    host, _, port = (listen or "127.0.0.1:0").rpartition(":")
    if not host or not port.isdigit() or host in ANY_ADDRESS:
        raise LoadError(f"--listen {listen}: give an address of this machine that the others reach, as host:port")
    try:
        listener = Listener((host, int(port)), authkey=key.encode(), backlog=64)
    except OSError as error:
        raise LoadError(f"--listen {listen}: {error.strerror}") from None
    number = int(listener.address[1])
    if remote:
        tell(f"on {remote} other machines: {KEY}={key} aisle load --join {host}:{number}")
    command = [sys.executable, "-m", "loadtest.generator.worker", f"{host}:{number}"]
    processes = [subprocess.Popen(command, env={**os.environ, KEY: key}) for _ in range(local)]
    workers = Workers()
    try:
        with listener, _closing_after(listener, REMOTE_JOIN_S if remote else JOIN_S):
            while len(workers.connections) < local + remote:
                with contextlib.suppress(AuthenticationError, EOFError):  # somebody without the key
                    connection = _accept(listener, len(workers.connections), local + remote)
                    workers.raised &= bool(connection.recv())
                    workers.connections.append(connection)
        yield workers
    finally:
        for connection in workers.connections:
            connection.close()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _accept(listener: Listener, have: int, wanted: int) -> Connection:
    try:
        return listener.accept()
    except OSError:
        raise LoadError(f"{have} of {wanted} processes of the load generator have joined") from None


@contextmanager
def _closing_after(listener: Listener, seconds: float) -> Iterator[None]:
    """Ends a listener's wait after so many seconds: `accept` has no time limit of its own."""

    def end() -> None:
        raw: socket.socket = listener._listener._socket  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
