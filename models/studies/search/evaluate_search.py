"""Compares what a service answers, by each of its ways to search, with BM25 over all texts of the products."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.arrays import Doubles, Ints, Progress
from models.bundles.bundle import Bundle
from models.evaluation.metrics import Relevance, average_precision, ndcg_at, places, recall_at, reciprocal_rank
from models.evaluation.page import Section, write_sections
from models.evaluation.results import Results
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Comparison, Summary, summarise
from models.lexical.bm25 import Bm25
from models.products.product_table import ProductTable
from models.studies.search.judgements import Judgements
from models.studies.text_encoder.sections import ranking_section

BM25 = "BM25 over all texts"
WAY = "way to search"
DEPTH = 1_000
METRICS = ("ndcg@10", "mrr", "map", "recall@10", "recall@100")
METHOD = (
    "Each way answers every query with its best products, 1,000 at most. NDCG takes the rating as the gain; other metrics count products "
    "with a rating above 0. In full, a product that nobody judged has no gain, which favours whatever the judged products were drawn from. "
    "Judged alone, unjudged products are taken out of each answer first, which favours answers that hold few judged products. Read both. "
    "Intervals are percentiles of bootstrap resamples of queries; differences are paired by query. BM25 has its usual k1 1.5 and b 0.75, "
    "English stems, and every text of a product: id, title, brand, category, attributes, prose."
)
Search = Callable[[str], Sequence[str]]  # a query to product ids, best first


def evaluate_search(
    judgements: Judgements,
    bundle: Bundle,
    ways: Mapping[str, Search],
    out: Path,
    progress: Progress,
    *,
    command: str = "",
    seed: int = 0,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file. `ways` are the ways to search by name; all are
    compared with the last, which is what shoppers get."""
    table = bundle.products()
    ranked: dict[str, Ints] = {}
    seconds: dict[str, float] = {}
    for name, search in ways.items():
        started = time.perf_counter()
        rows = np.full((len(judgements.queries), DEPTH), -1, np.int64)
        for at, query in enumerate(judgements.queries):
            progress(f"search: {name}", at, len(judgements.queries))
            found = [row for product_id in search(query) if (row := table.row_of(product_id)) is not None][:DEPTH]
            rows[at, : len(found)] = found
        ranked[name], seconds[name] = rows, time.perf_counter() - started
    progress("index the products' words", 0, None)
    started = time.perf_counter()
    ranked[BM25] = Bm25(_texts(table)).best(judgements.queries, DEPTH)
    seconds[BM25] = time.perf_counter() - started
    progress("draw intervals", 0, None)
    reference = list(ways)[-1]
    full = _summary(judgements, ranked, seconds, reference, seed)
    alone = {name: _of_judged(rows, judgements.judged) for name, rows in ranked.items()}
    judged = _summary(judgements, alone, seconds, reference, seed)
    facts = RunFacts.of_this_run(
        f"Searches of {bundle.manifest.name}",
        simulated=False,
        command=command,
        data={
            "bundle": bundle.manifest.version,
            "queries": len(judgements.queries),
            "judgements": judgements.num_judgements,
            "of products that the bundle does not hold": judgements.num_unknown,
            "repeated": judgements.num_repeated,
            "queries without a known product above 0": judgements.num_hopeless,
        },
        seeds={"intervals": seed},
    )
    sections: list[Section] = [
        ranking_section("All products; those that nobody judged have no gain", full, subject=WAY),
        ranking_section("Judged products alone", judged, subject=WAY),
    ]
    return write_sections(out, facts, finding(full, judged), sections, METHOD)


def finding(full: Summary, judged: Summary) -> str:
    """Returns the main metric of each way, in full and on judged products alone, as a sentence."""
    shown = [
        f"{name} {full.main(name).value:.3f} [{full.main(name).low:.3f}, {full.main(name).high:.3f}], {judged.main(name).value:.3f} judged "
        "alone"
        for name in full.ranked
    ]
    return f"NDCG@10 over {full.num_cases:,} queries: {'; '.join(shown)}."


def _texts(table: ProductTable) -> list[str]:
    return [
        " ".join((product.id, product.title, product.brand, product.category, *product.attributes.values()))
        for product in table.products()
    ]


def _of_judged(ranked: Ints, judged: Sequence[Ints]) -> Ints:
    """Returns each ranking (queries, depth) without the products that were not judged for its query."""
    alone = np.full_like(ranked, -1)
    for at, (rows, known) in enumerate(zip(ranked, judged, strict=True)):
        kept = rows[np.isin(rows, known)]
        alone[at, : len(kept)] = kept
    return alone


def _summary(
    judgements: Judgements, ranked: Mapping[str, Ints], seconds: Mapping[str, float], reference: str, seed: int
) -> Summary:
    scores = {name: _scores(rows, judgements.rated) for name, rows in ranked.items()}
    results = Results(METRICS, scores, seconds, np.arange(len(judgements.queries)), {})
    others = tuple(name for name in ranked if name != reference)
    return summarise(results, METRICS[0], [Comparison("", reference, others)], subject=reference, seed=seed)


def _scores(ranked: Ints, rated: Relevance) -> Doubles:
    """Returns (queries, METRICS)."""
    found = places(ranked, rated)
    return np.stack(
        [
            ndcg_at(found, rated, 10),
            reciprocal_rank(found, rated),
            average_precision(found, rated),
            recall_at(found, rated, 10),
            recall_at(found, rated, 100),
        ],
        axis=1,
    )
