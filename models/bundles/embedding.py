"""What gives a bundle its vectors: the seam between building a bundle and the models."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.arrays import Floats, Progress
from models.bundles.work_folder import WorkFolder
from models.products.product_table import ProductTable


class Embedding(Protocol):
    """Each step goes on where it was interrupted."""

    @property
    def boosts(self) -> tuple[str, ...]:
        """Names of the static features behind the unit vectors."""

    def fingerprint(self) -> str:
        """Changes when the same products would get other vectors. Raises when what it needs is not there."""

    def prepare(self, state: WorkFolder, progress: Progress) -> None:
        """What can be done, or fail, before products are read."""

    def embed(self, table: ProductTable, state: WorkFolder, progress: Progress) -> dict[str, Any]:
        """Writes `vectors.npy`, unit vectors and static features (products, num_columns) float16, and the part that encodes queries into
        the folder of `state`. Returns what the manifest states of the encoder, with its `dim`."""

    def tuning_queries(self, table: ProductTable, folder: Path) -> Floats:
        """Unit vectors (queries, dim) like those that will be searched with."""


def npy_header(shape: tuple[int, int]) -> bytes:
    """The header that `numpy.save` writes for a float16 array of this shape."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
