"""Whole searches over the catalogue: retrieval alone, and the same 200 candidates in the ranker's order, as the Search RPC ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.bootstrap import Interval, difference_interval, mean_interval, ratio_interval
from models.evaluation.buckets import Bucket, is_large
from models.evaluation.metrics import Relevance, ndcg_at, places, recall_at
from models.evaluation.page import Cell, Section, Table
from models.evaluation.plots import groups_plot
from models.ranking.impressions import Impressions
from models.ranking.ranker import Ranker, blend
from models.studies.rankers import nearest
from models.studies.ranking.pages import RankingPages
from models.studies.ranking.truth import StoreTruth

DEPTH, TOP = 200, 10
ALONE, RANKED, BEST = "retrieval alone", "retrieval + ranking", "same candidates in the oracle's order"
RECALL, NDCG, BOUGHT = f"Recall@{TOP}", f"NDCG@{TOP}", "purchases per 100 searches"
_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class WholeSearches:
    """Searches later than the ranker's training data, over the whole catalogue.

    RECALL and NDCG are defined for searches that led to a purchase, and NaN for others. BOUGHT is the expected number of purchases in the
    simulation if shoppers examine the new order as they examined the logged one.
    """

    values: Mapping[
        str, Mapping[str, Doubles]
    ]  # order -> metric -> (searches,); BOUGHT and BEST come of the simulation's truth alone
    candidate_recall: Doubles  # (searches,) share of the bought products that are candidates
    units: Ints
    segments: Mapping[str, Bucket]
    seed: int

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.values[ALONE])

    def mean(self, order: str, metric: str) -> Interval:
        return mean_interval(self.values[order][metric], self.units, seed=self.seed)

    def lift(self, metric: str, at: Ints | slice = slice(None)) -> Interval:
        ours, theirs = self.values[RANKED][metric][at], self.values[ALONE][metric][at]
        return difference_interval(ours, theirs, self.units[at], seed=self.seed)

    def ratio(self, metric: str) -> Interval:
        """Returns the mean with the ranker divided by the mean without it."""
        return ratio_interval(self.values[RANKED][metric], self.values[ALONE][metric], self.units, seed=self.seed)


def whole_searches(
    bundle: Bundle,
    pages: RankingPages,
    truth: StoreTruth | None,
    ranker: Ranker,
    progress: Progress,
    *,
    max_searches: int = 6_000,
    seed: int = 0,
) -> WholeSearches:
    """Repeats up to `max_searches` random searches of the test pages, with the same share of searches with a purchase."""
    chosen = _sample_searches(pages.test, max_searches, seed)
    shown = pages.test.take(chosen)
    candidates, blended = _retrieve(bundle, pages, shown, ranker, progress)
    orders = {
        ALONE: np.tile(np.arange(candidates.shape[1]), (shown.num_pages, 1)),
        RANKED: np.argsort(-blended, axis=1, kind="stable"),
    }
    true = None if truth is None else _true_chances(truth, shown, candidates)
    if true is not None:
        orders[BEST] = np.argsort(-true, axis=1, kind="stable")
    right = np.flatnonzero(shown.labels[:, -1] > 0)
    relevance = Relevance(shown.page[right], shown.product[right], np.ones(len(right)), shown.num_pages)
    values = {name: _values(np.take_along_axis(candidates, order, 1), relevance) for name, order in orders.items()}
    if truth is not None and true is not None:
        examination = truth.log.family.pages.examined(TOP)
        for name, order in orders.items():
            chances = np.take_along_axis(true, order, 1)[:, : len(examination)]
            values[name][BOUGHT] = 100 * chances @ examination
    return WholeSearches(
        values,
        recall_at(places(candidates, relevance), relevance, candidates.shape[1]),
        shown.shopper.astype(np.int64),
        {name: bucket.take(chosen) for name, bucket in pages.segments.items()},
        seed,
    )


def _true_chances(truth: StoreTruth, shown: Impressions, candidates: Ints) -> Doubles:
    """Returns (searches, candidates) the simulation's chances of a purchase: nobody buys a product before its launch, or when there is none
    of it."""
    page = np.repeat(np.arange(shown.num_pages), candidates.shape[1])
    events = truth.searches(shown.time_ms, shown.queries)
    true = truth.oracle.chances(events, page, truth.numbers[candidates.ravel()])[:, -1].reshape(candidates.shape)
    is_for_sale = truth.log.family.pages.is_for_sale(truth.numbers[candidates], shown.time_ms[:, None])
    return np.where(is_for_sale, true, 0.0)


def _sample_searches(test: Impressions, max_searches: int, seed: int) -> Ints:
    """Samples searches with and without a purchase at the same rate, so that BOUGHT is of typical searches; returns pages, ascending."""
    with_purchase = np.unique(test.page[np.flatnonzero(test.labels[:, -1] > 0)])
    others = np.setdiff1d(np.arange(test.num_pages), with_purchase)
    rng = np.random.default_rng([seed, 0xE2])
    share = min(1.0, max_searches / test.num_pages)
    return np.union1d(
        rng.choice(with_purchase, round(share * len(with_purchase)), replace=False),
        rng.choice(others, round(share * len(others)), replace=False),
    )


def _retrieve(
    bundle: Bundle, pages: RankingPages, shown: Impressions, ranker: Ranker, progress: Progress
) -> tuple[Ints, Floats]:
    """Searches the whole catalogue; returns candidates (searches, DEPTH) and the ranker's blended scores of them."""
    vectors = bundle.unit_vectors()
    probabilities = []
    candidates = np.empty((shown.num_pages, min(DEPTH, len(vectors))), np.int64)
    for start in range(0, shown.num_pages, _BLOCK):
        progress("search the whole catalogue", start, shown.num_pages)
        block = slice(start, min(start + _BLOCK, shown.num_pages))
        inputs = pages.features.inputs(shown.queries[block], shown.locales[block], shown.histories[block])
        nearest_rows = nearest(np.stack([query.search for query in inputs]), vectors, candidates.shape[1])
        candidates[block] = nearest_rows
        features = np.concatenate(
            [pages.features.compute(query, rows) for query, rows in zip(inputs, nearest_rows, strict=True)]
        )
        probabilities.append(ranker.probabilities(features))
    progress("search the whole catalogue", shown.num_pages, shown.num_pages)
    blended = blend(np.concatenate(probabilities)).reshape(candidates.shape)
    return candidates, blended


def _values(ranked: Ints, relevance: Relevance) -> dict[str, Doubles]:
    positions = places(ranked[:, :TOP], relevance)
    return {
        RECALL: recall_at(positions, relevance, TOP),
        NDCG: ndcg_at(positions, relevance, TOP),
    }


def end_to_end_sections(searches: WholeSearches) -> list[Section]:
    """Returns the sections for decision makers: all searches, then by segment."""
    num_bought = int(np.isfinite(searches.values[ALONE][RECALL]).sum())
    rows: list[tuple[str, Sequence[Cell]]] = [
        (order, [searches.mean(order, metric) for metric in searches.metrics]) for order in searches.values
    ]
    gains: list[tuple[str, Sequence[Cell]]] = [
        ("with the ranker minus without", [searches.lift(metric) for metric in searches.metrics])
    ]
    bought = (
        f"{BOUGHT.capitalize()}: the purchases that the simulation expects over {len(searches.units):,} searches if shoppers examine these "
        f"first {TOP} like a logged page. "
    )
    overall = Section(
        "Search with and without the ranker",
        f"{RECALL}: the share of the bought products that rank among the first {TOP} of the whole catalogue. {NDCG} also rewards higher "
        f"places. Both are means over {num_bought:,} searches that led to a purchase. {bought if BOUGHT in searches.metrics else ''}"
        f"{RECALL} and {NDCG} count only products that the shop had shown in its own order; a better product that was never shown cannot "
        "count.",
        plots=[
            groups_plot(
                {
                    metric: {order: searches.mean(order, metric) for order in (ALONE, RANKED)}
                    for metric in (RECALL, NDCG)
                },
                "of bought products",
            )
        ],
        tables=[
            Table("All searches", "order", searches.metrics, rows),
            Table("Lift by the ranker", "", searches.metrics, gains, signed=True),
        ],
    )
    tables = [table for name in searches.segments for table in _segment_tables(searches, name)]
    return [
        overall,
        Section(
            "By segment",
            "Head queries make up half of all earlier searches, tail queries the last fifth; unseen queries have none. The history is the "
            "shopper's clicks and purchases before the search. Segments with too few searches for a mean are left out.",
            tables=tables,
        ),
    ]


def end_to_end_finding(searches: WholeSearches) -> str:
    """Returns the main results in a few sentences."""
    recall, lift = searches.mean(RANKED, RECALL), searches.lift(RECALL)
    alone = searches.mean(ALONE, RECALL)
    candidates = mean_interval(searches.candidate_recall, searches.units, seed=searches.seed)
    verb = ("raises" if lift.value > 0 else "lowers") if lift.excludes_zero else "does not clearly change"
    found = (
        f"Ranking the {DEPTH} candidates of a search {verb} the share of bought products among the first {TOP}: "
        f"{alone.value:.0%} without the ranker, {recall.value:.0%} with it (difference {100 * lift.value:+.1f} points, "
        f"{100 * lift.low:+.1f} to {100 * lift.high:+.1f}). "
        f"{candidates.value:.0%} of the bought products are among the {DEPTH} candidates."
    )
    if BOUGHT not in searches.metrics:
        return found
    ratio = searches.ratio(BOUGHT)
    return (
        f"{found} In the simulation, shoppers buy {ratio.value:.2f} times as much from the ranked first page as from the unranked one "
        f"({ratio.low:.2f} to {ratio.high:.2f}). "
        f"The oracle, which knows every shopper's intent, reaches {searches.mean(BEST, RECALL).value:.0%} with the same candidates."
    )


def _segment_tables(searches: WholeSearches, name: str) -> list[Table]:
    bucket, rows = searches.segments[name], []
    has_purchase = np.isfinite(searches.values[ALONE][RECALL])
    for value, at in bucket.rows().items():
        counted = at[has_purchase[at]]
        if not is_large(searches.units[counted]):
            continue
        cells: list[Cell] = []
        for metric in searches.metrics:
            alone = mean_interval(searches.values[ALONE][metric][at], searches.units[at], seed=searches.seed)
            ranked = mean_interval(searches.values[RANKED][metric][at], searches.units[at], seed=searches.seed)
            cells += [alone.value, ranked.value, searches.lift(metric, at)]
        rows.append((f"{value} ({len(counted):,})", cells))
    columns = [f"{metric}: {part}" for metric in searches.metrics for part in ("alone", "ranked", "lift")]
    return [Table(f"By {name}; number of searches with a purchase in brackets", name, columns, rows)]
