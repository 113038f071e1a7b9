"""The verb that trains a classifier of 10,595 real categories in 31 locales and asks it names that lack a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from models.arrays import Ints, Progress
from models.evaluation.bootstrap import Interval, mean_intervals
from models.evaluation.buckets import Bucket
from models.evaluation.page import Section, Table, write_sections
from models.evaluation.plots import groups_plot
from models.evaluation.ranked_types import RankedTypes, rank_types
from models.evaluation.run_facts import RunFacts
from models.evaluation.type_metrics import accuracy_at
from models.query_types.recipe import TypesRecipe, Variant
from models.query_types.tokens import QueryHashing
from models.studies.types.name_search import rank_by_name
from models.studies.types.taxonomy import Form, TaxonomyQueries, derive_taxonomy_queries, read_taxonomy
from models.studies.types.trained_types import TrainedTypes
from models.studies.types.type_tables import (
    TypeAnswers,
    bucket_differences,
    bucket_plots,
    bucket_table,
    metrics_table,
    string_units,
)

# 633,000 rows of 10,595 types: tables for 31 languages' words, and a sample of the types a step, or a step would take a second.
TAXONOMY_RECIPE = TypesRecipe(
    "taxonomy",
    hashing=QueryHashing(bits=20),
    epochs=3.0,
    batch=1024,
    learning_rate=1e-2,
    sampled_types=1024,
    holdout_share=0.01,
    label_smoothing=0.0,
)

STRICT, FITTING = "the one category", "any category that fits"
BASELINE = "BM25 of names"
_DEPTHS = (1, 3, 10)


@dataclass(frozen=True, slots=True)
class TaxonomyPlan:
    recipe: TypesRecipe = TAXONOMY_RECIPE
    locales: tuple[str, ...] | None = None  # None: all
    variants: tuple[Variant, ...] = (Variant.U_AW,)
    max_tests: int = 600  # of each locale
    seed: int = 0


def evaluate_taxonomy(
    data_folder: Path, out: Path, progress: Progress, *, plan: TaxonomyPlan = TaxonomyPlan(), command: str = ""
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the latter. Names are real, queries are derived of them.

    Trained models are kept in `out/work`. Raises TaxonomyError.
    """
    progress("read the taxonomy", 0, None)
    taxonomy = read_taxonomy(data_folder, plan.locales)
    progress("derive queries", 0, None)
    queries = derive_taxonomy_queries(taxonomy, max_tests=plan.max_tests, seed=plan.seed)
    (out / "work").mkdir(parents=True, exist_ok=True)
    trained = TrainedTypes(out / "work", progress)
    found: dict[str, RankedTypes] = {}
    for variant in plan.variants:
        model = trained.of(str(variant), queries.train, replace(plan.recipe, variant=variant), plan.seed)
        found[str(variant)] = rank_types(model, queries.test, progress=progress, name=str(variant))
    progress("ask BM25", 0, None)
    found[BASELINE] = rank_by_name(taxonomy.names, queries.test)
    progress("write the report", 0, None)
    sections, finding = _report(found, queries, plan.seed)
    return write_sections(out, _facts(queries, plan, command), finding, sections, _METHOD)


def _report(found: dict[str, RankedTypes], queries: TaxonomyQueries, seed: int) -> tuple[list[Section], str]:
    test = queries.test
    units = string_units(test.queries)
    buckets = {
        "locale": Bucket(test.locales, test.locale),
        "categories that fit": Bucket(("one", "several"), (queries.fits.lengths > 1).astype(np.int32)),
    }
    strict = TypeAnswers(found, units, buckets)
    fitting = TypeAnswers({name: one.judged_by(queries.fits) for name, one in found.items()}, units, buckets)
    missing = np.flatnonzero(np.array([form == Form.WORD_MISSING for form in queries.forms], np.bool_))
    letters = np.flatnonzero(np.array([form == Form.LETTER_MISSING for form in queries.forms], np.bool_))
    subject, others = next(iter(found)), list(found)[1:]
    sections = [
        Section(
            f"Names with {form}",
            plots=[
                groups_plot({STRICT: _accuracy(strict, rows, 3), FITTING: _accuracy(fitting, rows, 3)}, "accuracy@3")
            ],
            tables=[
                table
                for judged, answers in ((STRICT, strict.take(rows)), (FITTING, fitting.take(rows)))
                for table in (
                    metrics_table(_without_baseline(answers), f"Right is {judged}", seed=seed),
                    _accuracy_table(answers, judged),
                    _accuracy_differences(answers, subject, others, judged),
                )
            ],
        )
        for form, rows in ((Form.WORD_MISSING, missing), (Form.LETTER_MISSING, letters))
        if len(rows)
    ]
    of_words, fitting_words = strict.take(missing), fitting.take(missing)
    sections.append(
        Section(
            "By locale, a word missing",
            plots=bucket_plots(fitting_words, "locale", f"accuracy@3, {FITTING}", 3, seed=seed),
            tables=[
                table
                for judged, answers in ((STRICT, of_words), (FITTING, fitting_words))
                for table in (
                    _said(bucket_table(answers, "locale", 1, seed=seed), judged),
                    _said(bucket_table(answers, "locale", 3, seed=seed), judged),
                    _said(bucket_differences(answers, "locale", subject, others, 3, seed=seed), judged),
                )
            ],
        )
    )
    sections.append(
        Section(
            "By how many categories fit the string",
            tables=[
                _said(bucket_table(answers, "categories that fit", 3, seed=seed), judged)
                for judged, answers in ((STRICT, of_words), (FITTING, fitting_words))
            ],
        )
    )
    finding = f"accuracy@3 over {len(test.types):,} categories, names with a word missing: " + "; ".join(
        f"{judged}: " + ", ".join(f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in by.items())
        for judged, by in ((STRICT, _accuracy(strict, missing, 3)), (FITTING, _accuracy(fitting, missing, 3)))
    )
    return sections, finding


def _accuracy(answers: TypeAnswers, rows: Ints, k: int) -> dict[str, Interval]:
    """model -> accuracy@k over these rows."""
    columns = np.stack([accuracy_at(one, k)[rows] for one in answers.by_model.values()], axis=1)
    return dict(zip(answers.models, mean_intervals(columns, answers.units[rows]), strict=True))


def _accuracy_table(answers: TypeAnswers, judged: str) -> Table:
    everything = np.arange(len(answers))
    by_k = [_accuracy(answers, everything, k) for k in _DEPTHS]
    rows = [(model, [by[model] for by in by_k]) for model in answers.models]
    return Table(f"Right is {judged}", "model", [f"accuracy@{k}" for k in _DEPTHS], rows)


def _accuracy_differences(answers: TypeAnswers, subject: str, others: Sequence[str], judged: str) -> Table:
    ours = {k: accuracy_at(answers.by_model[subject], k) for k in _DEPTHS}
    rows = []
    for other in others:
        theirs = answers.by_model[other]
        columns = np.stack([ours[k] - accuracy_at(theirs, k) for k in _DEPTHS], axis=1)
        rows.append((f"minus {other}", mean_intervals(columns, answers.units)))
    said = f"{subject}, right is {judged}, on the same queries; bold where the 95 % interval does not hold 0"
    return Table(said, "difference", [f"accuracy@{k}" for k in _DEPTHS], rows, signed=True)


def _said(table: Table, judged: str) -> Table:
    return replace(table, caption=f"{table.caption}, right is {judged}")


def _without_baseline(answers: TypeAnswers) -> TypeAnswers:
    """BM25's scores are no probabilities: they have no calibration, and nothing to abstain by."""
    kept = {name: one for name, one in answers.by_model.items() if name != BASELINE}
    return TypeAnswers(kept, answers.units, answers.buckets)


def _facts(queries: TaxonomyQueries, plan: TaxonomyPlan, command: str) -> RunFacts:
    return RunFacts.of_this_run(
        "Categories of a real taxonomy in many languages",
        simulated=False,
        command=command,
        data={
            "data": "Shopify product taxonomy 2025-08, MIT: names are real, queries are derived of names",
            "categories": len(queries.train.types),
            "locales": len(queries.train.locales),
            "training rows": len(queries.train),
            "queries": ", ".join(f"{queries.forms.count(form):,} with {form}" for form in Form),
        },
        recipe=asdict(plan.recipe),
        seeds={"training, queries and intervals": plan.seed},
    )


_METHOD = (
    "Learned from are each category's name in each locale, and one other form of it: with an attribute's value, with the name "
    "of the category above, or, where it has three words or more, with another word missing. Asked are names with one word "
    "missing, drawn, whose very string is learned from nowhere in the locale; names of one word are asked with a letter "
    f"missing, apart. What is missing may be what tells two categories apart. So right is, strictly, {STRICT} that the string "
    f"was derived of; and, beside it, {FITTING}: whose name is this string, or is this string with one more word. Intervals "
    "draw strings."
)
