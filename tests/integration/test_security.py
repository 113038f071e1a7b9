"""TLS, client certificates and API keys, on a service of their own."""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from aisle.v1 import embedding_pb2, embedding_pb2_grpc, search_pb2, search_pb2_grpc
from loadtest.benchmarks.service import Service, is_serving, served
from serving.gateway.security import new_key


@dataclass
class Authority:
    """A certificate authority of the test."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key, is_ca=True)
        (self.folder / "ca.pem").write_bytes(self.certificate)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(subject, key, is_ca=False), pem

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class Guarded:
    service: Service
    authority: Authority
    keys_file: Path
    search_key: str
    embed_key: str

    def channel(self, *, with_certificate: bool = True) -> grpc.Channel:
        certificate, key = self.authority.issue("client") if with_certificate else (None, None)
        return grpc.secure_channel(
            self.service.address, grpc.ssl_channel_credentials(self.authority.certificate, key, certificate)
        )


@pytest.fixture(scope="module")
def guarded(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    certificate, key = authority.issue("server")
    (folder / "server.pem").write_bytes(certificate)
    (folder / "server.key").write_bytes(key)
    search_key, search_line = new_key("frontend", ["search"])
    embed_key, embed_line = new_key("indexer", ["embed", "info"])
    (folder / "keys").write_text(f"# the keys of the test\n{search_line}\n{embed_line}\n")
    config = f"""
    [tls]
    certificate = "{folder}/server.pem"
    key = "{folder}/server.key"
    client_ca = "{folder}/ca.pem"
    [auth]
    keys_file = "{folder}/keys"
    """
    client_certificate, client_key = authority.issue("probe")
    credentials = grpc.ssl_channel_credentials(authority.certificate, client_key, client_certificate)
    with served(bundle_folder, config, credentials) as service:
        yield Guarded(service, authority, folder / "keys", search_key, embed_key)


def search(channel: grpc.Channel, key: str | None) -> grpc.StatusCode:
    metadata = (("authorization", f"Bearer {key}"),) if key is not None else ()
    try:
        search_pb2_grpc.SearchServiceStub(channel).Search(
            search_pb2.SearchRequest(query="sofa"), timeout=5, metadata=metadata
        )
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_keys_decide_who_may_call_what(guarded: Guarded) -> None:
    with guarded.channel() as channel:
        assert search(channel, guarded.search_key) is grpc.StatusCode.OK
        assert search(channel, None) is grpc.StatusCode.UNAUTHENTICATED
        assert search(channel, "") is grpc.StatusCode.UNAUTHENTICATED
        assert search(channel, guarded.search_key + "x") is grpc.StatusCode.UNAUTHENTICATED
        assert search(channel, guarded.embed_key) is grpc.StatusCode.PERMISSION_DENIED
        stub = embedding_pb2_grpc.EmbeddingServiceStub(channel)
        metadata = (("authorization", f"Bearer {guarded.embed_key}"),)
        assert stub.EmbedQueries(
            embedding_pb2.EmbedQueriesRequest(queries=["sofa"]), timeout=5, metadata=metadata
        ).vectors


def test_a_client_without_a_certificate_gets_no_connection(guarded: Guarded) -> None:
    with guarded.channel(with_certificate=False) as channel:
        assert search(channel, guarded.search_key) is grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(guarded.service.address) as channel:
        assert search(channel, guarded.search_key) is grpc.StatusCode.UNAVAILABLE


def test_health_needs_no_key(guarded: Guarded) -> None:
    certificate, key = guarded.authority.issue("balancer")
    assert is_serving(
        guarded.service.address, grpc.ssl_channel_credentials(guarded.authority.certificate, key, certificate)
    )


def test_a_key_added_to_the_file_counts_and_one_taken_away_does_not(guarded: Guarded) -> None:
    before = guarded.keys_file.read_text()
    fresh, line = new_key("late", ["search"])
    try:
        with guarded.channel() as channel:
            assert search(channel, fresh) is grpc.StatusCode.UNAUTHENTICATED
            guarded.keys_file.write_text(before + line + "\n")
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.OK)
            guarded.keys_file.write_text(before)
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.UNAUTHENTICATED)
            guarded.keys_file.write_text("broken line\n")
            time.sleep(2.5)
            assert (
                search(channel, guarded.search_key) is grpc.StatusCode.OK
            )  # a broken file leaves the keys as they were
    finally:
        guarded.keys_file.write_text(before)


def eventually(holds: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.2)
    return False
