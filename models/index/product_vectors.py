"""The vectors of a catalogue's products: those of a bundle, mapped, and those of products that came later."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.arrays import Float16s, Ints
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts
from models.products.growing_rows import GrowingRows


class ProductVectors:
    """Rows (products, columns): unit vectors of `dim` columns, then static features, then zeros. What reads them grows after them."""

    def __init__(self, vectors: Float16s, dim: int | None = None) -> None:
        """`vectors` are kept, not copied; `change_offers` needs them to be writable. `dim` None: all columns are the unit vector's.

        Raises ValueError for vectors that are not float16 in C order.
        """
        if vectors.dtype != np.float16 or not vectors.flags.c_contiguous:
            raise ValueError(f"vectors are {vectors.dtype}, the index reads C-ordered float16")
        self._rows = GrowingRows(vectors)
        self.dim = vectors.shape[1] if dim is None else dim

    @classmethod
    def open(cls, path: Path, dim: int) -> ProductVectors:
        """Maps a file of vectors. What is written into them stays in this process: the file never changes."""
        return cls(np.load(path, mmap_mode="c"), dim)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._rows), self._rows.base.shape[1]

    @property
    def base(self) -> Float16s:
        """The vectors that it began with, where they are."""
        return self._rows.base

    @property
    def appended(self) -> Float16s:
        """The vectors appended since, as a view that the next append may leave behind."""
        return self._rows.appended

    def take(self, rows: Ints, out: Float16s | None = None) -> Float16s:
        """Returns the vectors of these rows (n, columns), in `out` where it is given."""
        return self._rows.take(rows, out)

    def columns(self, rows: Ints, start: int, stop: int) -> Float16s:
        """Returns columns `start` to `stop` of these rows, (n, stop - start)."""
        return self._rows.part(rows, start, stop)

    def append(self, added: AddedProducts) -> None:
        self._rows.append(added.vectors)

    def remove(self, removed: RemovedProducts) -> None:
        """Rows stay."""

    def change_offers(self, changed: ChangedOffers) -> None:
        stop = self.dim + changed.features.shape[1]
        self._rows.put(changed.rows, changed.features, slice(self.dim, stop))
