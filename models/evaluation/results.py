"""Evaluates rankers on the same cases: computes every metric of every case."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.arrays import Bools, Doubles, Ints, Progress, silent
from models.evaluation.buckets import Bucket
from models.evaluation.cases import Cases
from models.evaluation.metrics import average_precision, ndcg_at, places, recall_at, reciprocal_rank

NDCG_AT = 10
BLOCK = 2048  # cases ranked at a time: 16 MB of ids at 1,000 products per case


class Ranker(Protocol):
    """Ranks products for cases. Of a case it may use the query, the locale, the time and the history, and nothing later."""

    @property
    def name(self) -> str: ...

    def rank(self, cases: Cases, k: int) -> Ints:
        """Returns (cases, k) rows of products, best first, each at most once in a row; -1 past the last."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """The metrics of each ranker for each case."""

    metrics: tuple[str, ...]  # "recall@10" and so on, "ndcg@10", "mrr", "map"
    scores: Mapping[str, Doubles]  # ranker -> (cases, metrics)
    rank_s: Mapping[str, float]  # ranker -> seconds to rank all cases
    units: Ints  # (cases,) resampling units: shoppers
    buckets: Mapping[str, Bucket]

    def values(self, ranker: str, metric: str) -> Doubles:
        """Returns one metric of one ranker (cases,)."""
        return self.scores[ranker][:, self.metrics.index(metric)]

    def without(self, rankers: Sequence[str], cases: Bools) -> Results:
        """Returns these results, in which the `rankers` have no figure of the marked `cases` (cases,)."""
        left = {
            name: np.where(cases[:, None], np.nan, scores) if name in rankers else scores
            for name, scores in self.scores.items()
        }
        return Results(self.metrics, left, self.rank_s, self.units, self.buckets)

    def with_rankers_of(self, other: Results) -> Results:
        """Returns the rankers of both results on the same cases, so that models can be evaluated one at a time."""
        if self.metrics != other.metrics or not np.array_equal(self.units, other.units):
            raise ValueError("the results are of other cases or metrics")
        return Results(
            self.metrics, {**self.scores, **other.scores}, {**self.rank_s, **other.rank_s}, self.units, self.buckets
        )


def evaluate_rankers(
    rankers: Sequence[Ranker],
    cases: Cases,
    ks: Sequence[int] = (10, 100, 1000),
    progress: Progress = silent,
) -> Results:
    """Ranks all cases with each ranker, to the depth of the largest of `ks`.

    Recall, MRR and MAP count the relevant products; NDCG@10 counts every engaged product by grade. MRR and MAP use the whole depth. Raises
    ValueError if two rankers have the same name, or a ranking has the wrong shape.
    """
    names = [ranker.name for ranker in rankers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"rankers need different names, these are {', '.join(names) or 'none'}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks are {tuple(ks)} and must be 1 or more")
    metrics = (*(f"recall@{k}" for k in ks), f"ndcg@{NDCG_AT}", "mrr", "map")
    scores: dict[str, Doubles] = {}
    rank_s: dict[str, float] = {}
    for ranker in rankers:
        scores[ranker.name] = np.empty((len(cases), len(metrics)))
        rank_s[ranker.name] = 0.0
        for start in range(0, len(cases), BLOCK):
            progress(f"rank with {ranker.name}", start, len(cases))
            block = cases.take(np.arange(start, min(start + BLOCK, len(cases))))
            started = time.perf_counter()
            ranked = ranker.rank(block, max(*ks, NDCG_AT))
            rank_s[ranker.name] += time.perf_counter() - started
            if ranked.shape != (len(block), max(*ks, NDCG_AT)):
                shape = (len(block), max(*ks, NDCG_AT))
                raise ValueError(f"{ranker.name} returned a ranking of shape {ranked.shape}, not {shape}")
            scores[ranker.name][start : start + len(block)] = score(ranked, block, ks)
        progress(f"rank with {ranker.name}", len(cases), len(cases))
    return Results(metrics, scores, rank_s, cases.units, cases.buckets)


def score(ranked: Ints, cases: Cases, ks: Sequence[int]) -> Doubles:
    """Returns the metrics of a ranking (cases, k) as (cases, metrics)."""
    positions = places(ranked, cases.relevant)
    return np.stack(
        [
            *(recall_at(positions, cases.relevant, k) for k in ks),
            ndcg_at(places(ranked, cases.engaged), cases.engaged, NDCG_AT),
            reciprocal_rank(positions, cases.relevant),
            average_precision(positions, cases.relevant),
        ],
        axis=1,
    )
