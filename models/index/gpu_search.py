"""Search on a GPU: candidates by the fastest way, ranked by their exact inner products with the float16 vectors."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Float16s, Floats, Ints
from models.errors import InputError
from models.index.gpu_ways import FlatSearch, MatrixProduct, Way, graph_of, has_graphs, lists_of
from models.index.neighbours import Neighbours, sort_rows

GpuIndex = Literal["auto", "exact", "lists", "graph"]

RECALL = 0.98  # mean share of the `RECALL_AT` nearest that an approximate way must find, as the tuner asks of lists on a processor
RECALL_AT = 100
SAMPLES = 256
TIMED = 30  # searches of one query
FREE_SHARE = 1.2  # of a structure's size that must be free on the device before it is built
# Fewer allowed than this share lie further away than an approximate way looks: with a tenth of 20,000 allowed, lists that find .98 of the
# 100 nearest found .89 of the 50 nearest that pass.
MIN_SHARE = 1 / 2
SPARE = 1.5  # as many candidates are taken under a filter as should hold enough that pass, times this


class GpuSearch:
    """Holds a copy of the vectors (size, width) on a device. One lock serialises calls: they share its memory and its stream.

    A filter, features that a query weighs, and whatever a way finds too little of, are answered by the matrix product, which is exact.
    """

    def __init__(
        self, vectors: Float16s, device: str, num_static: int = 0, num_lists: int = 0, kind: GpuIndex = "auto"
    ) -> None:
        """`num_lists` is that of the bundle's index, 0 if it is exact: approximate ways are for the products of one that is not. Raises
        InputError for a `kind` that is not to be had."""
        import torch

        self._torch = torch
        self._vectors = torch.from_numpy(np.array(vectors)).to(device)  # (size, width)
        self._dim = vectors.shape[1] - num_static
        self._lock = threading.Lock()
        self._product = MatrixProduct(self._vectors, self._dim)
        self._way: Way = self._product
        self.choose(self._ways(vectors, num_lists, kind))

    @property
    def way(self) -> str:
        """How queries are answered that neither a filter nor weights make special."""
        return self._way.name

    def _ways(self, vectors: Float16s, num_lists: int, kind: GpuIndex) -> list[Way]:
        if self._vectors.device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
            if kind in ("lists", "graph"):
                raise InputError(
                    f"the index on the GPU is '{kind}', which needs a CUDA device and the package faiss-gpu; or use 'auto'"
                )
            return [self._product]
        resources = faiss.StandardGpuResources()
        resources.setDefaultNullStreamAllDevices()  # PyTorch's: what one writes the other reads in order
        ways: list[Way] = [self._product, FlatSearch(self._vectors, resources)]
        if kind == "graph":
            if not has_graphs():
                raise InputError(
                    "the index on the GPU is 'graph', which needs a FAISS that was built with cuVS; or use 'auto'"
                )
            return [graph_of(vectors, self._dim, resources)]
        if kind == "lists" and not num_lists:
            raise InputError(
                "the index on the GPU is 'lists', and the bundle's is exact: it is too small to be divided; use 'auto'"
            )
        if kind == "exact" or not num_lists:
            return ways
        lists_bytes = 2 * len(vectors) * self._dim
        if kind == "auto" and self._torch.cuda.mem_get_info()[0] < FREE_SHARE * lists_bytes:
            return ways
        lists = lists_of(vectors, self._dim, num_lists, resources)
        return [lists] if kind == "lists" else [*ways, lists]

    def choose(self, ways: Sequence[Way]) -> None:
        """Serves by the fastest of the ways that reach the recall, each with the least effort that does; by the matrix product if none
        does. Measured with products, and with points between two of them, which are as far from all products as short queries are."""
        if len(ways) == 1 and ways[0] is self._product:
            return
        queries = self._samples()
        self._way = self._product
        k = min(RECALL_AT, len(self._vectors))
        truth = self.nearest(queries, k, None)
        measured: list[tuple[float, Way, int]] = []
        for way in ways:
            self._way = way
            # Every effort: at a low one too little is found, and the matrix product, which then completes it, takes longer.
            for effort in way.efforts:
                way.set_effort(effort)
                if _recall(self.nearest(queries, k, None), truth) >= RECALL:
                    measured.append((self._seconds(queries, k), way, effort))
        self._way = self._product
        if measured:
            _, self._way, effort = min(measured, key=lambda each: each[0])
            self._way.set_effort(effort)

    def _samples(self) -> Floats:
        random = np.random.default_rng(0)
        rows = random.choice(len(self._vectors), (2, min(SAMPLES, len(self._vectors))))
        first, second = (self._vectors[row].float().cpu().numpy() for row in rows)
        queries = first
        queries[::2] += second[::2]
        queries[:, self._dim :] = 0
        queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-6)
        return queries

    def _seconds(self, queries: Floats, k: int) -> float:
        """Returns the median time of one query."""
        times = []
        for at in range(TIMED):
            started = time.perf_counter()
            self.nearest(queries[at % len(queries)][None], k, None)
            times.append(time.perf_counter() - started)
        return float(np.median(times))

    def change_features(self, rows: Ints, vectors: Float16s) -> None:
        """Writes the vectors (n, width) of rows whose features changed."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            on_device = torch.from_numpy(vectors).to(self._vectors.device)
            self._vectors[rows] = on_device
            self._product.change_features(rows, on_device[:, self._dim :].float())

    def nearest(self, queries: Floats, k: int, allowed: Bools | None) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width), among those `allowed` (size,)."""
        nearest = self._top(queries, min(k, len(self._vectors)), allowed)
        ids, scores = sort_rows(nearest.ids, nearest.scores)
        return Neighbours(_pad(ids, k, -1), _pad(scores, k, -np.inf))

    def _top(self, queries: Floats, k: int, allowed: Bools | None) -> Neighbours:
        """Returns the `k` best of each query in any order of ties, `k` at most the number of vectors."""
        torch = self._torch
        weighs = bool(queries[:, self._dim :].any())
        with self._lock, torch.inference_mode():
            on_device = torch.from_numpy(queries).to(self._vectors.device)
            rows = self._candidates(on_device, k, allowed, weighs)  # (batch, candidates)
            exact = torch.bmm(self._vectors[rows.clamp(min=0)].float(), on_device.unsqueeze(2)).squeeze(2)
            exact.masked_fill_(rows < 0, -torch.inf)
            scores, places = exact.topk(min(k, rows.shape[1]), dim=1)
            ids = rows.gather(1, places)
            return Neighbours(_pad(ids.cpu().numpy(), k, -1), _pad(scores.cpu().numpy(), k, -np.inf))

    def _candidates(self, queries: Any, k: int, allowed: Bools | None, weighs: bool) -> Any:
        torch, size = self._torch, len(self._vectors)
        # More than `k`: what rounding or a code put below the k-th may belong above it.
        needed = min(2 * k + 32, size)
        if allowed is None:
            if self._way is self._product or weighs or needed > self._way.max_candidates:
                return self._product.candidates(queries, needed, weighs=weighs)
            return self._complete(self._way.candidates(queries, needed), queries, needed, None)
        num_allowed = int(np.count_nonzero(allowed))
        forbidden = torch.from_numpy(~allowed).to(self._vectors.device)
        wanted = math.ceil(SPARE * needed * size / max(1, num_allowed)) + 32
        is_sparse = not self._way.is_exact and num_allowed < MIN_SHARE * size
        if self._way is self._product or weighs or is_sparse or min(wanted, size) > self._way.max_candidates:
            return self._product.candidates(queries, needed, forbidden, weighs=weighs)
        rows = self._way.candidates(queries, min(wanted, size))
        rows = rows.masked_fill(forbidden[rows.clamp(min=0)], -1)
        return self._complete(rows, queries, min(needed, num_allowed), forbidden)

    def _complete(self, rows: Any, queries: Any, needed: int, forbidden: Any) -> Any:
        """Searches again for the queries that have fewer than `needed` candidates: then some that belong here may lie further away. Those
        that have as many have all, or as good ones as the way finds without a filter."""
        torch = self._torch
        short = torch.nonzero((rows >= 0).sum(dim=1) < needed)[:, 0]
        if not len(short):
            return rows
        others = self._product.candidates(queries[short], min(rows.shape[1], len(self._vectors)), forbidden)
        rows[short, : others.shape[1]] = others
        rows[short, others.shape[1] :] = -1
        return rows


def _recall(found: Neighbours, truth: Neighbours) -> float:
    """Returns the mean share of the true neighbours found; one exactly as near as the last of them counts."""
    last = truth.scores[:, -1:] - 1e-6
    return float(np.mean((found.scores >= last) & (found.ids >= 0)))


def _pad(array: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """Widens (batch, n) to (batch, k)."""
    if array.shape[1] == k:
        return array
    return np.pad(array, ((0, 0), (0, k - array.shape[1])), constant_values=fill)
