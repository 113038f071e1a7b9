"""The vector index on a GPU: each way of searching, against the time in which the device reads the vectors once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from loadtest.benchmarks.jittered_vectors import jitter
from loadtest.benchmarks.setup import Setup, ratios
from models.arrays import Bools, Float16s, Floats
from models.bundles.bundle import Bundle
from models.devices import cuda_is_usable
from models.errors import InputError
from models.index.gpu_search import GpuIndex, GpuSearch
from models.index.neighbours import Neighbours
from models.index.tuner import num_lists_for, recall_of

SIZES = (1_000_000, 10_000_000)
BATCHES = (1, 32)
K = 100
KINDS: tuple[GpuIndex, ...] = ("exact", "lists", "graph")
GOALS_MS = {("exact", 1, 1_000_000): "<= 0.4", ("exact", 32, 1_000_000): "<= 0.6", ("lists", 1, 10_000_000): "<= 0.5"}
TIMED = 50


def bench_gpu_index(setup: Setup) -> None:
    """Latency of one query and of a batch, and recall, on the bundle's vectors jittered to each size."""
    if not cuda_is_usable():
        setup.leave_out("this process sees no CUDA device")
        return
    real = np.load(setup.vectors) if setup.vectors else Bundle(setup.bundle).unit_vectors()
    for size in (20_000,) if setup.quick else SIZES:
        setup.say(f"{size:,} vectors: jitter")
        grown = jitter(real, size + 300, seed=1)
        measure_ways(setup, grown[:size], np.ascontiguousarray(grown[size:], np.float32), "cuda")


def measure_ways(setup: Setup, vectors: Float16s, queries: Floats, device: str) -> None:
    """Adds the figures of every way that is to be had over `vectors` (size, dim)."""
    size = len(vectors)
    label = f"{size / 1e6:g}M x {vectors.shape[1]}"
    reading = _read_ms(vectors, device, setup.rounds)
    setup.figures.add("gpu_index", f"{label}: read once", "ms", reading, note=_name(device))
    truth: Neighbours | None = None
    for kind in KINDS:
        setup.say(f"{size:,} vectors: {kind}")
        started = time.perf_counter()
        try:
            search = GpuSearch(vectors, device, 0, num_lists_for(size), kind)
        except InputError as error:
            setup.leave_out(f"{label}, {kind}: {error}")
            continue
        name, note = f"{label}, {kind}", f"{search.way}; ready in {time.perf_counter() - started:.0f} s"
        found = search.nearest(queries, K, None)
        truth = found if truth is None else truth
        setup.figures.add("gpu_index", f"{name}: recall@{K}", "share", [recall_of(found, truth)], note=note)
        for batch in BATCHES:
            took = [_search_ms(search, queries, batch) for _ in range(setup.rounds)]
            goal = GOALS_MS.get((kind, batch, size), "")
            setup.figures.add("gpu_index", f"{name}: {batch} queries, p50", "ms", took, goal=goal)
            setup.figures.add("gpu_index", f"{name}: {batch} queries / read once", "ratio", ratios(took, reading))
        half = np.random.default_rng(0).random(size) < 0.5
        filtered = [_search_ms(search, queries, 1, half) for _ in range(setup.rounds)]
        setup.figures.add("gpu_index", f"{name}: 1 query, half allowed, p50", "ms", filtered)


def _read_ms(vectors: Float16s, device: str, rounds: int) -> list[float]:
    import torch

    words = torch.from_numpy(vectors).to(device).view(torch.int16)
    return [_median_ms([lambda: int(words.amax())] * TIMED) for _ in range(rounds)]


def _name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else device


def _search_ms(search: GpuSearch, queries: Floats, batch: int, allowed: Bools | None = None) -> float:
    starts = np.random.default_rng(0).integers(0, len(queries) - batch, TIMED).tolist()
    return _median_ms([partial(search.nearest, queries[start : start + batch], K, allowed) for start in starts])


def _median_ms(calls: Sequence[Callable[[], object]]) -> float:
    """Returns the median time of the calls, each of which ends when the device has. The first is made once before."""
    calls[0]()
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3
