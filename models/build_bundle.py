"""The verb that makes a bundle: products in, a verified directory out.

    products -> products.arrow -> encoder -> vectors.npy -> tuner -> index/ -> manifest.json -> rename

Every step streams: memory grows with the vectors only where the index needs them. Work is kept in `OUT.partial`; the same command goes
on there after an interruption, and another recipe starts anew.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bundle import (
    ENCODER,
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
from models.catalogue import Product, currency_digits, product_text
from models.export_encoder import PACKAGED, export_encoder
from models.identifiers import IdentifierIndex
from models.index_tuner import IndexTarget, tune
from models.product_table import ProductTable, write_products
from models.text_encoder import EncoderSpec, Text, TextEncoder

PROGRESS = "progress.json"
ENCODE_BLOCK = 1024  # products between two safe points
TUNING_QUERIES = 400

# What is going on, how much is done, how much there is (None when unknown).
Progress = Callable[[str, int, int | None], None]


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


def build_bundle(source: Source, recipe: Recipe, out: Path, progress: Progress, *, replace: bool = False) -> Manifest:
    """Builds `out`, or goes on where an interrupted build of the same recipe stopped.

    Raises BundleError when `out` exists (unless `replace`), when another build is at work there, when the source holds no product, and
    when the disk is full; what was done until then is kept.
    """
    if out.exists() and not replace:
        raise BundleError(f"{out} exists; choose another --out, or replace it with --force")
    partial = out.with_name(out.name + ".partial")
    recipe_key = hashlib.sha256(json.dumps([source.fingerprint, asdict(recipe)]).encode()).hexdigest()
    try:
        with _work_folder(partial, recipe_key):
            manifest = _build(source, recipe, partial, progress)
            _put_in_place(partial, out)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise BundleError(
            f"the disk is full; make room beside {out} and give the same command again: it goes on where it stopped"
        ) from None
    return manifest


def _build(source: Source, recipe: Recipe, partial: Path, progress: Progress) -> Manifest:
    state = json.loads((partial / PROGRESS).read_text())
    if "products" not in state:
        products = _counted(source.products(), source.num_products, progress)
        state["products"] = write_products(partial / PRODUCTS, products, source.attributes)
        state["report"] = source.report()
        _save_state(partial, state)
    if not state["products"]:
        raise BundleError(f"{source.name} holds no usable product: {json.dumps(state['report'])[:600]}")
    if "encoder" not in state:
        progress("export the encoder", 0, None)
        export_encoder(
            recipe.encoder,
            partial / ENCODER,
            dimensions=recipe.dimensions,
            max_query_tokens=recipe.max_query_tokens,
            max_product_tokens=recipe.max_product_tokens,
        )
        state["encoder"] = True
        _save_state(partial, state)
    table = ProductTable(partial / PRODUCTS)
    encoder = TextEncoder(partial / ENCODER)
    _encode_products(table, encoder, source.text_attributes, partial, state, progress)
    progress("look-up of model numbers", 0, None)
    IdentifierIndex.build(table.products()).save(partial)
    vectors = np.load(partial / VECTORS, mmap_mode="r")
    report = tune(
        vectors, _tuning_queries(table, encoder), recipe.index, lambda step: progress(f"index: {step}", 0, None)
    )
    (partial / INDEX).mkdir(exist_ok=True)
    report.index.save(partial / INDEX)
    return _write_manifest(source, recipe, partial, state, encoder.spec, report)


def _counted(products: Iterator[Product], total: int | None, progress: Progress) -> Iterator[Product]:
    for count, product in enumerate(products):
        if count % 1000 == 0:
            progress("read products", count, total)
        yield product


def _encode_products(
    table: ProductTable,
    encoder: TextEncoder,
    text_attributes: tuple[str, ...],
    partial: Path,
    state: dict[str, Any],
    progress: Progress,
) -> None:
    """Appends the vectors of products not yet encoded. Plain writes, not a map: a full disk must raise, not kill."""
    header = _npy_header((len(table), encoder.spec.dim))
    done = int(state.get("encoded", 0))
    path = partial / VECTORS
    with path.open("r+b" if path.exists() else "w+b") as file:
        if not done:
            file.write(header)
        file.truncate(len(header) + done * encoder.spec.dim * 2)
        file.seek(0, os.SEEK_END)
        while done < len(table):
            progress("encode products", done, len(table))
            block = table.products(done, min(done + ENCODE_BLOCK, len(table)))
            texts = [Text(product_text(product, text_attributes), "product") for product in block]
            file.write(encoder.encode(texts).astype("<f2").tobytes())
            file.flush()
            os.fsync(file.fileno())
            done += len(texts)
            state["encoded"] = done
            _save_state(partial, state)
    progress("encode products", done, len(table))


def _npy_header(shape: tuple[int, int]) -> bytes:
    """The header that `numpy.save` writes for a float16 array of this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _tuning_queries(table: ProductTable, encoder: TextEncoder) -> npt.NDArray[np.float32]:
    """Queries like those to come, (about TUNING_QUERIES, dim): whole titles, and their first two or three words, since short queries lie
    farther from the products than products do from each other."""
    rng = random.Random(0)
    rows = rng.sample(range(len(table)), min(TUNING_QUERIES, len(table)))
    texts = []
    for number, row in enumerate(rows):
        title = table.string("title", row)
        texts.append(Text(title if number % 2 else " ".join(title.split()[: rng.choice((2, 3))])))
    return encoder.encode(texts)


def _write_manifest(
    source: Source, recipe: Recipe, partial: Path, state: dict[str, Any], spec: EncoderSpec, report: Any
) -> Manifest:
    progress_file = partial / PROGRESS
    state_text = progress_file.read_text()
    progress_file.unlink()
    files = record_files(partial)
    progress_file.write_text(state_text)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.name,
        version=content_version(files),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        commit=_commit(),
        products=state["products"],
        dim=spec.dim,
        currency=recipe.currency,
        currency_digits=currency_digits(recipe.currency),
        locales=recipe.locales,
        text_attributes=source.text_attributes,
        catalogue={"source": source.name, "fingerprint": source.fingerprint, "report": state["report"]},
        recipe=asdict(recipe),
        encoder=asdict(spec),
        index=report.to_json(),
        files=files,
    )
    sync_files(partial, [partial / name for name in files])
    (partial / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    sync_files(partial, [partial / MANIFEST])
    return manifest


def _put_in_place(partial: Path, out: Path) -> None:
    (partial / PROGRESS).unlink()
    if out.exists():
        old = out.with_name(out.name + ".replaced")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        partial.rename(out)
        shutil.rmtree(old)
    else:
        partial.rename(out)
    sync_files(out.parent, [])


@contextmanager
def _work_folder(partial: Path, recipe_key: str) -> Iterator[None]:
    """The folder of an unfinished build of this recipe, made or found, and held against a second build."""
    partial.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(f"another build is at work in {partial}") from None
        state_file = partial / PROGRESS
        state = json.loads(state_file.read_text()) if state_file.is_file() else {}
        if state.get("recipe") != recipe_key:
            for path in partial.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _save_state(partial, {"recipe": recipe_key})
        yield
    finally:
        os.close(descriptor)


def _save_state(partial: Path, state: dict[str, Any]) -> None:
    new = partial / (PROGRESS + ".new")
    new.write_text(json.dumps(state))
    new.replace(partial / PROGRESS)


def _commit() -> str:
    """The commit of the checkout that built this, "" outside one."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
