"""Ways to find candidates on a GPU. Whoever asks ranks them by exact inner products.

Each is made of the vectors (size, width) as float16, on the device or on the host, and computes on one stream, that of PyTorch. Those of
FAISS take a processor's index too, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import faiss
import numpy as np

from models.arrays import Float16s, Floats, Ints
from models.index.top_rows import top_rows

MAX_CANDIDATES = 2048  # that a search of FAISS on a GPU selects
ADDED_AT_ONCE = 1 << 18
TRAINED_PER_LIST = 64


class Way(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_exact(self) -> bool:
        """Whether it misses nothing but by the rounding of float16."""

    @property
    def efforts(self) -> Sequence[int]:
        """What `set_effort` takes, least first."""

    @property
    def max_candidates(self) -> float: ...

    def set_effort(self, effort: int) -> None: ...

    def candidates(self, queries: Any, n: int, forbidden: Any = None) -> Any:
        """Returns rows (batch, n) of torch `queries` (batch, width), those most likely the best; -1 where there are no more.

        Only the matrix product takes `forbidden` (size,): rows that are left out.
        """


class MatrixProduct:
    """One float16 matrix product, rounded to 11 bits. Features are added unrounded, as they may weigh far more."""

    name, is_exact = "matrix product", True
    efforts = (1,)
    max_candidates = math.inf

    def __init__(self, vectors: Any, dim: int) -> None:
        """`vectors` is a tensor (size, width)."""
        self._vectors, self._dim = vectors, dim
        self._static = vectors[:, dim:].float()  # (size, num_static)

    def set_effort(self, effort: int) -> None:
        """Has none."""

    def change_features(self, rows: Any, features: Any) -> None:
        self._static[rows] = features

    def candidates(self, queries: Any, n: int, forbidden: Any = None, weighs: bool = False) -> Any:
        """`weighs` says that a query weighs features."""
        rough = queries[:, : self._dim].half() @ self._vectors[:, : self._dim].T  # (batch, size)
        if weighs:
            rough = rough.float() + queries[:, self._dim :] @ self._static.T
        if forbidden is not None:
            rough.masked_fill_(forbidden, -math.inf)
        scores, rows = top_rows(rough, min(n, len(self._vectors)))
        return rows.masked_fill_(scores == -math.inf, -1)


class FlatSearch:
    """FAISS's brute force, which reads the vectors where they are and selects without writing all scores. CUDA alone."""

    name, is_exact = "FAISS flat", True
    efforts = (1,)
    max_candidates = MAX_CANDIDATES

    def __init__(self, vectors: Any, resources: Any) -> None:
        """`vectors` is a tensor (size, width) on the device."""
        self._vectors, self._resources = vectors, resources

    def set_effort(self, effort: int) -> None:
        """Has none."""

    def candidates(self, queries: Any, n: int, forbidden: Any = None) -> Any:  # noqa: ARG002
        import torch

        half = queries.half().contiguous()
        n = min(n, len(self._vectors))
        scores = torch.empty((len(half), n), dtype=torch.float32, device=half.device)
        rows = torch.empty((len(half), n), dtype=torch.int64, device=half.device)
        asked = faiss.GpuDistanceParams()
        asked.metric = faiss.METRIC_INNER_PRODUCT
        asked.k, asked.dims, asked.device = n, half.shape[1], half.device.index or 0
        asked.vectors = faiss.cast_integer_to_void_ptr(self._vectors.data_ptr())
        asked.vectorType, asked.vectorsRowMajor = faiss.DistanceDataType_F16, True
        asked.numVectors = len(self._vectors)
        asked.queries = faiss.cast_integer_to_void_ptr(half.data_ptr())
        asked.queryType, asked.queriesRowMajor, asked.numQueries = faiss.DistanceDataType_F16, True, len(half)
        asked.outDistances = faiss.cast_integer_to_float_ptr(scores.data_ptr())
        asked.outIndices = faiss.cast_integer_to_void_ptr(rows.data_ptr())
        asked.outIndicesType = faiss.IndicesDataType_I64
        faiss.bfKnn(self._resources, asked)
        return rows


class IndexSearch:
    """An index of FAISS over the unit vectors. `search` gets queries (batch, dim), a number of rows and an effort."""

    is_exact = False
    max_candidates = MAX_CANDIDATES

    def __init__(
        self, name: str, index: Any, efforts: Sequence[int], search: Callable[[Any, Floats, int, int], Ints]
    ) -> None:
        self.name, self.efforts = name, efforts
        self._index, self._search, self._effort = index, search, efforts[0]

    def set_effort(self, effort: int) -> None:
        self._effort = effort

    def candidates(self, queries: Any, n: int, forbidden: Any = None) -> Any:  # noqa: ARG002
        import torch

        # FAISS copies its arguments to the device: some kilobytes, and rows back.
        units = np.ascontiguousarray(queries[:, : self._index.d].cpu().numpy())
        rows = self._search(self._index, units, min(n, self._index.ntotal), self._effort)
        return torch.from_numpy(rows).to(queries.device)


def lists_of(vectors: Float16s, dim: int, num_lists: int, resources: Any = None) -> IndexSearch:
    """Returns inverted lists over the first `dim` columns of `vectors` (size, width), in float16; without `resources` on the processor.

    Trained here: the lists of the bundle are of codes that GPUs do not read.
    """
    kind = faiss.ScalarQuantizer.QT_fp16
    if resources is None:
        quantizer = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(quantizer, dim, num_lists, kind, faiss.METRIC_INNER_PRODUCT)
        index.referenced_objects = [quantizer]
    else:
        config = faiss.GpuIndexIVFScalarQuantizerConfig()
        config.indicesOptions = faiss.INDICES_64_BIT
        index = faiss.GpuIndexIVFScalarQuantizer(
            resources, dim, num_lists, kind, faiss.METRIC_INNER_PRODUCT, True, config
        )
    size = len(vectors)
    index.cp.spherical = True
    index.train(_floats(vectors, np.linspace(0, size - 1, min(size, TRAINED_PER_LIST * num_lists)).astype(int), dim))
    for start in range(0, size, ADDED_AT_ONCE):
        index.add(_floats(vectors, slice(start, start + ADDED_AT_ONCE), dim))
    efforts = tuple(2**power for power in range(int(math.log2(num_lists)) + 1))
    return IndexSearch(f"FAISS lists, {num_lists}", index, efforts, _read_lists)


def _read_lists(index: Any, queries: Floats, n: int, num_lists: int) -> Ints:
    index.nprobe = num_lists
    rows: Ints = index.search(queries, n)[1]
    return rows


def has_graphs() -> bool:
    """Whether this FAISS was built with cuVS."""
    return hasattr(faiss, "GpuIndexCagra")


def graph_of(vectors: Float16s, dim: int, resources: Any) -> IndexSearch:
    """Returns a CAGRA graph (Ootomo et al., "CAGRA", 2023, arXiv 2308.15136) over the first `dim` columns of `vectors`."""
    index = faiss.GpuIndexCagra(resources, dim, faiss.METRIC_INNER_PRODUCT, faiss.GpuIndexCagraConfig())
    index.train(_floats(vectors, slice(None), dim))
    return IndexSearch("FAISS graph", index, (256, 512, 1024), _walk)


def _walk(index: Any, queries: Floats, n: int, width: int) -> Ints:
    """`width` is the number of candidates that the walk keeps."""
    rows: Ints = index.search(queries, n, params=faiss.SearchParametersCagra(itopk_size=max(width, n)))[1]
    return rows


def _floats(vectors: Float16s, rows: Any, dim: int) -> Any:
    return np.ascontiguousarray(vectors[rows, :dim], dtype=np.float32)
