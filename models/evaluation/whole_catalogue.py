"""Repeats searches of the log over the whole catalogue, and measures where they find what the shopper went for.

A search has several ways: the vectors of the unified model alone, the ranker's order of what they find, what the service answers by
default, and simple searches as baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.arrays import Doubles, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.metrics import Relevance, ndcg_at, places, recall_at
from models.evaluation.simple_searches import SimpleSearches
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.impressions import Impressions
from models.ranking.ranker import Ranker, blend

VECTORS, RANKED, SERVED = "vectors alone", "vectors, ranked", "as served"
SEARCH_METRICS = ("recall@10", "recall@100", "ndcg@10")
DEPTH = 200  # candidates that are ranked, as in a search
_BLOCK = 128

# Searches as a service does by default: from queries to rows of products, best first.
Search = Callable[[Sequence[QueryInput]], Sequence[Ints]]
OpenSearch = Callable[[Bundle], Search]


def whole_catalogue(
    bundle: Bundle,
    features: CandidateFeatures,
    ranker: Ranker | None,
    shown: Impressions,
    target: int,
    progress: Progress,
    *,
    served: Search | None = None,
    simple: SimpleSearches | None = None,
) -> dict[str, Doubles]:
    """Repeats the searches that led to the task `target`; those by vectors are exact.

    Returns (pages, SEARCH_METRICS) by way; NaN for pages without the task.
    """
    found = np.flatnonzero(shown.labels[:, target] > 0)
    relevance = Relevance(
        shown.page[found].astype(np.int64),
        shown.product[found].astype(np.int64),
        np.ones(len(found)),
        shown.num_pages,
    )
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    searched = np.unique(shown.page[found])
    depth = min(DEPTH, len(vectors))
    orders: dict[str, Ints] = {}

    def keep(way: str, page: int, rows: Ints) -> None:
        order = orders.setdefault(way, np.full((shown.num_pages, depth), -1, np.int64))
        order[page, : len(rows)] = rows[:depth]

    for start in range(0, len(searched), _BLOCK):
        pages = searched[start : start + _BLOCK].tolist()
        inputs = features.inputs(
            [shown.queries[page] for page in pages],
            [shown.locales[page] for page in pages],
            [shown.histories[page] for page in pages],
        )
        scores = np.stack([query.search for query in inputs]) @ vectors.T
        for page, query, score in zip(pages, inputs, scores, strict=True):
            near = np.argpartition(-score, depth - 1)[:depth]
            near = near[np.argsort(-score[near], kind="stable")]
            keep(VECTORS, page, near)
            if ranker is not None:
                chances = blend(ranker.probabilities(features.compute(query, near)))
                keep(RANKED, page, near[np.argsort(-chances, kind="stable")])
            if simple is not None:
                for way, rows in simple.orders(query.text, query.locale, depth).items():
                    keep(way, page, rows)
        if served is not None:
            for page, rows in zip(pages, served(inputs), strict=True):
                keep(SERVED, page, rows)
        progress("search", min(start + _BLOCK, len(searched)), len(searched))
    return {way: _metrics(places(order, relevance), relevance) for way, order in orders.items()}


def _metrics(positions: Ints, relevance: Relevance) -> Doubles:
    """Returns (pages, SEARCH_METRICS)."""
    metrics = (
        recall_at(positions, relevance, 10),
        recall_at(positions, relevance, 100),
        ndcg_at(positions, relevance, 10),
    )
    return np.stack(metrics, axis=1)
