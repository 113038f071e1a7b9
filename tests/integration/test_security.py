"""TLS, client certificates and API keys, on a service of their own."""

from __future__ import annotations

import datetime
import ipaddress
import json
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
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from typer.testing import CliRunner

from aisle.client import CallError
from aisle.v1 import (
    catalogue_pb2,
    embedding_pb2,
    embedding_pb2_grpc,
    info_pb2,
    product_pb2,
    query_pb2,
    ranking_pb2,
    search_pb2,
    search_pb2_grpc,
    shopper_pb2,
)
from loadtest.benchmarks.service import Service, is_serving, served
from loadtest.judge.run import PASSED, VOID
from models.bundles.bundle import Bundle
from serving.cli.main import app
from serving.edge.keys import SCOPES, new_key


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
            search_pb2.SearchRequest(query="sofa"), timeout=60, metadata=metadata
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
            embedding_pb2.EmbedQueriesRequest(queries=["sofa"]), timeout=60, metadata=metadata
        ).vectors


def test_a_client_without_a_certificate_gets_no_connection(guarded: Guarded) -> None:
    with guarded.channel(with_certificate=False) as channel:
        assert search(channel, guarded.search_key) is grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(guarded.service.address) as channel:
        assert search(channel, guarded.search_key) is grpc.StatusCode.UNAVAILABLE


def test_health_needs_no_key(guarded: Guarded) -> None:
    certificate, key = guarded.authority.issue("balancer")
    credentials = grpc.ssl_channel_credentials(guarded.authority.certificate, key, certificate)
    assert eventually(lambda: is_serving(guarded.service.address, credentials))


def test_the_file_decides_at_any_time_who_is_admitted(guarded: Guarded) -> None:
    before = guarded.keys_file.read_text()
    fresh, line = new_key("late", ["search"])
    try:
        with guarded.channel() as channel:
            assert search(channel, fresh) is grpc.StatusCode.UNAUTHENTICATED
            guarded.keys_file.write_text(before + line + "\n")
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.OK)
            guarded.keys_file.write_text(before)
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.UNAUTHENTICATED)
            guarded.keys_file.write_text(f"broken line\n{line}\n")
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.OK)
            assert search(channel, guarded.search_key) is grpc.StatusCode.UNAUTHENTICATED
            guarded.keys_file.unlink()
            assert eventually(lambda: search(channel, fresh) is grpc.StatusCode.UNAUTHENTICATED)
    finally:
        guarded.keys_file.write_text(before)
    with guarded.channel() as channel:
        assert eventually(lambda: search(channel, guarded.search_key) is grpc.StatusCode.OK)


MARKS = ("secret-event", "secret-session", "secret sofa")  # of the stored events


@dataclass
class Scoped:
    """A service that keeps the events of a shopper, and a key for each scope."""

    channel: grpc.Channel
    keys: dict[str, str]
    product_id: str

    def call(self, method: str, scope: str, request: Message) -> bytes:
        """Returns the serialised answer. Raises grpc.RpcError."""
        stub = self.channel.unary_unary(method)
        metadata = (("authorization", f"Bearer {self.keys[scope]}"),)
        return bytes(stub(request.SerializeToString(), timeout=60, metadata=metadata))

    def event(self, number: int = 1, shopper_id: str = "ann") -> shopper_pb2.Event:
        return shopper_pb2.Event(
            id=f"secret-event-{number}",
            time_ms=time.time_ns() // 1_000_000 - 1000 * number,
            shopper_id=shopper_id,
            session_id="secret-session",
            kind=shopper_pb2.EVENT_KIND_PURCHASE,
            product_id=self.product_id,
            query="secret sofa",
        )


@pytest.fixture(scope="module")
def scoped(ranked_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoped]:
    folder = tmp_path_factory.mktemp("scoped")
    made = {scope: new_key(scope.replace(":", "-"), [scope]) for scope in SCOPES} | {"*": new_key("all", ["*"])}
    made["search,history"] = new_key("both", ["search", "history"])
    made["embed,history"] = new_key("both", ["embed", "history"])
    (folder / "keys").write_text("".join(line + "\n" for _, line in made.values()))
    config = f'[auth]\nkeys_file = "{folder}/keys"\n[shoppers]\nstore = "sqlite"\npath = "{folder}/events.db"\n'
    with served(ranked_folder, config) as service, grpc.insecure_channel(service.address) as channel:
        product_id = Bundle(ranked_folder).products().id(0)
        yield Scoped(channel, {scope: key for scope, (key, _) in made.items()}, product_id)


def requests(scoped: Scoped) -> dict[str, Message]:
    """A call of every method that takes one message, each asking for all that it can be told of the shopper "ann"."""
    ids = [scoped.product_id]
    batch = shopper_pb2.RecordEventsRequest(events=[scoped.event()])
    return {
        "SearchService/Search": search_pb2.SearchRequest(query="sofa", shopper_id="ann", explain=True),
        "RankingService/Rank": ranking_pb2.RankRequest(query="sofa", shopper_id="ann", explain=True, product_ids=ids),
        "QueryService/Classify": query_pb2.ClassifyRequest(queries=[query_pb2.LocaleQuery(query="sofa")]),
        "EmbeddingService/EmbedQueries": embedding_pb2.EmbedQueriesRequest(queries=["sofa"]),
        "EmbeddingService/EmbedProducts": embedding_pb2.EmbedProductsRequest(),
        "EmbeddingService/EmbedShopper": embedding_pb2.EmbedShopperRequest(shopper_id="ann"),
        "InfoService/GetInfo": info_pb2.GetInfoRequest(),
        "InfoService/GetStats": info_pb2.GetStatsRequest(),
        "CatalogueService/UpsertProducts": catalogue_pb2.UpsertProductsRequest(
            products=[product_pb2.Product(id="a-lamp", title="sofa")]
        ),
        "CatalogueService/DeleteProducts": catalogue_pb2.DeleteProductsRequest(product_ids=["a-lamp"]),
        "CatalogueService/UpdateOffers": catalogue_pb2.UpdateOffersRequest(
            offers=[catalogue_pb2.Offer(product_id=scoped.product_id, in_stock=True)]
        ),
        "CatalogueService/GetProducts": catalogue_pb2.GetProductsRequest(product_ids=ids),
        "CatalogueService/GetCatalogueStatus": catalogue_pb2.GetCatalogueStatusRequest(),
        "ShopperService/RecordEvents": batch,
        "ShopperService/GetHistory": shopper_pb2.GetHistoryRequest(shopper_id="ann"),
        "ShopperService/ForgetShopper": shopper_pb2.ForgetShopperRequest(shopper_id="ann"),
    }


FILES = (catalogue_pb2, embedding_pb2, info_pb2, query_pb2, ranking_pb2, search_pb2, shopper_pb2)
METHODS = [
    f"{service.name}/{method.name}"
    for module in FILES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming  # StreamEvents answers with counts, as RecordEvents does
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scope", [scope for scope in SCOPES if scope != "history"])
def test_no_scope_but_history_names_stored_events(scoped: Scoped, method: str, scope: str) -> None:
    scoped.call("/aisle.v1.ShopperService/RecordEvents", "*", shopper_pb2.RecordEventsRequest(events=[scoped.event()]))
    try:
        told = scoped.call(f"/aisle.v1.{method}", scope, requests(scoped)[method]).decode(errors="replace")
    except grpc.RpcError as error:
        told = f"{error.details()} {error.trailing_metadata()}"
    assert [mark for mark in MARKS if mark in told] == []


@pytest.mark.parametrize(
    ("method", "scope", "field"),
    [
        ("SearchService/Search", "search", "explain"),
        ("RankingService/Rank", "search", "explain"),
        ("EmbeddingService/EmbedShopper", "embed", "shopper_id"),
    ],
)
def test_what_tells_of_stored_events_needs_history_too(scoped: Scoped, method: str, scope: str, field: str) -> None:
    path, request = f"/aisle.v1.{method}", requests(scoped)[method]
    with pytest.raises(grpc.RpcError) as caught:
        scoped.call(path, scope, request)
    error = CallError.from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    assert "has no scope 'history'" in error.message
    assert [violation.field for violation in error.violations] == [field]
    assert scoped.call(path, f"{scope},history", request)
    assert scoped.call(path, "*", request)


def test_a_search_alone_personalises_and_explains_what_its_caller_sent(scoped: Scoped) -> None:
    scoped.call("/aisle.v1.ShopperService/RecordEvents", "*", shopper_pb2.RecordEventsRequest(events=[scoped.event()]))

    def search(**fields: object) -> search_pb2.SearchResponse:
        request = search_pb2.SearchRequest(query="sofa", shopper_id="ann", **fields)  # type: ignore[arg-type]
        return search_pb2.SearchResponse.FromString(scoped.call("/aisle.v1.SearchService/Search", "search", request))

    assert search().personalisation.source == search_pb2.PERSONALISATION_SOURCE_STORED
    own = search(explain=True, recent_events=[scoped.event(2)])
    assert {moved.event_id for hit in own.hits for moved in hit.explanation.moved_by} == {"secret-event-2"}
    assert own.hits[0].explanation.rank_factors
    assert search(explain=True, personalisation=0).hits[0].explanation.rank == 1


def test_with_history_too_a_search_names_the_events(scoped: Scoped) -> None:
    scoped.call("/aisle.v1.ShopperService/RecordEvents", "*", shopper_pb2.RecordEventsRequest(events=[scoped.event()]))
    request = requests(scoped)["SearchService/Search"]
    answer = scoped.call("/aisle.v1.SearchService/Search", "search,history", request)
    hits = search_pb2.SearchResponse.FromString(answer).hits
    assert {moved.event_id for hit in hits for moved in hit.explanation.moved_by} == {"secret-event-1"}


def test_health_and_reflection_need_no_key_and_name_what_the_contract_names(scoped: Scoped) -> None:
    names = ProtoReflectionDescriptorDatabase(scoped.channel).get_services()
    services = {service.full_name for module in FILES for service in module.DESCRIPTOR.services_by_name.values()}
    assert set(names) == services | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def eventually(holds: object, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.2)
    return False


def test_load_tests_use_certificates_and_keys_as_other_callers_do(guarded: Guarded, tmp_path: Path) -> None:
    """Both the generator and Locust's users; the key may search, and record nothing."""
    certificate, key = guarded.authority.issue("load test")
    for name, content in (("ca", guarded.authority.certificate), ("cert", certificate), ("cert-key", key)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "queries").write_text("sofa\nshoes\n")
    asked = [
        "load",
        "--server",
        guarded.service.address,
        "--queries",
        str(tmp_path / "queries"),
        "--out",
        str(tmp_path),
    ]
    asked += [word for name in ("ca", "cert", "cert-key") for word in (f"--{name}", str(tmp_path / name))]
    asked += ["--profile", "mix", "--rate", "10", "--seconds", "2", "--locust-users", "2"]
    without_key = CliRunner().invoke(app, asked)
    assert without_key.exit_code == 1
    assert "set --api-key or AISLE_API_KEY" in " ".join(without_key.output.split())
    result = CliRunner().invoke(app, asked, env={"AISLE_API_KEY": guarded.search_key})
    assert result.exit_code in (PASSED, VOID), result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["calls"][0]["search"]["answered"] > 0
    assert "RecordEvents: PERMISSION_DENIED" in " ".join(report["environment"]["left_out"])
    page = (tmp_path / "locust.html").read_text()
    assert guarded.search_key not in page
    assert '"name": "Search"' in page
