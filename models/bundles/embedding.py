"""The protocol of a model that makes a bundle's vectors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.arrays import Floats, Progress
from models.bundles.work_folder import WorkFolder
from models.products.product_table import ProductTable


class Embedding(Protocol):
    """Makes the vectors of products and the part that encodes queries. An interrupted step resumes when it is called again."""

    @property
    def boosts(self) -> tuple[str, ...]:
        """The names of the static features, in the order of their columns after the unit vector."""

    def fingerprint(self) -> str:
        """Returns a hash that changes when the same products would get other vectors. Raises InputError for a model that is missing."""

    def prepare(self, work: WorkFolder, progress: Progress) -> None:
        """Does what needs no products, so that it fails before they are read."""

    def embed(self, table: ProductTable, work: WorkFolder, progress: Progress) -> dict[str, Any]:
        """Writes `vectors.npy`, (products, num_columns) float16 with unit vectors and static features, and the part that encodes queries.
        Returns the manifest's facts of the encoder, `dim` among them."""

    def locales(self, folder: Path, /) -> tuple[str, ...]:
        """Returns the locales that the part in `folder` has learned from a log; the bundle serves them beside those of its recipe."""

    def tuning_queries(self, table: ProductTable, folder: Path) -> Floats:
        """Returns unit vectors (queries, dim) of typical searches, to tune the index with."""


def npy_header(shape: tuple[int, int]) -> bytes:
    """Returns the header that `numpy.save` writes for a float16 array of this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
