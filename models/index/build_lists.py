"""Trains and fills the inverted lists of an index."""

from __future__ import annotations

import os
from typing import Any

import faiss
import numpy as np

from models.arrays import Float16s, Progress
from models.index.spec import IndexSpec

BLOCK = 1 << 16  # vectors converted to float32 at a time
SAMPLE_PER_LIST = 50  # vectors per centroid that k-means sees
KMEANS_ROUNDS = 10


def build_lists(vectors: Float16s, spec: IndexSpec, progress: Progress) -> Any:
    """Returns a filled IndexIVFPQFastScan over vectors (size, width), built on all processors.

    k-means sees the unit vectors alone, since features do not cluster with them; the codes hold the features too. Raises ValueError for an
    odd width and for more lists than vectors.
    """
    size, width = vectors.shape
    dim = width - spec.num_static
    if width % 2:
        raise ValueError(f"vectors have {width} dimensions, codes of two dimensions each need an even number")
    if not 1 <= spec.num_lists <= size:
        raise ValueError(f"{spec.num_lists} lists cannot be made of {size} vectors")
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    sample_size = min(size, max(SAMPLE_PER_LIST * spec.num_lists, BLOCK))
    sample = np.random.default_rng(spec.seed).choice(size, sample_size, replace=False)
    sample_vectors = np.take(vectors, np.sort(sample), axis=0).astype(np.float32)
    progress(f"find {spec.num_lists:,} lists", 0, None)
    kmeans = faiss.Kmeans(
        dim,
        spec.num_lists,
        niter=KMEANS_ROUNDS,
        spherical=True,
        seed=spec.seed + 1,
        min_points_per_centroid=1,
        max_points_per_centroid=sample_size,
    )
    kmeans.train(np.ascontiguousarray(sample_vectors[:, :dim]))
    quantizer = faiss.IndexFlatIP(width)
    quantizer.add(np.pad(kmeans.centroids, ((0, 0), (0, spec.num_static))))
    lists = faiss.IndexIVFPQFastScan(quantizer, width, spec.num_lists, width // 2, 4, faiss.METRIC_INNER_PRODUCT)
    lists.referenced_objects = [quantizer]
    lists.by_residual = True
    lists.train(sample_vectors[:: -(-sample_size // BLOCK)])
    for start in range(0, size, BLOCK):
        progress("fill the lists", start, size)
        lists.add(vectors[start : start + BLOCK].astype(np.float32))
    return lists
