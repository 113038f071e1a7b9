"""Chooses the index of a bundle: exact while that is fast enough, else lists with the least effort that reaches the recall.

What is measured is what will be served: the index over all products, searched with one query at a time on one thread. Where products
have static features the sample queries are searched twice, plain and with features weighed, and of each figure the worse counts.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Floats
from models.index.vector_index import IndexSpec, Neighbours, Progress, VectorIndex, num_columns

MARGINS = (0.1, 0.15, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8)
K_FACTORS = (2.0, 4.0, 8.0)
MIN_FOR_LISTS = 10_000  # products; fewer are scanned before the nearest lists are found
LATENCY_ROUNDS = 3
LATENCY_QUERIES = 300
MAX_ROUND_S = 2.0  # a slow index needs fewer queries to be known as slow
# Of a feature in weighed queries. About what the similarities of the second and the hundredth product differ by: .17 to .24 in the median,
# titles and short queries over 45,000 real and 20,000 simulated products.
MAX_WEIGHT = 0.2
SAME_SCORE = 1e-6  # catalogues hold duplicates: a product as near as the last exact one is as right


@dataclass(frozen=True, slots=True)
class IndexTarget:
    """What search must reach: the mean share of the `at` nearest products that is found, and where exact search gives way."""

    recall: float = 0.98
    at: int = 100
    latency_ms: float = 1.0  # p50 of one query on one thread


@dataclass(frozen=True, slots=True)
class TriedPoint:
    """One way to search, as measured: the worse of plain and weighed queries."""

    spec: IndexSpec
    recall: float
    p50_ms: float
    bytes_per_product: float


@dataclass(frozen=True, slots=True)
class TuneReport:
    """The chosen index, and every point tried. `chosen` misses the latency where no point of sufficient recall reaches it."""

    target: IndexTarget
    index: VectorIndex
    chosen: TriedPoint
    tried: tuple[TriedPoint, ...]
    build_s: float

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.chosen),
            "build_s": self.build_s,
            "target": asdict(self.target),
            "tried": list(map(asdict, self.tried)),
        }


def tune(
    vectors: npt.NDArray[np.floating],
    sample_queries: Floats,
    target: IndexTarget = IndexTarget(),
    progress: Progress | None = None,
    num_features: int = 0,
) -> TuneReport:
    """Builds the index that serves queries like `sample_queries` (num_queries, dim), of unit vectors (n, dim) with the columns of
    `num_features` static features behind them, as `num_columns` counts them.

    Exact when its p50 is within `target.latency_ms`; else the fastest point of kind "ivf" whose recall over the sample is
    `target.recall` or more; exact again when there is none, or none faster.
    """
    tell = progress or (lambda _: None)
    tell("measure exact search")
    num_static = num_columns(sample_queries.shape[1], num_features) - sample_queries.shape[1]
    exact_index = VectorIndex.build(vectors, IndexSpec("exact", num_static=num_static))
    at = min(target.at, exact_index.size)
    asked = [np.pad(sample_queries, ((0, 0), (0, num_static)))]
    if num_features:
        asked.append(weighed(asked[0], num_static, num_features))
    latency = max(p50_ms(exact_index, queries, at) for queries in asked)
    exact = TriedPoint(exact_index.spec, 1.0, latency, exact_index.bytes_per_product)
    if exact.p50_ms <= target.latency_ms or exact_index.size < MIN_FOR_LISTS:
        return TuneReport(target, exact_index, exact, (exact,), 0.0)
    started = time.perf_counter()
    listed_spec = IndexSpec("ivf", lists_for(exact_index.size), num_static=num_static)
    listed_index = VectorIndex.build(vectors, listed_spec, progress)
    build_s = time.perf_counter() - started
    tell("find the true neighbours of the sample queries")
    cases = [(queries, exact_index.search(queries, at, num_threads=os.cpu_count() or 1)) for queries in asked]
    tried = _try_margins(listed_index, cases, target.recall, tell)
    good = [point for point in tried if point.recall >= target.recall]
    chosen = min([exact, *good], key=lambda point: point.p50_ms)
    index = exact_index if chosen is exact else listed_index.with_spec(chosen.spec)
    return TuneReport(target, index, chosen, (exact, *tried), build_s)


def lists_for(num_products: int) -> int:
    """About twice the root of the number of products, a power of two. Twice as many were no faster at a recall of 0.98 at 45,000,
    200,000 and 1,000,000 products, and took at least twice as long to build."""
    return int(2 ** round(math.log2(2 * math.sqrt(num_products))))


def weighed(queries: Floats, num_static: int, num_features: int) -> Floats:
    """The queries (num_queries, width) with each feature weighed from 0 to `MAX_WEIGHT`, by chance."""
    weights = np.random.default_rng(0).uniform(0, MAX_WEIGHT, (len(queries), num_features))
    changed = queries.copy()
    dim = queries.shape[1] - num_static
    changed[:, dim : dim + num_features] = weights
    return changed


def _try_margins(
    index: VectorIndex, cases: Sequence[tuple[Floats, Neighbours]], recall: float, tell: Progress
) -> list[TriedPoint]:
    """Measures queries against their true neighbours. Widens the margin to one step past the first that reaches the recall, where fewer
    refined candidates may do as well."""
    tried: list[TriedPoint] = []
    for margin in MARGINS:
        for k_factor in K_FACTORS:
            spec = dataclasses.replace(index.spec, margin=margin, k_factor=k_factor)
            tell(f"measure margin {margin}, k_factor {k_factor:g}")
            candidate = index.with_spec(spec)
            found = min(recall_of(candidate.search(queries, truth.ids.shape[1]), truth) for queries, truth in cases)
            latency = max(p50_ms(candidate, queries, truth.ids.shape[1]) for queries, truth in cases)
            tried.append(TriedPoint(spec, found, latency, candidate.bytes_per_product))
        if any(point.recall >= recall for point in tried[: -len(K_FACTORS)]):
            break
    return tried


def recall_of(found: Neighbours, truth: Neighbours) -> float:
    """Mean share of the true neighbours (batch, k) that was found, or others exactly as near."""
    last = np.min(truth.scores, axis=1, where=truth.ids >= 0, initial=np.inf)  # (batch,)
    num_found = np.sum((found.scores >= last[:, None] - SAME_SCORE) & (found.ids >= 0), axis=1)
    num_true = np.sum(truth.ids >= 0, axis=1)
    return float(np.mean(np.where(num_true > 0, np.minimum(num_found, num_true) / np.maximum(num_true, 1), 1.0)))


def p50_ms(index: VectorIndex, queries: Floats, k: int) -> float:
    """Median time of one query: the median of `LATENCY_ROUNDS` rounds, since others use the machine too."""
    rounds = []
    for _ in range(LATENCY_ROUNDS):
        times: list[float] = []
        for row in range(min(LATENCY_QUERIES, max(len(queries), 30))):
            if sum(times) > MAX_ROUND_S:
                break
            query = queries[row % len(queries)][None]
            started = time.perf_counter()
            index.search(query, k)
            times.append(time.perf_counter() - started)
        rounds.append(float(np.median(times)))
    return float(np.median(rounds)) * 1e3
