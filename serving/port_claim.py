"""A port for one service alone.

The gateways of a service share their port with SO_REUSEPORT. The kernel would let a second service of the same user share it too, and
give it half of the connections. So `aisle serve` binds the port alone first, and shares it afterwards; it never listens itself.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from models.errors import InputError
from serving.run_folder import live_owners

LISTEN = "0A"  # of /proc/net/tcp
# An address that this machine has no interface for. "localhost" has one for each version of IP.
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class PortError(InputError):
    """The service cannot listen there; the message names the process that does, if it can be seen."""


class PortClaim:
    """Holds `host:port` until `close`, or until the process dies. Raises PortError while any other process has it."""

    def __init__(self, host: str, port: int) -> None:
        self.port = port
        self._sockets = ExitStack()
        # gRPC listens on both versions of IP for either.
        name = "::" if host == "0.0.0.0" and socket.has_dualstack_ipv6() else host  # noqa: S104 - a comparison
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise PortError(f"server.host: {host!r} is no address of this machine: {error.strerror}") from None
        absent: OSError | None = None
        held = 0
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                self._hold(family, address)
                held += 1
            except OSError as error:
                if error.errno in ABSENT:
                    absent = error
                    continue
                self.close()
                raise PortError(_reason(host, port, error)) from None
        if not held:
            raise PortError(_reason(host, port, absent or OSError(errno.EADDRNOTAVAIL, "no address")))

    def close(self) -> None:
        self._sockets.close()

    def _hold(self, family: int, address: tuple[object, ...]) -> None:
        held = self._sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        try:
            held.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Connections that ended within a minute may be all that is there; with SO_REUSEADDR they do not count, and listeners do.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(address)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen on {host}:{port}: {error.strerror}"
    holders = list(_holders(port))
    by = f" by {'; '.join(holders)}" if holders else ""
    return f"port {port} is taken{by}: stop that, or set --port or server.port"


def _holders(port: int) -> Iterator[str]:
    """Yields pid and command of the processes at a port, as far as this user may see them."""
    pids = {owner.pid: owner.command for owner in live_owners() if owner.port == port and owner.pid != os.getpid()}
    if not pids:
        pids = {pid: _command(pid) for pid in _listeners(port)}
    for pid, command in pids.items():
        yield f"process {pid} ({command})" if command else f"process {pid}"


def _listeners(port: int) -> list[int]:
    links = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
                if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                    links.add(f"socket:[{inode}]")
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _has_open(name, links)]


def _has_open(pid: str, links: set[str]) -> bool:
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{number}") in links:
                    return True
    return False


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:200]
    return ""
