"""The commands of ranking and of the whole loop: train ranker, train all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from models.arrays import Progress
from serving.cli.models import (
    Attributes,
    Brand,
    Catalogue,
    Category,
    Currency,
    Force,
    Id,
    InStock,
    Latency,
    Locales,
    Name,
    Out,
    Price,
    Recall,
    Seed,
    Store,
    TextColumns,
    Title,
    shop_of,
    train_app,
)
from serving.cli.terminal import fail, out, progress_bars
from serving.cli.types import command_line, logs_of

Logs = Annotated[
    list[Path] | None,
    typer.Option(
        help="Shopping logs: Parquet, a file or a folder; see models/events/event.py for the columns; repeat it."
    ),
]


@train_app.command("ranker")
def train_ranker(
    bundle: Annotated[Path, typer.Option(help="The bundle that shall rank: one of 'aisle train unified'.")],
    out_folder: Out,
    store: Store = None,
    events: Logs = None,
    recipe: Annotated[str, typer.Option(help="starter (seconds) or small (minutes).")] = "starter",
    teacher: Annotated[
        bool,
        typer.Option("--teacher", help="First train a cross-encoder, learn from it too, and keep it in the bundle."),
    ] = False,
    teacher_base: Annotated[
        str,
        typer.Option(help="What the teacher begins with: 'minilm' (packaged), a BERT-like directory, or a model name."),
    ] = "minilm",
    teacher_recipe: Annotated[str, typer.Option(help="starter or small (CPU, minutes), or full (GPU).")] = "starter",
    device: Annotated[str, typer.Option(help="Where the teacher is trained: cpu or cuda.")] = "cpu",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Trains the ranker that orders what a search retrieved, by the chances of a click, a cart and a purchase; puts it into a bundle.

    It learns from result pages (impressions) that came after what the bundle's unified model learned from, and sees what was clicked
    again beside what a search would have found: also of locales of which the log has the clicks alone. --out may be the bundle itself,
    with --force. Interrupted, a teacher's training goes on where it stopped.
    """
    from models.bundles.bundle import Bundle
    from models.ranking.add_to_bundle import add_ranker
    from models.ranking.teacher.bundle_part import TEACHER_PART

    try:
        from models.bundles.resumable_stages import kept_stages
        from models.devices import check_training_device
        from models.ranking.distil import distil_ranker, train_teacher_on
        from models.ranking.feature_names import FEATURES
        from models.ranking.recipe import RECIPES
        from models.ranking.teacher.recipe import RECIPES as TEACHERS
        from models.ranking.train_ranker import read_pages, train_on
    except ImportError as error:
        fail(f"training needs {error.name}: pip install 'aisle[train]'")
    _check_recipe(recipe, RECIPES)
    _check_recipe(teacher_recipe, TEACHERS)
    if device != "cpu" and not teacher:
        fail(f"--device {device} needs --teacher: the ranker itself learns on the CPU")
    logs = logs_of(store, events)
    started = time.monotonic()
    work = out_folder.with_name(f"{out_folder.name}.teacher")
    with _failures(), progress_bars() as progress:
        check_training_device(device)
        opened = Bundle(bundle)
        had_teacher = TEACHER_PART.is_in(opened)
        pages = read_pages(opened, logs, RECIPES[recipe], seed=seed, progress=progress)
        made: Path | None = None

        def make_teacher(folder: Path, tell: Progress) -> None:
            chosen = TEACHERS[teacher_recipe]
            train_teacher_on(opened, pages, folder, chosen, teacher_base, seed=seed, progress=tell, device=device)

        if teacher:
            with kept_stages(work, progress) as stages:
                made = stages.run(
                    "teacher",
                    [
                        opened.manifest.version,
                        [log.stat().st_mtime_ns for log in logs],
                        teacher_base,
                        asdict(TEACHERS[teacher_recipe]),
                        RECIPES[recipe].max_pages,
                        FEATURES,
                        seed,
                    ],
                    make_teacher,
                )
            trained = distil_ranker(opened, pages, made, RECIPES[recipe], seed=seed, progress=progress)
        else:
            trained = train_on(pages, RECIPES[recipe], seed=seed, progress=progress)
        progress("write the bundle", 0, None)
        manifest = add_ranker(opened, trained.ranker, out_folder, report=trained.report, teacher=made, replace=force)
    shutil.rmtree(work, ignore_errors=True)
    _print_ranker(trained.report, taught=teacher)
    if had_teacher and not teacher:
        out.print(
            "the teacher that was in the bundle is left out: it taught another ranker; --teacher trains one",
            highlight=False,
        )
    out.print(f"{out_folder} (version {manifest.version}) ranks, {time.monotonic() - started:.0f} s")
    out.print(f"serve it with: aisle serve --bundle {out_folder}", highlight=False)


def _print_ranker(report: dict[str, Any], *, taught: bool) -> None:
    labels = ", ".join(f"{count:,} {task}s" for task, count in report["labels"].items())
    beside = f"; {report['pages_beside']:,} pages of clicks beside what was not shown" if report["pages_beside"] else ""
    out.print(
        f"{report['pages']:,} result pages ({report['rows']:,} products, {labels}) after the unified model's window{beside}"
        + ("; and what a teacher says of them" if taught else ""),
        highlight=False,
    )
    errors = ", ".join(f"{task} {error:.3f}" for task, error in report["holdout_calibration_error"].items())
    out.print(f"calibration error on pages held out: {errors}", highlight=False)


@train_app.command("all")
def train_all(
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for the bundle, the report and what they are made of.")
    ],
    store: Store = None,
    catalogue: Catalogue = None,
    events: Annotated[
        list[Path] | None,
        typer.Option(
            help="Shopping logs: Parquet, a file or a folder; see models/events/event.py for the columns. Retrieval learns from the first, "
            "which needs impressions; types and ranker from all; repeat it."
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="starter or small; small takes less than half an hour on two cores.")
    ] = "small",
    before: Annotated[
        Path | None, typer.Option(help="The bundle to compare with; default: the one that stands in --out.")
    ] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, or cuda for text encoder, retrieval and teacher.")] = "cpu",
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
) -> None:
    """Trains everything from a catalogue and a log, and puts it into one bundle: retrieval, types of queries, ranker and its teacher.

    The text encoder is tuned for the teacher, and for 'aisle build'; the unified model reads words of its own. OUT/bundle is the bundle,
    OUT/report.html compares it with the bundle before, on the last 5 % of the log, from which nothing learns. Each finished stage is
    kept in OUT/work: interrupted, the same command goes on where it stopped; with another log or recipe it does again what that changes.
    """
    try:
        from models.bundles.build import Recipe
        from models.index.tuner import IndexTarget
        from models.train_all import RECIPES, Shop
        from models.train_all import train_all as train
    except ImportError as error:
        fail(f"training needs {error.name}: pip install 'aisle[tune]'")
    _check_recipe(recipe, RECIPES)
    named = {"brand": brand, "category": category, "price": price, "in_stock": in_stock}
    started = time.monotonic()
    with _failures():
        first = events[0] if events else None
        source, log, currency = shop_of(
            store, catalogue, first, {"id": id_column, "title": title}, named, text, attribute, currency
        )
        wanted = Recipe(
            name=name or out_folder.name,
            locales=tuple(locale or ["en-US"]),
            currency=currency,
            index=IndexTarget(recall=recall, latency_ms=latency_ms),
        )
        logs = logs_of(store, events)
        shop = Shop(source, (log, *(one for one in logs if one != log)), wanted, simulated=store is not None)
        with progress_bars() as progress:
            trained = train(
                shop,
                RECIPES[recipe],
                out_folder,
                progress,
                before=before,
                seed=seed,
                device=device,
                command=command_line(),
            )
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in trained.seconds.items())
    out.print(f"{trained.bundle} (version {trained.version}): {spent}", highlight=False)
    out.print(f"{trained.report}, {time.monotonic() - started:.0f} s", highlight=False)
    out.print(f"serve it with: aisle serve --bundle {trained.bundle}", highlight=False)


def _check_recipe(name: str, recipes: dict[str, Any]) -> None:
    if name not in recipes:
        fail(f"there is no recipe {name!r}; there are {', '.join(recipes)}")


@contextmanager
def _failures() -> Iterator[None]:
    """What the data, the models or the machine lack ends the command with their message."""
    from models.bundles.manifest import BundleError
    from models.products.errors import CatalogueError
    from models.text_encoder.export import EncoderError
    from models.unified.losses import DegenerateLoss

    try:
        yield
    except ImportError as error:
        fail(f"training needs {error.name}: pip install 'aisle[tune]'")
    except (BundleError, CatalogueError, EncoderError, DegenerateLoss, ValueError, RuntimeError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped")
