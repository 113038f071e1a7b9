"""Loads the stages that read the catalogue, over the structures that a process shares.

A stage in a process of its own follows the log itself: `follows` then says which. In a gateway it is None: the gateway follows for all.
"""

from __future__ import annotations

import os
from pathlib import Path

from models.index.spec import Device
from models.ranking.bundle_part import RANKER_PART
from models.ranking.click_memory import CatalogueClicks, Clicks
from models.ranking.product_columns import ProductColumns
from models.unified.bundle_part import UNIFIED_PART
from serving.catalogue.open_catalogue import Catalogue, shared_catalogue
from serving.compute.catalogue_search import CatalogueSearch
from serving.compute.query_encoder import light_tower
from serving.compute.retriever import Retriever
from serving.compute.shopper_encoder import ShopperEncoder
from serving.compute.student import Student
from serving.compute.teacher import TeacherReader
from serving.config import CatalogueConfig


def load_retriever(
    folder: Path, device: Device = "cpu", threads: int = 0, follows: CatalogueConfig | None = None
) -> Retriever:
    """Raises BundleError, ConfigError."""
    catalogue = shared_catalogue(folder)
    retriever = open_retriever(catalogue, device, threads)
    _follow(catalogue, follows)
    return retriever


def open_retriever(catalogue: Catalogue, device: Device = "cpu", threads: int = 0) -> Retriever:
    """Returns a retriever over the catalogue's structures, which grows with them. Raises BundleError."""
    bundle, live = catalogue.bundle, catalogue.live
    student, clicks = None, None
    if RANKER_PART.is_in(bundle):
        ranker = RANKER_PART.open(bundle)
        columns = ProductColumns.from_bundle(bundle, catalogue.vectors)
        clicks = CatalogueClicks(ranker.click_memory, catalogue.table)
        live.attach(columns, clicks)
        student = Student.from_bundle(bundle, ranker, columns, catalogue.identifiers, catalogue.lexical, clicks)
    search = open_search(catalogue, device, threads, clicks)
    tower = light_tower(bundle.folder) if UNIFIED_PART.is_in(bundle) else None
    return Retriever(search, tower, student, live)


def open_search(
    catalogue: Catalogue, device: Device = "cpu", threads: int = 0, clicks: Clicks | None = None
) -> CatalogueSearch:
    """Returns a search over the catalogue's structures, which grows with them. Raises BundleError."""
    index = catalogue.bundle.index(device, catalogue.vectors)
    search = CatalogueSearch(
        catalogue.table,
        index,
        catalogue.masks,
        catalogue.identifiers,
        catalogue.lexical,
        clicks,
        catalogue.bundle.manifest.boosts,
        threads,
    )
    catalogue.live.attach(index, *search.parts)
    return search


def load_shopper_encoder(folder: Path, follows: CatalogueConfig | None = None) -> ShopperEncoder:
    """Raises BundleError, ConfigError."""
    catalogue = shared_catalogue(folder)
    encoder = ShopperEncoder(folder, catalogue.table)
    catalogue.live.attach(*encoder.parts)
    _follow(catalogue, follows)
    return encoder


def load_teacher_reader(
    folder: Path, device: str, threads: int, max_batch_tokens: int, follows: CatalogueConfig | None = None
) -> TeacherReader:
    """Raises BundleError, ConfigError."""
    catalogue = shared_catalogue(folder)
    reader = TeacherReader(folder, device, threads, max_batch_tokens, catalogue.table, catalogue.live)
    catalogue.live.attach(reader)
    _follow(catalogue, follows)
    return reader


def _follow(catalogue: Catalogue, follows: CatalogueConfig | None) -> None:
    """Follows until the process ends. It ends at once if it cannot follow: Serve starts another replica, and the gateways have said why."""
    if follows:
        catalogue.follow(follows, on_failure=lambda: os._exit(1))
