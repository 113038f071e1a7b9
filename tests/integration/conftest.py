"""One real service for the session: `aisle serve` with its own Ray, on a free port, over a bundle of the sample store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from aisle.v1 import embedding_pb2_grpc, info_pb2_grpc, search_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.build_bundle import Recipe, build_bundle
from models.bundle import Bundle
from models.sources import sample_source

NUM_PRODUCTS = 1000


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "sample"
    recipe = Recipe(name="sample", locales=("en-US", "en-GB"), dimensions=(128,))
    build_bundle(sample_source(NUM_PRODUCTS, seed=0), recipe, folder, lambda *_: None)
    return folder


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle(bundle_folder)


@pytest.fixture(scope="session")
def service(bundle_folder: Path) -> Iterator[Service]:
    """Ends with the question that every test leaves open: is it still serving?"""
    with served(bundle_folder, '[log]\nrequests = "all"\n[server]\nmax_message_bytes = 65536\n') as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture(scope="session")
def channel(service: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as opened:
        yield opened


@pytest.fixture(scope="session")
def search(channel: grpc.Channel) -> search_pb2_grpc.SearchServiceStub:
    return search_pb2_grpc.SearchServiceStub(channel)


@pytest.fixture(scope="session")
def embedding(channel: grpc.Channel) -> embedding_pb2_grpc.EmbeddingServiceStub:
    return embedding_pb2_grpc.EmbeddingServiceStub(channel)


@pytest.fixture(scope="session")
def info(channel: grpc.Channel) -> info_pb2_grpc.InfoServiceStub:
    return info_pb2_grpc.InfoServiceStub(channel)
