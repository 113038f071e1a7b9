"""The verb that measures rankers on real purchases: the next basket of a kind of product, given the customer's history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.catalogue import product_text
from models.embedding import Progress
from models.evaluation.baselines import Bm25Ranker, BuyAgainRanker, PopularAmongRanker, PopularRanker, popularity
from models.evaluation.cases import Cases, Split, build_cases
from models.evaluation.online_retail import OnlineRetail, read_online_retail
from models.evaluation.rankers import Ranker
from models.evaluation.results import evaluate_rankers
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Comparison, Summary, summarise

KS = (5, 20, 100)
MAIN_METRIC = "recall@20"
TEST_SHARE = 0.2
MATCHING = "popular among BM25"  # the baseline that knows query and fashion, but no customer

MakeRankers = Callable[[OnlineRetail, Cases, Progress], Sequence[Ranker]]


@dataclass(frozen=True, slots=True)
class OnlineRetailEvaluation:
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
    """Baselines, and the rankers that `make_rankers` trains on the window before the cases, on the last fifth of the purchases.

    A case is what one invoice holds of one kind of product. Intervals draw customers.
    """
    progress("read purchases", 0, None)
    retail = read_online_retail(path)
    events = retail.events()
    cases = build_cases(events, Split.by_share(events, TEST_SHARE), max_cases=max_cases, seed=seed)
    rankers = [*baselines(retail, cases), *(make_rankers(retail, cases, progress) if make_rankers else ())]
    results = evaluate_rankers(rankers, cases, KS, progress)
    progress("draw intervals", 0, None)
    others = tuple(name for name in results.scores if name != MATCHING)
    differences = Comparison("Against popularity among what matches the query", MATCHING, others)
    summary = summarise(results, MAIN_METRIC, [differences], seed=seed)
    return OnlineRetailEvaluation(summary, _facts(retail, cases, command, seed))


def baselines(retail: OnlineRetail, cases: Cases) -> list[Ranker]:
    """What needs no training beyond counting."""
    bm25 = Bm25Ranker([product_text(product) for product in retail.products])
    popular = PopularRanker(cases.events, cases.split)
    matching = PopularAmongRanker(bm25, popularity(cases.events, cases.split), MATCHING)
    return [
        popular,
        bm25,
        matching,
        BuyAgainRanker(popular, "earlier purchases, then popular", depth=len(retail.products)),
        BuyAgainRanker(matching, "earlier purchases among BM25"),
    ]


def _facts(retail: OnlineRetail, cases: Cases, command: str, seed: int) -> RunFacts:
    sizes = retail.kind_sizes
    of_cases = np.array([sizes[text] for text in cases.texts])
    return RunFacts.of_this_run(
        "Real purchases: next basket given the query's kind and the customer's history",
        simulated=False,
        command=command,
        data={
            "data": "UCI Online Retail (Chen, Sain and Guo, 2012), CC BY 4.0: purchases are real, queries are derived of titles",
            "products": len(retail.products),
            "purchases": retail.log.num_rows,
            "lines left out": ", ".join(f"{reason} {count:,}" for reason, count in retail.left_out.items()),
            "cases": f"{len(cases):,} of {len(np.unique(cases.units)):,} customers",
            "queries": f"{len(sizes)} kinds, each of {min(sizes.values())} to {max(sizes.values())} products; "
            f"the median case's fits {int(np.median(of_cases))}",
        },
        seeds={"cases and intervals": seed},
    )
