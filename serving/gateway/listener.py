"""The listener: the gRPC servers of one port, with health and reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.config import AisleConfig
from serving.gateway.rpc import Servicer, add_service
from serving.gateway.security import server_credentials
from serving.logs import log

READINESS_S = 0.5
# Between NOT_SERVING and GOAWAY: in this time a client that watches health turns to another server.
NOTICE_S = 0.5
# A `grpc.aio` server accepts one call every few turns of its event loop, and next to busy stages a turn takes milliseconds. At four times
# the capacity 4, 16 and 32 servers on one port kept 0.40, 0.49 and 0.63 of the peak throughput. Since the student ranks in few calls,
# 32 servers add nothing.
NUM_ACCEPTORS = 16


class Listener:
    """The gRPC servers of a port. They bind in `start` only, so that a starting replica takes no call.

    `is_ready` says whether the stages can compute; health follows it.
    """

    def __init__(self, config: AisleConfig, services: Sequence[Servicer], is_ready: Callable[[], bool]) -> None:
        self._config = config
        self._is_ready = is_ready
        self._names = tuple(service.descriptor.full_name for service in services)
        self._health = health.aio.HealthServicer()
        self._ready = True
        self._acceptors = [grpc.aio.server(options=server_options(config)) for _ in range(NUM_ACCEPTORS)]
        for server in self._acceptors:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            if config.server.reflection:
                reflection.enable_server_reflection(
                    (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
                )
            for service in services:
                add_service(server, service)

    async def start(self) -> None:
        """Raises OSError if the port cannot be bound."""
        host = self._config.server.host
        address = f"[{host}]:{self._config.server.port}" if ":" in host else f"{host}:{self._config.server.port}"
        try:
            for server in self._acceptors:
                if self._config.tls.certificate:
                    server.add_secure_port(address, server_credentials(self._config.tls))
                else:
                    server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        await self._set_health(True)
        for server in self._acceptors:
            await server.start()

    async def follow_readiness(self) -> None:
        """Turns health with the readiness of the stages, for ever."""
        while True:
            await asyncio.sleep(READINESS_S)
            if self._is_ready() != self._ready:
                await self._set_health(not self._ready)
                log.warning("health", extra={"fields": {"serving": self._ready}})

    async def drain(self) -> None:
        """Sets health to NOT_SERVING, sends GOAWAY, then waits until the calls in progress end or `server.drain_s` has passed."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(NOTICE_S)
        await asyncio.gather(*(server.stop(self._config.server.drain_s) for server in self._acceptors))

    async def _set_health(self, ready: bool) -> None:
        self._ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *self._names):
            await self._health.set(service, status)


def server_options(config: AisleConfig) -> list[tuple[str, int]]:
    """Returns the channel arguments of a gateway's server."""
    server = config.server
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", server.max_message_bytes),
        ("grpc.max_send_message_length", server.max_message_bytes),
        ("grpc.keepalive_time_ms", int(server.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.max_connection_age_ms", int(server.max_connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", server.max_deadline_ms),
    ]
