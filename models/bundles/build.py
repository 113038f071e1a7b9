"""The verb that makes a bundle: products in, a verified directory out.

    products -> products.arrow -> encoder -> vectors.npy -> tuner -> index/ -> manifest.json -> rename

Every step streams: memory grows with the vectors only where the index needs them. Work is kept in `OUT.partial`; the same command goes
on there after an interruption, and another recipe starts anew.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.bundle import (
    FORMAT_VERSION,
    INDEX,
    MANIFEST,
    PRODUCTS,
    VECTORS,
    BundleError,
    Manifest,
    content_version,
    record_files,
    sync_files,
)
from models.bundles.embed_text import TextEmbedding
from models.bundles.embedding import PROGRESS, BuildState, Embedding
from models.index.tuner import IndexTarget, TuneReport, tune
from models.products.currency import currency_digits
from models.products.errors import CatalogueError
from models.products.identifiers import IdentifierIndex
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.products.spelling import Speller
from models.text_encoder.encoder import EncoderSpec
from models.text_encoder.export import PACKAGED, EncoderError

FULL_DISK_BYTES = 64 * 1024  # a disk with less room has failed whatever write failed


@dataclass(frozen=True, slots=True)
class Source:
    """Where products come from. `fingerprint` changes when they do; `report` is asked for after they were read."""

    name: str
    fingerprint: str
    products: Callable[[], Iterator[Product]]
    report: Callable[[], dict[str, Any]]
    attributes: tuple[str, ...]
    text_attributes: tuple[str, ...]
    num_products: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what the bundle holds, beside its source."""

    name: str
    encoder: str = PACKAGED
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
    embedding: Embedding | None = None,
    replace: bool = False,
) -> Manifest:
    """Builds `out`, or goes on where an interrupted build of the same recipe stopped. Without an `embedding` the text encoder that
    the recipe names makes the vectors.

    Raises BundleError when `out` exists (unless `replace`, and it is a bundle), when another build is at work there, when the source
    holds no product, and when the disk is full; what was done until then is kept. Raises EncoderError and CatalogueError for an
    encoder and a currency that do not exist.
    """
    out = out.resolve()  # so that "." has a name, and a link is followed rather than replaced
    check_out(out, replace)
    currency_digits(recipe.currency)
    partial = out.with_name(out.name + ".partial")
    embedding = embedding or TextEmbedding(
        recipe.encoder,
        source.text_attributes,
        recipe.dimensions,
        recipe.max_query_tokens,
        recipe.max_product_tokens,
    )
    made_by = [FORMAT_VERSION, importlib.metadata.version("aisle"), embedding.fingerprint()]
    recipe_key = hashlib.sha256(json.dumps([source.fingerprint, asdict(recipe), made_by]).encode()).hexdigest()
    try:
        with work_folder(partial, recipe_key) as state:
            check_out(out, replace)  # another build may have finished meanwhile
            manifest = _build(source, recipe, embedding, state, progress)
            put_in_place(partial, out)
    except Exception as error:
        if not _disk_is_full(error, out.parent):
            raise
        raise BundleError(
            f"the disk is full; make room beside {out} and give the same command again: it goes on where it stopped"
        ) from error
    return manifest


def check_out(out: Path, replace: bool) -> None:
    if not out.exists():
        return
    if not replace:
        raise BundleError(f"{out} exists; choose another --out, or replace it with --force")
    if not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise BundleError(f"{out} exists and is not a bundle, so --force does not replace it; choose another --out")


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """OSError says so by its number; NumPy, safetensors, tokenizers and FAISS each in a way of their own, or not at all."""
    if isinstance(error, BundleError | CatalogueError | EncoderError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left" in str(error) or shutil.disk_usage(folder).free < FULL_DISK_BYTES


def _build(source: Source, recipe: Recipe, embedding: Embedding, state: BuildState, progress: Progress) -> Manifest:
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
    spec = embedding.embed(table, state, progress)
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
        lambda step: progress(f"index: {step}", 0, None),
        num_features=len(embedding.boosts),
    )
    shutil.rmtree(partial / INDEX, ignore_errors=True)  # of a build that was interrupted and may have chosen another
    (partial / INDEX).mkdir()
    report.index.save(partial / INDEX)
    return _write_manifest(source, recipe, embedding, state, spec, report)


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
    state: BuildState,
    spec: EncoderSpec,
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
        dim=spec.dim,
        currency=recipe.currency,
        currency_digits=currency_digits(recipe.currency),
        locales=recipe.locales,
        text_attributes=source.text_attributes,
        catalogue={"source": source.name, "fingerprint": source.fingerprint, "report": state.values["report"]},
        recipe=asdict(recipe),
        encoder=asdict(spec),
        index=report.to_json(),
        files=files,
        boosts=embedding.boosts,
    )
    manifest = dataclasses.replace(manifest, version=content_version(manifest))
    sync_files(partial, [partial / name for name in files])
    (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(partial, [partial / MANIFEST])
    return manifest


def put_in_place(partial: Path, out: Path) -> None:
    """Killed anywhere in here, the same command ends what is left to do: the progress goes last."""
    old = out.with_name(out.name + ".replaced")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    sync_files(out.parent, [])
    (out / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def work_folder(partial: Path, recipe_key: str) -> Iterator[BuildState]:
    """The folder of an unfinished build of this recipe, made or found, and held against a second build."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BundleError(f"{partial} cannot be made: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(f"another build is at work in {partial}") from None
        if not partial.exists() or not os.path.samestat(os.fstat(descriptor), partial.stat()):
            raise BundleError(f"another build has just finished in {partial}")
        state = BuildState(partial)
        if state.values.get("recipe") != recipe_key:
            _empty(partial)
            state.values = {"recipe": recipe_key}
            state.save()
        yield state
    finally:
        os.close(descriptor)


def _empty(partial: Path) -> None:
    """Clears what another recipe left. The progress goes last, since by it the folder is known as ours."""
    paths = sorted(partial.iterdir(), key=lambda path: path.name.startswith(PROGRESS))
    if paths and not paths[-1].name.startswith(PROGRESS):
        raise BundleError(f"{partial} is not an unfinished build; move it away or choose another --out")
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


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
