"""Measures rankers on real purchases: the next basket of a kind of product, given the customer's history."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.arrays import Progress
from models.evaluation.cases import Cases, Split, build_cases
from models.evaluation.results import Ranker, evaluate_rankers
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Comparison, Summary, summarise
from models.evaluation.whole_catalogue import OpenSearch
from models.needs.season import find_season
from models.products.product import product_text
from models.products.product_table import ProductTable, write_products
from models.studies.baselines import Bm25Ranker, BuyAgainRanker, PopularAmongRanker, PopularRanker, popularity
from models.studies.case_histories import history_events
from models.studies.purchases.online_retail import OnlineRetail, read_online_retail
from models.studies.purchases.served_bundle import served_rankers, train_bundle
from models.studies.rankers import WithoutHistories
from models.studies.unified.unified_ranker import UnifiedRanker
from models.train_all import LoopRecipe
from models.unified.history import HistoryBlocks
from models.unified.shopping_log import ShoppingLog
from models.unified.train_unified import train_unified
from models.unified.unified_model import UnifiedModel

KS = (5, 20, 100)
MAIN_METRIC = "recall@20"
TEST_SHARE = 0.2
MATCHING = "popular among BM25"  # the baseline that uses query and popularity, but not the customer

# Days in which a purchase loses half its weight in what is bought lately. On the fifth of the log before the test (3,000 cases) Recall@20
# is 0.669, 0.666, 0.663 and 0.642 with 5, 10, 20 and 40 days, and 0.588 where all purchases count alike.
HALF_LIFE_DAYS = 10.0

PURCHASES = HistoryBlocks(queries=8, clicks=0, brands=0, purchases=64)  # the data holds no clicks and no brands

MakeRankers = Callable[[OnlineRetail, Cases, Progress], Sequence[Ranker]]


@dataclass(frozen=True, slots=True)
class OnlineRetailEvaluation:
    """The figures and facts for the report."""

    summary: Summary
    facts: RunFacts


def evaluate_online_retail(
    path: Path,
    progress: Progress,
    *,
    make_rankers: MakeRankers | None = None,
    max_cases: int | None = None,
    command: str = "",
    seed: int = 0,
) -> OnlineRetailEvaluation:
    """Evaluates baselines, and the rankers that `make_rankers` trains on the earlier purchases, on the last fifth of the purchases.

    A case is what one invoice holds of one kind of product. Intervals resample customers.
    """
    progress("read purchases", 0, None)
    retail = read_online_retail(path)
    events = retail.events()
    cases = build_cases(events, Split.by_share(events, TEST_SHARE), max_cases=max_cases, seed=seed)
    rankers = [*baselines(retail, cases), *(make_rankers(retail, cases, progress) if make_rankers else ())]
    results = evaluate_rankers(rankers, cases, KS, progress)
    progress("draw intervals", 0, None)
    others = tuple(name for name in results.scores if name != MATCHING)
    differences = Comparison("Compared with popularity among products that match the query", MATCHING, others)
    summary = summarise(results, MAIN_METRIC, [differences], seed=seed)
    return OnlineRetailEvaluation(summary, _facts(retail, cases, command, seed))


def trained_rankers(
    recipe: LoopRecipe, work: Path, open_search: OpenSearch, *, half_life_days: float | None = None, seed: int = 0
) -> MakeRankers:
    """Returns a function that trains in `work` on the earlier purchases: the unified model alone, which then ranks with and without
    histories, and a whole bundle, which `open_search` opens as a service would. Without a half-life that of the log's season is taken."""

    def make(retail: OnlineRetail, cases: Cases, progress: Progress) -> Sequence[Ranker]:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_products(work / "products.arrow", retail.products, ())
        table = ProductTable(work / "products.arrow")
        log = ShoppingLog.from_table(retail.log, [product.id for product in retail.products])
        season = find_season(log, cases.split.train_end_ms) if half_life_days is None else None
        days = (season.half_life_days if season else 0.0) if half_life_days is None else half_life_days
        chosen = replace(recipe, unified=replace(recipe.unified, half_life_days=days))
        window_recipe = replace(chosen.unified, train_share=1 - TEST_SHARE, history=PURCHASES)
        train_unified(table, log, window_recipe, work / "model", progress, seed=seed)
        model = UnifiedRanker("unified", UnifiedModel.load(work / "model"), table, history_events(cases.events))
        bundle = train_bundle(retail, cases.split.train_end_ms, chosen, work / "served", progress, seed)
        return [
            model,
            WithoutHistories(model, "unified, history hidden"),
            *served_rankers(bundle, cases, retail, open_search),
        ]

    return make


def baselines(retail: OnlineRetail, cases: Cases) -> list[Ranker]:
    """Returns the baselines, which only count events."""
    bm25 = Bm25Ranker([product_text(product) for product in retail.products])
    popular = PopularRanker(cases.events, cases.split)
    matching = PopularAmongRanker(bm25, popularity(cases.events, cases.split), MATCHING)
    lately = popularity(cases.events, cases.split, HALF_LIFE_DAYS)
    recent = PopularAmongRanker(bm25, lately, "bought lately among BM25")
    return [
        popular,
        bm25,
        matching,
        recent,
        BuyAgainRanker(popular, "earlier purchases, then popular", depth=len(retail.products)),
        BuyAgainRanker(matching, "earlier purchases among BM25"),
        BuyAgainRanker(recent, "earlier purchases among BM25, then bought lately"),
    ]


def _facts(retail: OnlineRetail, cases: Cases, command: str, seed: int) -> RunFacts:
    sizes = retail.kind_sizes
    matching = np.array([sizes[text] for text in cases.texts])
    return RunFacts.of_this_run(
        "Real purchases: the next basket, given the kind of product and the customer's history",
        simulated=False,
        command=command,
        data={
            "data": "UCI Online Retail (Chen, Sain and Guo, 2012), CC BY 4.0: purchases are real, queries are derived from titles",
            "products": len(retail.products),
            "purchases": retail.log.num_rows,
            "lines left out": ", ".join(f"{reason} {count:,}" for reason, count in retail.left_out.items()),
            "cases": f"{len(cases):,} of {len(np.unique(cases.units)):,} customers",
            "queries": f"{len(sizes)} kinds, each of {min(sizes.values())} to {max(sizes.values())} products; "
            f"the median case's query fits {int(np.median(matching))}",
        },
        seeds={"cases and intervals": seed},
    )
