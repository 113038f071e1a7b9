"""A client as the README advises: one channel for a process, retries on UNAVAILABLE, a deadline on every call."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class ClientTls:
    """`ca` verifies the server; certificate and key are for mTLS."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


def retry_policy() -> str:
    """The documented gRPC service config, JSON."""
    return importlib.resources.files("aisle.v1").joinpath("service_config.json").read_text(encoding="utf-8")


def channel_options() -> list[tuple[str, str | int]]:
    return [
        ("grpc.service_config", retry_policy()),
        # gRPC would wait a second after a refused connection, longer than the retries last.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ]


def connect(target: str, tls: ClientTls | None = None) -> grpc.Channel:
    """A blocking channel. Close it, or use it in a `with` statement."""
    if tls is None:
        return grpc.insecure_channel(target, options=channel_options())
    return grpc.secure_channel(target, _credentials(tls), options=channel_options())


def _credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        tls.ca.read_bytes(),
        private_key=tls.key.read_bytes() if tls.key else None,
        certificate_chain=tls.certificate.read_bytes() if tls.certificate else None,
    )
