"""Whole searches: the best of the catalogue by retrieval alone, and the same 200 candidates in the ranker's order, as Search has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Doubles, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.bootstrap import Interval, difference_interval, mean_interval, ratio_interval
from models.evaluation.buckets import Bucket, is_large
from models.evaluation.metrics import Relevance, ndcg_at, places, recall_at
from models.evaluation.page import Cell, Section, Table
from models.evaluation.plots import groups_plot
from models.ranking.ranker import Ranker, blend
from models.sample_store import SimulatedLog
from models.studies.rankers import nearest
from models.studies.ranking.pages import RankingPages
from models.studies.ranking.truth import StoreTruth

DEPTH, TOP = 200, 10
ALONE, RANKED, BEST = "retrieval alone", "retrieval + ranking", "the same candidates in the oracle's order"
RECALL, NDCG, BOUGHT = f"Recall@{TOP}", f"NDCG@{TOP}", "purchases in 100 searches"
METRICS = (RECALL, NDCG, BOUGHT)
_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class WholeSearches:
    """Searches after the ranker's training, answered from the whole catalogue. RECALL and NDCG are of those that ended in a purchase and
    NaN of the others; BOUGHT is what the simulation expects of all, if shoppers looked at the new order as they looked at the old."""

    values: Mapping[str, Mapping[str, Doubles]]  # order -> metric -> (searches,)
    reached: Doubles  # (searches,) share of the bought products that are among the candidates
    units: Ints
    segments: Mapping[str, Bucket]
    seed: int

    def mean(self, order: str, metric: str) -> Interval:
        return mean_interval(self.values[order][metric], self.units, seed=self.seed)

    def gain(self, metric: str, at: Ints | slice = slice(None)) -> Interval:
        ours, theirs = self.values[RANKED][metric][at], self.values[ALONE][metric][at]
        return difference_interval(ours, theirs, self.units[at], seed=self.seed)

    def growth(self, metric: str) -> Interval:
        """With the ranker over without it."""
        return ratio_interval(self.values[RANKED][metric], self.values[ALONE][metric], self.units, seed=self.seed)


def whole_searches(
    bundle: Bundle,
    pages: RankingPages,
    truth: StoreTruth,
    ranker: Ranker,
    progress: Progress,
    *,
    max_searches: int = 6_000,
    seed: int = 0,
) -> WholeSearches:
    """Of the searches of the test pages, those with a purchase first, then a random part of the others up to `max_searches`."""
    test = pages.test
    bought = np.flatnonzero(test.labels[:, -1] > 0)
    with_purchase = np.unique(test.page[bought])
    others = np.setdiff1d(np.arange(test.num_pages), with_purchase)
    rng = np.random.default_rng([seed, 0xE2])
    # All have their share of those with a purchase, so that BOUGHT is of searches as they come.
    share = min(1.0, max_searches / test.num_pages)
    chosen = np.union1d(
        rng.choice(with_purchase, round(share * len(with_purchase)), replace=False),
        rng.choice(others, round(share * len(others)), replace=False),
    )
    shown = test.take(chosen)
    vectors = bundle.unit_vectors()
    chances = []
    candidates = np.empty((shown.num_pages, min(DEPTH, len(vectors))), np.int64)
    for start in range(0, shown.num_pages, _BLOCK):
        progress("search the whole catalogue", start, shown.num_pages)
        block = slice(start, min(start + _BLOCK, shown.num_pages))
        inputs = pages.features.inputs(shown.queries[block], shown.locales[block], shown.histories[block])
        found = nearest(np.stack([one.search for one in inputs]), vectors, candidates.shape[1])
        candidates[block] = found
        features = np.concatenate([pages.features.compute(one, rows) for one, rows in zip(inputs, found, strict=True)])
        chances.append(ranker.probabilities(features))
    progress("search the whole catalogue", shown.num_pages, shown.num_pages)
    page = np.repeat(np.arange(shown.num_pages), candidates.shape[1])
    events = truth.searches(shown.time_ms, shown.queries)
    true = truth.oracle.chances(events, page, truth.numbers[candidates.ravel()])[:, -1].reshape(candidates.shape)
    # What is not launched yet is bought by nobody.
    launched = truth.log.assortment.launch_ms[truth.numbers[candidates]] <= shown.time_ms[:, None]
    true = np.where(launched, true, 0.0)
    orders = {
        ALONE: np.tile(np.arange(candidates.shape[1]), (shown.num_pages, 1)),
        RANKED: np.argsort(-blend(np.concatenate(chances)).reshape(candidates.shape), axis=1, kind="stable"),
        BEST: np.argsort(-true, axis=1, kind="stable"),
    }
    right = np.flatnonzero(shown.labels[:, -1] > 0)
    relevance = Relevance(shown.page[right], shown.product[right], np.ones(len(right)), shown.num_pages)
    looked = examined(truth.log, TOP)
    values = {
        name: _values(np.take_along_axis(candidates, order, 1), np.take_along_axis(true, order, 1), relevance, looked)
        for name, order in orders.items()
    }
    return WholeSearches(
        values,
        recall_at(places(candidates, relevance), relevance, candidates.shape[1]),
        shown.shopper.astype(np.int64),
        {name: one.take(chosen) for name, one in pages.segments.items()},
        seed,
    )


def examined(log: SimulatedLog, top: int) -> Doubles:
    """(top,) the chance that a simulated shopper looks at each place of a page."""
    shares = np.asarray(log.parameters.depth_shares)
    step = log.pages.examination().size // len(shares)
    seen = (1 - np.concatenate(([0.0], np.cumsum(shares)[:-1]))).repeat(step)
    return np.asarray((seen * log.pages.examination())[:top], np.float64)


def _values(ranked: Ints, true: Doubles, relevance: Relevance, looked: Doubles) -> dict[str, Doubles]:
    found = places(ranked[:, :TOP], relevance)
    return {
        RECALL: recall_at(found, relevance, TOP),
        NDCG: ndcg_at(found, relevance, TOP),
        BOUGHT: 100 * true[:, : len(looked)] @ looked,
    }


def end_to_end_sections(searches: WholeSearches) -> list[Section]:
    """What a product manager reads: all searches, then by segment."""
    num_bought = int(np.isfinite(searches.values[ALONE][RECALL]).sum())
    rows: list[tuple[str, Sequence[Cell]]] = [
        (order, [searches.mean(order, metric) for metric in METRICS]) for order in searches.values
    ]
    gains: list[tuple[str, Sequence[Cell]]] = [
        ("with the ranker, minus without", [searches.gain(one) for one in METRICS])
    ]
    overall = Section(
        "Search with and without the ranker",
        f"{RECALL}: how many of the products that shoppers went on to buy are among the first {TOP} of the whole catalogue. {NDCG}: the "
        f"same, and more the higher they stand. Both are of {num_bought:,} searches that ended in a purchase. "
        f"{BOUGHT.capitalize()}: what the simulation expects if shoppers looked at these first {TOP} as they look at a page, over "
        f"{len(searches.units):,} searches. A bought product was one that the shop had shown, by an order of its own; a better one that it "
        "did not show cannot count in the first two.",
        plots=[
            groups_plot(
                {
                    metric: {order: searches.mean(order, metric) for order in (ALONE, RANKED)}
                    for metric in (RECALL, NDCG)
                },
                "(simulated)",
            )
        ],
        tables=[
            Table("All searches", "order", METRICS, rows),
            Table("What the ranker adds", "", METRICS, gains, signed=True),
        ],
    )
    tables = [table for name in searches.segments for table in _segment_tables(searches, name)]
    return [
        overall,
        Section(
            "For whom",
            "Head queries have half of all searches, tail queries the last fifth, unseen ones were never asked before. A history is the "
            "clicks and purchases known before the search. Segments with too few searches for a mean are left out.",
            tables=tables,
        ),
    ]


def end_to_end_finding(searches: WholeSearches) -> str:
    """A few plain sentences."""
    recall, bought, growth = (searches.mean(RANKED, RECALL), searches.gain(RECALL), searches.growth(BOUGHT))
    alone, clear = searches.mean(ALONE, RECALL), bought.excludes_zero
    reached = mean_interval(searches.reached, searches.units, seed=searches.seed)
    verb = ("raises" if bought.value > 0 else "lowers") if clear else "does not clearly change"
    return (
        f"Ordering the {DEPTH} candidates of a search by the ranker {verb} the share of bought products among the first {TOP}: "
        f"{alone.value:.0%} without it, {recall.value:.0%} with it (difference {100 * bought.value:+.1f} points, "
        f"{100 * bought.low:+.1f} to {100 * bought.high:+.1f}). "
        f"By the simulation, shoppers who look at the new first page buy {growth.value:.2f} times as much as from the old one "
        f"({growth.low:.2f} to {growth.high:.2f}). "
        f"The most that any order of these candidates could put there is {searches.mean(BEST, RECALL).value:.0%} "
        f"for one who knew every shopper's mind, and {reached.value:.0%} of what was bought is among the {DEPTH} at all."
    )


def _segment_tables(searches: WholeSearches, name: str) -> list[Table]:
    bucket, rows = searches.segments[name], []
    has_purchase = np.isfinite(searches.values[ALONE][RECALL])
    for value, at in bucket.rows().items():
        counted = at[has_purchase[at]]
        if not is_large(searches.units[counted]):
            continue
        cells: list[Cell] = []
        for metric in METRICS:
            alone = mean_interval(searches.values[ALONE][metric][at], searches.units[at], seed=searches.seed)
            ranked = mean_interval(searches.values[RANKED][metric][at], searches.units[at], seed=searches.seed)
            cells += [alone.value, ranked.value, searches.gain(metric, at)]
        rows.append((f"{value} ({len(counted):,})", cells))
    columns = [f"{metric}: {part}" for metric in METRICS for part in ("alone", "ranked", "difference")]
    return [Table(f"By {name}; searches with a purchase in brackets", name, columns, rows)]
