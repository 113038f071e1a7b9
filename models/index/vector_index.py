"""The nearest product vectors of a query, with exact filters: FAISS on a CPU, one matrix product on a GPU.

The float16 vectors of the bundle, mapped from disk, are the exact index and the refinement of the compressed one: every score that
leaves here is an inner product with them.

- "exact" reads them all, for a single query; a batch is multiplied with them (`models.index.bf16_product`) and the candidates are refined.
- "ivf" reads the lists whose centroid's cosine is at most `margin` below the nearest one's, as 4-bit codes of two dimensions each
  (product quantisation of residuals, scanned with SIMD table look-ups: Andre et al., "Cache locality is not enough", 2015), and
  refines the best. A margin instead of a number of lists spends effort where it is needed. Of the true neighbours of titles / short
  queries in 4,096 lists over 1,000,000 vectors, a margin of 0.275 covers .996 / .977 with 59,000 / 185,000 codes read, the nearest
  512 lists cover .999 / .955 with 141,000 / 128,000, the nearest 1,024 cover 1.00 / .980 with 267,000 / 255,000.

Why this family alone. 1,000,000 x 384 jittered product vectors, recall@100 of titles / of queries of one to three words, p50 in ms of
one title (/ short query) on one thread (AMD EPYC with AVX-512, 2 cores shared with other work: runs differ by up to half), bytes
beside the vectors' own 768 (HNSW's are computed); IVF and HNSW refined with the float16 vectors:

    flat float16                           1.00 / 1.00     25      0
    flat float32                           1.00 / 1.00     52      1536
    IVF 4096, 4-bit PQ, 128 lists read     .991 / .881     0.65    116
    ... without residuals                  .977 / .875     0.65    116
    ... half as many codes                 .960 / .836     0.55    65
    ... RaBitQ 1 bit, FastScan             .990 / .856     1.00    74
    ... RaBitQ 4 bit                       .995 / .883     1.75    226
    ... 8-bit scalar                       .995 / .884     1.76    398
    HNSW 32, 8-bit scalar, ef 400          .983 / .784     0.67    650
    HNSW 32, 8-bit scalar, ef 800          .986 / .844     1.42    650
    IVF 4096, 4-bit PQ, 512 lists read     .996 / .946     1.79 / 1.73   116
    this module, 2048 lists, margin 0.225  .987 / .947     0.44 / 1.1    110
    this module, 2048 lists, margin 0.275  .991 / .970     0.74 / 2.5    110

An HNSW quantiser over 4,096 centroids saves 0.06 ms of 0.12 when 32 lists are read, but misses 8 % of the right ones for short
queries, and costs more when 128 are. A batch gains nothing from being scanned together (13 ms for 32 queries, 0.3 ms for one), so
its queries run one by one.

Static features. The vectors may be [p; f]: a unit vector and, in the last `num_static` columns, features of the product, each 0 to 1. A
query [q; w] then finds the products of the highest p.q + f.w, whatever the weights w of that one query (Jha et al., "Unified Embedding
Based Personalized Retrieval in Etsy Search", 2023, arXiv 2306.04833). Lists are made of p alone, since features do not cluster with it, and
hold f in their codes; a weighted query reads them down to where no feature could lift a product into the answer.
"""

from __future__ import annotations

import functools
import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import faiss as typed_faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Float16s, Floats, Ints
from models.devices import cpu_computes_bf16, cuda_is_usable
from models.index.bf16_product import Bf16Product
from models.index.float16 import to_float32

faiss: Any = typed_faiss  # its stubs lack much of what is used here

Ids = Ints
Kind = Literal["exact", "ivf"]
Device = Literal["auto", "cpu", "cuda"]
Progress = Callable[[str], None]

SPEC_FILE = "spec.json"
LISTS_FILE = "lists.faiss"

BLOCK = 1 << 16  # vectors converted to float32 at a time while building
SAMPLE_PER_LIST = 50  # vectors per centroid that k-means sees
KMEANS_ROUNDS = 10
# Products scored at a time: 8,192 x 384 float16 stay in the caches, which halves the time per product against one pass over 50,000.
GATHER = 1 << 13
RESCORED = (
    1 << 10
)  # pairs of a query and a product scored at a time, each with a copy of both in float32: 56 us for 290 pairs, in one go 72
# A filter that passes less than this share of the products is answered by scoring all that pass. To gather and score a product takes
# 0.17 us, to read its code in a list 0.007 us, and such a filtered query reads nearly all the lists.
GATHERED_SHARE = 1 / 25
# Exact indexes up to this size answer batches by a matrix product; its copy of the vectors, and (batch, size) products, take memory.
MAX_MULTIPLIED = 1 << 17
# No query reads more of the lists than this at first: short queries far from all products would, for 0.002 of recall at 1,000,000.
MAX_LISTS_SHARE = 1 / 2
# Under a filter more candidates are refined: far from the query products differ less from each other than their codes err.
FILTERED_EFFORT = 2
# ... and lists are read down to this share of the margin below the k-th product found. At 1,000,000 with half of them allowed, 1.0
# takes twice the time of 0.7 for a recall of 0.995 instead of 0.987 on short queries.
RECEDE_SHARE = 0.7
# ... and down to this share where features are weighed, below the least similarity with which a product could still be lifted above the
# k-th. At 45,000, a margin of 0.275 and weights up to 1, recall of titles / short queries was .975 to .990 / .953 to .976 at 0, .988 to
# .998 / .963 to .995 at 0.35, .997 to 1.00 / .980 to .999 at 0.7, without weights .980 / .954; codes read 1.0 to 1.4, 1.1 to 2.3 and 1.4
# to 3.7 times those without weights.
WEIGHED_SHARE = 0.35
# FAISS reads float16 vectors with SIMD in steps of 16 columns: one query over 20,000 vectors took 0.5 ms at 256 and 272 columns, 5.4 ms
# at 260.
COLUMN_STEP = 16


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """How an index is built and searched. Lists, margin, k_factor and seed are for "ivf" alone."""

    kind: Kind = "exact"
    num_lists: int = 0
    margin: float = 0.25  # lists are read whose centroid's cosine is at most this far below the nearest one's
    k_factor: float = 4.0  # candidates refined for each neighbour asked for
    seed: int = 0
    num_static: int = 0  # last columns of the vectors that are static features, none of the unit vector

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "ivf"):
            raise ValueError(f'the index is of kind "{self.kind}", this Aisle reads "exact" and "ivf"')
        if self.margin <= 0 or self.k_factor < 1:
            raise ValueError(
                f"margin is {self.margin} and must be above 0, k_factor is {self.k_factor} and must be 1 or more"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> IndexSpec:
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest products of each query, best first."""

    ids: Ids  # (batch, k) rows of the vectors, equals in ascending order; -1 where fewer than k products are allowed
    scores: Floats  # (batch, k) inner products with the float16 vectors; -inf where there is no product


def num_columns(dim: int, num_features: int) -> int:
    """Columns of vectors of `dim` dimensions with static features, and with zeros up to what is read fast."""
    return dim if not num_features else -(-(dim + num_features) // COLUMN_STEP) * COLUMN_STEP


class VectorIndex:
    """Nearest neighbours among unit vectors, with static features where there are any. Searching is safe from several threads."""

    def __init__(
        self, spec: IndexSpec, vectors: Float16s, lists: Any = None, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        """`vectors` (size, width) are kept, not copied. `lists` is the trained and filled FAISS index of kind "ivf"."""
        self.spec = spec
        self.size, self.width = vectors.shape
        self.dim = self.width - spec.num_static
        self.device = device
        self._vectors = np.asarray(vectors)  # a plain view: indexing a memmap costs more
        self._matrix = _TorchMatrix(self._vectors, device, spec.num_static) if device == "cuda" else None
        self._flat = _scan_over(self._vectors)
        self._lists = lists
        self._multiplies = device == "cpu" and lists is None and self.size <= MAX_MULTIPLIED and cpu_computes_bf16()
        self._products: dict[int, Bf16Product] = {}  # by number of threads; made when a batch first wants it
        no_lists = np.empty((0, self.width), np.float32)
        self._centroids = no_lists if lists is None else _centroids_of(lists)  # (num_lists, width)

    @property
    def bytes_per_product(self) -> float:
        """Memory of searching, the mapped vectors included."""
        vectors = 2.0 * self.width
        if self._lists is None:
            return vectors + (2.0 * self.width if self._multiplies else 0.0)
        lists = self._lists.invlists
        lengths = np.array([lists.list_size(number) for number in range(self._lists.nlist)])
        codes = int((-(-lengths // 32) * 32).sum()) * self._lists.code_size  # stored in blocks of 32
        ids = 8 * int(lengths.sum())
        return vectors + (codes + ids + self._centroids.nbytes) / self.size

    @classmethod
    def build(cls, vectors: npt.NDArray[np.floating], spec: IndexSpec, progress: Progress | None = None) -> VectorIndex:
        """Trains and fills an index over vectors (n, width), on all processors. The same input gives the same index."""
        halves = np.ascontiguousarray(vectors, dtype=np.float16)
        lists = _build_lists(halves, spec, progress or (lambda _: None)) if spec.kind == "ivf" else None
        return cls(spec, halves, lists)

    def with_spec(self, spec: IndexSpec) -> VectorIndex:
        """The same index searched with another margin or k_factor."""
        return VectorIndex(spec, self._vectors, self._lists)

    def save(self, folder: Path) -> None:
        """Writes all but the vectors."""
        (folder / SPEC_FILE).write_text(json.dumps(self.spec.to_json()), encoding="utf-8")
        if self._lists is not None:
            faiss.write_index(self._lists, str(folder / LISTS_FILE))

    @classmethod
    def load(cls, folder: Path, vectors: Float16s, device: Device = "auto") -> VectorIndex:
        """An index over the vectors (size, width) that it was built from. On a GPU the search is exact whatever the kind."""
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
        """The `k` nearest products of each query (batch, width), among those `allowed` (size,) when a mask is given.

        A product has one score for a query, to the last bit, whatever way and in whatever company it was found. Queries run side by side
        on `num_threads`, each on one. Raises ValueError when a shape does not fit or a query is not finite.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(f"queries have shape {queries.shape}, the index has {self.width} dimensions")
        if not np.isfinite(queries).all() or k < 1:
            raise ValueError(f"k is {k} and must be 1 or more, and queries finite")
        if allowed is not None and allowed.shape != (self.size,):
            raise ValueError(f"the filter has shape {allowed.shape}, the index {self.size} vectors")
        if self._matrix is not None:
            nearest = self._matrix.search(queries, min(k, self.size), allowed)
            ids, scores = _in_order(nearest.ids, nearest.scores)
            return Neighbours(_padded(ids, k, -1), _padded(scores, k, -np.inf))
        if self._multiplies and len(queries) > 1:
            asked, rows = self._multiply(queries, k, allowed, num_threads)
            return self._ranked(queries, asked, rows, k)
        look_up = self._look_up(k, allowed)
        if len(queries) == 1 or num_threads == 1:
            found = [look_up(query) for query in queries]
        else:
            found = list(_workers(num_threads).map(look_up, queries))
        if self._multiplies:  # a query alone gets the scores of one in a batch
            found = [_Found(one.ids, self._products_of(queries, np.zeros_like(one.ids), one.ids)) for one in found]
        return _together(found, k)

    def _ranked(self, queries: Floats, asked: Ids, rows: Ids, k: int) -> Neighbours:
        """The k best of pairs of a query's number (pairs,) and a product's row (pairs,), equals by row.

        The whole batch takes a few calls: each hands the interpreter to another thread, and beside a busy event loop it comes back
        milliseconds later.
        """
        found = self._products_of(queries, asked, rows)
        order = np.lexsort((rows, -found, asked))
        asked, rows, found = asked[order], rows[order], found[order]
        ends = np.searchsorted(asked, np.arange(len(queries)), side="right")
        place = np.arange(len(rows)) - np.concatenate([[0], ends])[asked]
        kept = place < k
        ids = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids[asked[kept], place[kept]] = rows[kept]
        scores[asked[kept], place[kept]] = found[kept]
        return Neighbours(ids, scores)

    def _look_up(self, k: int, allowed: Bools | None) -> Callable[[Floats], _Found]:
        """How one query (width,) is answered under this filter: best first, as many as there are, at most `k`."""
        through = self._scan if self._lists is None else self._through_lists
        if allowed is None:
            return lambda query: through(query, k, None)
        if np.count_nonzero(allowed) <= GATHERED_SHARE * self.size:
            rows = np.flatnonzero(allowed)
            return lambda query: self._best_of(query, rows, k)
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return lambda query: through(query, k, selector)

    def _products_of(self, queries: Floats, asked: Ids, rows: Ids) -> Floats:
        """(pairs,) inner products, each computed the same way whatever else is asked for: to the bit those without features
        where the query weighs none."""
        products = np.empty(len(rows), np.float32)
        unit, static = np.s_[:, : self.dim], np.s_[:, self.dim :]
        for start in range(0, len(rows), RESCORED):
            at = slice(start, start + RESCORED)
            vectors, query = to_float32(np.take(self._vectors, rows[at], axis=0)), queries[asked[at]]
            np.einsum("ij,ij->i", vectors[unit], query[unit], out=products[at])
            if self.spec.num_static:
                products[at] += np.einsum("ij,ij->i", vectors[static], query[static])
        return products

    def _multiply(self, queries: Floats, k: int, allowed: Bools | None, num_threads: int) -> tuple[Ids, Ids]:
        """Rounded products with every vector choose candidates, among which the true best must be: pairs as `_ranked` takes them."""
        if num_threads not in self._products:
            self._products[num_threads] = Bf16Product(self._vectors, num_threads, self.spec.num_static)
        multiplied = self._products[num_threads]
        rough = multiplied(queries)  # (batch, size)
        if allowed is not None:
            rough[:, ~allowed] = -np.inf
        last = self.size - min(k, self.size)
        least = np.partition(rough, last, axis=1)[:, last] - 2 * multiplied.max_error(queries)
        pairs = np.flatnonzero(rough >= np.maximum(least, np.finfo(np.float32).min)[:, None])
        return np.divmod(pairs, self.size)

    def _scan(self, query: Floats, k: int, selector: Any) -> _Found:
        """Exact: every product."""
        faiss.omp_set_num_threads(1)
        settings = faiss.SearchParameters(sel=selector)
        scores, ids = self._flat.search(query[None], min(k, self.size), params=settings)
        return _Found(ids[ids >= 0], scores[ids >= 0])

    def _best_of(self, query: Floats, rows: Ids, k: int) -> _Found:
        """Exact: the products `rows` (ascending), read block by block."""
        faiss.omp_set_num_threads(1)
        best = _Found.none()
        for start in range(0, len(rows), GATHER):
            block = rows[start : start + GATHER]
            scores, places = _scan_over(np.take(self._vectors, block, axis=0)).search(query[None], min(k, len(block)))
            best = best.merged(_Found(block[places[0]], scores[0]), k)
        return best

    def _through_lists(self, query: Floats, k: int, selector: Any) -> _Found:
        """Reads the lists within the margin of the nearest one. Under a filter, or with features weighed, the horizon then recedes
        until it is well below what the k-th product found has without the most that features add, since what passes or is lifted may
        lie far from the query."""
        faiss.omp_set_num_threads(1)
        nearness = _inner_products(query, self._centroids)  # (num_lists,)
        lowest = float(nearness.min())
        horizon, nearer = self._first_horizon(nearness), math.inf
        weights = query[self.dim :]
        most_added = float(np.maximum(weights, 0).sum())
        recedes = selector is not None or bool(weights.any())
        below = (WEIGHED_SHARE if selector is None else RECEDE_SHARE) * self.spec.margin
        num_rough = math.ceil(k * self.spec.k_factor * (FILTERED_EFFORT if recedes else 1))
        best = _Found.none()
        while True:
            numbers = np.flatnonzero((nearness >= horizon) & (nearness < nearer))
            rough = self._scan_lists(query, numbers, nearness[numbers], num_rough, selector)
            best = best.merged(self._best_of(query, rough, k), k)
            too_few = len(best.ids) < k
            if horizon <= lowest or not (recedes or too_few):
                return best
            needed = -math.inf if too_few else float(best.scores[-1]) - most_added - below
            if needed >= horizon:
                return best
            horizon, nearer = max(needed, horizon - self.spec.margin), horizon

    def _first_horizon(self, nearness: Floats) -> float:
        horizon = float(nearness.max()) - self.spec.margin
        max_lists = max(1, int(len(nearness) * MAX_LISTS_SHARE))
        if np.count_nonzero(nearness >= horizon) <= max_lists:
            return horizon
        return float(np.partition(nearness, -max_lists)[-max_lists])

    def _scan_lists(self, query: Floats, numbers: Ids, nearness: Floats, num_rough: int, selector: Any) -> Ids:
        """The most promising products of some lists by their codes, ascending."""
        if not len(numbers):
            return np.empty(0, np.int64)
        scores = np.empty((1, num_rough), np.float32)
        ids = np.empty((1, num_rough), np.int64)
        settings = faiss.IVFSearchParameters(nprobe=len(numbers), sel=selector)
        pointer = faiss.swig_ptr
        self._lists.search_preassigned_c(  # the Python form takes no settings
            1,
            pointer(query),
            num_rough,
            pointer(numbers),
            pointer(nearness),
            pointer(scores),
            pointer(ids),
            False,
            settings,
        )
        return np.sort(ids[ids >= 0])


@dataclass(frozen=True, slots=True)
class _Found:
    """Products found for one query, best first."""

    ids: Ids  # (found,)
    scores: Floats  # (found,)

    @classmethod
    def none(cls) -> _Found:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def merged(self, other: _Found, k: int) -> _Found:
        if not len(self.ids):
            return other
        ids, scores = np.concatenate([self.ids, other.ids]), np.concatenate([self.scores, other.scores])
        order = np.argsort(-scores, kind="stable")[:k]
        return _Found(ids[order], scores[order])


def _in_order(ids: Ids, scores: Floats) -> tuple[Ids, Floats]:
    """Each row (batch, found) best first, equals by id."""
    order = np.lexsort((ids, -scores), axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _together(found: Sequence[_Found], k: int) -> Neighbours:
    """What was found for each query, at most k. FAISS gives a product one score for a query, to the last bit, whatever else it reads, so
    that nothing is scored again: it took 58 us for 256 products."""
    ids = np.full((len(found), k), -1, np.int64)
    scores = np.full((len(found), k), -np.inf, np.float32)
    for at, one in enumerate(found):
        ids[at, : len(one.ids)], scores[at, : len(one.ids)] = one.ids, one.scores
    return Neighbours(*_in_order(ids, scores))


class _TorchMatrix:
    """Exact search as one float16 matrix product on a GPU. One lock: calls share the device's memory and its stream."""

    def __init__(self, vectors: Float16s, device: str, num_static: int = 0) -> None:
        import torch

        self._torch = torch
        self._vectors = torch.from_numpy(np.array(vectors)).to(device)  # (size, width)
        self._dim = vectors.shape[1] - num_static
        self._static = self._vectors[:, self._dim :].float()  # (size, num_static)
        self._lock = threading.Lock()

    def search(self, queries: Floats, k: int, allowed: Bools | None) -> Neighbours:
        """ids, scores (batch, k), k at most the number of vectors."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            asked = torch.from_numpy(queries).to(self._vectors.device)
            # (batch, size), rounded to 11 bits: good for candidates alone. Features are added unrounded, as they may be far larger.
            rough = asked[:, : self._dim].half() @ self._vectors[:, : self._dim].T
            weights = asked[:, self._dim :]
            if weights.any():
                rough = rough.float() + weights @ self._static.T
            if allowed is not None:
                forbidden = torch.from_numpy(~allowed).to(self._vectors.device)
                rough.masked_fill_(forbidden, -torch.inf)
            rough_scores, rows = rough.topk(min(2 * k + 32, len(self._vectors)), dim=1)  # (batch, candidates)
            exact = torch.bmm(self._vectors[rows].float(), asked.unsqueeze(2)).squeeze(2)
            exact.masked_fill_(rough_scores == -torch.inf, -torch.inf)
            scores, places = exact.topk(k, dim=1)
            ids = rows.gather(1, places).masked_fill_(scores == -torch.inf, -1)
            return Neighbours(ids.cpu().numpy(), scores.cpu().numpy())


def _build_lists(vectors: Float16s, spec: IndexSpec, progress: Progress) -> Any:
    """A filled IndexIVFPQFastScan over vectors (size, width). A centroid has no features, so they decide on no list."""
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
    progress(f"find {spec.num_lists:,} lists")
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
        progress(f"fill the lists: {start:,} of {size:,}")
        lists.add(vectors[start : start + BLOCK].astype(np.float32))
    return lists


def _centroids_of(lists: Any) -> Floats:
    """The centroids (num_lists, width) where the quantizer holds them."""
    first = faiss.downcast_index(lists.quantizer).get_xb()
    centroids: Floats = faiss.rev_swig_ptr(first, lists.nlist * lists.d).reshape(lists.nlist, lists.d)
    return centroids


@functools.cache
def _workers(num_threads: int) -> ThreadPoolExecutor:
    """Threads that stay: starting two for each batch took longer than searching for one query."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="aisle-index")


def _scan_over(vectors: Float16s) -> Any:
    """A FAISS index that reads float16 vectors (n, width) where they are: nothing is copied, and they are kept alive."""
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    address = faiss.cast_integer_to_void_ptr(vectors.ctypes.data)
    nobody = index.codes.owner  # the null shared_ptr, which Python cannot make
    index.codes = faiss.MaybeOwnedVectorUInt8.create_view(address, vectors.nbytes, nobody)
    index.ntotal = len(vectors)
    index.referenced_objects = [vectors]
    return index


def _inner_products(query: Floats, vectors: Floats) -> Floats:
    """Of a query (width,) with each of the vectors (n, width). On one thread, unlike NumPy's, whose idle ones spin."""
    products = np.empty(len(vectors), np.float32)
    pointer = faiss.swig_ptr
    faiss.fvec_inner_products_ny(pointer(products), pointer(query), pointer(vectors), vectors.shape[1], len(vectors))
    return products


def _padded(found: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """(batch, found) -> (batch, k)."""
    if found.shape[1] == k:
        return found
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=fill)
