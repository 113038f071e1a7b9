"""Evaluates scorers on a judged set: the metrics of every query's ranking, and the score of every judged pair."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Floats, Ints, Progress
from models.evaluation.buckets import Bucket
from models.evaluation.metrics import Relevance, average_precision, ndcg_at, places, recall_at, reciprocal_rank
from models.evaluation.results import Results
from models.studies.text_encoder.judged_set import JudgedSet, JudgedSetError, Pool
from models.studies.text_encoder.pair_figures import JudgedPairs
from models.studies.text_encoder.scorers import Scorer, best, masked
from models.studies.text_encoder.wording import SharedWords

DEPTH = 1_000  # of rankings of a catalogue
OVERLAP, QUADRANT = "shared words", "query x product"

_SCORES = 1 << 24  # in one batch: 64 MB
_MAX_WORDS_OF = 50  # relevant products per query whose words are compared


@dataclass(frozen=True, slots=True, eq=False)
class JudgedResults:
    """Metrics by query; metrics by query and side, if products have sides (seen, unseen); and judged pairs."""

    ranking: Results
    quadrants: Results | None
    pairs: JudgedPairs


def metrics_of(judged: JudgedSet) -> tuple[str, ...]:
    """Returns the metrics, the main one first: MRR if the protocol limits its depth, as for known items, else NDCG."""
    protocol = judged.protocol
    ndcg = f"ndcg@{protocol.ndcg_at}" if protocol.ndcg_at else "ndcg"
    graded = (ndcg, "map", "mrr") if protocol.mrr_at is None else (f"mrr@{protocol.mrr_at}", ndcg, "map")
    return (*graded, *(f"recall@{k}" for k in protocol.ks))


def judge(
    scorers: Sequence[Scorer], judged: JudgedSet, progress: Progress, *, sides: str = "", pairs: JudgedSet | None = None
) -> JudgedResults:
    """Evaluates every scorer on every query of `judged`.

    `sides` names a product bucket: each query is then also ranked for the relevant products of each side. Relevant products of the other
    sides are removed from that ranking, so that ranking them high costs nothing: relevant ones for Recall, MRR and MAP, all with a gain for
    NDCG. `pairs` are the judged pairs to score, of the same queries and products (None: the judgements of `judged`). Cases without any gain
    are left out; cases without a relevant product only have NDCG.
    """
    names = [scorer.name for scorer in scorers]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"scorers need different names, these are {', '.join(names) or 'none'}")
    pair_set = judged if pairs is None else pairs
    if len(pair_set.queries) != len(judged.queries) or len(pair_set.products) != len(judged.products):
        raise ValueError("the pairs belong to other queries or products")
    if not (judged.gains > 0).any():
        raise JudgedSetError(f"{judged.name}: no judgement has a gain above 0, so there is nothing to find")
    whole = _Cases.for_side(judged, None)
    by_side = [_Cases.for_side(judged, side) for side in _sides(judged, sides)]
    scores: dict[str, list[Doubles]] = {}
    pair_scores: dict[str, Doubles] = {}
    rank_s: dict[str, float] = {}
    for scorer in scorers:
        started = time.perf_counter()
        scores[scorer.name], pair_scores[scorer.name] = _scored(scorer, judged, pair_set, [whole, *by_side], progress)
        rank_s[scorer.name] = time.perf_counter() - started
    metrics = metrics_of(judged)
    ranking = _results([whole], metrics, {name: [by_case[0]] for name, by_case in scores.items()}, rank_s, judged, "")
    quadrants = (
        _results(by_side, metrics, {name: by_case[1:] for name, by_case in scores.items()}, rank_s, judged, sides)
        if by_side
        else None
    )
    judged_pairs = JudgedPairs(
        pair_scores,
        pair_set.is_relevant,
        ~pair_set.is_relevant & (pair_set.gains > 0),
        pair_set.query_rows,
        pair_buckets(pair_set, sides),
    )
    return JudgedResults(ranking, quadrants, judged_pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Cases:
    """All queries, ranked for the relevant products of one side, or of all."""

    side: int  # -1: all sides
    relevant: Relevance
    graded: Relevance
    relevant_out: Bools  # (judgements,) pairs removed from the ranking for Recall, MRR and MAP
    graded_out: Bools  # (judgements,) pairs removed from the ranking for NDCG

    @classmethod
    def for_side(cls, judged: JudgedSet, side: tuple[int, Bools] | None) -> _Cases:
        code, is_inside = (-1, np.ones(len(judged.labels), np.bool_)) if side is None else side
        return cls(
            code,
            judged.relevant(is_inside),
            judged.graded(is_inside),
            judged.is_relevant & ~is_inside,
            (judged.gains > 0) & ~is_inside,
        )


def _sides(judged: JudgedSet, sides: str) -> list[tuple[int, Bools]]:
    """Returns the code of each side and which judgements (judgements,) are of its products."""
    if not sides:
        return []
    bucket = judged.product_buckets[sides]
    judgement_codes = bucket.codes[judged.product_rows]
    return [(code, judgement_codes == code) for code in range(len(bucket.values))]


def _scored(
    scorer: Scorer, judged: JudgedSet, pairs: JudgedSet, cases: Sequence[_Cases], progress: Progress
) -> tuple[list[Doubles], Doubles]:
    """Returns metrics (queries, metrics) for each of `cases`, and the scores of the pairs (pairs,)."""
    num_queries = len(judged.queries)
    figures = [np.empty((num_queries, len(metrics_of(judged)))) for _ in cases]
    pair_scores = np.empty(len(pairs.labels))
    step = max(1, _SCORES // len(judged.products))
    for start in range(0, num_queries, step):
        progress(f"rank with {scorer.name}", start, num_queries)
        stop = min(start + step, num_queries)
        scores = scorer.scores(judged.queries[start:stop])
        if scores.shape != (stop - start, len(judged.products)):
            raise ValueError(f"{scorer.name} returned scores of shape {scores.shape} for {stop - start} queries")
        at = slice(*np.searchsorted(pairs.query_rows, (start, stop)).tolist())
        pair_scores[at] = scores[pairs.query_rows[at] - start, pairs.product_rows[at]]
        for place, case_set in enumerate(cases):
            figures[place][start:stop] = _figures(scores, judged, case_set, start, stop)
    progress(f"rank with {scorer.name}", num_queries, num_queries)
    return figures, pair_scores


def _figures(scores: Floats, judged: JudgedSet, cases: _Cases, start: int, stop: int) -> Doubles:
    """Returns (stop - start, metrics) for the queries from start to stop."""
    at = slice(*np.searchsorted(judged.query_rows, (start, stop)).tolist())
    rows = (judged.query_rows[at] - start, judged.product_rows[at])
    is_judged_only = judged.protocol.pool is Pool.JUDGED
    depth = min(DEPTH, scores.shape[1])
    if is_judged_only:
        depth = max(1, int(np.bincount(rows[0], minlength=1).max()))

    def ranked(left_out: Bools) -> Ints:
        is_out = np.full(scores.shape, is_judged_only)
        is_out[rows] = left_out[at]
        return best(masked(scores, is_out), depth)

    block = np.arange(start, stop)
    relevant, graded = cases.relevant.take(block), cases.graded.take(block)
    by_gain = ranked(cases.graded_out)
    is_same = np.array_equal(cases.graded_out[at], cases.relevant_out[at])
    positions = places(by_gain if is_same else ranked(cases.relevant_out), relevant)
    protocol = judged.protocol
    ndcg = ndcg_at(places(by_gain, graded), graded, protocol.ndcg_at or depth)
    precision = average_precision(positions, relevant)
    mrr = reciprocal_rank(positions, relevant, protocol.mrr_at)
    main = [ndcg, precision, mrr] if protocol.mrr_at is None else [mrr, ndcg, precision]  # as in `metrics_of`
    return np.stack([*main, *(recall_at(positions, relevant, k) for k in protocol.ks)], axis=1)


def _results(
    cases: Sequence[_Cases],
    metrics: tuple[str, ...],
    scores: Mapping[str, Sequence[Doubles]],
    rank_s: Mapping[str, float],
    judged: JudgedSet,
    sides: str,
) -> Results:
    """Concatenates the cases that have a gain, with the buckets of their queries and sides."""
    kept = [np.flatnonzero(case_set.graded.counts > 0) for case_set in cases]
    queries = np.concatenate(kept)
    buckets = {name: Bucket(bucket.values, bucket.codes[queries]) for name, bucket in judged.query_buckets.items()}
    if sides:
        side = np.repeat([case_set.side for case_set in cases], [len(rows) for rows in kept]).astype(np.int32)
        buckets[sides] = Bucket(judged.product_buckets[sides].values, side)
        if sides in judged.query_buckets:
            buckets[QUADRANT] = _crossed(judged.query_buckets[sides], queries, buckets[sides])
            del buckets[sides]
    else:
        buckets[OVERLAP] = _query_overlap(judged, queries)
    kept_scores = {
        name: np.concatenate([values[rows] for values, rows in zip(of_cases, kept, strict=True)])
        for name, of_cases in scores.items()
    }
    return Results(metrics, kept_scores, rank_s, queries, buckets)


def pair_buckets(pairs: JudgedSet, sides: str) -> dict[str, Bucket]:
    """Returns the buckets of judged pairs: by query, by query and product, and by shared words."""
    buckets = {
        name: Bucket(bucket.values, bucket.codes[pairs.query_rows]) for name, bucket in pairs.query_buckets.items()
    }
    if sides:
        side = pairs.product_buckets[sides]
        pair_sides = Bucket(side.values, side.codes[pairs.product_rows])
        buckets[QUADRANT] = _crossed(pairs.query_buckets[sides], pairs.query_rows, pair_sides)
    shares = SharedWords(pairs.queries, pairs.products).shares(pairs.query_rows, pairs.product_rows)
    codes = np.where(shares == 0, 0, np.where(shares < 1, 1, 2)).astype(np.int32)
    buckets[OVERLAP] = Bucket(("none of the query's words", "some", "all of the query's words"), codes)
    return buckets


def _crossed(queries: Bucket, query_rows: Ints, products: Bucket) -> Bucket:
    """Crosses both buckets: "unseen query, seen product". `products` has one code per row."""
    values = tuple(f"{query} query, {product} product" for query in queries.values for product in products.values)
    codes = queries.codes[query_rows].astype(np.int64) * len(products.values) + products.codes
    return Bucket(values, codes.astype(np.int32))


def _query_overlap(judged: JudgedSet, queries: Ints) -> Bucket:
    """Divides `queries` (n,) by the mean share of their words that their relevant products contain; -1 without a relevant product."""
    relevant = judged.relevant()
    counts = relevant.counts
    starts = np.cumsum(counts) - counts
    lengths = np.minimum(counts[queries], _MAX_WORDS_OF)
    pairs = np.concatenate([np.arange(start, start + n) for start, n in zip(starts[queries], lengths, strict=True)])
    shares = SharedWords(judged.queries, judged.products).shares(relevant.cases[pairs], relevant.rows[pairs])
    means = np.bincount(np.repeat(np.arange(len(queries)), lengths), shares, len(queries)) / np.maximum(1, lengths)
    codes = np.where(lengths > 0, np.searchsorted((1 / 3, 2 / 3), means, "right"), -1).astype(np.int32)
    return Bucket(("less than a third of the words", "a third to two thirds", "two thirds or more"), codes)
