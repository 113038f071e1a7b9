"""Generations of a bundle on the disk: the one that is served, and the one before it.

    mine            the bundle that is served
    mine.next       the generation that was built, and is verified before it takes the place
    mine.previous   the one before, for a rollback
    mine.lock       locked by the process that builds or swaps

A process may be killed anywhere. `mine` is a whole bundle at any time, and whoever comes next finishes a swap that was begun.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models.arrays import Float16s, Progress
from models.bundle_parts import verify_bundle
from models.bundles.bundle import Bundle
from models.bundles.files import aside, exchange, sync_files
from models.bundles.manifest import BundleError, Manifest
from models.next_generation import BLOCK, Living, build_next
from models.products.product import Product
from serving.catalogue.generation import next_of, previous_of
from serving.catalogue.live_catalogue import LiveCatalogue
from serving.catalogue.log import ChangeLog
from serving.catalogue.open_catalogue import open_catalogue

READ_AT_ONCE = 2_000  # changes
RECALL_QUERIES = 200


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from building or swapping generations of a bundle, and finishes a swap that was killed. Raises BundleError
    while another does."""
    descriptor = os.open(folder.with_name(folder.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BundleError(f"another process builds or swaps generations of {folder}") from None
        _finish_swap(folder)
        yield
    finally:
        os.close(descriptor)


def compact(
    folder: Path, log: ChangeLog, progress: Progress, may_swap: Callable[[], None] = lambda: None
) -> Manifest | None:
    """Puts the next generation, with every change of the log, in the place of the bundle in `folder`, which becomes the one before. None if
    the bundle has them already. `may_swap` is asked before, and raises if another may have built meanwhile.

    A build that fails changes nothing. Raises BundleError, and LogEnded if the log lacks changes that the bundle lacks too.
    """
    with alone(folder):
        bundle = Bundle(folder)
        catalogue = open_catalogue(bundle)
        while batches := log.read(catalogue.sequence, READ_AT_ONCE):
            catalogue.apply(batches)
            progress("replay the log", catalogue.sequence - bundle.manifest.sequence, None)
        if catalogue.sequence == bundle.manifest.sequence:
            return None
        build_next(bundle, _living(catalogue), next_of(folder), progress, replace=True)
        progress("verify", 0, None)
        built = Bundle(next_of(folder))
        _check(bundle, built, catalogue)
        may_swap()
        if Bundle(folder).manifest != bundle.manifest:
            raise BundleError(f"{folder} was replaced while its next generation was built; nothing was swapped")
        exchange(next_of(folder), folder)
        _keep_previous(folder)
    return built.manifest


def roll_back(folder: Path, check: Callable[[Manifest], None]) -> Manifest:
    """Puts the generation before in the place of the bundle, and the other way round. `check` raises if it cannot serve any more. Raises
    BundleError if there is none."""
    with alone(folder):
        if not previous_of(folder).is_dir():
            raise BundleError(f"there is no generation before {folder}: {previous_of(folder).name} is missing")
        previous = Bundle(previous_of(folder))
        verify_bundle(previous)
        check(previous.manifest)
        exchange(previous_of(folder), folder)
    return previous.manifest


def _finish_swap(folder: Path) -> None:
    """Completes a swap that was killed between its steps: what lies next to the bundle is then older than it."""
    waiting = next_of(folder)
    if aside(folder).is_dir():
        aside(folder).rename(waiting if folder.exists() else folder)
    try:
        is_old = waiting.is_dir() and Bundle(waiting).manifest.sequence < Bundle(folder).manifest.sequence
    except BundleError:
        return  # what the next build replaces
    if is_old:
        _keep_previous(folder)


def _keep_previous(folder: Path) -> None:
    shutil.rmtree(previous_of(folder), ignore_errors=True)
    next_of(folder).rename(previous_of(folder))
    sync_files(folder.parent, [])


def _living(catalogue: LiveCatalogue) -> Living:
    rows = np.flatnonzero(catalogue.table.alive)

    def products() -> Iterator[Product]:
        for start in range(0, len(rows), BLOCK):
            yield from catalogue.products(rows[start : start + BLOCK])

    def vectors() -> Iterator[Float16s]:
        for start in range(0, len(rows), BLOCK):
            yield catalogue.unit_vectors(rows[start : start + BLOCK])

    return Living(num_products=len(rows), products=products, unit_vectors=vectors, sequence=catalogue.sequence)


def _check(before: Bundle, after: Bundle, catalogue: LiveCatalogue) -> None:
    """Raises BundleError unless the new generation holds what the catalogue holds, and finds its own products."""
    verify_bundle(after)
    if after.manifest.products != catalogue.table.num_alive:
        raise BundleError(
            f"{after.folder} holds {after.manifest.products:,} products, the catalogue {catalogue.table.num_alive:,}"
        )
    stated, measured = before.manifest.recipe["index"]["recall"], after.manifest.index["recall"]
    if measured < stated:
        raise BundleError(f"{after.folder}: its index has a recall of {measured:.3f}, {stated:.3f} is wanted")
    table, vectors = after.products(), after.vectors()
    index, dim = after.index("cpu"), after.manifest.dim
    rows = np.linspace(0, len(table) - 1, min(RECALL_QUERIES, len(table))).astype(np.int64)
    queries = np.zeros((len(rows), index.width), np.float32)
    queries[:, :dim] = vectors[rows, :dim]
    scores = index.search(queries, 1).scores[:, 0]
    lengths = (queries**2).sum(axis=1)
    found = float((scores > lengths - 1e-3).mean())
    if found < stated:
        raise BundleError(f"{after.folder}: its index finds {found:.3f} of the products by their own vectors")
    for row in rows.tolist():
        if catalogue.table.product_of(table.id(row)) != table.product(row):
            raise BundleError(f"{after.folder}: the product {table.id(row)!r} is not the one of the catalogue")
