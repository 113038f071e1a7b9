"""The nearest product vectors of a query, with exact filters: FAISS on a CPU, the fastest of several ways on a GPU (`gpu_search`).

The float16 vectors of the products, mapped from disk, are the exact index and refine the compressed one: every returned score is an inner
product with them.

- "exact" reads all vectors for a single query. A batch is multiplied with them in bf16, and the candidates are refined (`batch_search`).
- "ivf" reads the lists whose centroid's cosine is at most `margin` below the nearest one's (`list_search`), and refines the best.
  A margin instead of a number of lists spends effort where it is needed.

Why this family: inverted lists of 4-bit codes reach a recall on short queries that HNSW over 8-bit codes misses, in the same time and with
a sixth of its memory. `MEASURED.md` has the figures; `aisle bench --only index` measures this module again.

Growth. Appended products join the lists of their nearest centroids, coded as those that are there. Next to an exact index they are scanned.
Removed rows stay where they are and are skipped.

Static features. The vectors may be [p; f]: a unit vector and, in the last `num_static` columns, features of the product, each 0 to 1. A
query [q; w] then returns the products of the highest p.q + f.w, whatever the weights w of that query (Jha et al., "Unified Embedding
Based Personalized Retrieval in Etsy Search", 2023, arXiv 2306.04833).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats, Progress, silent
from models.devices import cpu_computes_bf16, cuda_is_usable
from models.index.batch_search import BatchSearch
from models.index.build_lists import build_lists
from models.index.exact_search import ExactSearch
from models.index.gpu_search import GpuIndex, GpuSearch
from models.index.list_search import ListSearch
from models.index.neighbours import Neighbours, QueryNeighbours, stack
from models.index.product_vectors import ProductVectors
from models.index.row_selection import LivingRows, MaskedRows, RowSelection
from models.index.spec import Device, IndexSpec
from models.products.changes import AddedProducts, ChangedOffers, RemovedProducts

SPEC_FILE = "spec.json"
LISTS_FILE = "lists.faiss"

# A filter that passes less than this share of the products is answered by scoring all that pass. To gather and score a product takes
# 0.17 us, to read its code in a list 0.007 us, and such a filtered query reads nearly all the lists.
GATHERED_SHARE = 1 / 25
MIN_LIVING = 1 / 2  # a catalogue of which more was removed is searched as if it were so much
# Exact indexes up to this size answer batches by a matrix product; its copy of the vectors, and (batch, size) products, take memory.
MAX_MULTIPLIED = 1 << 17


class VectorIndex:
    """Nearest neighbours among unit vectors, with static features or without. Searching is safe from several threads.

    It is parallel by row: appended to, or told of changed offers, after the `vectors` that it reads were.
    """

    def __init__(
        self,
        spec: IndexSpec,
        vectors: ProductVectors,
        lists: Any = None,
        device: Literal["cpu", "cuda"] = "cpu",
        on_gpu: GpuIndex = "auto",
    ) -> None:
        """`vectors` (size, width) are kept, not copied. `lists` is the trained and filled FAISS index of kind "ivf" on a CPU."""
        self.spec = spec
        self.width = vectors.shape[1]
        self.dim = self.width - spec.num_static
        self.device = device
        self._num_first = len(vectors.base)
        self._exact = ExactSearch(vectors, spec.num_static)
        self._on_gpu: GpuSearch | None = None
        if device == "cuda":
            self._on_gpu = GpuSearch(vectors.base, device, spec.num_static, spec.num_lists, on_gpu)
        self._lists = None if lists is None else ListSearch(lists, self._exact, spec)
        multiplies = device == "cpu" and lists is None and self.size <= MAX_MULTIPLIED and cpu_computes_bf16()
        self._batches = BatchSearch(self._exact) if multiplies else None
        self._living = LivingRows(self._num_first)

    @property
    def size(self) -> int:
        """The number of rows, those of removed products included."""
        return self._exact.size

    @property
    def vectors(self) -> ProductVectors:
        return self._exact.vectors

    @property
    def backend(self) -> str:
        """Device and way of searching, as "cpu ivf"."""
        return f"{self.device} {self._on_gpu.way if self._on_gpu else self.spec.kind}"

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
        lists = build_lists(rounded, spec, progress) if spec.kind == "ivf" else None
        return cls(spec, ProductVectors(rounded, rounded.shape[1] - spec.num_static), lists)

    def with_spec(self, spec: IndexSpec) -> VectorIndex:
        """Returns the same index searched with another margin or k_factor."""
        return VectorIndex(spec, self.vectors, None if self._lists is None else self._lists.lists)

    def save(self, folder: Path) -> None:
        """Writes all but the vectors."""
        (folder / SPEC_FILE).write_text(json.dumps(self.spec.to_json()), encoding="utf-8")
        if self._lists is not None:
            faiss.write_index(self._lists.lists, str(folder / LISTS_FILE))

    @classmethod
    def load(
        cls, folder: Path, vectors: ProductVectors, device: Device = "auto", on_gpu: GpuIndex = "auto"
    ) -> VectorIndex:
        """Opens the index that was built from the vectors (size, width). `on_gpu` says how to search on a GPU.

        Raises ValueError for another number of vectors than those of the index, InputError for a way of a GPU that is not to be had.
        """
        spec = IndexSpec.from_json(json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")))
        if device == "cuda" or (device == "auto" and cuda_is_usable()):
            return cls(spec, vectors, device="cuda", on_gpu=on_gpu)
        if spec.kind == "exact":
            return cls(spec, vectors)
        lists = faiss.read_index(str(folder / LISTS_FILE))
        if (lists.ntotal, lists.d) != vectors.shape:
            raise ValueError(
                f"the index holds {(lists.ntotal, lists.d)} vectors and dimensions, there are {vectors.shape}"
            )
        return cls(spec, vectors, lists)

    def append(self, added: AddedProducts) -> None:
        """Raises ValueError if `vectors` was not appended to before."""
        if self.size != added.start + len(added.products):
            raise ValueError(f"there are {self.size} vectors, expected {added.start + len(added.products)}")
        self._exact.grow()
        if self._lists is not None:
            self._lists.append(added.vectors)
        if self._batches is not None:
            self._batches.append(added.vectors)
        if len(self._living):
            self._living.grow(self.size)

    def remove(self, removed: RemovedProducts) -> None:
        self._living.grow(self.size)
        self._living.remove(removed.rows)

    def change_offers(self, changed: ChangedOffers) -> None:
        if not self.spec.num_static:
            return
        if self._lists is not None:
            self._lists.change_features(changed.rows)
        if self._batches is not None:
            self._batches.change_features(changed.rows)
        if self._on_gpu is not None:
            rows = changed.rows[changed.rows < self._num_first]
            self._on_gpu.change_features(rows, self.vectors.take(rows))

    def search(self, queries: Floats, k: int, allowed: Bools | None = None, num_threads: int = 1) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width), among those `allowed` (size,) when a mask is given.

        A mask passes no removed row, and without one none is returned.

        A product has one score for a query, to the last bit, whichever path computes it and whatever else is in the batch. Queries run in
        parallel on `num_threads`, each on one. Raises ValueError when a shape does not fit or a query is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._check(queries, k, allowed)
        if self._on_gpu is not None:
            return self._search_on_gpu(self._on_gpu, queries, k, self._selection(allowed))
        if self._batches is not None and len(queries) > 1:
            return self._batches.nearest(queries, k, self._selection(allowed), num_threads)
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

    def _selection(self, allowed: Bools | None) -> RowSelection | None:
        """Returns what a mask passes; None for all rows."""
        if allowed is not None:
            return MaskedRows(allowed, self._num_first)
        return self._living if len(self._living) else None

    def _search_of_one(self, k: int, allowed: Bools | None) -> Callable[[Floats], QueryNeighbours]:
        """Returns the search for one query (width,) that is fastest under this filter."""
        if allowed is not None:
            num_allowed = int(np.count_nonzero(allowed))
            if num_allowed <= GATHERED_SHARE * self.size:
                rows = np.flatnonzero(allowed)
                return lambda query: self._exact.nearest_among(query, rows, k)
            if num_allowed == self.size - len(self._living):  # it leaves out the removed rows alone
                allowed = None
        if allowed is None:
            return lambda query: self._nearest_living(query, k)
        selection = MaskedRows(allowed, self._num_first)
        return lambda query: self._nearest(query, k, selection)

    def _nearest(self, query: Floats, k: int, selection: RowSelection | None = None) -> QueryNeighbours:
        return (self._lists or self._exact).nearest(query, k, selection)

    def _nearest_living(self, query: Floats, k: int) -> QueryNeighbours:
        """Searches for so many more products that `k` of them live, unless most that were removed are near the query.

        As a filter the removed rows take up to twice the time in an exact index, three times in lists.
        """
        if not len(self._living):
            return self._nearest(query, k)
        share = max(1 - len(self._living) / self.size, MIN_LIVING)
        found = self._nearest(query, math.ceil((k + 3 * math.sqrt(k * (1 - share))) / share) + 1)
        lives = self._living.hold(found.ids)
        if np.count_nonzero(lives) < min(k, self.size - len(self._living)):
            return self._nearest(query, k, self._living)
        return QueryNeighbours(found.ids[lives][:k], found.scores[lives][:k])

    def _search_on_gpu(self, on_gpu: GpuSearch, queries: Floats, k: int, selection: RowSelection | None) -> Neighbours:
        """Adds the appended products, which are searched here, to what the GPU finds among the others."""
        allowed = None
        if selection is not None:
            allowed = np.ones(self._num_first, np.bool_)
            allowed[selection.left_out(self._num_first)] = False
        found = on_gpu.nearest(queries, k, allowed)
        if self.size == self._num_first:
            return found
        appended = [self._exact.nearest_appended(query, k, selection) for query in queries]
        results = [
            QueryNeighbours(ids[ids >= 0], scores[ids >= 0]).merge(late, k)
            for ids, scores, late in zip(found.ids, found.scores, appended, strict=True)
        ]
        return stack(results, k)


@functools.cache
def _workers(num_threads: int) -> ThreadPoolExecutor:
    """Returns threads that stay: starting two for each batch took longer than searching for one query."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="aisle-index")
