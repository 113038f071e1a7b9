"""The verb that makes a bundle: products in, a verified directory out.

    products -> products.arrow -> encoder -> vectors.npy -> tuner -> index/ -> manifest.json -> rename

Every step streams: memory grows with the vectors only where the index needs them. Work is kept in `OUT.partial`; the same command goes
on there after an interruption, and another recipe starts anew.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.bundle import INDEX, PRODUCTS, VECTORS
from models.bundles.embedding import Embedding
from models.bundles.files import record_files, sync_files
from models.bundles.manifest import FORMAT_VERSION, MANIFEST, BundleError, Manifest, content_version
from models.bundles.source import Source
from models.bundles.work_folder import PROGRESS, WorkFolder, check_replaceable, move_into_place, open_work_folder
from models.errors import InputError
from models.index.tuner import IndexTarget, TuneReport, tune
from models.products.currency import currency_digits
from models.products.identifiers import IdentifierIndex
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.products.spelling import Speller

FULL_DISK_BYTES = 64 * 1024  # a disk with less room has failed whatever write failed


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what the bundle holds, beside its source."""

    name: str
    encoder: str = "minilm"  # that makes the vectors, unless the unified model does
    locales: tuple[str, ...] = ("en-US",)
    currency: str = "USD"
    dimensions: tuple[int, ...] = ()
    max_query_tokens: int = 64
    max_product_tokens: int = 128
    index: IndexTarget = field(default_factory=IndexTarget)


def build_bundle(
    source: Source,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    embedding: Embedding,
    replace: bool = False,
) -> Manifest:
    """Builds `out`, or goes on where an interrupted build of the same recipe stopped. `embedding` makes the vectors.

    Raises BundleError when `out` exists (unless `replace`, and it is a bundle), when another build is at work there, when the source
    holds no product, and when the disk is full; what was done until then is kept. Raises CatalogueError for an unknown currency, and what
    `embedding` raises.
    """
    out = out.resolve()  # so that "." has a name, and a link is followed rather than replaced
    check_replaceable(out, replace)
    currency_digits(recipe.currency)
    partial = out.with_name(out.name + ".partial")
    made_by = [FORMAT_VERSION, importlib.metadata.version("aisle"), embedding.fingerprint()]
    recipe_key = hashlib.sha256(json.dumps([source.fingerprint, asdict(recipe), made_by]).encode()).hexdigest()
    try:
        with open_work_folder(partial, recipe_key) as state:
            check_replaceable(out, replace)  # another build may have finished meanwhile
            manifest = _build(source, recipe, embedding, state, progress)
            move_into_place(partial, out)
    except Exception as error:
        if not _disk_is_full(error, out.parent):
            raise
        raise BundleError(
            f"the disk is full; make room beside {out} and give the same command again: it goes on where it stopped"
        ) from error
    return manifest


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """OSError says so by its number; NumPy, safetensors, tokenizers and FAISS each in a way of their own, or not at all."""
    if isinstance(error, InputError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left" in str(error) or shutil.disk_usage(folder).free < FULL_DISK_BYTES


def _build(source: Source, recipe: Recipe, embedding: Embedding, state: WorkFolder, progress: Progress) -> Manifest:
    partial, done = state.folder, state.values
    embedding.prepare(state, progress)
    if "products" not in done:
        products = _counted(source.products(), source.num_products, progress)
        done["products"] = write_products(partial / PRODUCTS, products, source.attributes)
        done["report"] = source.report()
        sync_files(partial, [partial / PRODUCTS])
        state.save()
    if not done["products"]:
        raise BundleError(f"{source.name} holds no usable product: {json.dumps(done['report'])[:600]}")
    table = ProductTable(partial / PRODUCTS)
    encoder = embedding.embed(table, state, progress)
    progress("look-up of model numbers", 0, None)
    IdentifierIndex.build(table.products()).save(partial)
    progress("words for spelling", 0, None)
    Speller.build(table.products()).save(partial)
    vectors = np.load(partial / VECTORS, mmap_mode="r")
    progress("queries to tune the index with", 0, None)
    queries = embedding.tuning_queries(table, partial)
    report = tune(
        vectors,
        queries,
        recipe.index,
        lambda stage, done, total: progress(f"index: {stage}", done, total),
        num_features=len(embedding.boosts),
    )
    shutil.rmtree(partial / INDEX, ignore_errors=True)  # of a build that was interrupted and may have chosen another
    (partial / INDEX).mkdir()
    report.index.save(partial / INDEX)
    return _write_manifest(source, recipe, embedding, state, encoder, report)


def _counted(products: Iterator[Product], total: int | None, progress: Progress) -> Iterator[Product]:
    count = 0
    for product in products:
        if count % 1000 == 0:
            progress("read products", count, total)
        yield product
        count += 1
    progress("read products", count, count)


def _write_manifest(
    source: Source,
    recipe: Recipe,
    embedding: Embedding,
    state: WorkFolder,
    encoder: dict[str, Any],
    report: TuneReport,
) -> Manifest:
    partial = state.folder
    files = record_files(partial, but=[PROGRESS])
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.name,
        version="",  # comes of the rest
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        commit=_commit(),
        products=state.values["products"],
        dim=encoder["dim"],
        currency=recipe.currency,
        currency_digits=currency_digits(recipe.currency),
        locales=recipe.locales,
        text_attributes=source.text_attributes,
        catalogue={"source": source.name, "fingerprint": source.fingerprint, "report": state.values["report"]},
        recipe=asdict(recipe),
        encoder=encoder,
        index=report.to_json(),
        files=files,
        boosts=embedding.boosts,
    )
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    sync_files(partial, [partial / name for name in files])
    (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(partial, [partial / MANIFEST])
    return manifest


def _commit() -> str:
    """The commit of the checkout that built this, "" outside one, as where Aisle is installed into another repository's .venv."""
    here = Path(__file__)
    if not _git("-C", str(here.parent), "ls-files", here.name):
        return ""
    return _git("-C", str(here.parent), "describe", "--always", "--dirty")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
