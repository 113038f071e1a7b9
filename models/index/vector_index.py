"""The nearest product vectors of a query, with exact filters: FAISS on a CPU, one matrix product on a GPU.

The float16 vectors of the bundle, mapped from disk, are the exact index and refine the compressed one: every returned score is an inner
product with them.

- "exact" reads all vectors for a single query. A batch is multiplied with them in bf16, and the candidates are refined (`batch_search`).
- "ivf" reads the lists whose centroid's cosine is at most `margin` below the nearest one's (`list_search`), and refines the best.
  A margin instead of a number of lists spends effort where it is needed.

Why this family: inverted lists of 4-bit codes reach a recall on short queries that HNSW over 8-bit codes misses, in the same time and with
a sixth of its memory. `MEASURED.md` has the figures; `aisle bench --only index` measures this module again.

Static features. The vectors may be [p; f]: a unit vector and, in the last `num_static` columns, features of the product, each 0 to 1. A
query [q; w] then returns the products of the highest p.q + f.w, whatever the weights w of that query (Jha et al., "Unified Embedding
Based Personalized Retrieval in Etsy Search", 2023, arXiv 2306.04833).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Float16s, Floats, Progress, silent
from models.devices import cpu_computes_bf16, cuda_is_usable
from models.index.batch_search import BatchSearch
from models.index.build_lists import build_lists
from models.index.exact_search import ExactSearch
from models.index.list_search import ListSearch
from models.index.neighbours import Neighbours, QueryNeighbours, stack
from models.index.spec import Device, IndexSpec
from models.index.torch_search import TorchSearch

SPEC_FILE = "spec.json"
LISTS_FILE = "lists.faiss"

# A filter that passes less than this share of the products is answered by scoring all that pass. To gather and score a product takes
# 0.17 us, to read its code in a list 0.007 us, and such a filtered query reads nearly all the lists.
GATHERED_SHARE = 1 / 25
# Exact indexes up to this size answer batches by a matrix product; its copy of the vectors, and (batch, size) products, take memory.
MAX_MULTIPLIED = 1 << 17


class VectorIndex:
    """Nearest neighbours among unit vectors, with static features or without. Searching is safe from several threads."""

    def __init__(
        self, spec: IndexSpec, vectors: Float16s, lists: Any = None, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        """`vectors` (size, width) are kept, not copied. `lists` is the trained and filled FAISS index of kind "ivf"."""
        self.spec = spec
        self.size, self.width = vectors.shape
        self.dim = self.width - spec.num_static
        self.device = device
        self._exact = ExactSearch(vectors, spec.num_static)
        self._on_gpu = TorchSearch(self._exact.vectors, device, spec.num_static) if device == "cuda" else None
        self._lists = None if lists is None else ListSearch(lists, self._exact, spec)
        multiplies = device == "cpu" and lists is None and self.size <= MAX_MULTIPLIED and cpu_computes_bf16()
        self._batches = BatchSearch(self._exact) if multiplies else None

    @property
    def bytes_per_product(self) -> float:
        """Memory of searching, the mapped vectors included."""
        vectors = 2.0 * self.width
        if self._lists is None:
            return vectors + (0.0 if self._batches is None else 2.0 * self.width)
        return vectors + self._lists.num_bytes() / self.size

    @classmethod
    def build(cls, vectors: npt.NDArray[np.floating], spec: IndexSpec, progress: Progress = silent) -> VectorIndex:
        """Trains and fills an index over vectors (n, width), on all processors. The same input gives the same index.

        Raises ValueError if `spec` does not fit the vectors.
        """
        rounded = np.ascontiguousarray(vectors, dtype=np.float16)
        return cls(spec, rounded, build_lists(rounded, spec, progress) if spec.kind == "ivf" else None)

    def with_spec(self, spec: IndexSpec) -> VectorIndex:
        """Returns the same index searched with another margin or k_factor."""
        return VectorIndex(spec, self._exact.vectors, None if self._lists is None else self._lists.lists)

    def save(self, folder: Path) -> None:
        """Writes all but the vectors."""
        (folder / SPEC_FILE).write_text(json.dumps(self.spec.to_json()), encoding="utf-8")
        if self._lists is not None:
            faiss.write_index(self._lists.lists, str(folder / LISTS_FILE))

    @classmethod
    def load(cls, folder: Path, vectors: Float16s, device: Device = "auto") -> VectorIndex:
        """Opens the index that was built from the vectors (size, width). On a GPU the search is exact whatever the kind.

        Raises ValueError for vectors of another type or number than those of the index.
        """
        spec = IndexSpec.from_json(json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")))
        if vectors.dtype != np.float16 or not vectors.flags.c_contiguous:
            raise ValueError(f"vectors are {vectors.dtype}, the index reads C-ordered float16")
        if device == "cuda" or (device == "auto" and cuda_is_usable()):
            return cls(spec, vectors, device="cuda")
        if spec.kind == "exact":
            return cls(spec, vectors)
        lists = faiss.read_index(str(folder / LISTS_FILE))
        if (lists.ntotal, lists.d) != vectors.shape:
            raise ValueError(
                f"the index holds {(lists.ntotal, lists.d)} vectors and dimensions, there are {vectors.shape}"
            )
        return cls(spec, vectors, lists)

    def search(self, queries: Floats, k: int, allowed: Bools | None = None, num_threads: int = 1) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width), among those `allowed` (size,) when a mask is given.

        A product has one score for a query, to the last bit, whichever path computes it and whatever else is in the batch. Queries run in
        parallel on `num_threads`, each on one. Raises ValueError when a shape does not fit or a query is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._check(queries, k, allowed)
        if self._on_gpu is not None:
            return self._on_gpu.nearest(queries, k, allowed)
        if self._batches is not None and len(queries) > 1:
            return self._batches.nearest(queries, k, allowed, num_threads)
        search = self._search_of_one(k, allowed)
        if len(queries) == 1 or num_threads == 1:
            results = [search(query) for query in queries]
        else:
            results = list(_workers(num_threads).map(search, queries))
        if self._batches is not None:  # a lone query gets the scores that it gets in a batch
            results = [
                QueryNeighbours(result.ids, self._exact.score_pairs(queries, np.zeros_like(result.ids), result.ids))
                for result in results
            ]
        return stack(results, k)

    def _check(self, queries: Floats, k: int, allowed: Bools | None) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(f"queries have shape {queries.shape}, the index has {self.width} dimensions")
        if not np.isfinite(queries).all() or k < 1:
            raise ValueError(f"k is {k} and must be 1 or more, and queries finite")
        if allowed is not None and allowed.shape != (self.size,):
            raise ValueError(f"the filter has shape {allowed.shape}, the index {self.size} vectors")

    def _search_of_one(self, k: int, allowed: Bools | None) -> Callable[[Floats], QueryNeighbours]:
        """Returns the search for one query (width,) that is fastest under this filter."""
        searcher = self._exact if self._lists is None else self._lists
        if allowed is None:
            return lambda query: searcher.nearest(query, k)
        if np.count_nonzero(allowed) <= GATHERED_SHARE * self.size:
            rows = np.flatnonzero(allowed)
            return lambda query: self._exact.nearest_among(query, rows, k)
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return lambda query: searcher.nearest(query, k, selector)


@functools.cache
def _workers(num_threads: int) -> ThreadPoolExecutor:
    """Returns threads that stay: starting two for each batch took longer than searching for one query."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="aisle-index")
