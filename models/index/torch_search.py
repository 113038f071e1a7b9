"""Exact search on a GPU, as one float16 matrix product."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Float16s, Floats, Ints
from models.index.neighbours import Neighbours, sort_rows


class TorchSearch:
    """Holds a copy of the vectors (size, width) on a device. One lock serialises calls: they share its memory and its stream."""

    def __init__(self, vectors: Float16s, device: str, num_static: int = 0) -> None:
        import torch

        self._torch = torch
        self._vectors = torch.from_numpy(np.array(vectors)).to(device)  # (size, width)
        self._dim = vectors.shape[1] - num_static
        self._static = self._vectors[:, self._dim :].float()  # (size, num_static)
        self._lock = threading.Lock()

    def change_features(self, rows: Ints, vectors: Float16s) -> None:
        """Writes the vectors (n, width) of rows whose features changed."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            on_device = torch.from_numpy(vectors).to(self._vectors.device)
            self._vectors[rows] = on_device
            self._static[rows] = on_device[:, self._dim :].float()

    def nearest(self, queries: Floats, k: int, allowed: Bools | None) -> Neighbours:
        """Returns the `k` nearest products of each query (batch, width), among those `allowed` (size,)."""
        nearest = self._top(queries, min(k, len(self._vectors)), allowed)
        ids, scores = sort_rows(nearest.ids, nearest.scores)
        return Neighbours(_pad(ids, k, -1), _pad(scores, k, -np.inf))

    def _top(self, queries: Floats, k: int, allowed: Bools | None) -> Neighbours:
        """Returns the `k` best of each query in any order of ties, `k` at most the number of vectors."""
        torch = self._torch
        with self._lock, torch.inference_mode():
            on_device = torch.from_numpy(queries).to(self._vectors.device)
            # (batch, size), rounded to 11 bits: good for candidates alone. Features are added unrounded, as they may be far larger.
            rough = on_device[:, : self._dim].half() @ self._vectors[:, : self._dim].T
            weights = on_device[:, self._dim :]
            if weights.any():
                rough = rough.float() + weights @ self._static.T
            if allowed is not None:
                forbidden = torch.from_numpy(~allowed).to(self._vectors.device)
                rough.masked_fill_(forbidden, -torch.inf)
            rough_scores, rows = rough.topk(min(2 * k + 32, len(self._vectors)), dim=1)  # (batch, candidates)
            exact = torch.bmm(self._vectors[rows].float(), on_device.unsqueeze(2)).squeeze(2)
            exact.masked_fill_(rough_scores == -torch.inf, -torch.inf)
            scores, places = exact.topk(k, dim=1)
            ids = rows.gather(1, places).masked_fill_(scores == -torch.inf, -1)
            return Neighbours(ids.cpu().numpy(), scores.cpu().numpy())


def _pad(array: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """Widens (batch, n) to (batch, k)."""
    if array.shape[1] == k:
        return array
    return np.pad(array, ((0, 0), (0, k - array.shape[1])), constant_values=fill)
