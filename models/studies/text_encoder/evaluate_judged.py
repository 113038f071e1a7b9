"""The verb that evaluates encoders on a judged set, as WANDS or ESCI, and writes the report."""

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
from models.lexical import Bm25
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
    "Encoders rank by the cosine of their vectors, exactly. Intervals are percentiles of bootstrap resamples of queries; differences are "
    "paired by query. Pooled AUC and AP take the pairs of all queries together, so that they also ask whether the scores of different "
    "queries can be compared; AUC within queries is the mean over queries. "
    "Differences are many, so one of twenty would leave 0 by chance. BM25 scores a product that shares no word 0."
)


@dataclass(frozen=True, slots=True)
class JudgedFigures:
    """What an evaluation on one judged set found."""

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
        """The main metric of the reference and of the best other."""
        metric = self.results.ranking.metrics[0]
        summary = summary_of(self.results.ranking, metric, self.reference, seed=self.seed)
        told = [
            f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
            for name in (self.reference, *summary.others)
            if (one := summary.main(name))
        ]
        return f"{self.judged.name}, {metric.upper()} over {summary.num_cases:,} queries: {'; '.join(told)}."


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
    """Writes report.json and report.html into `out` and returns the path of the latter.

    `encoders` are names or folders as `find_encoder` takes them; the first is the one that others, and BM25, are held against. Vectors
    are kept in `out/work`; the same call goes on where it was interrupted. Raises EncoderError, and ValueError for encoders of one name.
    """
    work = out / "work"
    embedders = [
        EncoderEmbedder(name, one, work, max_product_tokens=max_product_tokens) for name, one in named(encoders)
    ]
    found = judged_figures(embedders, judged, work, progress, seed=seed)
    facts = RunFacts.of_this_run(
        f"Text encoders on {judged.name}",
        simulated=judged.is_simulated,
        command=command,
        data={
            "judged set": judged.name,
            "queries": len(judged.queries),
            "products": len(judged.products),
            "judgements": len(judged.labels),
            "judgements left out, repeated": judged.num_repeated,
            "encoders": ", ".join(encoders),
        },
        seeds={"queries and intervals": seed},
    )
    progress("write the report", 0, None)
    return write_sections(out, facts, found.finding(), found.sections(), METHOD)


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
    """`evaluate_judged` with queries derived of the catalogue's titles; see `known_items` and `known_items_of`."""
    progress("derive queries of titles", 0, None)
    judged = known_items_of(catalogue, num_queries=num_queries, max_products=max_products, seed=seed)
    return evaluate_judged(encoders, judged, out, progress, command=command, seed=seed)


def known_items_of(
    catalogue: Source, *, num_queries: int = 2_000, max_products: int | None = None, seed: int = 0
) -> JudgedSet:
    """Of more than `max_products` a random part by `seed`; finding an item among fewer is easier, so the part is named."""
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
    """The embedders, and BM25 after them; the first is the reference."""
    cache = VectorCache(work / "vectors")
    progress("index the products' words", 0, None)
    scorers: list[Scorer] = [VectorScorer(one, judged.products, cache, progress) for one in embedders]
    results = judge([*scorers, Bm25(judged.products, BM25)], judged, progress, sides=sides, pairs=pairs)
    reference = embedders[0].name
    progress("draw intervals", 0, None)
    dimensions = [] if results.pairs.is_relevant.all() else list(results.pairs.buckets)
    by_bucket = figures_by_bucket(
        results.pairs,
        dimensions,
        reference,
        seed=seed,
        tell=lambda what: progress(f"draw intervals, {what}", 0, None),
    )
    return JudgedFigures(judged, results, by_bucket, reference, seed)


def named(encoders: Sequence[str]) -> list[tuple[str, str]]:
    """Names to show, and the encoders. Raises ValueError where two would have one name."""
    if not encoders:
        raise InputError("name at least one encoder")
    names = ["MiniLM" if one == PACKAGED else Path(one).name or one for one in encoders]
    twice = sorted({name for name in names if names.count(name) > 1} | ({BM25} & set(names)))
    if twice:
        raise InputError(f"encoders need different names; {', '.join(twice)} comes twice: rename the folder")
    return list(zip(names, encoders, strict=True))
