"""The shards of a bundle: its products divided by a hash of their ids, each part a bundle of its own that a process maps.

    shards/2/00/    the first of two shards: the files of a bundle, those that are parallel by row cut, the others linked
        rows.npy          (products,) the row in the whole bundle of each of the shard's products, ascending
        shard.json        which shard this is, of which bundle
        filter_keys.json  the brands, categories and prices of the whole (`models.products.filter_keys`)

What is learned or counted over all products stays as it is in the whole: centroids and codes of the index, mean lengths of the fields,
vocabulary and shares of the ranker, distinct values. Only the postings, cells and rows of other shards are left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.arrays import Ints, Progress, silent
from models.bundles.bundle import ATTRIBUTES, IDENTIFIERS, INDEX, LEXICAL, PRODUCTS, VECTORS, Bundle
from models.bundles.files import link_file, record_files, write_manifest
from models.bundles.manifest import BundleError
from models.index.vector_index import LISTS_FILE
from models.lexical.lexical_index import FACTS_FILE as LEXICAL_FACTS
from models.lexical.postings import Postings
from models.products.attributes.columns import BY_PRODUCT_WIDTHS, codes_file
from models.products.attributes.columns import FACTS_FILE as ATTRIBUTE_FACTS
from models.products.filter_keys import FilterKeys
from models.products.product_table import BLOCK, ProductTable
from models.ranking.bundle_part import RANKER_PART
from models.ranking.column_files import COLUMNS_PART

SHARDS = "shards"
ROWS = "rows.npy"
SHARD = "shard.json"
MAX_SHARDS = 64
_ABSENT = -1  # the local row of a product of another shard
_AT_ONCE = 1 << 22  # numbers that are looked through at once


@dataclass(frozen=True, slots=True)
class ShardOf:
    """Which shard a process holds: number `number`, from 0, of `count`."""

    number: int
    count: int

    def holds(self, product_id: str) -> bool:
        return shard_of(product_id, self.count) == self.number

    def folder(self, bundle: Path) -> Path:
        return bundle / SHARDS / str(self.count) / f"{self.number:02}"


def shard_of(product_id: str, count: int) -> int:
    """Returns the shard of a product: the same in every process, whatever else the catalogue holds."""
    digest = hashlib.blake2b(product_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % count


def shards_of(count: int) -> list[ShardOf]:
    return [ShardOf(number, count) for number in range(count)]


def open_shard(bundle: Bundle, shard: ShardOf) -> Bundle:
    """Opens a shard of a bundle. Raises BundleError if it was not cut, or from another version."""
    folder = shard.folder(bundle.folder)
    opened = Bundle(folder)
    opened.verify(SHARD)
    facts = json.loads((folder / SHARD).read_text(encoding="utf-8"))
    if facts != _facts(bundle, shard):
        raise BundleError(f"{folder} is {facts}, expected {_facts(bundle, shard)}; delete {folder.parent}")
    return opened


def shard_rows(bundle: Bundle, shard: ShardOf) -> Ints:
    """Returns the mapped rows (products,) in the whole bundle of the products of a shard. Raises BundleError."""
    opened = open_shard(bundle, shard)
    opened.verify(ROWS)
    rows: Ints = np.asarray(np.load(opened.folder / ROWS, mmap_mode="r"))
    return rows


def has_shards(bundle: Bundle, count: int) -> bool:
    return (bundle.folder / SHARDS / str(count)).is_dir()


def cut_shards(bundle: Bundle, count: int, progress: Progress = silent) -> Path:
    """Writes `count` shards into the bundle's folder, and returns theirs. Those that are there already stay.

    Raises BundleError for a number that the bundle cannot be divided into, and where nothing can be written.
    """
    out = bundle.folder / SHARDS / str(count)
    if has_shards(bundle, count):
        for shard in shards_of(count):
            open_shard(bundle, shard)
        return out
    if not 2 <= count <= MAX_SHARDS:
        raise BundleError(f"{count} shards: there must be 2 to {MAX_SHARDS}")
    if RANKER_PART.is_in(bundle) and not COLUMNS_PART.is_in(bundle):
        raise BundleError(f"{bundle.folder} has a ranker without columns, of an older version; train the ranker again")
    table = bundle.products()
    if len(table) < count:
        raise BundleError(f"{bundle.folder} holds {len(table)} products, too few for {count} shards")
    numbers = _shard_numbers(table, count)
    sizes = np.bincount(numbers, minlength=count)
    if not sizes.all():
        raise BundleError(
            f"{bundle.folder} holds {len(table)} products, and shard {int(sizes.argmin())} of {count} would hold none of them"
        )
    partial = out.with_name(f"{count}.{os.getpid()}.partial")
    try:
        for shard in shards_of(count):
            progress("cut shards", shard.number, count)
            _Cut(bundle, shard, np.flatnonzero(numbers == shard.number), partial / f"{shard.number:02}").write()
        partial.rename(out)
    except OSError as error:
        if not has_shards(bundle, count):  # another process may have been faster
            raise BundleError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _facts(bundle: Bundle, shard: ShardOf) -> dict[str, Any]:
    return {"bundle": bundle.manifest.version, "number": shard.number, "count": shard.count}


def _shard_numbers(table: ProductTable, count: int) -> npt.NDArray[np.uint8]:
    return np.fromiter((shard_of(table.id(row), count) for row in range(len(table))), np.uint8, len(table))


class _Cut:
    """Writes one shard."""

    def __init__(self, bundle: Bundle, shard: ShardOf, rows: Ints, folder: Path) -> None:
        self._bundle, self._shard, self._rows, self._folder = bundle, shard, rows, folder
        self._local = np.full(bundle.manifest.products, _ABSENT, np.int64)  # by row of the whole
        self._local[rows] = np.arange(len(rows))

    def write(self) -> None:
        bundle, folder = self._bundle, self._folder
        bundle.verify(*{name.split("/")[0] for name in bundle.manifest.files})
        folder.mkdir(parents=True)
        np.save(folder / ROWS, self._rows)
        (folder / SHARD).write_text(json.dumps(_facts(bundle, self._shard)), encoding="utf-8")
        FilterKeys.of(bundle.products()).save(folder)
        for name in (ATTRIBUTES, INDEX, LEXICAL, COLUMNS_PART.name):
            if bundle.holds(f"{name}/"):
                (folder / name).mkdir()
        self._products()
        self._vectors()
        self._identifiers()
        if bundle.holds(f"{ATTRIBUTES}/"):
            self._attributes()
        if bundle.holds(f"{LEXICAL}/"):
            self._lexical()
        if bundle.holds(f"{INDEX}/{LISTS_FILE}"):
            self._lists()
        if COLUMNS_PART.is_in(bundle):
            self._columns()
        written = record_files(folder)
        linked = {name: record for name, record in bundle.manifest.files.items() if name not in written}
        for name in linked:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            link_file(bundle.folder / name, folder / name)
        manifest = dataclasses.replace(bundle.manifest, products=len(self._rows), files=written | linked)
        write_manifest(folder, manifest, written)

    def _products(self) -> None:
        source = pa.ipc.open_file(pa.memory_map(str(self._bundle.folder / PRODUCTS)))
        with (
            pa.OSFile(str(self._folder / PRODUCTS), "wb") as sink,
            pa.ipc.new_file(sink, source.schema) as writer,
        ):
            waiting: list[pa.RecordBatch] = []
            for number in range(source.num_record_batches):
                batch = source.get_batch(number)
                first = number * BLOCK
                inside = self._rows[slice(*np.searchsorted(self._rows, (first, first + batch.num_rows)))] - first
                waiting.append(batch.take(pa.array(inside)))
                if sum(part.num_rows for part in waiting) >= BLOCK:
                    together = _combined(waiting)
                    writer.write_batch(_combined([together.slice(0, BLOCK)]))
                    waiting = [together.slice(BLOCK)]
            rest = _combined(waiting)
            if rest.num_rows:
                writer.write_batch(rest)

    def _vectors(self) -> None:
        vectors = self._bundle.vectors()
        shape = (len(self._rows), vectors.shape[1])
        out = np.lib.format.open_memmap(self._folder / VECTORS, "w+", np.float16, shape)
        step = max(1, _AT_ONCE // shape[1])
        for start in range(0, len(self._rows), step):
            out[start : start + step] = vectors[self._rows[start : start + step]]
        out.flush()

    def _identifiers(self) -> None:
        hashes, rows = (np.load(self._bundle.folder / f"{IDENTIFIERS}{name}.npy", "r") for name in ("hashes", "rows"))
        local = self._local[rows]
        np.save(self._folder / f"{IDENTIFIERS}hashes.npy", hashes[local >= 0])
        np.save(self._folder / f"{IDENTIFIERS}rows.npy", local[local >= 0])

    def _attributes(self) -> None:
        source, folder = self._bundle.folder / ATTRIBUTES, self._folder / ATTRIBUTES
        num_products, num_rows = len(self._local), len(self._rows)
        starts, rows = np.load(source / "starts.npy", "r"), np.load(source / "rows.npy", "r")
        kept, starts = self._cut_lists(starts, rows)
        np.save(folder / "starts.npy", starts)
        np.save(folder / "rows.npy", self._local[rows[kept]].astype(rows.dtype))
        for width in BY_PRODUCT_WIDTHS:
            codes = np.load(source / codes_file(width), "r").reshape(-1, num_products)
            np.save(folder / codes_file(width), codes[:, self._rows].ravel())
        facts = json.loads((source / ATTRIBUTE_FACTS).read_text(encoding="utf-8"))
        for one in facts:
            one["by_product_start"] = one["by_product_start"] // num_products * num_rows
        (folder / ATTRIBUTE_FACTS).write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")

    def _lexical(self) -> None:
        source = self._bundle.folder / LEXICAL
        whole = Postings.load(source, len(self._local))
        kept, starts = self._cut_lists(whole.offsets, whole.rows)
        is_there = np.diff(starts) > 0
        Postings(
            whole.hashes[is_there],
            np.concatenate([starts[:-1][is_there], starts[-1:]]),
            self._local[whole.rows[kept]].astype(np.uint32),
            whole.weights[kept],
            whole.fields[kept],
        ).save(self._folder / LEXICAL)
        facts = json.loads((source / LEXICAL_FACTS).read_text(encoding="utf-8"))
        facts["products"] = len(self._rows)
        (self._folder / LEXICAL / LEXICAL_FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _lists(self) -> None:
        """Keeps all centroids, and the codes of the shard's products as they are: a query reads the same lists in every shard."""
        lists = faiss.read_index(str(self._bundle.folder / INDEX / LISTS_FILE))
        others = np.packbits(self._local < 0, bitorder="little")
        lists.remove_ids(faiss.IDSelectorBitmap(others))
        inverted = faiss.downcast_InvertedLists(lists.invlists)
        for number in range(lists.nlist):
            if size := inverted.list_size(number):
                ids = faiss.rev_swig_ptr(inverted.get_ids(number), size)
                ids[:] = self._local[ids]
        faiss.write_index(lists, str(self._folder / INDEX / LISTS_FILE))

    def _columns(self) -> None:
        whole, folder = COLUMNS_PART.open(self._bundle), self._folder / COLUMNS_PART.name
        lengths = whole.lengths[self._rows]
        steps = lengths.sum(axis=1, dtype=np.int64)
        starts = np.cumsum(steps) - steps
        at = np.repeat(whole.starts[self._rows] - starts, steps) + np.arange(steps.sum())
        cut = {
            "ids": whole.ids[self._rows],
            "numbers": whole.numbers[self._rows],
            "attribute_ids": whole.attribute_ids[self._rows],
            "lengths": lengths,
            "starts": starts.astype(np.int32),
            "words": whole.words[at],
        }
        for name, array in cut.items():
            np.save(folder / f"{name}.npy", array)

    def _cut_lists(self, starts: Ints, rows: npt.NDArray[Any]) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Returns which entries (entries,) of lists are the shard's, and where its lists start (lists + 1,)."""
        kept = np.zeros(len(rows), np.bool_)
        for start in range(0, len(rows), _AT_ONCE):
            kept[start : start + _AT_ONCE] = self._local[rows[start : start + _AT_ONCE]] >= 0
        before = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(kept, out=before[1:])
        return kept, before[starts]


def _combined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns the batches as one whose buffers begin with its first row."""
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches() or [batches[0]]
    return batch
