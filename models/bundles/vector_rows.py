"""The rows of `vectors.npy`, as a build writes them and as products get them while Aisle serves."""

from __future__ import annotations

import numpy as np

from models.arrays import Float16s, Floats
from models.index.spec import num_columns


def vector_rows(unit_vectors: Floats | Float16s, features: Floats) -> Float16s:
    """Returns (products, num_columns): unit vectors (products, dim), static features (products, features), and zeros."""
    size, dim = unit_vectors.shape
    rows = np.zeros((size, num_columns(dim, features.shape[1])), "<f2")
    rows[:, :dim] = unit_vectors
    rows[:, dim : dim + features.shape[1]] = features
    return rows
