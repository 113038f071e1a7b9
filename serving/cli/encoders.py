"""The commands of text encoders: train text-encoder, evaluate text-encoder, judged, known-items."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from models.arrays import Progress
from serving.cli.models import (
    Attributes,
    Brand,
    Catalogue,
    Category,
    Currency,
    Events,
    Id,
    InStock,
    Price,
    Seed,
    Store,
    TextColumns,
    Title,
    catalogue_of,
    evaluate_app,
    shop_of,
    train_app,
)
from serving.cli.terminal import fail, out, progress_bars
from serving.cli.types import Report, command_line, evaluated

Encoders = Annotated[
    list[str],
    typer.Option("--encoder", help="'minilm', a model directory or a name; the first is what others are held against."),
]


@train_app.command("text-encoder")
def train_text_encoder(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the new encoder, for 'aisle build --encoder'.")],
    store: Store = None,
    catalogue: Catalogue = None,
    events: Events = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="mlm: masked words of catalogue and queries. click: queries beside the products that they led to. Repeat it; "
            "default: click."
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help="What to begin with: 'minilm' (packaged), a BERT-like model directory, or a model name.")
    ] = "minilm",
    recipe: Annotated[str, typer.Option(help="starter (a minute), small (CPU, minutes) or full (GPU).")] = "small",
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
    currency: Currency = "USD",
) -> None:
    """Tunes a text encoder on the clicks of a shopping log.

    Interrupted, the same command goes on where it stopped.
    """
    try:
        from models.bundles.manifest import BundleError
        from models.errors import TrainingError
        from models.products.errors import CatalogueError
        from models.text_encoder.export import EncoderError
        from models.text_tuning.recipe import RECIPES, Stage
        from models.text_tuning.train_text_encoder import train_text_encoder as train
        from models.unified.losses import DegenerateLoss
    except ImportError as error:
        fail(f"tuning needs {error.name}: pip install 'aisle[tune]'")
    if recipe not in RECIPES:
        fail(f"there is no recipe {recipe!r}; there are {', '.join(RECIPES)}")
    unknown = [name for name in stage or [] if name not in set(Stage)]
    if unknown:
        fail(f"there is no stage {unknown[0]!r}; there are {', '.join(Stage)}")
    named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
    started = time.monotonic()
    try:
        source, log, _ = shop_of(
            store, catalogue, events, {"id": id_column, "title": title}, named, text, attribute, currency
        )
        with progress_bars() as progress:
            trained = train(
                source,
                [log],
                out_folder,
                RECIPES[recipe],
                [Stage(name) for name in stage or ["click"]],
                base,
                seed,
                progress,
                device=device,
                logs=tensorboard,
            )
    except (BundleError, CatalogueError, EncoderError, TrainingError, DegenerateLoss, ValueError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
    for name, losses in trained.losses.items():
        out.print(f"{name}: loss {losses[0].loss:.3f} to {losses[-1].loss:.3f}", highlight=False)
    out.print(f"{out_folder}, {time.monotonic() - started:.0f} s", highlight=False)
    out.print(f"build with it: aisle build --encoder {out_folder} --catalogue ... --out BUNDLE", highlight=False)


@evaluate_app.command("text-encoder")
def evaluate_text_encoder(
    store: Annotated[Path, typer.Option(help="A folder of 'aisle simulate', whose truth is known.")],
    out_folder: Report,
    variant: Annotated[
        list[str] | None, typer.Option(help="raw, general, mlm, click or mlm+click; repeat it. Default: all.")
    ] = None,
    other_catalogue: Annotated[
        Path | None, typer.Option(help="Another shop's catalogue: found on it, untrained, are known items.")
    ] = None,
    id_column: Id = "id",
    title: Title = "title",
    brand: Brand = None,
    text: TextColumns = None,
    seed: Seed = 0,
) -> None:
    """Tunes encoders on a simulated log and compares them, by seen and unseen queries and products, with intervals.

    --other-catalogue and the columns' names say what to try them on that they have never seen. Interrupted, the same command goes on
    where it stopped.
    """

    def run(progress: Progress) -> Path:
        from models.studies.text_encoder.evaluate_text_encoder import evaluate_text_encoder as evaluate

        other = None
        if other_catalogue:
            other = catalogue_of(
                other_catalogue, {"id": id_column, "title": title}, {"brand": brand}, text, None, "USD"
            )
        return evaluate(
            store, out_folder, progress, variants=variant, other_catalogue=other, command=command_line(), seed=seed
        )

    evaluated(run)


@evaluate_app.command("judged")
def evaluate_judged(
    out_folder: Report,
    encoder: Encoders,
    wands: Annotated[Path | None, typer.Option(help="Folder of WANDS: query.csv, product.csv, label.csv.")] = None,
    esci: Annotated[
        Path | None,
        typer.Option(help="Folder of ESCI: shopping_queries_dataset_examples.parquet and ..._products.parquet."),
    ] = None,
    locale: Annotated[str, typer.Option(help="Of ESCI: us, es or jp.")] = "us",
    max_queries: Annotated[int | None, typer.Option(min=10, help="Of ESCI: only the first so many.")] = None,
    seed: Seed = 0,
) -> None:
    """Evaluates encoders on a public judged set, as its protocol has it; the report states the protocol."""
    if (wands is None) == (esci is None):
        fail("give either --wands FOLDER or --esci FOLDER")

    def run(progress: Progress) -> Path:
        from models.studies.text_encoder.esci import read_esci
        from models.studies.text_encoder.evaluate_judged import evaluate_judged as evaluate
        from models.studies.text_encoder.wands import read_wands

        progress("read the judgements", 0, None)
        judged = read_wands(wands) if wands else read_esci(esci or Path(), locale=locale, max_queries=max_queries)
        return evaluate(encoder, judged, out_folder, progress, command=command_line(), seed=seed)

    evaluated(run)


@evaluate_app.command("known-items")
def evaluate_known_items(
    catalogue: Annotated[Path, typer.Option(help="Products as .csv, .jsonl or .parquet.")],
    out_folder: Report,
    encoder: Encoders,
    queries: Annotated[int, typer.Option(min=100, help="Queries to derive of titles.")] = 2_000,
    max_products: Annotated[int | None, typer.Option(min=100, help="Draw so many products; default: all.")] = None,
    id_column: Id = "id",
    title: Title = "title",
    brand: Brand = None,
    text: TextColumns = None,
    seed: Seed = 0,
) -> None:
    """Finds products again by queries that are derived of their titles: words dropped, the brand misspelt, synonyms."""

    def run(progress: Progress) -> Path:
        from models.studies.text_encoder.evaluate_judged import evaluate_known_items as evaluate

        source = catalogue_of(catalogue, {"id": id_column, "title": title}, {"brand": brand}, text, None, "USD")
        return evaluate(
            encoder,
            source,
            out_folder,
            progress,
            num_queries=queries,
            max_products=max_products,
            command=command_line(),
            seed=seed,
        )

    evaluated(run)
