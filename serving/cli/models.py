"""The commands that make bundles: build, simulate, train, evaluate."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.terminal import fail, out, print_report, progress_bars

if TYPE_CHECKING:
    from models.bundles.source import Source

train_app = typer.Typer(no_args_is_help=True, help="Train a model from a shopping log, into a bundle.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Train and compare models on a shopping log; writes a report.")

Out = Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")]
Catalogue = Annotated[
    Path | None, typer.Option(help="Products as .csv, .jsonl (both also .gz), .parquet or a folder of .parquet files.")
]
Id = Annotated[str, typer.Option("--id", help="Column with the unique product id.")]
Title = Annotated[str, typer.Option(help="Column with the title.")]
Brand = Annotated[str | None, typer.Option(help="Column with the brand.")]
Category = Annotated[str | None, typer.Option(help="Column with the category path, 'A > B > C'.")]
Price = Annotated[str | None, typer.Option(help="Column with the price in the currency's main unit.")]
InStock = Annotated[str | None, typer.Option(help="Column that says whether the product can be bought.")]
TextColumns = Annotated[
    list[str] | None, typer.Option("--text", help="Column whose text is encoded and returned; repeat it.")
]
Attributes = Annotated[
    list[str] | None, typer.Option("--attribute", help="Column that is returned but not encoded; repeat it.")
]
Name = Annotated[str, typer.Option(help="Name of the catalogue; default: the name of the bundle's folder.")]
Locales = Annotated[list[str] | None, typer.Option("--locale", help="Locale served, the default first; repeat it.")]
Currency = Annotated[str, typer.Option(help="ISO 4217 code of the prices.")]
Recall = Annotated[float, typer.Option(min=0.5, max=1.0, help="Least recall@100 of the index against exact search.")]
Latency = Annotated[
    float, typer.Option(min=0.05, help="Exact search is kept while one query takes no longer than this.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the bundle if it exists.")]
Events = Annotated[
    Path | None,
    typer.Option(help="The shopping log: Parquet, a file or a folder; see models/events/event.py for its columns."),
]
Store = Annotated[Path | None, typer.Option(help="A folder of 'aisle simulate', instead of --catalogue and --events.")]
RecipeName = Annotated[str, typer.Option("--recipe", help="starter (a minute), small (CPU, minutes) or full (GPU).")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same weights on the same machine.")]


def build(
    out_folder: Out,
    catalogue: Catalogue = None,
    sample: Annotated[
        int | None, typer.Option(min=1000, max=10_000_000, help="Generate a sample store of this size instead.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample store.")] = 0,
    id_column: Id = "id",
    title: Title = "title",
    brand: Brand = None,
    category: Category = None,
    price: Price = None,
    in_stock: InStock = None,
    text: TextColumns = None,
    attribute: Attributes = None,
    name: Name = "",
    locale: Locales = None,
    currency: Currency = "USD",
    encoder: Annotated[
        str, typer.Option(help="'minilm' (packaged), a Hugging Face model directory, or a model name.")
    ] = "minilm",
    dimensions: Annotated[
        list[int] | None, typer.Option(help="Matryoshka prefix that the encoder was trained for; repeat it.")
    ] = None,
    max_product_tokens: Annotated[int, typer.Option(min=8, help="Product text past this many tokens is cut.")] = 128,
    recall: Recall = 0.98,
    latency_ms: Latency = 2.0,
    force: Force = False,
) -> None:
    """Builds a bundle from a catalogue or from the sample store. Interrupted, the same command goes on where it stopped.

    Rows that cannot be used are counted and reported with their line and reason.
    """
    from models.bundles.build import Recipe, build_bundle
    from models.bundles.manifest import BundleError
    from models.bundles.sources import sample_source
    from models.index.tuner import IndexTarget
    from models.products.errors import CatalogueError
    from models.sample_store import CURRENCY as SAMPLE_CURRENCY
    from models.text_encoder.embed_products import TextEmbedding
    from models.text_encoder.export import EncoderError

    if (catalogue is None) == (sample is None):
        fail("give either --catalogue FILE or --sample NUMBER")
    if sample is not None and currency != SAMPLE_CURRENCY:
        fail(f"the sample store's prices are in {SAMPLE_CURRENCY}, not {currency}")
    recipe = Recipe(
        name=name or out_folder.name,
        encoder=encoder,
        locales=tuple(locale or ["en-US"]),
        currency=currency,
        dimensions=tuple(dimensions or ()),
        max_product_tokens=max_product_tokens,
        index=IndexTarget(recall=recall, latency_ms=latency_ms),
    )
    try:
        if catalogue is not None:
            named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
            source = catalogue_of(catalogue, {"id": id_column, "title": title}, named, text, attribute, currency)
        else:
            source = sample_source(sample or 0, seed)
        started = time.monotonic()
        with progress_bars() as progress:
            embedding = TextEmbedding.for_recipe(recipe, source.text_attributes)
            manifest = build_bundle(source, recipe, out_folder, progress, embedding=embedding, replace=force)
    except (BundleError, CatalogueError, EncoderError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    print_report(manifest.catalogue["report"])
    out.print(
        f"{manifest.products:,} products in {out_folder} (version {manifest.version}), {time.monotonic() - started:.0f} s"
    )
    out.print(f"serve them with: aisle serve --bundle {out_folder}", highlight=False)


def simulate(
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for catalogue.parquet, events.parquet, truth.json.")
    ],
    products: Annotated[int, typer.Option(min=1000, max=10_000_000)] = 20_000,
    shoppers: Annotated[int, typer.Option(min=10, max=10_000_000)] = 4_000,
    events: Annotated[int, typer.Option(min=10_000, max=100_000_000)] = 500_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
) -> None:
    """Writes a simulated shop: products, and what shoppers with tastes of their own did there in 60 days.

    What is measured on it says how well a model learns this simulation, not how well it serves real shoppers.
    """
    from models.sample_store.write_log import write_sample_log

    try:
        with progress_bars() as progress:
            write_sample_log(out_folder, products, shoppers, events, seed, progress)
    except (ValueError, OSError) as error:
        fail(str(error))
    out.print(f"simulated: {products:,} products, {shoppers:,} shoppers, {events:,} events in {out_folder}")
    out.print(f"train on them with: aisle train unified --store {out_folder} --out BUNDLE", highlight=False)


@train_app.command("unified")
def train_unified(
    out_folder: Out,
    store: Store = None,
    catalogue: Catalogue = None,
    events: Events = None,
    recipe: RecipeName = "small",
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for TensorBoard's logs.")] = None,
    id_column: Id = "id",
    title: Title = "title",
    brand: Brand = None,
    category: Category = None,
    price: Price = None,
    in_stock: InStock = None,
    text: TextColumns = None,
    attribute: Attributes = None,
    name: Name = "",
    locale: Locales = None,
    currency: Currency = "USD",
    recall: Recall = 0.98,
    latency_ms: Latency = 2.0,
    force: Force = False,
) -> None:
    """Trains personalised retrieval (one space for products, queries and shoppers) and builds the bundle that serves it.

    Interrupted, the same command goes on where it stopped.
    """
    from models.bundles.build import Recipe, build_bundle
    from models.bundles.manifest import BundleError
    from models.index.tuner import IndexTarget
    from models.products.errors import CatalogueError

    try:
        from models.unified.embed_products import UnifiedEmbedding
        from models.unified.losses import DegenerateLoss
        from models.unified.recipe import RECIPES
        from models.unified.shopping_log import LogError
    except ImportError as error:
        fail(f"training needs {error.name}: pip install 'aisle[train]'")
    if recipe not in RECIPES:
        fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
    try:
        source, log, currency = shop_of(
            store, catalogue, events, {"id": id_column, "title": title}, named, text, attribute, currency
        )
        wanted = Recipe(
            name=name or out_folder.name,
            locales=tuple(locale or ["en-US"]),
            currency=currency,
            index=IndexTarget(recall=recall, latency_ms=latency_ms),
        )
        started = time.monotonic()
        embedding = UnifiedEmbedding(log, RECIPES[recipe], seed, device, tensorboard)
        with progress_bars() as progress:
            manifest = build_bundle(source, wanted, out_folder, progress, embedding=embedding, replace=force)
    except (BundleError, CatalogueError, LogError, DegenerateLoss, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    print_report(manifest.catalogue["report"])
    out.print(
        f"{manifest.products:,} products in {out_folder} (version {manifest.version}), {time.monotonic() - started:.0f} s"
    )
    out.print(f"serve them with: aisle serve --bundle {out_folder}", highlight=False)


@evaluate_app.command("unified")
def evaluate_unified(
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for report.html, report.json and the trained models.")
    ],
    store: Store = None,
    catalogue: Catalogue = None,
    events: Events = None,
    recipe: RecipeName = "small",
    variant: Annotated[
        list[str] | None, typer.Option(help="Only this variant of the model beside the full one, or 'none'; repeat it.")
    ] = None,
    text_encoder: Annotated[str, typer.Option(help="Text encoder to compare with, as it is; '' for none.")] = "minilm",
    max_cases: Annotated[
        int, typer.Option(min=100, help="Searches to evaluate on, drawn from those after training.")
    ] = 5_000,
    seed: Seed = 0,
    id_column: Id = "id",
    title: Title = "title",
    brand: Brand = None,
    category: Category = None,
    price: Price = None,
    in_stock: InStock = None,
    text: TextColumns = None,
    attribute: Attributes = None,
    currency: Currency = "USD",
) -> None:
    """Trains the model and the same less one part each, and compares them with BM25, a text encoder and popularity.

    On the purchases of the last 15 % of the log, with intervals. Interrupted, the same command goes on where it stopped.
    """
    from models.products.errors import CatalogueError
    from models.sample_store.write_log import TRUTH
    from models.text_encoder.export import EncoderError

    try:
        from models.studies.unified.evaluate_unified import UnifiedEvaluation
        from models.studies.unified.evaluate_unified import evaluate_unified as run
        from models.unified.losses import DegenerateLoss
        from models.unified.recipe import RECIPES
        from models.unified.shopping_log import LogError
    except ImportError as error:
        fail(f"evaluating needs {error.name}: pip install 'aisle[evaluate]'")
    if recipe not in RECIPES:
        fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
    variants = None if variant is None else tuple(name for name in variant if name != "none")
    started = time.monotonic()
    try:
        source, log, _ = shop_of(
            store, catalogue, events, {"id": id_column, "title": title}, named, text, attribute, currency
        )
        with progress_bars() as progress:
            report = run(
                source,
                log,
                out_folder,
                progress,
                plan=UnifiedEvaluation(RECIPES[recipe], variants, text_encoder or None, max_cases, seed),
                truth=store / TRUTH if store else None,
                command=shlex.join(["aisle", *sys.argv[1:]]),
            )
    except (CatalogueError, EncoderError, LogError, DegenerateLoss, ValueError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    out.print(f"{report}, {time.monotonic() - started:.0f} s", highlight=False)


@evaluate_app.command("purchases")
def evaluate_purchases(
    data: Annotated[Path, typer.Option(help="online_retail_purchases.parquet: UCI Online Retail (2012), CC BY 4.0.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for report.html and report.json.")],
    recipe: RecipeName = "small",
    max_cases: Annotated[int | None, typer.Option(min=100, help="Draw so many cases; default: all.")] = None,
    seed: Seed = 0,
) -> None:
    """Trains the model on real purchases and compares it with popularity, earlier purchases and BM25.

    On the next invoices of the last fifth of the purchases; queries are derived of titles. Intervals draw customers.
    """
    try:
        from models.evaluation.report import write_report
        from models.studies.purchases.evaluate_online_retail import evaluate_online_retail, trained_rankers
        from models.studies.purchases.online_retail import OnlineRetailError
        from models.unified.losses import DegenerateLoss
        from models.unified.recipe import RECIPES
    except ImportError as error:
        fail(f"evaluating needs {error.name}: pip install 'aisle[evaluate]'")
    if recipe not in RECIPES:
        fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    started = time.monotonic()
    try:
        with progress_bars() as progress:
            found = evaluate_online_retail(
                data,
                progress,
                make_rankers=trained_rankers(RECIPES[recipe], out_folder / "work", seed),
                max_cases=max_cases,
                command=shlex.join(["aisle", *sys.argv[1:]]),
                seed=seed,
            )
            report = write_report(out_folder, found.summary, found.facts)
    except (OnlineRetailError, DegenerateLoss, OSError) as error:
        fail(str(error))
    out.print(f"{report}, {time.monotonic() - started:.0f} s", highlight=False)


def shop_of(
    store: Path | None,
    catalogue: Path | None,
    events: Path | None,
    columns: dict[str, str],
    named: dict[str, str | None],
    text: list[str] | None,
    attribute: list[str] | None,
    currency: str,
) -> tuple[Source, Path, str]:
    """Products, log and currency: of a simulated store, or as they are stated."""
    from models.sample_store import CURRENCY, SAMPLE_COLUMNS
    from models.sample_store.write_log import CATALOGUE, EVENTS

    if store is not None:
        if catalogue or events:
            fail("give either --store, or --catalogue and --events")
        for name in (CATALOGUE, EVENTS):
            if not (store / name).is_file():
                fail(f"{store} holds no {name}; make a store with 'aisle simulate --out {store}'")
        source = catalogue_of(
            store / CATALOGUE, {}, {}, list(SAMPLE_COLUMNS.text), list(SAMPLE_COLUMNS.attributes), CURRENCY
        )
        return source, store / EVENTS, CURRENCY
    if catalogue is None or events is None:
        fail("give --catalogue and --events, or --store with a folder of 'aisle simulate'")
    if not events.exists():
        fail(f"there is no {events}")
    return catalogue_of(catalogue, columns, named, text, attribute, currency), events, currency


def catalogue_of(
    catalogue: Path,
    columns: dict[str, str],
    named: dict[str, str | None],
    text: list[str] | None,
    attribute: list[str] | None,
    currency: str,
) -> Source:

    from models.bundles.sources import catalogue_source

    stated = columns | {field: column for field, column in named.items() if column}
    return catalogue_source(catalogue, stated, tuple(text or ()), tuple(attribute or ()), currency)
