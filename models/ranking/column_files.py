"""The ranker's columns in a bundle, mapped when it is served: to compute them takes some 60 us a product.

columns.json       format, and the median of the logarithms of the prices in each category
ids.npy, numbers.npy, attribute_ids.npy, words.npy, starts.npy, lengths.npy, vocabulary.npy
baseline_keys.npy, baseline_ids.npy, baseline_shares.npy
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Floats, UInt32s, UInt64s
from models.bundles.bundle import Bundle, reading
from models.bundles.manifest import BundleError
from models.bundles.part import Part
from models.ranking.baseline_shares import BaselineShares

FORMAT_VERSION = 2  # 2 added ids
_FACTS = "columns.json"
_ARRAYS = {
    "ids": np.uint32,
    "numbers": np.float32,
    "attribute_ids": None,  # of the width that the vocabulary needs
    "words": np.uint32,
    "starts": np.int32,
    "lengths": np.uint8,
    "vocabulary": np.uint64,
}
_BASELINE = {
    "categories": ("baseline_keys", np.uint64),
    "ids": ("baseline_ids", np.int64),
    "shares": ("baseline_shares", np.float32),
}


@dataclass(frozen=True, slots=True, eq=False)
class ColumnArrays:
    """What `ProductColumns` holds of a bundle's products; see there."""

    ids: UInt32s
    numbers: Floats
    attribute_ids: npt.NDArray[np.unsignedinteger]
    words: npt.NDArray[np.uint32]
    starts: Codes
    lengths: npt.NDArray[np.uint8]
    vocabulary: UInt64s
    baseline: BaselineShares
    medians: dict[str, float]

    def save(self, folder: Path) -> None:
        """Writes a new folder."""
        folder.mkdir()
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        for name, (file, _) in _BASELINE.items():
            np.save(folder / f"{file}.npy", getattr(self.baseline, name))
        facts = {"format_version": FORMAT_VERSION, "medians": self.medians}
        (folder / _FACTS).write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, num_products: int) -> ColumnArrays:
        """Maps the arrays: what is written into them stays in this process. Raises BundleError for arrays of another format, or that do not
        fit each other or the number of products."""
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        if facts["format_version"] != FORMAT_VERSION:
            raise BundleError(
                f"{_FACTS}: format {facts['format_version']} is not {FORMAT_VERSION}; train the ranker again"
            )
        arrays = {name: _map(folder / f"{name}.npy", dtype) for name, dtype in _ARRAYS.items()}
        baseline = {name: _map(folder / f"{file}.npy", dtype) for name, (file, dtype) in _BASELINE.items()}
        lengths, starts = arrays["lengths"], arrays["starts"]
        by_row = {name: len(arrays[name]) for name in ("ids", "numbers", "attribute_ids", "starts", "lengths")}
        if set(by_row.values()) != {num_products}:
            raise BundleError(f"{folder.name}: columns of {by_row} rows, the bundle has {num_products} products")
        steps = int(starts[-1]) + int(lengths[-1].sum()) if num_products else 0
        if len(arrays["words"]) != steps or baseline["shares"].shape != (
            len(baseline["categories"]),
            len(baseline["ids"]),
        ):
            raise BundleError(f"{folder.name}: {len(arrays['words'])} steps of words, expected {steps}")
        return cls(**arrays, baseline=BaselineShares(**baseline), medians=facts["medians"])


def _map(path: Path, dtype: Any) -> npt.NDArray[Any]:
    array = np.load(path, mmap_mode="c")
    if dtype is not None and array.dtype != dtype:
        raise BundleError(f"{path.name} holds {array.dtype}, expected {np.dtype(dtype)}")
    return np.asarray(array)


def _load(bundle: Bundle, folder: Path) -> ColumnArrays:
    return ColumnArrays.load(folder, bundle.manifest.products)


COLUMNS_PART = Part("columns", _load)


def find_columns(bundle: Bundle) -> ColumnArrays | None:
    """Maps the bundle's columns; returns None for a bundle without, and for columns of an earlier format.

    Whoever trains a ranker anew on such a bundle, or compares it in a report, computes them. Raises BundleError for damaged ones.
    """
    if not COLUMNS_PART.is_in(bundle):
        return None
    path = bundle.folder / COLUMNS_PART.name / _FACTS
    with reading(path):
        if int(json.loads(path.read_text(encoding="utf-8"))["format_version"]) < FORMAT_VERSION:
            return None
    return COLUMNS_PART.open(bundle)
