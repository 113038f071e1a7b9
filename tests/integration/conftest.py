"""One real service for the session: `aisle serve` with its own Ray, on a free port, over a bundle of the sample store."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from aisle.v1 import embedding_pb2_grpc, info_pb2_grpc, search_pb2_grpc
from loadtest.benchmarks.service import Service, served
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.sources import catalogue_source, sample_source
from models.ranking.add_to_bundle import add_ranker
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures
from models.ranking.recipe import STARTER as STARTER_RANKER
from models.ranking.teacher.catalogue_view import CatalogueView
from models.ranking.teacher.fields import Field
from models.ranking.teacher.recipe import FeatureStage, PageSample, TeacherRecipe, Texts, TextStage
from models.ranking.teacher.spec import HeadSizes
from models.ranking.teacher.train_teacher import train_teacher
from models.ranking.train_ranker import ranker_rows, train_ranker, training_impressions
from models.sample_store import CATALOGUE, EVENTS, SAMPLE_COLUMNS, write_sample_log
from models.text_encoder.embed_products import TextEmbedding
from models.unified.bundle_part import UNIFIED_PART
from models.unified.embed_products import UnifiedEmbedding
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands
from models.unified.recipe import STARTER, QueryGeneration

os.environ["COLUMNS"] = "200"  # of the tables that commands print: how long a worker's paths are must not wrap them
NUM_PRODUCTS = 1000
TINY = dataclasses.replace(
    STARTER, name="tiny", batch=128, epochs=3, query_generation=QueryGeneration(dim=16, heads=2, steps=3, batch=16)
)
TINY_RANKER = dataclasses.replace(STARTER_RANKER, name="tiny", epochs=3.0, max_pages=200)
TINY_TEACHER = TeacherRecipe(
    "tiny",
    texts=Texts((Field("title", 16), Field("brand", 4), Field("category", 6), Field("price_minor", 1)), 12),
    sample=PageSample(pages=40, others=2),
    head=HeadSizes(features=16, bottom=16, experts=2, expert=8, tower=8, dropout=0.0),
    features=FeatureStage(max_steps=5, pages=16),
    text=TextStage(max_steps=3, pages=4, chunk=32),
    precision="fp32",
)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "sample"
    recipe = Recipe(name="sample", locales=("en-US", "en-GB"), dimensions=(128,))
    source = sample_source(NUM_PRODUCTS, seed=0)
    embedding = TextEmbedding.for_recipe(recipe, source.text_attributes)
    build_bundle(source, recipe, folder, lambda *_: None, embedding=embedding)
    return folder


@pytest.fixture(scope="session")
def personal_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated shop and its log."""
    folder = tmp_path_factory.mktemp("personal") / "store"
    write_sample_log(folder, 1000, 100, 12_000, 0, lambda *_: None)
    return folder


@pytest.fixture(scope="session")
def personal_folder(personal_store: Path) -> Path:
    """A bundle of the unified model, trained for seconds on a simulated log."""
    out = personal_store.parent / "bundle"
    source = catalogue_source(personal_store / CATALOGUE, {}, SAMPLE_COLUMNS.text, (), "USD")
    embedding = UnifiedEmbedding((personal_store / EVENTS,), TINY)
    build_bundle(source, Recipe(name="personal"), out, lambda *_: None, embedding=embedding)
    return out


@pytest.fixture(scope="session")
def teacher_folder(
    personal_folder: Path, personal_store: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cross-encoder that was trained for a few steps: it knows nothing, but it tells."""
    from transformers import AutoTokenizer

    out = tmp_path_factory.mktemp("teacher") / "teacher"
    base = shutil.copytree(tiny_encoder, out.parent / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    tokenizer.save_pretrained(base)
    bundle = Bundle(personal_folder)
    shown = training_impressions(bundle, personal_store / EVENTS, TINY_RANKER, since_ms=0)
    rows = ranker_rows(CandidateFeatures(bundle, LightTower(UNIFIED_PART.open(bundle))), shown)
    shelf = CatalogueView(bundle.products(), PriceBands.load(UNIFIED_PART.open(bundle)), bundle.manifest.locales)
    train_teacher(shelf, shown, rows.features, FEATURES, out, TINY_TEACHER, str(base))
    return out


@pytest.fixture(scope="session")
def ranked_folder(
    personal_folder: Path, personal_store: Path, teacher_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bundle of the unified model with a ranker and a teacher, each trained for seconds."""
    out = tmp_path_factory.mktemp("ranked") / "bundle"
    bundle = Bundle(personal_folder)
    trained = train_ranker(bundle, personal_store / EVENTS, TINY_RANKER, since_ms=0)
    add_ranker(bundle, trained.ranker, out, report=trained.report, teacher=teacher_folder)
    return out


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
