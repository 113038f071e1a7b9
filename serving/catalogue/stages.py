"""Loads the stages that read the catalogue, over the structures that a process shares.

A stage in a process of its own follows the log itself: `follows` then says which. In a gateway it is None: the gateway follows for all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from models.bundles.bundle import Bundle
from models.index.gpu_search import GpuIndex
from models.index.spec import Device
from models.ranking.bundle_part import RANKER_PART
from models.ranking.click_memory import CatalogueClicks, Clicks
from models.ranking.product_columns import ProductColumns
from models.shards import ShardOf, open_shard, shard_rows, shards_of
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from serving.catalogue.open_catalogue import Catalogue, shared_catalogue
from serving.compute.catalogue_search import CatalogueSearch
from serving.compute.query_encoder import light_tower
from serving.compute.retriever import Retriever
from serving.compute.shard_merge import ShardMerge, ShardRows
from serving.compute.shard_search import ShardRetriever, ShardSearch
from serving.compute.shopper_encoder import ShopperEncoder
from serving.compute.student import Student
from serving.compute.teacher import TeacherReader
from serving.config import CatalogueConfig

Search = TypeVar("Search", bound=CatalogueSearch)


def load_retriever(
    folder: Path,
    device: Device = "cpu",
    threads: int = 0,
    on_gpu: GpuIndex = "auto",
    follows: CatalogueConfig | None = None,
) -> Retriever:
    """Raises BundleError, ConfigError."""
    catalogue = shared_catalogue(folder)
    retriever = open_retriever(catalogue, device, threads, on_gpu)
    _follow(catalogue, follows)
    return retriever


def open_retriever(
    catalogue: Catalogue, device: Device = "cpu", threads: int = 0, on_gpu: GpuIndex = "auto"
) -> Retriever:
    """Returns a retriever over the catalogue's structures, which grows with them. Raises BundleError."""
    student, clicks = _open_student(catalogue)
    search = open_search(catalogue, device, threads, on_gpu, clicks)
    return Retriever(search, _open_tower(catalogue), student, catalogue.live)


def open_search(
    catalogue: Catalogue,
    device: Device = "cpu",
    threads: int = 0,
    on_gpu: GpuIndex = "auto",
    clicks: Clicks | None = None,
) -> CatalogueSearch:
    """Returns a search over the catalogue's structures, which grows with them. Raises BundleError."""
    return _open_search(CatalogueSearch, catalogue, device, threads, on_gpu, clicks)


def load_shard(
    folder: Path,
    shard: ShardOf,
    device: Device = "cpu",
    threads: int = 0,
    on_gpu: GpuIndex = "auto",
    follows: CatalogueConfig | None = None,
) -> ShardRetriever:
    """Loads a shard of the bundle in a folder. Raises BundleError, ConfigError."""
    catalogue = Catalogue.open(open_shard(Bundle(folder), shard), shard)
    retriever = open_shard_retriever(catalogue, device, threads, on_gpu)
    _follow(catalogue, follows)
    return retriever


def open_shard_retriever(
    catalogue: Catalogue, device: Device = "cpu", threads: int = 0, on_gpu: GpuIndex = "auto"
) -> ShardRetriever:
    """Returns the retriever of a shard, which grows with its catalogue. Raises BundleError."""
    # Before any change, so that values that the bundle has get the numbers that they have where shards come together.
    catalogue.masks.warm_up()
    student, clicks = _open_student(catalogue)
    search = _open_search(ShardSearch, catalogue, device, threads, on_gpu, clicks)
    return ShardRetriever(
        search, catalogue.identifiers, catalogue.lexical, _open_tower(catalogue), student, catalogue.live
    )


def load_shard_merge(folder: Path, count: int) -> ShardMerge:
    """Loads what brings the shards of a bundle together. Raises BundleError."""
    return open_shard_merge(shared_catalogue(folder), count)


def open_shard_merge(catalogue: Catalogue, count: int) -> ShardMerge:
    """Returns what brings the shards of a catalogue together, and grows with it. Raises BundleError."""
    catalogue.masks.warm_up()
    rows = ShardRows([shard_rows(catalogue.bundle, shard) for shard in shards_of(count)], len(catalogue.table))
    catalogue.live.attach(rows)
    return ShardMerge(rows, catalogue.masks, catalogue.identifiers, catalogue.lexical, catalogue.live)


def _open_student(catalogue: Catalogue) -> tuple[Student | None, Clicks | None]:
    bundle = catalogue.bundle
    if not RANKER_PART.is_in(bundle):
        return None, None
    ranker = RANKER_PART.open(bundle)
    columns = ProductColumns.from_bundle(bundle, catalogue.vectors)
    clicks = CatalogueClicks(ranker.click_memory, catalogue.table)
    catalogue.live.attach(columns, clicks)
    student = Student.from_bundle(bundle, ranker, columns, catalogue.identifiers, catalogue.lexical, clicks)
    return student, clicks


def _open_tower(catalogue: Catalogue) -> LightTower | None:
    bundle = catalogue.bundle
    return light_tower(bundle.folder) if UNIFIED_PART.is_in(bundle) else None


def _open_search(
    kind: type[Search], catalogue: Catalogue, device: Device, threads: int, on_gpu: GpuIndex, clicks: Clicks | None
) -> Search:
    index = catalogue.bundle.index(device, catalogue.vectors, on_gpu)
    search = kind(
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
