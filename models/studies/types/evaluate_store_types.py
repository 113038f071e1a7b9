"""Trains the classifiers NU, U_ag and U_aw on a simulated store's logs and measures them on unseen queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from models.arrays import Progress
from models.evaluation.buckets import Bucket
from models.evaluation.page import Cell, Section, Table, write_sections
from models.evaluation.plots import lines_plot, reliability_plot
from models.evaluation.ranked_types import rank_types
from models.evaluation.run_facts import RunFacts
from models.evaluation.type_metrics import MIN_POSITIVES, NUM_BINS, PRECISION, CalibrationError
from models.query_types.labels import LabelRule
from models.query_types.recipe import STARTER, LocaleInput, TypesRecipe, Variant
from models.query_types.tokens import language_of
from models.studies.types.new_locale import SIZES, LocaleCurve, locale_curve, new_locales, open_locale
from models.studies.types.store_buckets import LANGUAGE, LOCALE, TIER, TIER_CLICKS, TYPE, store_buckets, tier_of
from models.studies.types.store_queries import HELD_OUT, StoreQueries, read_store_queries
from models.studies.types.trained_types import TrainedTypes
from models.studies.types.type_tables import (
    TypeResults,
    accuracy_by,
    bucket_differences,
    bucket_plots,
    bucket_table,
    differences_table,
    metrics_table,
    string_units,
)
from models.text_encoder.hugging_face import base_name

MODEL_NAMES = {Variant.U_AW: "U_aw", Variant.U_AG: "U_ag", Variant.NU: "NU"}
SUBJECT, OTHERS = "U_aw", ("U_ag", "NU")
MAX_TRAPS = 80  # rows in the table of dialect traps
TEMPERATURES = (1.0, 4.0)
_CONCAT_HIDDEN = 128

UNIT = "accuracy@1 (simulated)"


@dataclass(frozen=True, slots=True)
class StoreTypesPlan:
    """What to evaluate, and how much."""

    recipe: TypesRecipe = STARTER
    rule: LabelRule = field(default_factory=LabelRule)
    max_tests: int = 600  # of each locale
    curve: bool = True
    ablations: bool = False  # ways to encode the locale, and sampling temperatures
    encoder: TypesRecipe | None = None  # another model, with a Hugging Face encoder
    seed: int = 0


def evaluate_types(
    store_folder: Path, out: Path, progress: Progress, *, plan: StoreTypesPlan = StoreTypesPlan(), command: str = ""
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file. All engagement is simulated.

    Trained models stay in `out/work`, so an interrupted call can be repeated and resumes. Raises the errors of `read_store_queries`.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    queries = read_store_queries(store_folder, plan.rule, max_tests=plan.max_tests, seed=plan.seed, progress=progress)
    trained = TrainedTypes(work, progress)
    recipes = {name: _recipe_of(plan.recipe, variant) for variant, name in MODEL_NAMES.items()}
    if plan.encoder is not None and plan.encoder.encoder is not None:
        recipes[f"{SUBJECT}, {base_name(plan.encoder.encoder.base)}"] = plan.encoder
    results = _answers(recipes, queries, trained, plan)
    traps = _trap_answers(recipes, queries, trained, plan)
    sections = [*_bucket_sections(results, plan.seed), _trap_section(traps, queries, plan.seed)]
    finding = _finding(results, traps, plan.seed)
    if plan.curve:
        rich = [name for name, clicks in queries.num_clicks.items() if tier_of(clicks) == "high"]
        for locale in new_locales(queries, rich):
            new = open_locale(store_folder, locale, queries, work, max_tests=plan.max_tests, seed=plan.seed)
            curve = locale_curve(new, queries, rich, plan.recipe, trained, plan.seed)
            sections.append(_curve_section(curve, len(new.test)))
            finding += _curve_finding(curve)
    sections.append(_calibration_section(results))
    if plan.ablations:
        ablated = results.with_models_of(_answers(_ablations(plan.recipe), queries, trained, plan))
        sections.append(_ablation_section(ablated, plan.seed))
    progress("write the report", 0, None)
    facts = _facts(queries, plan, command)
    return write_sections(out, facts, finding, sections, _METHOD)


def _answers(
    recipes: Mapping[str, TypesRecipe], queries: StoreQueries, trained: TrainedTypes, plan: StoreTypesPlan
) -> TypeResults:
    ranked = {
        name: rank_types(
            trained.train(name, queries.train, recipe, plan.seed), queries.test, progress=trained.progress, name=name
        )
        for name, recipe in recipes.items()
    }
    buckets = store_buckets(queries.test, queries.train, queries.num_clicks)
    return TypeResults(ranked, string_units(queries.test.queries), buckets)


def _trap_answers(
    recipes: Mapping[str, TypesRecipe], queries: StoreQueries, trained: TrainedTypes, plan: StoreTypesPlan
) -> TypeResults:
    ranked = {
        name: rank_types(trained.train(name, queries.train, recipe, plan.seed), queries.traps)
        for name, recipe in recipes.items()
    }
    return TypeResults(ranked, string_units(queries.traps.queries), {"trap": _trap_bucket(queries)})


def _trap_bucket(queries: StoreQueries) -> Bucket:
    """Divides dialect traps: the string's types differ within the language of the row, or only between languages."""
    traps = queries.traps
    types_of: dict[tuple[str, str], set[int]] = {}
    rows = list(zip(traps.queries, traps.row_locales(), range(len(traps)), strict=True))
    for query, locale, row in rows:
        types_of.setdefault((query, language_of(locale)), set()).update(traps.labels.row(row).tolist())
    codes = [int(len(types_of[query, language_of(locale)]) < 2) for query, locale, _ in rows]
    return Bucket(("between dialects of a language", "between languages"), np.array(codes, np.int32))


def _bucket_sections(results: TypeResults, seed: int) -> list[Section]:
    overall = Section(
        "All queries",
        "One row per unseen query and locale. NU is one model per locale; U_ag is one model for all locales without the locale as input; "
        "U_aw is one model for all locales with the locale as input.",
        tables=[
            metrics_table(results, "Means over queries and types", seed=seed),
            differences_table(results, SUBJECT, OTHERS, seed=seed),
        ],
    )
    tiers = Section(
        "By the amount of training data of the locale",
        f"High: at least {TIER_CLICKS[0]:,} training clicks; mid: at least {TIER_CLICKS[1]:,}; low: fewer.",
        plots=bucket_plots(results, TIER, UNIT, seed=seed),
        tables=[
            bucket_differences(results, TIER, SUBJECT, OTHERS, seed=seed),
            *(
                metrics_table(results.take(rows), f"Locales of the {tier} tier", seed=seed)
                for tier, rows in results.rows_of(TIER).items()
            ),
        ],
    )
    notes = {
        LOCALE: "Ordered by number of clicks.",
        TYPE: "Head types make up half of the clicks, tail types the last tenth.",
    }
    return [
        overall,
        tiers,
        *(
            Section(
                f"By {dimension}",
                notes.get(dimension, ""),
                plots=bucket_plots(results, dimension, UNIT, seed=seed),
                tables=[
                    bucket_table(results, dimension, 1, seed=seed),
                    bucket_table(results, dimension, 3, seed=seed),
                    bucket_differences(results, dimension, SUBJECT, OTHERS, seed=seed),
                ],
            )
            for dimension in (LOCALE, LANGUAGE, TYPE)
        ),
    ]


def _trap_section(traps: TypeResults, queries: StoreQueries, seed: int) -> Section:
    rows = []
    within = traps.buckets["trap"].codes == 0
    for row in np.flatnonzero(within)[:MAX_TRAPS].tolist():
        correct = " or ".join(_leaf(queries.traps.types[number]) for number in queries.traps.labels.row(row))
        predicted = [
            f"{'right' if ranked.is_right[row, 0] else 'wrong'}: {_leaf(queries.traps.types[ranked.types[row, 0]])}"
            for ranked in traps.by_model.values()
        ]
        rows.append(
            (queries.traps.queries[row], [queries.traps.locales[queries.traps.locale[row]], correct, *predicted])
        )
    tables = [
        Table("Strings whose type depends on the dialect", "string", ("locale", "correct type", *traps.models), rows)
    ]
    if len(traps):
        tables.insert(0, bucket_table(traps, "trap", seed=seed))
        tables.insert(1, bucket_differences(traps, "trap", SUBJECT, OTHERS, seed=seed))
    return Section(
        "Dialect traps",
        "Strings that name one product type in one locale and a different one in another. None of them is a training query in any locale; "
        "longer training queries contain them.",
        tables=tables,
    )


def _curve_section(curve: LocaleCurve, num_tests: int) -> Section:
    named = {name: curve.accuracy[variant] for variant, name in MODEL_NAMES.items()}
    steps = [f"{size:,}" for size in SIZES]
    table = Table(f"accuracy@1 in {curve.locale}, {num_tests:,} queries", "model", steps, list(named.items()))
    at = SIZES.index(100)
    shares: list[tuple[str, Sequence[Cell]]] = [
        (
            MODEL_NAMES[Variant(variant)],
            [curve.accuracy[variant][at], rich, curve.accuracy[variant][at].value / rich.value],
        )
        for variant, rich in curve.rich.items()
        if rich.value
    ]
    columns = ("in the new locale", "in locales with much data", "share reached")
    return Section(
        f"A new locale: {curve.locale}",
        "As if the locale had just opened: models are trained on this many searches of its own, plus a sample of the other locales' rows "
        "(NU: its own searches only).",
        plots=[lines_plot(named, steps, UNIT, f"own searches of {curve.locale}")],
        tables=[table, Table("With 100 searches of its own, accuracy@1", "model", columns, shares)],
    )


def _calibration_section(results: TypeResults) -> Section:
    points = {name: CalibrationError.from_ranked(one).points() for name, one in results.by_model.items()}
    rows = [(name, [float(value) for point in bins for value in point]) for name, bins in points.items()]
    most = max(len(cells) for _, cells in rows)
    columns = [f"{what} {at + 1}" for at in range(most // 2) for what in ("predicted", "correct")]
    return Section(
        "Calibration",
        "Predicted probability of the most probable type against the share of correct predictions, by bins of equally many queries.",
        plots=[reliability_plot(points, "share correct (simulated)")],
        tables=[Table("Mean probability and share of correct predictions by bin", "model", columns, rows)],
    )


def _recipe_of(recipe: TypesRecipe, variant: Variant) -> TypesRecipe:
    """Returns the recipe of a variant.

    A model of one locale sees few rows per epoch and gets twice as many epochs: accuracy@1 .39 instead of .28 in locales with little data
    (simulated).
    """
    return replace(recipe, variant=variant, epochs=2 * recipe.epochs if variant is Variant.NU else recipe.epochs)


def _ablations(recipe: TypesRecipe) -> dict[str, TypesRecipe]:
    base = replace(recipe, variant=Variant.U_AW)
    hidden = base.hidden or _CONCAT_HIDDEN
    return {
        **{
            f"locale by {way}": replace(
                base, locale_input=way, hidden=hidden if way == LocaleInput.CONCAT else base.hidden
            )
            for way in LocaleInput
            if way != base.locale_input
        },
        **{f"temperature {one:g}": replace(base, temperature=one) for one in TEMPERATURES if one != base.temperature},
    }


def _ablation_section(results: TypeResults, seed: int) -> Section:
    others = [name for name in results.models if name not in MODEL_NAMES.values()]
    shown = TypeResults({name: results.by_model[name] for name in (SUBJECT, *others)}, results.units, results.buckets)
    return Section(
        "Ablations of U_aw",
        "Other ways to encode the locale, and other sampling temperatures: a locale of n rows is sampled n**(1/temperature) times.",
        tables=[
            metrics_table(shown, "All queries", seed=seed),
            differences_table(shown, SUBJECT, others, seed=seed),
            bucket_table(shown, TIER, seed=seed),
        ],
    )


def _finding(results: TypeResults, traps: TypeResults, seed: int) -> str:
    by_tier = accuracy_by(results, TIER, seed=seed)
    shown = "; ".join(
        f"{tier}: " + ", ".join(f"{name} {one.value:.3f}" for name, one in by_model.items())
        for tier, by_model in by_tier.items()
    )
    text = f"accuracy@1 over {len(results):,} unseen queries by tier of the locale: {shown}. "
    for value, by_model in accuracy_by(traps, "trap", seed=seed).items():
        text += (
            f"Dialect traps {value}: " + ", ".join(f"{name} {one.value:.3f}" for name, one in by_model.items()) + ". "
        )
    return text


def _curve_finding(curve: LocaleCurve) -> str:
    at = SIZES.index(100)
    own, rich = curve.accuracy[Variant.U_AW][at], curve.rich.get(Variant.U_AW)
    if rich is None or not rich.value:
        return ""
    share = own.value / rich.value
    return (
        f"With 100 own searches, {curve.locale} reaches {share:.0%} of the accuracy of locales with much data (U_aw). "
    )


def _facts(queries: StoreQueries, plan: StoreTypesPlan, command: str) -> RunFacts:
    tiers: dict[str, list[str]] = {}
    for name, clicks in sorted(queries.num_clicks.items(), key=lambda one: -one[1]):
        tiers.setdefault(tier_of(clicks), []).append(f"{name} {clicks:,.0f}")
    return RunFacts.of_this_run(
        "Product types of queries: one model for all locales, or one per locale",
        simulated=True,
        command=command,
        data={
            "training rows": len(queries.train),
            "types": len(queries.train.types),
            "unseen queries": len(queries.test),
            "traps": len(queries.traps),
            **{f"clicks of {tier} locales": _listed(named) for tier, named in tiers.items()},
        },
        recipe={
            **asdict(plan.recipe),
            "label_rule": asdict(plan.rule),
            "with_encoder": plan.encoder and asdict(plan.encoder),
        },
        seeds={"training, queries and intervals": plan.seed},
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _leaf(category: str) -> str:
    return category.rsplit(" > ", maxsplit=1)[-1]


_METHOD = (
    "Training labels are clicks, with their noise; test labels are the simulation's truth. One in "
    f"{HELD_OUT} strings, by a hash of the string, is held out of training in every locale. Each string counts once per locale, however "
    f"often it is searched for. Macro F1 is over types. Recall at {PRECISION} precision is the mean over types with at least "
    f"{MIN_POSITIVES} labelled queries of the highest recall at which the type's own threshold, chosen on these same queries, keeps that "
    f"precision. Calibration error has {NUM_BINS} bins of equally many queries. Coverage is the share of queries for which the model does "
    "not abstain. Intervals resample strings: 1,000 resamples for means over queries, 200 for metrics by type. Differences are paired by "
    "query; even without any effect, about one in twenty intervals would exclude 0 by chance."
)
