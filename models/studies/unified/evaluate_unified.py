"""Trains the unified model and its ablations, compares them with baselines, and writes the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.source import Source
from models.evaluation.cases import Cases, Histories, Split, build_cases
from models.evaluation.numbered_log import read_log
from models.evaluation.report import write_report
from models.evaluation.results import Ranker, Results, evaluate_rankers
from models.evaluation.run_facts import RunFacts
from models.evaluation.summary import Comparison, Summary, summarise
from models.events.event_log import log_digests
from models.products.product import product_text
from models.products.product_table import ProductTable, write_products
from models.studies.baselines import Bm25Ranker, BuyAgainRanker, PopularInCategoryRanker
from models.studies.case_histories import history_events
from models.studies.oracle_ranker import ORACLES, known_to_oracles, load_oracles
from models.studies.rankers import TextRanker, WithOthersHistories, WithoutHistories
from models.studies.unified.unified_ranker import UnifiedRanker
from models.studies.unified.unified_variants import HALF, NO_HISTORY_EVER, Variant, choose_variants, variants_of
from models.text_encoder.encoder import TextEncoder
from models.text_encoder.export import export_encoder
from models.text_encoder.hugging_face import PACKAGED, encoder_fingerprint
from models.unified.model_files import SPEC_FILE
from models.unified.recipe import STARTER, UnifiedRecipe
from models.unified.shopping_log import ShoppingLog
from models.unified.train_unified import train_unified
from models.unified.unified_model import UnifiedModel

MAIN_METRIC = "recall@100"
FULL, NO_HISTORY, OTHERS_HISTORIES = "unified", "unified, history hidden", "unified, others' histories"


@dataclass(frozen=True, slots=True)
class UnifiedEvaluation:
    """What to evaluate, and how much."""

    recipe: UnifiedRecipe = STARTER
    variants: tuple[str, ...] | None = None  # by name, None: all
    encoder: str | None = PACKAGED  # an untuned text encoder as a baseline; None: leave it out
    max_cases: int = 5_000
    seed: int = 0


def evaluate_unified(
    source: Source,
    events: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    plan: UnifiedEvaluation = UnifiedEvaluation(),
    truth: Path | None = None,
    command: str = "",
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file.

    Models learn from all logs `events`, and the cases are searches of all. `truth` is the truth file of a simulated log: the report then
    calls all figures simulated and includes the oracle. Trained models stay in `out/work`, so an interrupted call can be repeated and
    resumes.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    table = _product_table(source, events, work, progress)
    product_ids = [table.id(row) for row in range(len(table))]
    log = ShoppingLog.read(events, product_ids)
    variants = choose_variants(variants_of(plan.recipe, len(log.locales)), plan.variants)
    split = Split(log.time_at(plan.recipe.train_share))
    cases = build_cases(read_log(events, product_ids, progress), split, max_cases=plan.max_cases, seed=plan.seed)
    histories = history_events(cases.events)
    results = evaluate_rankers(_baselines(source, table, cases, plan, work, truth, progress), cases, progress=progress)
    if truth is not None:
        results = results.without(ORACLES, ~known_to_oracles(cases))
    for variant in [Variant(FULL, "", plan.recipe), *variants]:
        folder = _trained(variant, table, log, plan, work, progress)
        results = results.with_rankers_of(_ranked(variant.name, folder, table, histories, cases, progress))
    progress("draw intervals", 0, None)
    summary = _summary(results, variants, truth is not None, plan)
    facts = _facts(source, cases, plan, simulated=truth is not None, command=command)
    progress("write the report", 0, None)
    return write_report(out, summary, facts)


def _product_table(source: Source, events: Sequence[Path], work: Path, progress: Progress) -> ProductTable:
    """Writes the product table once for a catalogue and its logs; deletes the work of earlier calls with other data."""
    path, mark = work / "products.arrow", work / "made_from.json"
    made_from = [source.fingerprint, *map(log_digests, events)]
    if not mark.exists() or json.loads(mark.read_text(encoding="utf-8")) != made_from:
        progress("read products", 0, source.num_products)
        shutil.rmtree(work)
        work.mkdir()
        write_products(path, source.products(), source.attributes)
        mark.write_text(json.dumps(made_from), encoding="utf-8")
    return ProductTable(path)


def _baselines(
    source: Source,
    table: ProductTable,
    cases: Cases,
    plan: UnifiedEvaluation,
    work: Path,
    truth: Path | None,
    progress: Progress,
) -> list[Ranker]:
    progress("index the products' words", 0, None)
    texts = [product_text(product, source.text_attributes) for product in table.products()]
    codes, categories = table.distinct("category")
    in_category = PopularInCategoryRanker(cases.events, cases.split, np.asarray(categories, np.str_)[codes].tolist())
    rankers: list[Ranker] = [Bm25Ranker(texts), in_category, BuyAgainRanker(in_category)]
    if plan.encoder is not None:
        rankers.append(_text_ranker(plan.encoder, texts, work, progress))
    if truth is not None:
        progress("read the simulated log's truth", 0, None)
        rankers += load_oracles(truth)
    return rankers


def _text_ranker(name: str, texts: Sequence[str], work: Path, progress: Progress) -> Ranker:
    """Returns the untuned text encoder as a ranker. Its vectors are cached, because encoding is the slowest baseline."""
    title = "MiniLM, not tuned" if name == PACKAGED else f"{Path(name).name}, not tuned"
    key = encoder_fingerprint(name)[:12]
    folder, path = work / f"encoder-{key}", work / f"encoder-{key}.npy"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        export_encoder(name, folder)
        np.save(path, TextRanker.encode_catalogue(title, TextEncoder(folder), texts, progress).product_vectors)
    return TextRanker(title, TextEncoder(folder), np.load(path))


def _trained(
    variant: Variant, table: ProductTable, log: ShoppingLog, plan: UnifiedEvaluation, work: Path, progress: Progress
) -> Path:
    """Returns the folder of the variant's model; trains it unless an earlier call did."""
    folder = work / "models" / variant.name.replace(" ", "_")
    stated = json.loads(json.dumps({"recipe": asdict(variant.recipe), "seed": plan.seed}))
    if folder.exists():
        spec = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        if {name: spec.get(name) for name in stated} == stated:
            return folder
        shutil.rmtree(folder)
    folder.parent.mkdir(exist_ok=True)
    train_unified(
        table,
        log,
        variant.recipe,
        folder,
        lambda what, done, total: progress(f"{variant.name}: {what}", done, total),
        seed=plan.seed,
        cache=work / "frozen",
    )
    return folder


def _ranked(
    name: str, folder: Path, table: ProductTable, histories: Histories, cases: Cases, progress: Progress
) -> Results:
    model = UnifiedRanker(name, UnifiedModel.load(folder), table, histories)
    rankers: list[Ranker] = [model]
    if name == FULL:
        rankers += [WithoutHistories(model, NO_HISTORY), WithOthersHistories(model, OTHERS_HISTORIES)]
    return evaluate_rankers(rankers, cases, progress=progress)


def _summary(results: Results, variants: Sequence[Variant], has_oracle: bool, plan: UnifiedEvaluation) -> Summary:
    trained = {FULL, NO_HISTORY, OTHERS_HISTORIES, *(variant.name for variant in variants)}
    baselines = tuple(name for name in results.scores if name not in trained and name not in ORACLES)
    comparisons = [
        Comparison("Compared with the unified model", FULL, baselines),
        Comparison(
            "Effect of personalisation",
            FULL,
            (NO_HISTORY, OTHERS_HISTORIES, *(variant.name for variant in variants if variant.name == NO_HISTORY_EVER)),
            "The same model with the history hidden, with another shopper's history, and a model trained without histories. A model that "
            "has learned about shoppers is worse with each, and worst with another shopper's history.",
        ),
    ]
    for group in dict.fromkeys(variant.group for variant in variants if variant.group):
        names = tuple(variant.name for variant in variants if variant.group == group)
        note = "Each was trained from scratch with the same seed, and, like the reference, half as long as the model itself."
        comparisons.append(Comparison(f"{group}: ablations", HALF, names, note))
    oracles = ORACLES if has_oracle else ()
    return summarise(results, MAIN_METRIC, comparisons, subject=FULL, oracles=oracles, seed=plan.seed)


def _facts(source: Source, cases: Cases, plan: UnifiedEvaluation, *, simulated: bool, command: str) -> RunFacts:
    log = cases.events
    data: dict[str, Any] = {
        "catalogue": source.name,
        "products": log.num_products,
        "events": len(log),
        "shoppers": len(log.shopper_names),
        "cases": len(cases),
        "training until": str(np.datetime64(cases.split.train_end_ms, "ms")) + " UTC",
    }
    return RunFacts.of_this_run(
        "The unified model: personalised retrieval",
        simulated=simulated,
        command=command,
        data=data,
        recipe=asdict(plan.recipe),
        seeds={"training, cases and intervals": plan.seed},
    )
