"""Rankers on the same cases: every metric of every case, from which all tables are drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.arrays import Doubles, Ints, Progress
from models.evaluation.buckets import Bucket
from models.evaluation.cases import Cases
from models.evaluation.metrics import average_precision, ndcg_at, places, recall_at, reciprocal_rank

NDCG_AT = 10
BLOCK = 2048  # cases ranked at a time: 16 MB of ids at 1,000 products a case


class Ranker(Protocol):
    """Ranks products for cases. Of a case it may use the query, the locale, the time and the history, and nothing later."""

    @property
    def name(self) -> str: ...

    def rank(self, cases: Cases, k: int) -> Ints:
        """Returns (cases, k) rows of products, best first, each at most once in a row; -1 past the last."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What each ranker reached for each case."""

    metrics: tuple[str, ...]  # "recall@10" and so on, "ndcg@10", "mrr", "map"
    scores: Mapping[str, Doubles]  # ranker -> (cases, metrics)
    rank_s: Mapping[str, float]  # ranker -> seconds that ranking all cases took
    units: Ints  # (cases,) what intervals draw: shoppers
    buckets: Mapping[str, Bucket]

    def of(self, ranker: str, metric: str) -> Doubles:
        """(cases,)"""
        return self.scores[ranker][:, self.metrics.index(metric)]

    def joined(self, other: Results) -> Results:
        """Both, of the same cases: models that do not fit into memory together are evaluated one by one."""
        if self.metrics != other.metrics or not np.array_equal(self.units, other.units):
            raise ValueError("the results are of other cases or metrics")
        return Results(
            self.metrics, {**self.scores, **other.scores}, {**self.rank_s, **other.rank_s}, self.units, self.buckets
        )


def evaluate_rankers(
    rankers: Sequence[Ranker],
    cases: Cases,
    ks: Sequence[int] = (10, 100, 1000),
    progress: Progress | None = None,
) -> Results:
    """Ranks all cases with each ranker, to the depth of the largest of `ks`.

    Recall, MRR and MAP count the relevant products, NDCG@10 all that were engaged with, by grade; MRR and MAP see the whole depth. Raises
    ValueError when two rankers have one name, or a ranking has another shape than asked for.
    """
    names = [ranker.name for ranker in rankers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"rankers need different names, these are {', '.join(names) or 'none'}")
    if not ks or min(ks) < 1:
        raise ValueError(f"ks are {tuple(ks)} and must be 1 or more")
    metrics = (*(f"recall@{k}" for k in ks), f"ndcg@{NDCG_AT}", "mrr", "map")
    tell = progress or (lambda *_: None)
    scores: dict[str, Doubles] = {}
    rank_s: dict[str, float] = {}
    for ranker in rankers:
        scores[ranker.name] = np.empty((len(cases), len(metrics)))
        rank_s[ranker.name] = 0.0
        for start in range(0, len(cases), BLOCK):
            tell(f"rank with {ranker.name}", start, len(cases))
            block = cases.take(np.arange(start, min(start + BLOCK, len(cases))))
            started = time.perf_counter()
            ranked = ranker.rank(block, max(*ks, NDCG_AT))
            rank_s[ranker.name] += time.perf_counter() - started
            if ranked.shape != (len(block), max(*ks, NDCG_AT)):
                wanted = (len(block), max(*ks, NDCG_AT))
                raise ValueError(f"{ranker.name} gave a ranking of shape {ranked.shape}, {wanted} was asked for")
            scores[ranker.name][start : start + len(block)] = score(ranked, block, ks)
        tell(f"rank with {ranker.name}", len(cases), len(cases))
    return Results(metrics, scores, rank_s, cases.units, cases.buckets)


def score(ranked: Ints, cases: Cases, ks: Sequence[int]) -> Doubles:
    """(cases, metrics) of a ranking (cases, k)."""
    found = places(ranked, cases.relevant)
    return np.stack(
        [
            *(recall_at(found, cases.relevant, k) for k in ks),
            ndcg_at(places(ranked, cases.engaged), cases.engaged, NDCG_AT),
            reciprocal_rank(found, cases.relevant),
            average_precision(found, cases.relevant),
        ],
        axis=1,
    )
