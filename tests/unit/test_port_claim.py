"""A port for one service, which shares it with its gateways alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from serving.port_claim import PortClaim, PortError


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def claim(port: int) -> Iterator[PortClaim]:
    held = PortClaim("127.0.0.1", port)
    yield held
    held.close()


def listener(port: int, *, share: bool) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), reuse_port=share)


def test_gateways_share_a_claimed_port_and_get_every_connection(claim: PortClaim) -> None:
    with listener(claim.port, share=True) as one, listener(claim.port, share=True) as other:
        clients = [socket.create_connection(("127.0.0.1", claim.port)) for _ in range(20)]
        for gateway in (one, other):
            gateway.setblocking(False)
        accepted = 0
        for gateway in (one, other):
            while accepted < len(clients):
                try:
                    connection, _ = gateway.accept()
                except BlockingIOError:
                    break
                connection.close()
                accepted += 1
        for client in clients:
            client.close()
    assert accepted == 20


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])  # noqa: S104 - refused
def test_a_claimed_port_is_claimed_by_nobody_else(claim: PortClaim, host: str) -> None:
    with pytest.raises(PortError, match=f"port {claim.port} is taken"):
        PortClaim(host, claim.port)


@pytest.mark.parametrize("share", [True, False])
def test_a_listener_is_named(port: int, share: bool) -> None:
    with listener(port, share=share), pytest.raises(PortError, match=rf"is taken by process {os.getpid()} \("):
        PortClaim("localhost", port)


def test_other_addresses_and_ports_are_free(claim: PortClaim) -> None:
    PortClaim("127.0.0.2", claim.port).close()
    with pytest.raises(PortError, match="cannot listen on"):
        PortClaim("192.0.2.1", claim.port)


def test_a_host_without_an_address_is_refused(port: int) -> None:
    with pytest.raises(PortError, match=r"server.host: 'nowhere.invalid' is no address"):
        PortClaim("nowhere.invalid", port)


def test_connections_that_ended_do_not_hold_the_port(port: int) -> None:
    with listener(port, share=True) as gateway:
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = gateway.accept()
        connection.close()  # the side that closes first keeps the port for a minute
        client.close()
    PortClaim("127.0.0.1", port).close()


def test_a_closed_claim_is_free_again(port: int) -> None:
    PortClaim("localhost", port).close()
    PortClaim("localhost", port).close()
