"""A bundle that was built anew from a catalogue goes on with the log of the one before.

The changes that its catalogue lacks are copied into a new log of the bundle's own line, with the vectors of the bundle's own encoder. The
sequences begin anew. The old log is kept beside the new one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from models.arrays import Floats, Progress
from models.bundles.bundle import Bundle
from models.bundles.files import exchange
from models.products.product import Product, product_text
from models.text_encoder.bundle_part import TEXT_ENCODER_PART
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.spec import Text
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.product_tower import LightProductTower
from serving.catalogue.change import ChangeBatch, Upsert
from serving.catalogue.sqlite_log import SqliteLog
from serving.config import ConfigError

READ_AT_ONCE = 2_000  # changes
BESIDE = ("-wal", "-shm", "-replicas")  # endings of the files that SQLite and the log keep beside a log
Encode = Callable[[Sequence[Product]], Floats]


def adopt_log(path: Path, bundle: Bundle, after: int, progress: Progress) -> tuple[int, Path]:
    """Puts a log of the bundle in the place of another bundle's, with those of its changes that come after a sequence. Returns how many
    they are, and where the old log is now. Killed anywhere, it leaves one of both in the place, and may be called again.

    Raises ConfigError while a process follows the log, and if it cannot be read; LogEnded if it does not have these changes; BundleError.
    """
    copy, kept = _with_ending(path, ".adopting"), _with_ending(path, ".adopted")
    line = _line(path)
    if line == bundle.manifest.line:
        if not copy.exists():
            raise ConfigError(f"{path} is this bundle's log already")
        return 0, copy.rename(kept)  # it was killed between the two steps
    for ending in ("", *BESIDE):
        _with_ending(copy, ending).unlink(missing_ok=True)
    copied = asyncio.run(_copy(SqliteLog(path, line, "full"), bundle, after, copy, progress))
    if _with_ending(path, "-wal").exists():
        raise ConfigError(f"{path} is open in another process: stop the service first")
    for ending in BESIDE:  # the pages say how far processes were that are gone
        for log in (path, copy, kept):
            _with_ending(log, ending).unlink(missing_ok=True)
    exchange(copy, path)
    return copied, copy.rename(kept)


async def _copy(log: SqliteLog, bundle: Bundle, after: int, path: Path, progress: Progress) -> int:
    manifest, copied = bundle.manifest, 0
    try:
        if replicas := log.replicas():
            raise ConfigError(f"the process {replicas[0].name} follows the log: stop the service first")
        copy = SqliteLog(path, manifest.line, "full", manifest.sequence)
        try:
            encode = _encoder(bundle)
            while batches := log.read(after, READ_AT_ONCE):
                for logged in batches:
                    await copy.append(_encoded(logged.batch, manifest.encoder_version, encode))
                    after, copied = logged.last, copied + len(logged.batch.changes)
                progress("copy changes", copied, None)
        finally:
            await copy.close()
    finally:
        await log.close()
    return copied


def _encoded(batch: ChangeBatch, version: str, encode: Encode) -> ChangeBatch:
    products = [change.product for change in batch.changes if isinstance(change, Upsert)]
    vectors = batch.vectors
    if products and batch.encoder != version:
        vectors = encode(products).astype(np.float16)
    return dataclasses.replace(batch, vectors=vectors, encoder=version)


def _encoder(bundle: Bundle) -> Encode:
    """Returns what encodes products as a build does."""
    if UNIFIED_PART.is_in(bundle):
        folder = UNIFIED_PART.open(bundle)
        return LightProductTower(folder, LightTower(folder)).encode
    encoder, names = TextEncoder(TEXT_ENCODER_PART.open(bundle)), bundle.manifest.text_attributes
    return lambda products: encoder.encode([Text(product_text(product, names), "product") for product in products])


def _line(path: Path) -> str:
    """Returns what line of generations the changes of a log belong to."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return str(connection.execute("SELECT catalogue FROM state").fetchone()[0])
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be read as a log of changes: {error}") from None


def _with_ending(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
