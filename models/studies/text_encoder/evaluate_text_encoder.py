"""Tunes text encoders on a simulated store's clicks and measures the effect of each tuning by bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.arrays import Progress
from models.bundles.source import Source
from models.bundles.sources import sample_source
from models.evaluation.bootstrap import Interval
from models.evaluation.page import Section, Table, write_sections
from models.evaluation.plots import lines_plot
from models.evaluation.run_facts import RunFacts
from models.products.product import product_text
from models.sample_store import EVENTS, TRUTH
from models.studies.oracle_ranker import load_simulated_log
from models.studies.text_encoder.embedders import Embedder, EncoderEmbedder, StaticEmbedder
from models.studies.text_encoder.evaluate_judged import METHOD, JudgedFigures, judged_figures, known_items_of
from models.studies.text_encoder.judging import QUADRANT
from models.studies.text_encoder.pair_figures import AP, AUC, CLEAR, WITHIN
from models.studies.text_encoder.sections import ranking_section, shown_name, summary_of
from models.studies.text_encoder.simulated_judgements import SEEN, Judgements, judge_simulation
from models.studies.text_encoder.tuned_encoders import Trainer, TrainingData, Tuning, at_full_steps
from models.text_encoder.hugging_face import PACKAGED
from models.text_tuning.pairs import ClickPairs, gather_pairs
from models.text_tuning.recipe import SMALL, Stage, TextRecipe, Variant
from models.unified.shopping_log import ShoppingLog

# With it, two cores train five encoders and encode 8,000 products eight times in less than 25 minutes (choice).
RECIPE = replace(SMALL, name="evaluation", mlm=replace(SMALL.mlm, steps=100), click=replace(SMALL.click, max_steps=200))
STORE_PRODUCTS, STORE_SHOPPERS, STORE_EVENTS = 8_000, 4_000, 400_000  # size of the simulated store for this recipe

GENERAL = "general (MiniLM, not tuned)"
STATIC = "word vectors of MiniLM, averaged"
MLM, CLICK, MLM_CLICK = "mlm", "click", "mlm+click"
SHUFFLED = "click, shuffled (control)"
UNSEEN = "unseen query, unseen product"
ALL_VARIANTS = tuple(Variant)


@dataclass(frozen=True, slots=True)
class TextEncoderEvaluation:
    """What to evaluate, and how much."""

    variants: tuple[Variant, ...] = ALL_VARIANTS
    base: str = PACKAGED  # the general encoder, from which tuning starts
    raw: str | None = None  # an encoder without similarity tuning; None: the mean of the base's word vectors
    control: bool = True  # another "click" encoder, trained on shuffled clicks
    curve: tuple[float, ...] = (1 / 16, 1 / 4)  # further "click" encoders, trained on these shares of the clicks
    train_share: float = 0.8  # of the events; later queries are evaluated
    max_queries: int = 1_500
    num_known_items: int = 2_000  # queries on the other catalogue
    max_other_products: int | None = 12_000  # products sampled from the other catalogue


def evaluate_text_encoder(
    store: Path,
    out: Path,
    progress: Progress,
    *,
    recipe: TextRecipe = RECIPE,
    variants: Sequence[Variant | str] | None = None,
    plan: TextEncoderEvaluation = TextEncoderEvaluation(),
    other_catalogue: Source | None = None,
    command: str = "",
    seed: int = 0,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file.

    `store` is a folder of `write_sample_log`, so all of its figures are simulated. `variants` replaces those of the plan. Encoders are
    tuned on the first share of the events, evaluated on later queries, and evaluated zero-shot on known items of `other_catalogue`. Trained
    encoders and vectors stay in `out/work`: a repeated call resumes, and further variants reuse them. Raises TruthError if `store` is not
    a simulated store, ValueError for an unknown variant.
    """
    if variants is not None:
        plan = replace(plan, variants=tuple(Variant(one) for one in variants))
    work = out / "work"
    progress("read the simulated log", 0, None)
    simulated = _Simulated.read(store, recipe, plan, seed)
    trainer = Trainer(simulated.data, at_full_steps(recipe), work, base=plan.base, seed=seed)
    embedders = _embedders(trainer, plan, work, progress)
    judged = simulated.judgements
    store_figures = judged_figures(embedders, judged.ranking, work, progress, sides=SEEN, pairs=judged.pairs, seed=seed)
    others = None
    if other_catalogue is not None:
        progress("derive queries from the other catalogue's titles", 0, None)
        items = known_items_of(
            other_catalogue, num_queries=plan.num_known_items, max_products=plan.max_other_products, seed=seed
        )
        curve_names = [_share_name(share) for share in plan.curve]
        whole = [embedder for embedder in embedders if embedder.name not in curve_names]
        others = judged_figures(whole, items, work, progress, seed=seed)
    progress("write the report", 0, None)
    sections = _sections(store_figures, others, simulated, plan)
    facts = _facts(simulated, others, recipe, plan, command, seed)
    return write_sections(out, facts, _finding(store_figures, others), sections, METHOD)


@dataclass(frozen=True, slots=True)
class _Simulated:
    """A simulated store, split into training data and judgements."""

    data: TrainingData
    training: ClickPairs
    judgements: Judgements
    num_events: int

    @classmethod
    def read(cls, store: Path, recipe: TextRecipe, plan: TextEncoderEvaluation, seed: int) -> _Simulated:
        simulation = load_simulated_log(store / TRUTH)
        truth = json.loads((store / TRUTH).read_text(encoding="utf-8"))
        source = sample_source(simulation.assortment.num_products, truth["seed"])
        products = list(source.products())
        log = ShoppingLog.read(store / EVENTS, [product.id for product in products])
        before_ms = log.time_at(plan.train_share)
        training = gather_pairs(log, recipe.pairs, before_ms=before_ms)
        texts = [product_text(product, source.text_attributes) for product in products]
        judgements = judge_simulation(
            simulation, log, training, before_ms, texts, max_queries=plan.max_queries, seed=seed
        )
        return cls(TrainingData(source, store / EVENTS, before_ms), training, judgements, len(log))


def _embedders(trainer: Trainer, plan: TextEncoderEvaluation, work: Path, progress: Progress) -> list[Embedder]:
    """Returns the general encoder, which is the reference, then the others."""
    embedders: list[Embedder] = [EncoderEmbedder(general_name(plan.base), plan.base, work)]
    if Variant.RAW in plan.variants:
        embedders.append(
            StaticEmbedder(
                STATIC if plan.base == PACKAGED else f"word vectors of {Path(plan.base).name}, averaged", plan.base
            )
            if plan.raw is None
            else EncoderEmbedder(f"raw ({Path(plan.raw).name})", plan.raw, work)
        )
    folders = [(one.name, trainer.folder(one, progress)) for one in tunings_of(plan)]
    return embedders + [EncoderEmbedder(name, str(folder), work) for name, folder in folders]


def general_name(base: str) -> str:
    return GENERAL if base == PACKAGED else f"general ({Path(base).name}, not tuned)"


def tunings_of(plan: TextEncoderEvaluation) -> list[Tuning]:
    """Returns everything to train, the plain variants first."""
    tunings = [Tuning(one.value, one.stages) for one in plan.variants if one.stages]
    if Variant.CLICK in plan.variants:
        if plan.control:
            tunings.append(Tuning(SHUFFLED, (Stage.CLICK,), shuffled_clicks=True))
        tunings += [Tuning(_share_name(share), (Stage.CLICK,), click_share=share) for share in sorted(plan.curve)]
    return tunings


def _share_name(share: float) -> str:
    return f"click, {share:.1%} of the sessions"


def _sections(
    figures: JudgedFigures, others: JudgedFigures | None, simulated: _Simulated, plan: TextEncoderEvaluation
) -> list[Section]:
    sections = figures.sections(simulated.judgements.pairs.protocol.source)
    sections[1:1] = [
        section for section in (_tuning_section(figures), _curve_section(figures, simulated, plan)) if section
    ]
    if others is not None:
        metric = others.results.ranking.metrics[0]
        summary = summary_of(others.results.ranking, metric, others.reference, seed=others.seed)
        note = "Zero-shot: no encoder was tuned on this catalogue. " + others.judged.protocol.describe()
        sections.append(ranking_section(f"Another catalogue: {others.judged.name}", summary, note))
    return sections


def _tuning_section(figures: JudgedFigures) -> Section | None:
    """Returns the effect of each tuning on unseen queries and unseen products, in every metric; None without enough of them."""
    differences = _unseen_differences(figures)
    if not differences:
        return None
    names = list(next(iter(differences.values())))
    rows = [(name, [by_name[name] for by_name in differences.values()]) for name in names]
    caption = f"{UNSEEN.capitalize()}: difference from {figures.reference}; bold where the 95 % interval excludes 0"
    note = (
        "The effect of general-domain tuning is the difference of the word vectors (or of the raw encoder) with the opposite sign. The "
        "effect of tuning on clicks is the row 'click'. The control was trained on clicks of other queries' products. Rankings and AUC "
        "within queries measure how an encoder orders the products of one query; pooled metrics also measure whether scores of different "
        "queries are comparable."
    )
    columns = [shown_name(metric) for metric in differences]
    return Section("Effect of tuning", note, (), [Table(caption, "encoder", columns, rows, signed=True)])


def _unseen_differences(figures: JudgedFigures) -> dict[str, Mapping[str, Interval]]:
    """Returns metric -> encoder -> difference for unseen queries and unseen products; empty if there are too few."""
    differences: dict[str, Mapping[str, Interval]] = {}
    quadrants = figures.results.quadrants
    if quadrants is None:
        return {}
    for metric in quadrants.metrics[:2]:
        summary = summary_of(quadrants, metric, figures.reference, seed=figures.seed)
        by_value = summary.differences[0].by_bucket.get(QUADRANT, {})
        if by_value.get(UNSEEN):
            differences[metric] = by_value[UNSEEN]
    if pairs := figures.pairs.get(QUADRANT, {}).get(UNSEEN):
        differences |= {metric: pairs.differences[metric] for metric in (WITHIN, AUC, AP, CLEAR)}
    return differences


def _curve_section(figures: JudgedFigures, simulated: _Simulated, plan: TextEncoderEvaluation) -> Section | None:
    """Returns the learning curve over the number of clicks; None without one."""
    if Variant.CLICK not in plan.variants or not plan.curve:
        return None
    used = simulated.training.report.used
    points = {
        0: figures.reference,
        **{round(share * used): _share_name(share) for share in sorted(plan.curve)},
        used: CLICK,
    }
    steps = [f"about {count:,}" if 0 < count < used else f"{count:,}" for count in points]
    ranking = figures.results.ranking
    lines: dict[str, list[Interval]] = {}
    summary = summary_of(ranking, ranking.metrics[0], figures.reference, seed=figures.seed)
    lines[f"{ranking.metrics[0].upper()}, all queries"] = [summary.main(name) for name in points.values()]
    if UNSEEN in figures.pairs.get(QUADRANT, {}):
        pair_metrics = figures.pairs[QUADRANT][UNSEEN].by_scorer
        for metric in (WITHIN, AUC):
            lines[f"{shown_name(metric)}, {UNSEEN}"] = [pair_metrics[metric][name] for name in points.values()]
    table = Table(
        "By the number of clicks, carts and purchases in the tuning data",
        "metric",
        steps,
        list(lines.items()),
    )
    note = "All encoders are trained for the same number of steps, so fewer clicks are repeated more often."
    return Section("Learning curve", note, [lines_plot(lines, steps, "", "clicks, carts and purchases")], [table])


def _finding(figures: JudgedFigures, others: JudgedFigures | None) -> str:
    """Returns the effect of tuning on unseen queries and products and that of the control, in sentences."""
    sentences = []
    for metric, by_name in _unseen_differences(figures).items():
        shown = [
            f"{name} {one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
            for name in (CLICK, MLM, MLM_CLICK, SHUFFLED)
            if (one := by_name.get(name)) is not None
        ]
        if shown and metric not in (AP, CLEAR):
            sentences.append(f"{shown_name(metric)}: {'; '.join(shown)}.")
    if sentences:
        sentences.insert(0, f"{UNSEEN.capitalize()}, difference from {figures.reference}.")
    sentences.append(figures.finding())
    if others is not None:
        sentences.append(f"Another catalogue, never tuned on: {others.finding()}")
    return " ".join(sentences)


def _facts(
    simulated: _Simulated,
    others: JudgedFigures | None,
    recipe: TextRecipe,
    plan: TextEncoderEvaluation,
    command: str,
    seed: int,
) -> RunFacts:
    judged = simulated.judgements
    report = simulated.training.report
    data = {
        "catalogue": simulated.data.source.name,
        "products": len(judged.ranking.products),
        "events": simulated.num_events,
        "training until": str(np.datetime64(simulated.data.before_ms, "ms")) + " UTC",
        "training pairs": f"{report.pairs:,} of {report.queries:,} queries and {report.products:,} products",
        "queries": len(judged.ranking.queries),
        "pairs judged": len(judged.pairs.labels),
    }
    if others is not None:
        data["other catalogue"] = f"{others.judged.name}: {len(others.judged.products):,} products"
    return RunFacts.of_this_run(
        "Text encoders tuned on clicks",
        simulated=True,
        command=command,
        data=data,
        recipe={**asdict(recipe), "plan": asdict(plan)},
        seeds={"training, queries and intervals": seed},
    )
