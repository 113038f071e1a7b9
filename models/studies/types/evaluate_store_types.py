"""The verb that trains NU, U_ag and U_aw on the simulated store's logs, asks them what they never read, and writes the report."""

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
    TypeAnswers,
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
MAX_TRAPS = 80  # rows of the table of traps
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
    ablations: bool = False  # ways to tell the locale, and temperatures of sampling
    encoder: TypesRecipe | None = None  # with a Hugging Face encoder: one more model
    seed: int = 0


def evaluate_types(
    store_folder: Path, out: Path, progress: Progress, *, plan: StoreTypesPlan = StoreTypesPlan(), command: str = ""
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the latter. All engagement is simulated.

    Trained models are kept in `out/work`; the same call goes on where it was interrupted. Raises as `read_store_queries`.
    """
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    queries = read_store_queries(store_folder, plan.rule, max_tests=plan.max_tests, seed=plan.seed, progress=progress)
    trained = TrainedTypes(work, progress)
    recipes = {name: _recipe_of(plan.recipe, variant) for variant, name in MODEL_NAMES.items()}
    if plan.encoder is not None and plan.encoder.encoder is not None:
        recipes[f"{SUBJECT}, {base_name(plan.encoder.encoder.base)}"] = plan.encoder
    answers = _answers(recipes, queries, trained, plan)
    traps = _trap_answers(recipes, queries, trained, plan)
    sections = [*_bucket_sections(answers, plan.seed), _trap_section(traps, queries, plan.seed)]
    finding = _finding(answers, traps, plan.seed)
    if plan.curve:
        rich = [name for name, clicks in queries.num_clicks.items() if tier_of(clicks) == "high"]
        for locale in new_locales(queries, rich):
            new = open_locale(store_folder, locale, queries, work, max_tests=plan.max_tests, seed=plan.seed)
            curve = locale_curve(new, queries, rich, plan.recipe, trained, plan.seed)
            sections.append(_curve_section(curve, len(new.test)))
            finding += _curve_finding(curve)
    sections.append(_calibration_section(answers))
    if plan.ablations:
        ablated = answers.joined(_answers(_ablations(plan.recipe), queries, trained, plan))
        sections.append(_ablation_section(ablated, plan.seed))
    progress("write the report", 0, None)
    facts = _facts(queries, plan, command)
    return write_sections(out, facts, finding, sections, _METHOD)


def _answers(
    recipes: Mapping[str, TypesRecipe], queries: StoreQueries, trained: TrainedTypes, plan: StoreTypesPlan
) -> TypeAnswers:
    found = {
        name: rank_types(
            trained.of(name, queries.train, recipe, plan.seed), queries.test, progress=trained.progress, name=name
        )
        for name, recipe in recipes.items()
    }
    buckets = store_buckets(queries.test, queries.train, queries.num_clicks)
    return TypeAnswers(found, string_units(queries.test.queries), buckets)


def _trap_answers(
    recipes: Mapping[str, TypesRecipe], queries: StoreQueries, trained: TrainedTypes, plan: StoreTypesPlan
) -> TypeAnswers:
    found = {
        name: rank_types(trained.of(name, queries.train, recipe, plan.seed), queries.traps)
        for name, recipe in recipes.items()
    }
    return TypeAnswers(found, string_units(queries.traps.queries), {"trap": _trap_bucket(queries)})


def _trap_bucket(queries: StoreQueries) -> Bucket:
    """Whether the types of a string differ within the language of the row, or only from those of other languages."""
    traps = queries.traps
    said: dict[tuple[str, str], set[int]] = {}
    rows = list(zip(traps.queries, traps.row_locales(), range(len(traps)), strict=True))
    for query, locale, row in rows:
        said.setdefault((query, language_of(locale)), set()).update(traps.labels.row(row).tolist())
    codes = [int(len(said[query, language_of(locale)]) < 2) for query, locale, _ in rows]
    return Bucket(("between dialects of a language", "between languages"), np.array(codes, np.int32))


def _bucket_sections(answers: TypeAnswers, seed: int) -> list[Section]:
    overall = Section(
        "All queries",
        "One row per query and locale that was never learned from. NU is a model per locale, U_ag one that does not know the locale, "
        "U_aw one that does.",
        tables=[
            metrics_table(answers, "Means over queries and types", seed=seed),
            differences_table(answers, SUBJECT, OTHERS, seed=seed),
        ],
    )
    tiers = Section(
        "By how much is known of the locale",
        f"High from {TIER_CLICKS[0]:,} clicks in training, mid from {TIER_CLICKS[1]:,}.",
        plots=bucket_plots(answers, TIER, UNIT, seed=seed),
        tables=[
            bucket_differences(answers, TIER, SUBJECT, OTHERS, seed=seed),
            *(
                metrics_table(answers.take(rows), f"Locales of the {tier} tier", seed=seed)
                for tier, rows in answers.rows_of(TIER).items()
            ),
        ],
    )
    notes = {
        LOCALE: "The locale with the most clicks first.",
        TYPE: "Head types have half of the clicks, tail types the last tenth.",
    }
    return [
        overall,
        tiers,
        *(
            Section(
                f"By {dimension}",
                notes.get(dimension, ""),
                plots=bucket_plots(answers, dimension, UNIT, seed=seed),
                tables=[
                    bucket_table(answers, dimension, 1, seed=seed),
                    bucket_table(answers, dimension, 3, seed=seed),
                    bucket_differences(answers, dimension, SUBJECT, OTHERS, seed=seed),
                ],
            )
            for dimension in (LOCALE, LANGUAGE, TYPE)
        ),
    ]


def _trap_section(traps: TypeAnswers, queries: StoreQueries, seed: int) -> Section:
    rows = []
    within = traps.buckets["trap"].codes == 0
    for row in np.flatnonzero(within)[:MAX_TRAPS].tolist():
        wanted = " or ".join(_leaf(queries.traps.types[one]) for one in queries.traps.labels.row(row))
        said = [
            f"{'right' if one.is_right[row, 0] else 'wrong'}: {_leaf(queries.traps.types[one.types[row, 0]])}"
            for one in traps.by_model.values()
        ]
        rows.append((queries.traps.queries[row], [queries.traps.locales[queries.traps.locale[row]], wanted, *said]))
    tables = [Table("Strings whose type depends on the dialect", "string", ("locale", "wanted", *traps.models), rows)]
    if len(traps):
        tables.insert(0, bucket_table(traps, "trap", seed=seed))
        tables.insert(1, bucket_differences(traps, "trap", SUBJECT, OTHERS, seed=seed))
    return Section(
        "Dialect traps",
        "Strings that want one type in one locale and another one elsewhere. None was learned from as a query of its own, in any locale; "
        "longer queries that hold it were.",
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
    columns = ("in the new locale", "in rich locales", "share reached")
    return Section(
        f"A new locale: {curve.locale}",
        "As if it had just opened: so many searches of its own are learned from beside a sample of the other locales' rows (NU: its own "
        "alone).",
        plots=[lines_plot(named, steps, UNIT, f"own searches of {curve.locale}")],
        tables=[table, Table("With 100 searches of its own, accuracy@1", "model", columns, shares)],
    )


def _calibration_section(answers: TypeAnswers) -> Section:
    points = {name: CalibrationError.from_ranked(one).points() for name, one in answers.by_model.items()}
    rows = [(name, [float(value) for point in found for value in point]) for name, found in points.items()]
    most = max(len(cells) for _, cells in rows)
    columns = [f"{what} {at + 1}" for at in range(most // 2) for what in ("said", "right")]
    return Section(
        "Calibration",
        "Of the most probable type, by bins of equally many queries: what a model says of it against how often it is right.",
        plots=[reliability_plot(points, "share that is right (simulated)")],
        tables=[Table("Mean probability and share right by bin", "model", columns, rows)],
    )


def _recipe_of(recipe: TypesRecipe, variant: Variant) -> TypesRecipe:
    """A model of one locale sees few rows in an epoch, so it gets twice as many: .39 instead of .28 right in poor locales (simulated)."""
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


def _ablation_section(answers: TypeAnswers, seed: int) -> Section:
    others = [name for name in answers.models if name not in MODEL_NAMES.values()]
    shown = TypeAnswers({name: answers.by_model[name] for name in (SUBJECT, *others)}, answers.units, answers.buckets)
    return Section(
        "Ablations of U_aw",
        "Other ways to tell the locale, and other temperatures: a locale of n rows is drawn n**(1/temperature) times.",
        tables=[
            metrics_table(shown, "All queries", seed=seed),
            differences_table(shown, SUBJECT, others, seed=seed),
            bucket_table(shown, TIER, seed=seed),
        ],
    )


def _finding(answers: TypeAnswers, traps: TypeAnswers, seed: int) -> str:
    by_tier = accuracy_by(answers, TIER, seed=seed)
    said = "; ".join(
        f"{tier}: " + ", ".join(f"{name} {one.value:.3f}" for name, one in by_model.items())
        for tier, by_model in by_tier.items()
    )
    text = f"accuracy@1 over {len(answers):,} unseen queries by tier of the locale: {said}. "
    for value, by_model in accuracy_by(traps, "trap", seed=seed).items():
        text += f"Traps {value}: " + ", ".join(f"{name} {one.value:.3f}" for name, one in by_model.items()) + ". "
    return text


def _curve_finding(curve: LocaleCurve) -> str:
    at = SIZES.index(100)
    own, rich = curve.accuracy[Variant.U_AW][at], curve.rich.get(Variant.U_AW)
    if rich is None or not rich.value:
        return ""
    return f"With 100 searches of its own, {curve.locale} has {own.value / rich.value:.0%} of the accuracy of rich locales with U_aw. "


def _facts(queries: StoreQueries, plan: StoreTypesPlan, command: str) -> RunFacts:
    tiers: dict[str, list[str]] = {}
    for name, clicks in sorted(queries.num_clicks.items(), key=lambda one: -one[1]):
        tiers.setdefault(tier_of(clicks), []).append(f"{name} {clicks:,.0f}")
    return RunFacts.of_this_run(
        "Product types of queries: one model for all locales, or one each",
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
    "Labels to learn from are what shoppers clicked, with their noise; labels to be measured by are what the simulation knows "
    f"was wanted. One of {HELD_OUT} strings, by a hash of the string, is learned from in no locale. Each string counts once a "
    f"locale, however often it is asked. Macro F1 is over types; recall at {PRECISION} precision is the mean over types, of "
    f"those that at least {MIN_POSITIVES} queries want, of the highest recall at which the type's own threshold, chosen on "
    f"these very queries, keeps that precision; calibration error has {NUM_BINS} bins of equally many queries; coverage is the "
    "share that is not abstained from. Intervals draw strings: 1,000 resamples for means of queries, 200 for metrics by type. "
    "Differences are paired by query; of twenty one would leave 0 by chance."
)
