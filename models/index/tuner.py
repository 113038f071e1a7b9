"""Chooses the index of a bundle: exact while that is fast enough, else inverted lists with the least effort that reaches the recall.

The tuner measures what will be served: the index over all products, searched with one query at a time on one thread. Where products have
static features the sample queries are searched twice, plain and with features weighed, and the worse of each figure counts.
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

from models.arrays import Floats, Progress, silent
from models.index.neighbours import Neighbours
from models.index.spec import IndexSpec, num_columns
from models.index.vector_index import VectorIndex

MARGINS = (0.1, 0.15, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8)
K_FACTORS = (2.0, 4.0, 8.0)
MIN_FOR_LISTS = 10_000  # products; fewer are scanned in less time than the nearest lists are chosen
LATENCY_ROUNDS = 3
LATENCY_QUERIES = 300
MAX_ROUND_S = 2.0  # a slow index shows in fewer queries
# Largest weight of a feature in weighed queries. It is about the difference in similarity between the second and the hundredth product: the
# median is .17 to .24 for titles and short queries over 45,000 real and 20,000 simulated products.
MAX_WEIGHT = 0.2
SAME_SCORE = 1e-6  # catalogues hold duplicates: a product as near as the last exact one is as right


@dataclass(frozen=True, slots=True)
class IndexTarget:
    """The recall and latency that search must reach."""

    recall: float = 0.98  # mean share of the `at` nearest products that are returned
    at: int = 100
    latency_ms: float = 1.0  # p50 of one query on one thread, above which exact search gives way


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedPoint:
    """One way to search, as measured: the worse of plain and weighed queries."""

    spec: IndexSpec
    recall: float
    p50_ms: float
    bytes_per_product: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneReport:
    """The chosen index, and every point tried. `chosen` misses the latency if no point of sufficient recall reaches it."""

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
    progress: Progress = silent,
    num_features: int = 0,
) -> TuneReport:
    """Builds the index that serves queries like `sample_queries` (num_queries, dim).

    `vectors` (n, num_columns(dim, num_features)) are unit vectors followed by the columns of static features. The index is exact if
    its p50 is within `target.latency_ms`; else it is the fastest point of kind "ivf" whose recall over the sample is `target.recall`
    or more; exact again if there is none, or none faster.
    """
    progress("measure exact search", 0, None)
    num_static = num_columns(sample_queries.shape[1], num_features) - sample_queries.shape[1]
    exact_index = VectorIndex.build(vectors, IndexSpec("exact", num_static=num_static))
    at = min(target.at, exact_index.size)
    query_sets = [np.pad(sample_queries, ((0, 0), (0, num_static)))]
    if num_features:
        query_sets.append(with_random_weights(query_sets[0], num_static, num_features))
    latency = max(p50_ms(exact_index, queries, at) for queries in query_sets)
    exact = TriedPoint(
        spec=exact_index.spec, recall=1.0, p50_ms=latency, bytes_per_product=exact_index.bytes_per_product
    )
    if exact.p50_ms <= target.latency_ms or exact_index.size < MIN_FOR_LISTS:
        return TuneReport(target=target, index=exact_index, chosen=exact, tried=(exact,), build_s=0.0)
    started = time.perf_counter()
    list_spec = IndexSpec("ivf", num_lists_for(exact_index.size), num_static=num_static)
    list_index = VectorIndex.build(vectors, list_spec, progress)
    build_s = time.perf_counter() - started
    progress("find the true neighbours of the sample queries", 0, None)
    cases = [(queries, exact_index.search(queries, at, num_threads=os.cpu_count() or 1)) for queries in query_sets]
    tried = _try_margins(list_index, cases, target.recall, progress)
    sufficient = [point for point in tried if point.recall >= target.recall]
    chosen = min([exact, *sufficient], key=lambda point: point.p50_ms)
    index = exact_index if chosen is exact else list_index.with_spec(chosen.spec)
    return TuneReport(target=target, index=index, chosen=chosen, tried=(exact, *tried), build_s=build_s)


def num_lists_for(num_products: int) -> int:
    """Returns about twice the root of the number of products, a power of two.

    Twice as many lists were no faster at a recall of 0.98 at 45,000, 200,000 and 1,000,000 products, and took at least twice as long to
    build.
    """
    return int(2 ** round(math.log2(2 * math.sqrt(num_products))))


def with_random_weights(queries: Floats, num_static: int, num_features: int) -> Floats:
    """Returns a copy of the queries (num_queries, width) with each feature weighed by a random number from 0 to `MAX_WEIGHT`."""
    weights = np.random.default_rng(0).uniform(0, MAX_WEIGHT, (len(queries), num_features))
    weighed = queries.copy()
    dim = queries.shape[1] - num_static
    weighed[:, dim : dim + num_features] = weights
    return weighed


def _try_margins(
    index: VectorIndex, cases: Sequence[tuple[Floats, Neighbours]], recall: float, progress: Progress
) -> list[TriedPoint]:
    """Measures queries against their true neighbours.

    Widens the margin to one step past the first that reaches the recall, where fewer refined candidates may do as well.
    """
    tried: list[TriedPoint] = []
    for margin in MARGINS:
        for k_factor in K_FACTORS:
            progress(f"measure margin {margin}, k_factor {k_factor:g}", 0, None)
            tried.append(_measure(index, cases, margin, k_factor))
        if any(point.recall >= recall for point in tried[: -len(K_FACTORS)]):
            break
    return tried


def _measure(
    index: VectorIndex, cases: Sequence[tuple[Floats, Neighbours]], margin: float, k_factor: float
) -> TriedPoint:
    spec = dataclasses.replace(index.spec, margin=margin, k_factor=k_factor)
    candidate = index.with_spec(spec)
    recall = min(recall_of(candidate.search(queries, truth.ids.shape[1]), truth) for queries, truth in cases)
    latency = max(p50_ms(candidate, queries, truth.ids.shape[1]) for queries, truth in cases)
    return TriedPoint(spec=spec, recall=recall, p50_ms=latency, bytes_per_product=candidate.bytes_per_product)


def recall_of(results: Neighbours, truth: Neighbours) -> float:
    """Returns the mean share of the true neighbours (batch, k) in the results. A product exactly as near as the last true one counts."""
    last = np.min(truth.scores, axis=1, where=truth.ids >= 0, initial=np.inf)  # (batch,)
    num_right = np.sum((results.scores >= last[:, None] - SAME_SCORE) & (results.ids >= 0), axis=1)
    num_true = np.sum(truth.ids >= 0, axis=1)
    return float(np.mean(np.where(num_true > 0, np.minimum(num_right, num_true) / np.maximum(num_true, 1), 1.0)))


def p50_ms(index: VectorIndex, queries: Floats, k: int) -> float:
    """Returns the median time of one query: the median of `LATENCY_ROUNDS` rounds, since other processes use the machine too."""
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
