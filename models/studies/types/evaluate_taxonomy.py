"""Trains a classifier of 10,595 real categories in 31 locales and measures it on names with a word missing."""

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
    TypeResults,
    bucket_differences,
    bucket_plots,
    bucket_table,
    metrics_table,
    string_units,
)

# For 633,000 rows of 10,595 types: large hash tables for the words of 31 languages, and a sample of types per step, which would otherwise
# take a second.
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

STRICT, FITTING = "the original category", "any category that fits"
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
    """Writes report.json and report.html into `out` and returns the path of the HTML file. Names are real, queries are derived from them.

    Trained models stay in `out/work`. Raises TaxonomyError.
    """
    progress("read the taxonomy", 0, None)
    taxonomy = read_taxonomy(data_folder, plan.locales)
    progress("derive queries", 0, None)
    queries = derive_taxonomy_queries(taxonomy, max_tests=plan.max_tests, seed=plan.seed)
    (out / "work").mkdir(parents=True, exist_ok=True)
    trained = TrainedTypes(out / "work", progress)
    ranked: dict[str, RankedTypes] = {}
    for variant in plan.variants:
        model = trained.train(str(variant), queries.train, replace(plan.recipe, variant=variant), plan.seed)
        ranked[str(variant)] = rank_types(model, queries.test, progress=progress, name=str(variant))
    progress("search with BM25", 0, None)
    ranked[BASELINE] = rank_by_name(taxonomy.names, queries.test)
    progress("write the report", 0, None)
    sections, finding = _report(ranked, queries, plan.seed)
    return write_sections(out, _facts(queries, plan, command), finding, sections, _METHOD)


def _report(ranked: dict[str, RankedTypes], queries: TaxonomyQueries, seed: int) -> tuple[list[Section], str]:
    test = queries.test
    units = string_units(test.queries)
    buckets = {
        "locale": Bucket(test.locales, test.locale),
        "categories that fit": Bucket(("one", "several"), (queries.fits.lengths > 1).astype(np.int32)),
    }
    strict = TypeResults(ranked, units, buckets)
    fitting = TypeResults({name: one.judged_by(queries.fits) for name, one in ranked.items()}, units, buckets)
    missing = np.flatnonzero(np.array([form == Form.WORD_MISSING for form in queries.forms], np.bool_))
    letters = np.flatnonzero(np.array([form == Form.LETTER_MISSING for form in queries.forms], np.bool_))
    subject, others = next(iter(ranked)), list(ranked)[1:]
    sections = [
        Section(
            f"Names with {form}",
            plots=[
                groups_plot({STRICT: _accuracy(strict, rows, 3), FITTING: _accuracy(fitting, rows, 3)}, "accuracy@3")
            ],
            tables=[
                table
                for judged, results in ((STRICT, strict.take(rows)), (FITTING, fitting.take(rows)))
                for table in (
                    metrics_table(_without_baseline(results), f"Correct: {judged}", seed=seed),
                    _accuracy_table(results, judged),
                    _accuracy_differences(results, subject, others, judged),
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
                for judged, results in ((STRICT, of_words), (FITTING, fitting_words))
                for table in (
                    _judged_by(bucket_table(results, "locale", 1, seed=seed), judged),
                    _judged_by(bucket_table(results, "locale", 3, seed=seed), judged),
                    _judged_by(bucket_differences(results, "locale", subject, others, 3, seed=seed), judged),
                )
            ],
        )
    )
    sections.append(
        Section(
            "By how many categories fit the string",
            tables=[
                _judged_by(bucket_table(results, "categories that fit", 3, seed=seed), judged)
                for judged, results in ((STRICT, of_words), (FITTING, fitting_words))
            ],
        )
    )
    finding = f"accuracy@3 over {len(test.types):,} categories, names with a word missing: " + "; ".join(
        f"{judged}: " + ", ".join(f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for name, one in by.items())
        for judged, by in ((STRICT, _accuracy(strict, missing, 3)), (FITTING, _accuracy(fitting, missing, 3)))
    )
    return sections, finding


def _accuracy(results: TypeResults, rows: Ints, k: int) -> dict[str, Interval]:
    """Returns model -> accuracy@k over these rows."""
    columns = np.stack([accuracy_at(one, k)[rows] for one in results.by_model.values()], axis=1)
    return dict(zip(results.models, mean_intervals(columns, results.units[rows]), strict=True))


def _accuracy_table(results: TypeResults, judged: str) -> Table:
    all_rows = np.arange(len(results))
    by_k = [_accuracy(results, all_rows, k) for k in _DEPTHS]
    rows = [(model, [by[model] for by in by_k]) for model in results.models]
    return Table(f"Correct: {judged}", "model", [f"accuracy@{k}" for k in _DEPTHS], rows)


def _accuracy_differences(results: TypeResults, subject: str, others: Sequence[str], judged: str) -> Table:
    ours = {k: accuracy_at(results.by_model[subject], k) for k in _DEPTHS}
    rows = []
    for other in others:
        theirs = results.by_model[other]
        columns = np.stack([ours[k] - accuracy_at(theirs, k) for k in _DEPTHS], axis=1)
        rows.append((f"minus {other}", mean_intervals(columns, results.units)))
    caption = f"{subject}, correct: {judged}, on the same queries; bold where the 95 % interval excludes 0"
    return Table(caption, "difference", [f"accuracy@{k}" for k in _DEPTHS], rows, signed=True)


def _judged_by(table: Table, judged: str) -> Table:
    return replace(table, caption=f"{table.caption}, correct: {judged}")


def _without_baseline(results: TypeResults) -> TypeResults:
    """Leaves BM25 out: its scores are not probabilities, so it has no calibration and cannot abstain."""
    kept = {name: one for name, one in results.by_model.items() if name != BASELINE}
    return TypeResults(kept, results.units, results.buckets)


def _facts(queries: TaxonomyQueries, plan: TaxonomyPlan, command: str) -> RunFacts:
    return RunFacts.of_this_run(
        "Categories of a real taxonomy in many languages",
        simulated=False,
        command=command,
        data={
            "data": "Shopify product taxonomy 2025-08, MIT: names are real, queries are derived from names",
            "categories": len(queries.train.types),
            "locales": len(queries.train.locales),
            "training rows": len(queries.train),
            "queries": ", ".join(f"{queries.forms.count(form):,} with {form}" for form in Form),
        },
        recipe=asdict(plan.recipe),
        seeds={"training, queries and intervals": plan.seed},
    )


_METHOD = (
    "The training data are the name of each category in each locale and one variation of it: with an attribute value, with the name of the "
    "parent category, or, for names of three words or more, with a word missing. Test queries are names with one random word missing, if "
    "the string is not in the locale's training data; names of one word are tested separately, with a letter missing. The missing word may "
    f"be the one that distinguishes two categories, so there are two ways to judge: strictly, only {STRICT} is correct; leniently, "
    f"{FITTING} is: one whose name is the string, or the string with one more word. Intervals resample strings."
)
