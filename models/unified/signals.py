"""Engagement signals of each product in the training window: how much, in which locales, and through which queries."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Bools, Floats, Ints

SIGNAL_SCALARS = ("popularity_rank", "popularity", "shown_rank", "click_share", "purchase_share", "is_known")
_FILE = "signals.parquet"


@dataclass(frozen=True, slots=True)
class ProductSignals:
    """Signals by row of the catalogue. A product that no shopper was shown has zeros throughout."""

    scalars: Floats  # (products, SIGNAL_SCALARS), each 0 to 1
    locales: Floats  # (products, locales) its share of engagement from a locale minus the average share, -1 to 1
    graph: Floats  # (products, graph_dim)

    @property
    def known(self) -> Bools:
        """(products,) whether any shopper was shown the product."""
        return np.asarray(self.scalars[:, SIGNAL_SCALARS.index("is_known")] > 0)

    def save(self, folder: Path, product_ids: Sequence[str]) -> None:
        columns = {name: pa.array(_lists(getattr(self, name))) for name in ("scalars", "locales", "graph")}
        pq.write_table(pa.table({"id": pa.array(product_ids, pa.string()), **columns}), folder / _FILE)


class SavedSignals:
    """Signals by product id, as `ProductSignals.save` wrote them. It keeps those of the products that shoppers were shown: all others have
    zeros, and are most of a large catalogue."""

    def __init__(self, folder: Path) -> None:
        table = pq.read_table(folder / _FILE)
        scalars = _matrix(table["scalars"])
        rows = np.flatnonzero(scalars[:, SIGNAL_SCALARS.index("is_known")] > 0)
        ids = table["id"].take(pa.array(rows)).to_pylist()
        # Hashes of this process, sorted, find an id: 16 bytes a product, where a dict takes about 100.
        hashes = _hashes(ids)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._ids = pa.array([ids[at] for at in order.tolist()], pa.string())
        rows = rows[order]
        self._columns = {
            "scalars": scalars[rows],
            "locales": _matrix(table["locales"])[rows],
            "graph": _matrix(table["graph"])[rows],
        }

    def for_ids(self, product_ids: Sequence[str]) -> ProductSignals:
        """Returns signals in the order of the ids; a product that is newer than the training has zeros."""
        at = self._places(product_ids)
        known = at >= 0
        columns = {}
        for name, values in self._columns.items():
            columns[name] = np.zeros((len(at), values.shape[1]), np.float32)
            columns[name][known] = values[at[known]]
        return ProductSignals(**columns)

    def _places(self, product_ids: Sequence[str]) -> Ints:
        """Returns (ids,) the place of each product, -1 for one without signals."""
        if not len(self._hashes):
            return np.full(len(product_ids), -1, np.int64)
        hashes = _hashes(product_ids)
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        found = np.flatnonzero(self._hashes[at] == hashes)
        held = self._ids.take(pa.array(at[found])).to_pylist()
        # Two ids of one catalogue share 64 bits once in millions of catalogues; the id decides.
        same = [row for row, product_id in zip(found.tolist(), held, strict=True) if product_ids[row] == product_id]
        places = np.full(len(product_ids), -1, np.int64)
        places[same] = at[same]
        return places


@functools.lru_cache(maxsize=2)
def saved_signals(folder: Path) -> SavedSignals:
    """Returns the signals of a model folder, one for the whole process: those of a large catalogue are hundreds of megabytes."""
    return SavedSignals(folder)


def _hashes(product_ids: Sequence[str]) -> Ints:
    return np.fromiter(map(hash, product_ids), np.int64, len(product_ids))


def _matrix(column: pa.ChunkedArray) -> Floats:
    lists = column.combine_chunks()
    return np.asarray(lists.flatten(), np.float32).reshape(len(lists), lists.type.list_size)


def _lists(values: Floats) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
