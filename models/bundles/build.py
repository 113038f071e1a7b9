"""Builds a bundle from products.

    products -> products.arrow, attributes/ -> encoder -> vectors.npy -> lexical/ -> tuner -> index/ -> manifest.json -> rename

Every step streams: memory grows with the vectors only where the index needs them. Unfinished work is kept in `OUT.partial`: the same
command resumes there after an interruption, and another recipe starts again.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.bundle import ATTRIBUTES, INDEX, LEXICAL, PRODUCTS, VECTORS
from models.bundles.commit import checkout_commit
from models.bundles.embedding import Embedding
from models.bundles.files import record_files, sync_files, write_manifest
from models.bundles.manifest import FORMAT_VERSION, BundleError, Manifest, with_locales
from models.bundles.source import Source
from models.bundles.work_folder import PROGRESS, WorkFolder, check_replaceable, move_into_place, open_work_folder
from models.errors import InputError
from models.index.tuner import IndexTarget, TuneReport, tune
from models.lexical.lexical_index import LexicalIndex
from models.products.attributes.collector import AttributeCollector
from models.products.currency import currency_digits
from models.products.identifiers import IdentifierIndex
from models.products.product import Product
from models.products.product_table import ProductTable, write_products
from models.products.spelling import Speller

FULL_DISK_BYTES = 64 * 1024  # with less free space, a full disk is the cause of any failed write


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every setting of a build; with the source, it determines the bundle."""

    name: str
    encoder: str = "minilm"  # of a bundle without the unified model
    locales: tuple[str, ...] = ("en-US",)
    currency: str = "USD"
    dimensions: tuple[int, ...] = ()
    max_query_tokens: int = 64
    max_product_tokens: int = 128
    eight_bit: bool = True  # the text encoder in 8 bits too, for processors that are faster so
    index: IndexTarget = field(default_factory=IndexTarget)


def build_bundle(
    source: Source,
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    embedding: Embedding,
    replace: bool = False,
    facts: Mapping[str, Any] | None = None,
    lexical: LexicalIndex | None = None,
) -> Manifest:
    """Builds `out` with the vectors of `embedding`, or resumes an interrupted build of the same recipe.

    `facts` replace fields of the manifest, of its `catalogue` those that are named. `lexical` is an older index,
    whose mean lengths and fields stay: no product then scores otherwise than in it.

    Raises BundleError when `out` exists (unless `replace`, and it is a bundle), when another build is at work there, when the source
    holds no product, and when the disk is full; finished steps are kept. Raises CatalogueError for an unknown currency, and the errors of
    `embedding`.
    """
    out = out.resolve()  # "." gets a name, and a link is followed, not replaced
    check_replaceable(out, replace)
    currency_digits(recipe.currency)
    partial = out.with_name(out.name + ".partial")
    built_with = [FORMAT_VERSION, importlib.metadata.version("aisle"), embedding.fingerprint()]
    key = hashlib.sha256(json.dumps([source.fingerprint, asdict(recipe), built_with]).encode()).hexdigest()
    try:
        with open_work_folder(partial, key) as work:
            check_replaceable(out, replace)  # another build may have finished meanwhile
            manifest = _build(source, recipe, embedding, work, progress, facts or {}, lexical)
            move_into_place(partial, out)
    except Exception as error:
        if not _disk_is_full(error, out.parent):
            raise
        raise BundleError(
            f"the disk is full; make room next to {out} and give the same command again: it resumes where it stopped"
        ) from error
    return manifest


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """Whether a full disk caused the error. OSError has a number for it; other libraries that write have a text, or nothing."""
    if isinstance(error, InputError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "No space left" in str(error) or shutil.disk_usage(folder).free < FULL_DISK_BYTES


def _build(
    source: Source,
    recipe: Recipe,
    embedding: Embedding,
    work: WorkFolder,
    progress: Progress,
    facts: Mapping[str, Any],
    lexical: LexicalIndex | None,
) -> Manifest:
    embedding.prepare(work, progress)
    table = _write_products(source, work, progress)
    encoder = embedding.embed(table, work, progress)
    progress("look-up of model numbers", 0, None)
    IdentifierIndex.build(table.products(), source.identifiers).save(work.folder)
    progress("words for spelling", 0, None)
    Speller.build(table.products()).save(work.folder)
    _write_lexical_index(recipe, table, work, progress, lexical)
    tuned = _write_index(recipe, embedding, table, work, progress)
    return _write_manifest(source, recipe, embedding, work, encoder, tuned, facts)


def _write_products(source: Source, work: WorkFolder, progress: Progress) -> ProductTable:
    path, done = work.folder / PRODUCTS, work.values
    if "products" not in done:
        collector = AttributeCollector(source.types, keeps_types=source.keeps_types)
        products = _collected(_report_count(source.products(), source.num_products, progress), collector)
        done["products"] = write_products(path, products, source.attributes, keeps_rare=source.keeps_rare)
        progress("types of attributes", 0, None)
        shutil.rmtree(work.folder / ATTRIBUTES, ignore_errors=True)  # of a build that was interrupted here
        done["report"] = source.report() | {"attributes": collector.save(work.folder / ATTRIBUTES)}
        sync_files(work.folder, [*work.folder.glob(f"{PRODUCTS}*"), *(work.folder / ATTRIBUTES).iterdir()])
        work.save()
    if not done["products"]:
        raise BundleError(f"{source.name} holds no usable product: {json.dumps(done['report'])[:600]}")
    return ProductTable(path)


def _collected(products: Iterator[Product], collector: AttributeCollector) -> Iterator[Product]:
    for product in products:
        collector.add(product)
        yield product


def _write_index(
    recipe: Recipe, embedding: Embedding, table: ProductTable, work: WorkFolder, progress: Progress
) -> TuneReport:
    vectors = np.load(work.folder / VECTORS, mmap_mode="r")
    progress("queries to tune the index with", 0, None)
    queries = embedding.tuning_queries(table, work.folder)
    tuned = tune(
        vectors,
        queries,
        recipe.index,
        lambda stage, done, total: progress(f"index: {stage}", done, total),
        num_features=len(embedding.boosts),
    )
    folder = work.folder / INDEX
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted build may have written another index
    folder.mkdir()
    tuned.index.save(folder)
    return tuned


def _write_lexical_index(
    recipe: Recipe, table: ProductTable, work: WorkFolder, progress: Progress, older: LexicalIndex | None
) -> None:
    """Indexes the words in the language of the first locale, which is that of the catalogue's texts."""
    index = LexicalIndex.build(
        table,
        recipe.locales[0],
        lengths=older.lengths if older else None,
        attributes=older.attributes if older else None,
        progress=lambda stage, done, total: progress(f"lexical index: {stage}", done, total),
    )
    shutil.rmtree(work.folder / LEXICAL, ignore_errors=True)  # of an interrupted build
    index.save(work.folder / LEXICAL)


def _report_count(products: Iterator[Product], total: int | None, progress: Progress) -> Iterator[Product]:
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
    work: WorkFolder,
    encoder: dict[str, Any],
    tuned: TuneReport,
    facts: Mapping[str, Any],
) -> Manifest:
    files = record_files(work.folder, excluding=[PROGRESS])
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=recipe.name,
        version="",  # derived from the other fields
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        aisle_version=importlib.metadata.version("aisle"),
        commit=checkout_commit(),
        products=work.values["products"],
        dim=encoder["dim"],
        currency=recipe.currency,
        currency_digits=currency_digits(recipe.currency),
        locales=with_locales(recipe.locales, embedding.locales(work.folder)),
        text_attributes=source.text_attributes,
        catalogue={
            "source": source.name,
            "fingerprint": source.fingerprint,
            "report": work.values["report"],
            "identifiers": list(source.identifiers),
            **facts.get("catalogue", {}),
        },
        recipe=asdict(recipe),
        encoder=encoder,
        index=tuned.to_json(),
        files=files,
        boosts=embedding.boosts,
    )
    manifest = dataclasses.replace(manifest, **{name: value for name, value in facts.items() if name != "catalogue"})
    return write_manifest(work.folder, manifest, files)
