"""Evaluates encoders on a judged set, such as WANDS or ESCI, or on known items of a catalogue, and writes the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Progress
from models.bundles.source import Source
from models.errors import InputError
from models.evaluation.page import Section, write_sections
from models.evaluation.run_facts import RunFacts
from models.lexical.bm25 import Bm25
from models.studies.text_encoder.embedders import Embedder, EncoderEmbedder, VectorCache
from models.studies.text_encoder.judged_set import JudgedSet
from models.studies.text_encoder.judging import JudgedResults, judge
from models.studies.text_encoder.known_items import known_items
from models.studies.text_encoder.pair_figures import ByBucket, figures_by_bucket
from models.studies.text_encoder.scorers import Scorer, VectorScorer
from models.studies.text_encoder.sections import sections_of, summary_of
from models.text_encoder.hugging_face import PACKAGED

BM25 = "BM25"
METHOD = (
    "Encoders rank by the cosine of their vectors, with exact search. Intervals are percentiles of bootstrap resamples of queries; "
    "differences are paired by query. Pooled AUC and AP take the pairs of all queries together, so they also measure whether scores of "
    "different queries are comparable; AUC within queries is the mean over queries. There are many differences: even without any effect, "
    "about one in twenty intervals would exclude 0 by chance. BM25 scores a product without a shared word 0."
)


@dataclass(frozen=True, slots=True)
class JudgedFigures:
    """The results on one judged set."""

    judged: JudgedSet
    results: JudgedResults
    pairs: ByBucket
    reference: str
    seed: int

    def sections(self, pair_note: str = "") -> list[Section]:
        return sections_of(
            self.results,
            self.pairs,
            self.reference,
            protocol=self.judged.protocol.describe(),
            pair_note=pair_note,
            seed=self.seed,
        )

    def finding(self) -> str:
        """Returns the main metric of the reference and of the others, as a sentence."""
        metric = self.results.ranking.metrics[0]
        summary = summary_of(self.results.ranking, metric, self.reference, seed=self.seed)
        shown = [
            f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
            for name in (self.reference, *summary.others)
            if (one := summary.main(name))
        ]
        return f"{self.judged.name}, {metric.upper()} over {summary.num_cases:,} queries: {'; '.join(shown)}."


def evaluate_judged(
    encoders: Sequence[str],
    judged: JudgedSet,
    out: Path,
    progress: Progress,
    *,
    command: str = "",
    seed: int = 0,
    max_product_tokens: int = 128,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file.

    `encoders` are names or folders as in `find_encoder`; the first is the reference for the others and BM25. Vectors stay in `out/work`, so
    an interrupted call can be repeated and resumes. Raises EncoderError, and ValueError for two encoders of the same name.
    """
    work = out / "work"
    embedders = [
        EncoderEmbedder(name, encoder, work, max_product_tokens=max_product_tokens) for name, encoder in named(encoders)
    ]
    figures = judged_figures(embedders, judged, work, progress, seed=seed)
    facts = RunFacts.of_this_run(
        f"Text encoders on {judged.name}",
        simulated=judged.is_simulated,
        command=command,
        data={
            "judged set": judged.name,
            "queries": len(judged.queries),
            "products": len(judged.products),
            "judgements": len(judged.labels),
            "duplicate judgements left out": judged.num_repeated,
            "encoders": ", ".join(encoders),
        },
        seeds={"queries and intervals": seed},
    )
    progress("write the report", 0, None)
    return write_sections(out, facts, figures.finding(), figures.sections(), METHOD)


def evaluate_known_items(
    encoders: Sequence[str],
    catalogue: Source,
    out: Path,
    progress: Progress,
    *,
    num_queries: int = 2_000,
    max_products: int | None = None,
    command: str = "",
    seed: int = 0,
) -> Path:
    """Runs `evaluate_judged` with queries derived from the catalogue's titles; see `known_items`."""
    progress("derive queries from titles", 0, None)
    judged = known_items_of(catalogue, num_queries=num_queries, max_products=max_products, seed=seed)
    return evaluate_judged(encoders, judged, out, progress, command=command, seed=seed)


def known_items_of(
    catalogue: Source, *, num_queries: int = 2_000, max_products: int | None = None, seed: int = 0
) -> JudgedSet:
    """Derives known items from the catalogue, or from a random sample of `max_products`.

    The name of the set states the sample, because an item is easier to find among fewer products.
    """
    products = list(catalogue.products())
    name = catalogue.name
    if max_products is not None and len(products) > max_products:
        rows = np.sort(np.random.default_rng([seed, 0xCA]).choice(len(products), max_products, replace=False))
        name += f", {max_products:,} of its {len(products):,} products"
        products = [products[row] for row in rows.tolist()]
    return known_items(products, name=name, num_queries=num_queries, text_fields=catalogue.text_attributes, seed=seed)


def judged_figures(
    embedders: Sequence[Embedder],
    judged: JudgedSet,
    work: Path,
    progress: Progress,
    *,
    sides: str = "",
    pairs: JudgedSet | None = None,
    seed: int = 0,
) -> JudgedFigures:
    """Evaluates the embedders, then BM25; the first embedder is the reference."""
    cache = VectorCache(work / "vectors")
    progress("index the products' words", 0, None)
    scorers: list[Scorer] = [VectorScorer(embedder, judged.products, cache, progress) for embedder in embedders]
    results = judge([*scorers, Bm25(judged.products, BM25)], judged, progress, sides=sides, pairs=pairs)
    reference = embedders[0].name
    progress("draw intervals", 0, None)
    dimensions = [] if results.pairs.is_relevant.all() else list(results.pairs.buckets)
    by_bucket = figures_by_bucket(
        results.pairs,
        dimensions,
        reference,
        seed=seed,
        on_part=lambda what: progress(f"draw intervals, {what}", 0, None),
    )
    return JudgedFigures(judged, results, by_bucket, reference, seed)


def named(encoders: Sequence[str]) -> list[tuple[str, str]]:
    """Returns pairs of display name and encoder. Raises ValueError if two names are equal."""
    if not encoders:
        raise InputError("name at least one encoder")
    names = ["MiniLM" if encoder == PACKAGED else Path(encoder).name or encoder for encoder in encoders]
    twice = sorted({name for name in names if names.count(name) > 1} | ({BM25} & set(names)))
    if twice:
        raise InputError(f"encoders need different names; {', '.join(twice)} is repeated: rename the folder")
    return list(zip(names, encoders, strict=True))
