"""Studies: each trains and compares models, and writes a report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option, Typer

from serving.cli.failures import needs, resumable
from serving.cli.options import (
    ENCODER_NAME,
    Catalogue,
    CatalogueColumns,
    Device,
    HalfLifeDays,
    Logs,
    RecipeName,
    Report,
    Seed,
    ServiceOptions,
    SimulatedStore,
    Store,
    TextColumns,
    TypesRecipeName,
    as_command,
    choice,
    log_paths,
    shop_data,
    simulated_store,
)
from serving.cli.terminal import command_line, fail, out, progress_bars
from serving.cli.train import types_recipe

if TYPE_CHECKING:
    from models.arrays import Progress

NO_TEACHER = "none"

evaluate_app = Typer(no_args_is_help=True, help="Train models, compare them with baselines, and write a report.")

Encoders = Annotated[
    list[str], Option("--encoder", help=f"{ENCODER_NAME} Repeatable: all are compared with the first.")
]
UnifiedBundle = Annotated[
    Path, Option("--bundle", help="A bundle of 'aisle train', measured on what came after its training.")
]


@contextmanager
def study(out_folder: Path) -> Iterator[Progress]:
    """Shows the progress of a study, which resumes if it was interrupted, and the path of its report."""
    started = time.monotonic()
    with needs("evaluate,tune", "matplotlib", "bm25s"), resumable(), progress_bars() as progress:
        yield progress
    out.print(f"{out_folder / 'report.html'}, {time.monotonic() - started:.0f} s", highlight=False)


@evaluate_app.command("unified")
@as_command
def evaluate_unified(
    *,
    out_folder: Report,
    store: Store = None,
    catalogue: Catalogue = None,
    events: Logs = None,
    recipe: RecipeName = "small",
    variant: Annotated[
        list[str] | None, Option(help="Compare with this variant only, or with 'none'. Repeatable. Default: all.")
    ] = None,
    text_encoder: Annotated[str, Option(help="Text encoder to compare with, not fine-tuned; '' for none.")] = "minilm",
    max_cases: Annotated[int, Option(min=100, help="Number of searches to draw as cases.")] = 5_000,
    seed: Seed = 0,
    columns: CatalogueColumns,
) -> None:
    """Trains the unified model and ablations of it, and compares them with BM25, a text encoder and popularity.

    The cases are purchases in the last 15 % of the log; every figure has a confidence interval. If interrupted, the same command resumes.
    """
    with study(out_folder) as progress:
        from models.sample_store import TRUTH
        from models.studies.unified.evaluate_unified import UnifiedEvaluation
        from models.studies.unified.evaluate_unified import evaluate_unified as evaluate
        from models.unified.recipe import RECIPES

        chosen = choice("recipe", recipe, RECIPES)
        data = shop_data(store, catalogue, events, columns)
        variants = None if variant is None else tuple(name for name in variant if name != "none")
        evaluate(
            data.source,
            data.logs,
            out_folder,
            progress,
            plan=UnifiedEvaluation(chosen, variants, text_encoder or None, max_cases, seed),
            truth=store / TRUTH if store else None,
            command=command_line(),
        )


@evaluate_app.command("purchases")
@as_command
def evaluate_purchases(
    data: Annotated[Path, Option(exists=True, help="online_retail_purchases.parquet (UCI Online Retail).")],
    out_folder: Report,
    recipe: RecipeName = "small",
    half_life_days: HalfLifeDays = None,
    max_cases: Annotated[int | None, Option(min=100, help="Number of cases to draw. Default: all.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains on real purchases, and compares retrieval alone and a bundle as served with popularity, earlier purchases and BM25.

    The cases are the next invoices in the last fifth of the purchases; queries are derived from titles. Customers are resampled for the
    confidence intervals.
    """
    started = time.monotonic()
    with needs("evaluate", "matplotlib", "bm25s"), progress_bars() as progress:  # not resumable
        from models.evaluation.report import write_report
        from models.studies.purchases.evaluate_online_retail import evaluate_online_retail, trained_rankers
        from models.train_all import RECIPES
        from serving.cli.served_search import ServedSearch

        chosen = choice("recipe", recipe, RECIPES)
        found = evaluate_online_retail(
            data,
            progress,
            make_rankers=trained_rankers(
                chosen, out_folder / "work", ServedSearch, half_life_days=half_life_days, seed=seed
            ),
            max_cases=max_cases,
            command=command_line(),
            seed=seed,
        )
        report = write_report(out_folder, found.summary, found.facts)
    out.print(f"{report}, {time.monotonic() - started:.0f} s", highlight=False)


@evaluate_app.command("types")
@as_command
def evaluate_types(
    store: SimulatedStore,
    out_folder: Report,
    recipe: TypesRecipeName = "starter",
    ablations: Annotated[bool, Option("--ablations", help="Also other locale inputs and temperatures.")] = False,
    encoder: Annotated[str | None, Option("--encoder", help="Also U_aw with this text encoder.")] = None,
    seed: Seed = 0,
) -> None:
    """Compares classifiers of queries: one for each locale (NU), one for all (U_ag), one for all with the locale as input (U_aw).

    The cases are held-out queries of a simulated store, by resource tier, locale, language and type; strings whose meaning depends on the
    locale; and a new locale with few queries. Every figure has a confidence interval. If interrupted, the same command resumes.
    """
    with study(out_folder) as progress:
        from models.studies.types.evaluate_store_types import StoreTypesPlan
        from models.studies.types.evaluate_store_types import evaluate_types as evaluate

        plan = StoreTypesPlan(
            types_recipe(recipe, None),
            ablations=ablations,
            encoder=None if encoder is None else types_recipe("starter", encoder),
            seed=seed,
        )
        evaluate(store, out_folder, progress, plan=plan, command=command_line())


@evaluate_app.command("taxonomy")
@as_command
def evaluate_taxonomy(
    data: Annotated[
        Path, Option(exists=True, help="Folder with taxonomy_categories.parquet and taxonomy_attribute_values.parquet.")
    ],
    out_folder: Report,
    locale: Annotated[list[str] | None, Option(help="Only this locale. Repeatable. Default: all.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains the classifier on the category names of a real taxonomy in many locales; the queries are names with a word missing."""
    with study(out_folder) as progress:
        from models.studies.types.evaluate_taxonomy import TaxonomyPlan
        from models.studies.types.evaluate_taxonomy import evaluate_taxonomy as evaluate

        plan = TaxonomyPlan(locales=tuple(locale) if locale else None, seed=seed)
        evaluate(data, out_folder, progress, plan=plan, command=command_line())


@evaluate_app.command("query-paths")
@as_command
def evaluate_query_paths(
    data: Annotated[Path, Option(exists=True, help="CSV: language, origin_query, category_path, label (0 or 1).")],
    out_folder: Report,
    dictionary: Annotated[
        Path | None, Option(exists=True, help="Folder of the taxonomy, as more training data.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Trains a matcher of real queries in many languages with category paths; compares it with BM25, n-gram overlap and path frequency."""
    with study(out_folder) as progress:
        from models.studies.types.evaluate_query_paths import QueryPathsPlan
        from models.studies.types.evaluate_query_paths import evaluate_query_paths as evaluate

        plan = QueryPathsPlan(dictionary=dictionary, seed=seed)
        evaluate(data, out_folder, progress, plan=plan, command=command_line())


@evaluate_app.command("type-use")
@as_command
def evaluate_type_use(
    *, bundle: UnifiedBundle, store: Store = None, events: Logs = None, out_folder: Report, seed: Seed = 0
) -> None:
    """Searches with product types as a boost of several weights and as a filter; counts hits of the right type and target products found.

    The searches are those of the log that began after what the bundle learned from. Figures are given for the bundle's first locale, for
    other locales of its language and for other languages, and separately for wrong predictions of the classifier.
    """
    logs = log_paths(store, events)
    with study(out_folder) as progress:
        from models.bundles.bundle import Bundle
        from models.studies.types.search_effect import evaluate_type_use as evaluate

        evaluate(
            Bundle(bundle), logs, out_folder, progress, simulated=store is not None, command=command_line(), seed=seed
        )


@evaluate_app.command("text-encoder")
@as_command
def evaluate_text_encoder(
    *,
    store: SimulatedStore,
    out_folder: Report,
    variant: Annotated[
        list[str] | None, Option(help="raw, general, mlm, click or mlm+click. Repeatable. Default: all.")
    ] = None,
    other_catalogue: Annotated[Path | None, Option(help="Catalogue of another shop, for known-item search.")] = None,
    columns: TextColumns,
    seed: Seed = 0,
) -> None:
    """Fine-tunes text encoders on a simulated log and compares them on seen and unseen queries and products.

    Every figure has a confidence interval. --id, --title, --brand and --text name the columns of --other-catalogue. If interrupted, the
    same command resumes.
    """
    with study(out_folder) as progress:
        from models.studies.text_encoder.evaluate_text_encoder import evaluate_text_encoder as evaluate
        from models.text_tuning.recipe import Variant

        names = {one.value: one for one in Variant}
        evaluate(
            store,
            out_folder,
            progress,
            variants=None if variant is None else [choice("variant", name, names) for name in variant],
            other_catalogue=columns.source(other_catalogue) if other_catalogue else None,
            command=command_line(),
            seed=seed,
        )


@evaluate_app.command("search")
@as_command
def evaluate_search(
    *,
    bundle: Annotated[Path, Option(help="The bundle that the service serves.")],
    judgements: Annotated[
        Path, Option(exists=True, help="A query, a product id and a rating a row: .csv, .tsv, .jsonl or .parquet.")
    ],
    out_folder: Report,
    query_column: Annotated[str, Option(help="Column of the query.")] = "query",
    product_column: Annotated[str, Option(help="Column of the product id.")] = "product_id",
    rating_column: Annotated[str, Option(help="Column of the rating: a number, 0 for irrelevant.")] = "rating",
    locale: Annotated[str, Option(help="Locale of the queries. Default: the bundle's first.")] = "",
    seed: Seed = 0,
    service: ServiceOptions,
) -> None:
    """Evaluates the searches of a running service by your own judgements: vectors alone, words and vectors, ranked, and BM25.

    Every figure is given in full, where a product that nobody judged counts as irrelevant, and on judged products alone.
    """
    from serving.cli.client import connected

    with study(out_folder) as progress, connected(service) as connection:
        from models.bundles.bundle import Bundle
        from models.studies.search.evaluate_search import evaluate_search as evaluate
        from models.studies.search.judgements import JudgementColumns, read_judgements
        from serving.cli.ways_to_search import ways_to_search

        opened = Bundle(bundle)
        progress("read the judgements", 0, None)
        columns = JudgementColumns(query=query_column, product=product_column, rating=rating_column)
        judged = read_judgements(judgements, opened.products(), columns)
        ways = ways_to_search(connection, opened, locale)
        evaluate(judged, opened, ways, out_folder, progress, command=command_line(), seed=seed)


@evaluate_app.command("judged")
@as_command
def evaluate_judged(
    out_folder: Report,
    encoder: Encoders,
    wands: Annotated[
        Path | None, Option(exists=True, help="Folder of WANDS: query.csv, product.csv, label.csv.")
    ] = None,
    esci: Annotated[
        Path | None, Option(exists=True, help="Folder of ESCI (shopping_queries_dataset_*.parquet).")
    ] = None,
    locale: Annotated[str, Option(help="Locale of ESCI: us, es or jp.")] = "us",
    max_queries: Annotated[int | None, Option(min=10, help="Number of queries of ESCI to read.")] = None,
    seed: Seed = 0,
) -> None:
    """Evaluates text encoders on a public set of judgements by its own protocol, which the report states."""
    if (wands is None) == (esci is None):
        fail("give either --wands FOLDER or --esci FOLDER")
    with study(out_folder) as progress:
        from models.studies.text_encoder.esci import read_esci
        from models.studies.text_encoder.evaluate_judged import evaluate_judged as evaluate
        from models.studies.text_encoder.wands import read_wands

        progress("read the judgements", 0, None)
        judged = read_wands(wands) if wands else read_esci(esci or Path(), locale=locale, max_queries=max_queries)
        evaluate(encoder, judged, out_folder, progress, command=command_line(), seed=seed)


@evaluate_app.command("known-items")
@as_command
def evaluate_known_items(
    *,
    catalogue: Annotated[Path, Option(help="Products as .csv, .jsonl or .parquet.")],
    out_folder: Report,
    encoder: Encoders,
    queries: Annotated[int, Option(min=100, help="Number of queries to derive from titles.")] = 2_000,
    max_products: Annotated[int | None, Option(min=100, help="Number of products to draw. Default: all.")] = None,
    columns: TextColumns,
    seed: Seed = 0,
) -> None:
    """Evaluates text encoders by known-item search: queries are titles with words dropped, the brand misspelt, or synonyms."""
    with study(out_folder) as progress:
        from models.studies.text_encoder.evaluate_judged import evaluate_known_items as evaluate

        evaluate(
            encoder,
            columns.source(catalogue),
            out_folder,
            progress,
            num_queries=queries,
            max_products=max_products,
            command=command_line(),
            seed=seed,
        )


@evaluate_app.command("ranking")
@as_command
def evaluate_ranking(
    *,
    bundle: UnifiedBundle,
    store: Annotated[Path | None, Option(callback=simulated_store, help="Store of 'aisle simulate'.")] = None,
    events: Logs = None,
    out_folder: Annotated[Path, Option("--out", help="Folder for two reports and the trained models.")],
    recipe: Annotated[str, Option(help="Recipe of the ranker: starter or small.")] = "starter",
    teacher: Annotated[
        str, Option(help="Teacher to distil: toy (a minute), starter, small, full (for a GPU) or none.")
    ] = "toy",
    device: Device = "cpu",
    quick: Annotated[bool, Option("--quick", help="A minute or two: fewer pages and epochs, no teacher.")] = False,
    seed: Seed = 0,
) -> None:
    """Compares rankers on result pages later than the bundle's retrieval has learned from, and search with the ranker to search without it.

    The baselines are single-task models, other ways to share parameters and to weight tasks, LambdaMART, words and popularity. Further
    tables: few purchase labels; with and without personal features. With a simulated --store in place of --events also what needs its
    truth: the oracle, position bias, expected purchases. Pages are those of the first --events, clicks of all. Every figure has a
    confidence interval. If interrupted, the same command resumes.
    """
    logs = log_paths(store, events)
    with study(out_folder) as progress:
        from models.bundles.bundle import Bundle
        from models.devices import check_training_device
        from models.ranking.recipe import RECIPES
        from models.studies.ranking.distillation import TeacherPlan
        from models.studies.ranking.evaluate_ranking import RankingPlan
        from models.studies.ranking.evaluate_ranking import evaluate_ranking as evaluate

        chosen = choice("recipe", recipe, RECIPES)
        check_training_device(device)
        taught = None if teacher == NO_TEACHER else TeacherPlan.named(teacher, device)
        plan = RankingPlan(chosen, taught, seed=seed)
        evaluate(
            Bundle(bundle),
            logs,
            out_folder,
            progress,
            truth_of=store,
            plan=plan.quick() if quick else plan,
            command=command_line(),
        )
