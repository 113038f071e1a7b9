"""The commands of the classifier of queries: train types, evaluate types."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.arrays import Progress
from serving.cli.models import Force, Out, Seed, Store, evaluate_app, train_app
from serving.cli.terminal import fail, out, progress_bars

if TYPE_CHECKING:
    from models.query_types.recipe import TypesRecipe

Report = Annotated[Path, typer.Option("--out", help="Folder for report.html, report.json and the trained models.")]
TypesRecipeName = Annotated[str, typer.Option("--recipe", help="starter (seconds) or small (minutes).")]


@train_app.command("types")
def train_types(
    bundle: Annotated[Path, typer.Option(help="The bundle that shall tell types: its products have the categories.")],
    out_folder: Out,
    store: Store = None,
    events: Annotated[
        list[Path] | None,
        typer.Option(
            help="Shopping logs: Parquet, a file or a folder; see models/events/event.py for the columns; repeat it."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="starter (seconds) or small (minutes). With --encoder: starter (CPU, a minute; the encoder stays as it is), small (CPU, "
            "minutes; its upper layers learn) or full (GPU; all learn).",
        ),
    ] = "starter",
    encoder: Annotated[
        str | None,
        typer.Option(
            help="What reads the queries: 'minilm' (packaged), a Hugging Face model directory, or a model name. Default: words and n-grams."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda, for training with --encoder.")] = "cpu",
    min_support: Annotated[float, typer.Option(min=0.1, help="Clicks that a query needs in its locale to count.")] = 1,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Trains the classifier that tells which product types a query asks for, locale by locale, and puts it into a bundle.

    A type is a category of the catalogue; a query's types are those of the products that shoppers engaged with after it. Locales
    share what they can and keep their own words. --out may be the bundle itself, with --force.
    """
    from models.bundles.bundle import Bundle
    from models.bundles.manifest import BundleError
    from models.query_types.add_to_bundle import add_types

    try:
        from models.query_types.examples import ExamplesError
        from models.query_types.fit_net import TrainingFailed
        from models.query_types.labels import LabelRule, label_log
        from models.query_types.train_types import train_types as train
        from models.text_encoder.export import EncoderError
    except ImportError as error:
        fail(f"training needs {error.name}: pip install 'aisle[train]'")
    if device not in ("cpu", "cuda"):
        fail(f"--device must be cpu or cuda, not {device!r}")
    if device == "cuda" and encoder is None:
        fail("--device cuda needs --encoder: words and n-grams learn on the CPU")
    chosen = _recipe(recipe, encoder)
    logs = logs_of(store, events)
    started = time.monotonic()
    try:
        opened = Bundle(bundle)
        category_of = opened.products().category_by_id()
        with progress_bars() as progress:
            progress("read the log", 0, None)
            labelled = label_log(logs, category_of, LabelRule(min_support=min_support))
            model = train(labelled.examples, chosen, seed=seed, progress=progress, device=device)
            progress("write the bundle", 0, None)
            manifest = add_types(opened, model, out_folder, replace=force)
    except (BundleError, EncoderError, ExamplesError, TrainingFailed, OSError) as error:
        fail(str(error))
    report = asdict(labelled.report)
    by_locale = report.pop("locales")
    out.print(
        f"{len(labelled.examples):,} queries of {len(by_locale)} locales, {len(labelled.examples.types)} types; of the log: "
        + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.items() if count),
        highlight=False,
    )
    out.print(f"{out_folder} (version {manifest.version}) tells types, {time.monotonic() - started:.0f} s")
    out.print(f"serve it with: aisle serve --bundle {out_folder}", highlight=False)


@evaluate_app.command("types")
def evaluate_types(
    store: Annotated[Path, typer.Option(help="A folder of 'aisle simulate', whose truth is known.")],
    out_folder: Report,
    recipe: TypesRecipeName = "starter",
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also other ways to tell the locale, and other temperatures.")
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Also U_aw with this encoder, as 'aisle train types --encoder' trains it."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Compares classifiers on a simulated store: one a locale (NU), one for all (U_ag), one for all that knows the locale (U_aw).

    On held-out queries, by resource tier, locale, language and type; on strings that mean different things in different locales; and
    with few queries of a new locale. With intervals. Interrupted, the same command goes on where it stopped.
    """

    def run(progress: Progress) -> Path:
        from models.query_types.recipe import RECIPES
        from models.studies.types.evaluate_store_types import StoreTypesPlan
        from models.studies.types.evaluate_store_types import evaluate_types as evaluate

        if recipe not in RECIPES:
            fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
        with_encoder = None if encoder is None else _recipe("starter", encoder)
        plan = StoreTypesPlan(RECIPES[recipe], ablations=ablations, encoder=with_encoder, seed=seed)
        return evaluate(store, out_folder, progress, plan=plan, command=command_line())

    evaluated(run)


@evaluate_app.command("taxonomy")
def evaluate_taxonomy(
    data: Annotated[
        Path, typer.Option(help="Folder with taxonomy_categories.parquet and taxonomy_attribute_values.parquet.")
    ],
    out_folder: Report,
    locale: Annotated[list[str] | None, typer.Option(help="Only this locale; repeat it. Default: all.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains the classifier on the names of a real product taxonomy in many locales, and asks for them with a word missing."""

    def run(progress: Progress) -> Path:
        from models.studies.types.evaluate_taxonomy import TaxonomyPlan
        from models.studies.types.evaluate_taxonomy import evaluate_taxonomy as evaluate

        plan = TaxonomyPlan(locales=tuple(locale) if locale else None, seed=seed)
        return evaluate(data, out_folder, progress, plan=plan, command=command_line())

    evaluated(run)


@evaluate_app.command("query-paths")
def evaluate_query_paths(
    data: Annotated[
        Path, typer.Option(help="CSV with language, origin_query, category_path, label (1: the path fits).")
    ],
    out_folder: Report,
    dictionary: Annotated[
        Path | None,
        typer.Option(help="Folder of the taxonomy, whose names in many languages are learned from as well."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Learns which category paths fit real queries of many languages, and compares with BM25, n-gram overlap and the paths' shares."""

    def run(progress: Progress) -> Path:
        from models.studies.types.evaluate_query_paths import QueryPathsPlan
        from models.studies.types.evaluate_query_paths import evaluate_query_paths as evaluate

        plan = QueryPathsPlan(dictionary=dictionary, seed=seed)
        return evaluate(data, out_folder, progress, plan=plan, command=command_line())

    evaluated(run)


@evaluate_app.command("type-use")
def evaluate_type_use(
    bundle: Annotated[Path, typer.Option(help="A bundle that 'aisle train unified' made of the store.")],
    store: Annotated[Path, typer.Option(help="The folder of 'aisle simulate'.")],
    out_folder: Report,
    seed: Seed = 0,
) -> None:
    """Ranks with the types of queries boosted by several weights, or filtered by, and counts hits of the right type and products found.

    In the catalogue's own words and in other locales', and apart where the classifier is wrong.
    """

    def run(progress: Progress) -> Path:
        from models.bundles.bundle import Bundle
        from models.studies.types.search_effect import evaluate_type_use as evaluate

        return evaluate(Bundle(bundle), store, out_folder, progress, command=command_line(), seed=seed)

    evaluated(run)


def command_line() -> str:
    """The command as it was given, for a report."""
    return shlex.join(["aisle", *sys.argv[1:]])


def evaluated(run: Callable[[Progress], Path]) -> None:
    """Runs an evaluation with progress and says where its report is. What its data or models lack ends the command."""
    from models.bundles.manifest import BundleError

    started = time.monotonic()
    try:
        with progress_bars() as progress:
            report = run(progress)
    except ImportError as error:
        fail(f"evaluating needs {error.name}: pip install 'aisle[evaluate,tune]'")
    except (ValueError, RuntimeError, OSError, BundleError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    out.print(f"{report}, {time.monotonic() - started:.0f} s", highlight=False)


def _recipe(name: str, encoder: str | None) -> TypesRecipe:
    from models.query_types.recipe import ENCODER_RECIPES, RECIPES

    recipes = RECIPES if encoder is None else ENCODER_RECIPES
    if name not in recipes:
        fail(f"there is no recipe {name!r}; there are {', '.join(recipes)}")
    recipe = recipes[name]
    return (
        recipe
        if recipe.encoder is None or encoder is None
        else replace(recipe, encoder=replace(recipe.encoder, base=encoder))
    )


def logs_of(store: Path | None, events: list[Path] | None) -> list[Path]:
    """Of a simulated store: of all its locales."""
    from models.sample_store.write_log import EVENTS, STOREFRONTS

    if (store is None) == (not events):
        fail("give either --store with a folder of 'aisle simulate', or --events")
    logs = [store / EVENTS, store / STOREFRONTS] if store else list(events or [])
    for path in logs:
        if not path.exists():
            fail(f"there is no {path}" + (f"; make a store with 'aisle simulate --out {store}'" if store else ""))
    return logs
