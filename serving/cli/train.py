"""Training: train unified, types, text-encoder, ranker, all."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option, Typer

from serving.cli.failures import needs, resumable
from serving.cli.needs_table import looked_at, print_left_out, print_plan, print_rows, told_half_life
from serving.cli.options import (
    BundleOptions,
    Catalogue,
    CatalogueColumns,
    Device,
    Force,
    HalfLifeDays,
    Logs,
    Out,
    RecipeName,
    Seed,
    Store,
    TensorBoard,
    as_command,
    choice,
    log_paths,
    shop_data,
)
from serving.cli.terminal import command_line, fail, out, print_built, progress_bars

if TYPE_CHECKING:
    from models.arrays import Progress
    from models.query_types.recipe import TypesRecipe
    from models.train_all import LoopRecipe, Shop

NOT_RELEASED = 3  # exit code of a training whose report misses a condition; 1 is an error, 2 a wrong option

train_app = Typer(no_args_is_help=True, help="Train models from a shopping log and put them into a bundle.")


@train_app.command("unified")
@as_command
def train_unified(
    *,
    out_folder: Out,
    store: Store = None,
    catalogue: Catalogue = None,
    events: Logs = None,
    recipe: RecipeName = "small",
    half_life_days: HalfLifeDays = None,
    seed: Seed = 0,
    device: Device = "cpu",
    tensorboard: TensorBoard = None,
    columns: CatalogueColumns,
    bundle: BundleOptions,
    force: Force = False,
) -> None:
    """Trains personalised retrieval (one embedding space for products, queries and shoppers) and builds a bundle with it.

    If interrupted, the same command resumes.
    """
    with needs("train"):
        from models.bundles.build import build_bundle
        from models.bundles.work_folder import check_replaceable
        from models.devices import check_training_device
        from models.needs.matrix import UNIFIED
        from models.needs.shop_facts import Windows
        from models.unified.embed_products import UnifiedEmbedding
        from models.unified.recipe import RECIPES
    chosen = choice("recipe", recipe, RECIPES)
    check_training_device(device)
    started = time.monotonic()
    data = shop_data(store, catalogue, events, columns)
    made = bundle.recipe(out_folder, data.currency)
    check_replaceable(out_folder, force)
    with (
        needs("train"),
        resumable(),
        progress_bars() as progress,
        looked_at(
            UNIFIED,
            data.source.products,
            data.logs,
            lambda log: Windows(until=log.time_at(chosen.train_share)),
            progress,
            locale=made.locales[0],
            beside=out_folder,
        ) as (logs, season),
    ):
        chosen = replace(chosen, half_life_days=told_half_life(half_life_days, season))
        embedding = UnifiedEmbedding(logs, chosen, seed, device, tensorboard)
        manifest = build_bundle(data.source, made, out_folder, progress, embedding=embedding, replace=force)
    print_built(manifest, out_folder, started)


@train_app.command("types")
@as_command
def train_types(
    bundle: Annotated[Path, Option(help="The bundle to extend; its categories are the types.")],
    out_folder: Out,
    store: Store = None,
    events: Logs = None,
    recipe: Annotated[
        str,
        Option(
            "--recipe",
            help="starter (seconds), small (minutes) or full (large logs). With --encoder: starter (CPU, a minute; frozen encoder), small "
            "(CPU, minutes; upper layers are trained) or full (for a GPU; all layers are trained).",
        ),
    ] = "starter",
    encoder: Annotated[
        str | None,
        Option(help="Text encoder of the queries: 'minilm', a directory or a model name. Default: words and n-grams."),
    ] = None,
    device: Annotated[str, Option(help="Where the model is trained with --encoder: cpu or cuda.")] = "cpu",
    min_support: Annotated[float, Option(min=0.1, help="Clicks that a query needs in its locale.")] = 1,
    new_locales: Annotated[
        list[str] | None,
        Option(
            "--add-locale",
            help="Teach the bundle's classifier this locale of the log, and leave its answers in all others as they are. Repeatable.",
        ),
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Trains the classifier of queries, which predicts the product types that a query asks for in its locale; adds it to a bundle.

    A type is a category of the catalogue. A query is labelled with the types of the products that shoppers engaged with after it. Locales
    share parameters and keep words of their own. --out may be the bundle itself, with --force.

    With --add-locale nothing is trained anew: the recipe and the types are those of the bundle's classifier, and a hundred searches of the
    locale are enough for a dialect of a language that it knows.
    """
    with needs("train"):
        from models.bundles.bundle import Bundle
        from models.devices import check_training_device
        from models.needs.matrix import TYPES
        from models.needs.shop_facts import Windows
        from models.query_types.add_locale import add_locale
        from models.query_types.add_to_bundle import add_types
        from models.query_types.bundle_part import TYPES_PART
        from models.query_types.labels import LabelRule, label_log
        from models.query_types.train_types import train_types as train
    if new_locales and encoder is not None:
        fail("--add-locale keeps the bundle's classifier, so that --encoder has no use; leave one of them out")
    if device == "cuda" and encoder is None:
        fail("--device cuda needs --encoder: words and n-grams are trained on the CPU")
    check_training_device(device)
    chosen = types_recipe(recipe, encoder)
    logs = log_paths(store, events)
    started = time.monotonic()
    opened = Bundle(bundle)
    if new_locales and not TYPES_PART.is_in(opened):
        fail(f"{bundle} has no classifier that could learn {new_locales[0]}; train one without --add-locale")
    known = TYPES_PART.open(opened) if new_locales else None
    table = opened.products()
    with (
        needs("train"),
        progress_bars() as progress,
        looked_at(
            TYPES,
            table.products,
            logs,
            lambda _: Windows(),
            progress,
            locale=opened.manifest.locales[0],
            beside=out_folder,
        ) as (mended, _),
    ):
        progress("read the log", 0, None)
        rule, types = LabelRule(min_support=min_support), known.types if known else None
        labelled = label_log(mended, table.category_by_id(), rule, types=types)
        model = known or train(labelled.examples, chosen, seed=seed, progress=progress, device=device)
        for name in new_locales or ():
            model = add_locale(model, labelled.examples, name, seed=seed, progress=progress)
        progress("write the bundle", 0, None)
        manifest = add_types(opened, model, out_folder, replace=force)
    report = asdict(labelled.report)
    by_locale = report.pop("locales")
    out.print(
        f"{len(labelled.examples):,} queries of {len(by_locale)} locales, {len(labelled.examples.types)} types; of the log: "
        + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in report.items() if count),
        highlight=False,
    )
    does = f"classifies queries of {', '.join(new_locales)} too" if new_locales else "classifies queries"
    _print_added(does, manifest.version, out_folder, started)


@train_app.command("text-encoder")
@as_command
def train_text_encoder(
    *,
    out_folder: Annotated[Path, Option("--out", help="Folder of the new encoder, for 'aisle build --encoder'.")],
    store: Store = None,
    catalogue: Catalogue = None,
    events: Logs = None,
    stage: Annotated[
        list[str] | None,
        Option(
            help="mlm: masked language modelling on the catalogue and the queries. click: contrastive learning on queries and the products "
            "that they led to. Repeatable. Default: click."
        ),
    ] = None,
    base: Annotated[str, Option(help="Encoder to start from: 'minilm', a directory or a model name.")] = "minilm",
    recipe: RecipeName = "small",
    seed: Seed = 0,
    device: Device = "cpu",
    tensorboard: TensorBoard = None,
    columns: CatalogueColumns,
) -> None:
    """Fine-tunes a text encoder on the clicks of a shopping log. If interrupted, the same command resumes."""
    with needs("tune"):
        from models.devices import check_training_device
        from models.needs.matrix import TEXT
        from models.needs.shop_facts import Windows
        from models.text_tuning.recipe import RECIPES, Stage
        from models.text_tuning.train_text_encoder import train_text_encoder as train
    chosen = choice("recipe", recipe, RECIPES)
    check_training_device(device)
    stages = [choice("stage", name, {one.value: one for one in Stage}) for name in stage or [Stage.CLICK.value]]
    started = time.monotonic()
    data = shop_data(store, catalogue, events, columns)
    with (
        needs("tune"),
        resumable(),
        progress_bars() as progress,
        looked_at(
            TEXT,
            data.source.products,
            data.logs,
            lambda _: Windows(),
            progress,
            locale="en-US",  # no words of this encoder depend on it
            beside=out_folder,
            has_text=bool(data.source.text_attributes),
        ) as (logs, _),
    ):
        trained = train(
            data.source, logs, out_folder, chosen, stages, base, seed, progress, device=device, logs=tensorboard
        )
    for name, losses in trained.losses.items():
        out.print(f"{name}: loss {losses[0].loss:.3f} to {losses[-1].loss:.3f}", highlight=False)
    out.print(f"{out_folder}, {time.monotonic() - started:.0f} s", highlight=False)
    out.print(f"build with it: aisle build --encoder {out_folder} --catalogue ... --out BUNDLE", highlight=False)


@train_app.command("ranker")
@as_command
def train_ranker(
    bundle: Annotated[Path, Option(help="The bundle to add the ranker to, made by 'aisle train unified'.")],
    out_folder: Out,
    store: Store = None,
    events: Logs = None,
    recipe: Annotated[str, Option(help="starter (seconds), small (minutes) or full (an hour or two).")] = "starter",
    teacher: Annotated[
        bool, Option("--teacher", help="First train a cross-encoder; distil it, and add it too.")
    ] = False,
    teacher_base: Annotated[
        str, Option(help="Encoder to start from: 'minilm', a directory or a model name.")
    ] = "minilm",
    teacher_recipe: Annotated[str, Option(help="starter or small (CPU, minutes), or full (for a GPU).")] = "starter",
    device: Annotated[str, Option(help="Where the teacher is trained: cpu or cuda.")] = "cpu",
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Trains the ranker, which orders candidates by the probabilities of a click, a cart and a purchase; adds it to a bundle.

    It is trained on result pages (impressions) later than the training data of the unified model. Clicks without impressions, as in other
    locales, count as pages on which the clicked product stands among candidates that a search retrieves. --out may be the bundle itself,
    with --force. If interrupted, the same command resumes the teacher.
    """
    with needs("train"):
        from models.bundles.bundle import Bundle
        from models.bundles.resumable_stages import resumable_stages
        from models.devices import check_training_device
        from models.needs.matrix import RANKER, TEACHER
        from models.needs.shop_facts import Windows
        from models.ranking.add_to_bundle import add_ranker
        from models.ranking.distil import distil_ranker, train_teacher_on
        from models.ranking.feature_names import FEATURES
        from models.ranking.recipe import RECIPES
        from models.ranking.teacher.bundle_part import TEACHER_PART
        from models.ranking.teacher.recipe import RECIPES as TEACHER_RECIPES
        from models.ranking.train_ranker import ranker_since, read_pages, train_on
    chosen, of_teacher = choice("recipe", recipe, RECIPES), choice("recipe", teacher_recipe, TEACHER_RECIPES)
    if device != "cpu" and not teacher:
        fail(f"--device {device} needs --teacher: the ranker itself is trained on the CPU")
    logs = log_paths(store, events)
    started = time.monotonic()
    work = out_folder.with_name(f"{out_folder.name}.teacher")
    check_training_device(device)
    opened = Bundle(bundle)
    had_teacher = TEACHER_PART.is_in(opened)
    stage = TEACHER if teacher else RANKER
    since_ms = ranker_since(opened)
    table = opened.products()
    with (
        needs("tune"),
        resumable(),
        progress_bars() as progress,
        looked_at(
            stage,
            table.products,
            logs,
            lambda _: Windows(since=since_ms),
            progress,
            locale=opened.manifest.locales[0],
            beside=out_folder,
        ) as (mended, _),
    ):
        pages = read_pages(opened, mended, chosen, seed=seed, progress=progress)
        taught_by: Path | None = None

        def train_teacher(folder: Path, stage_progress: Progress) -> None:
            train_teacher_on(
                opened, pages, folder, of_teacher, teacher_base, seed=seed, progress=stage_progress, device=device
            )

        if teacher:
            times = [log.stat().st_mtime_ns for log in logs]
            inputs = [
                opened.manifest.version,
                times,
                teacher_base,
                asdict(of_teacher),
                chosen.max_pages,
                FEATURES,
                seed,
            ]
            with resumable_stages(work, progress) as stages:
                taught_by = stages.run("teacher", inputs, train_teacher)
            trained = distil_ranker(opened, pages, taught_by, chosen, seed=seed, progress=progress)
        else:
            trained = train_on(pages, chosen, seed=seed, progress=progress)
        progress("write the bundle", 0, None)
        manifest = add_ranker(
            opened, trained.ranker, out_folder, report=trained.report, teacher=taught_by, replace=force
        )
    shutil.rmtree(work, ignore_errors=True)
    _print_ranker(trained.report, taught=teacher)
    if had_teacher and not teacher:
        out.print(
            "the teacher of the bundle is left out, since it taught another ranker; --teacher trains one",
            highlight=False,
        )
    _print_added("ranks", manifest.version, out_folder, started)


@train_app.command("all")
@as_command
def train_all(
    *,
    out_folder: Annotated[Path, Option("--out", help="Folder for the bundle, the report and resumable stages.")],
    store: Store = None,
    catalogue: Catalogue = None,
    events: Logs = None,
    recipe: Annotated[
        str, Option(help="starter (minutes), small (half an hour on two cores) or full (for a GPU).")
    ] = "small",
    half_life_days: HalfLifeDays = None,
    before: Annotated[
        Path | None,
        Option(
            help="Bundle to compare with. Default: OUT/measured of the last training, if any. For a bundle that was refitted, the measured "
            "bundle next to it is taken, which does not know the pages of the report."
        ),
    ] = None,
    refit: Annotated[
        bool,
        Option(
            "--refit/--no-refit",
            help="After the report, teach the measured bundle the rest of the log, and ship that. --no-refit ships the measured bundle, "
            "which has learned nothing from the newest 5 % of the log, and whose retrieval knows nothing of the newest 15 %.",
        ),
    ] = True,
    update: Annotated[
        bool,
        Option(
            "--update",
            help="Learn only what is new to OUT/bundle (or to --before): a day's log in a fraction of a training. Give the whole log with "
            "the new events, and the options of the training.",
        ),
    ] = False,
    seed: Seed = 0,
    device: Annotated[str, Option(help="Device of text encoder, retrieval and teacher: cpu or cuda.")] = "cpu",
    fail_below: Annotated[
        list[str] | None,
        Option(
            metavar="METRIC=VALUE",
            help="Replace no bundle, and end with exit code 3, if the report's figure is below the value: search.recall@10, "
            "search.recall@100, search.ndcg@10 (as served), vectors.recall@10, vectors.recall@100, vectors.ndcg@10, "
            "ranking.click.ndcg@10, ranking.cart.ndcg@10, ranking.purchase.ndcg@10 (of shown pages), types.accuracy@1, "
            "types.accuracy@3. 'before': if a figure of search or ranking is below that of the previous bundle by its whole interval. "
            "Repeatable.",
        ),
    ] = None,
    check: Annotated[bool, Option("--check", help="Only say what would be trained, and what is missing.")] = False,
    columns: CatalogueColumns,
    bundle: BundleOptions,
) -> None:
    """Trains all models from a catalogue and a log, into one bundle: retrieval, classifier of queries, ranker and its teacher.

    The text encoder is fine-tuned as the base of the teacher, and for 'aisle build'; the unified model has a vocabulary of its own.
    OUT/bundle is the bundle to serve, OUT/measured the one that OUT/report.html measures on the last 5 % of the log, which it has learned
    nothing from, and compares with the previous measured one. That bundle then learns the rest of the log (refit) and is OUT/bundle; its
    own figures nobody knows before later searches come. OUT/work keeps each finished stage: if interrupted, the same command resumes; a
    changed log or recipe repeats only the stages that depend on it. A table says first what becomes of each stage: without impressions,
    categories or the like some learn from less or are left out. Events without a locale have the first --locale.

    With --update retrieval starts from OUT/bundle and learns the new events beside as many older ones; types and all counts are those of
    the whole log, products those of the catalogue; ranker, teacher and text encoder stay. The report then measures the bundle before the
    update on the new searches, next to the measured one of its training. Train in full from time to time: that is what measures a recipe,
    and what trains the ranker.
    """
    if update and not refit:
        fail("--no-refit has no meaning with --update, which always learns from the whole log; leave one of them out")
    if update and fail_below:
        fail(
            "--fail-below has no meaning with --update, whose report measures the bundle before it; leave one of them out"
        )
    with needs("tune", "matplotlib"):
        from models.devices import check_training_device
        from models.evaluation.compare_bundles import known_pages
        from models.evaluation.gate import Gate
        from models.train_all import RECIPES, Shop, check_before, check_gate, look, trained_half_life
        from models.train_all import train_all as train
        from serving.cli.served_search import ServedSearch
    gate = Gate.parse(fail_below or [])
    chosen = choice("recipe", recipe, RECIPES)
    check_training_device(device)
    started = time.monotonic()
    data = shop_data(store, catalogue, events, columns)
    shop = Shop(data.source, data.logs, bundle.recipe(out_folder, data.currency), simulated=store is not None)
    if update:
        days = trained_half_life(out_folder, before) if half_life_days is None else half_life_days
        chosen = replace(chosen, unified=replace(chosen.unified, half_life_days=days))
        _update_all(shop, chosen, out_folder, before, seed, device, check=check, started=started)
        return
    earlier = check_before(before, out_folder)
    with progress_bars() as progress:
        looked = look(shop, chosen, progress, refit=refit)
    print_plan(looked.plan)
    days = told_half_life(half_life_days, looked.seen.season)
    chosen = replace(chosen, unified=replace(chosen.unified, half_life_days=days))
    looked.plan.check()
    check_gate(gate, looked.plan)
    if earlier is not None and looked.seen.windows.report is not None:
        for warning in known_pages(earlier, looked.seen.windows.report):
            out.print(f"{earlier.folder}: {warning}", highlight=False)
    if check:
        return
    with needs("tune"), resumable(), progress_bars() as progress:
        trained = train(
            shop,
            chosen,
            out_folder,
            progress,
            before=before,
            seed=seed,
            device=device,
            command=command_line(),
            looked=looked,
            served=ServedSearch,
            gate=gate,
        )
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in trained.seconds.items())
    out.print(f"{trained.bundle} (version {trained.version}): {spent}", highlight=False)
    print_left_out(trained.plan)
    measured = f" of {trained.measured}" if refit and trained.report else ""
    out.print(f"{trained.report or 'no report'}{measured}, {time.monotonic() - started:.0f} s", highlight=False)
    if trained.missed:
        fail(
            f"the bundle is not released: {'; '.join(trained.missed)}. {out_folder / 'bundle'} is as it was; the new bundle is "
            f"{trained.bundle}",
            NOT_RELEASED,
        )
    if refit and trained.report:
        out.print(
            "it has also learned the rest of the log, on which the report measures; its own figures need later searches",
            highlight=False,
        )
    out.print(f"serve it with: aisle serve --bundle {trained.bundle}", highlight=False)


def _update_all(
    shop: Shop,
    recipe: LoopRecipe,
    out_folder: Path,
    before: Path | None,
    seed: int,
    device: str,
    *,
    check: bool,
    started: float,
) -> None:
    from models.train_all import look_at_update, update_all
    from serving.cli.served_search import ServedSearch

    with progress_bars() as progress:
        looked = look_at_update(shop, recipe, out_folder, progress, before=before)
    if looked.nothing:
        out.print(
            f"nothing is new: {looked.start.folder} has learned all events of the log, and its catalogue is the same",
            highlight=False,
        )
        return
    print_rows(looked.rows(), f"What is new to {looked.start.folder}")
    looked.plan.check()
    if check:
        return
    with needs("tune"), resumable(), progress_bars() as progress:
        updated = update_all(
            shop,
            recipe,
            out_folder,
            progress,
            looked,
            seed=seed,
            device=device,
            command=command_line(),
            served=ServedSearch,
        )
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in updated.seconds.items())
    out.print(f"{updated.bundle} (version {updated.version}): {spent}", highlight=False)
    report = f"{updated.report} of the bundle before the update" if updated.report else "no report"
    out.print(f"{report}, {time.monotonic() - started:.0f} s", highlight=False)
    out.print(f"serve it with: aisle serve --bundle {updated.bundle}", highlight=False)


def types_recipe(name: str, encoder: str | None) -> TypesRecipe:
    """Returns the recipe of that name, with `encoder` as the base of its text encoder if there is one."""
    from models.query_types.recipe import ENCODER_RECIPES, RECIPES

    recipe = choice("recipe", name, RECIPES if encoder is None else ENCODER_RECIPES)
    if encoder is None or recipe.encoder is None:
        return recipe
    return replace(recipe, encoder=replace(recipe.encoder, base=encoder))


def _print_added(does: str, version: str, out_folder: Path, started: float) -> None:
    out.print(f"{out_folder} (version {version}) {does}, {time.monotonic() - started:.0f} s")
    out.print(f"serve it with: aisle serve --bundle {out_folder}", highlight=False)


def _print_ranker(report: dict[str, Any], *, taught: bool) -> None:
    labels = ", ".join(f"{count:,} {task}s" for task, count in report["labels"].items())
    clicks = report["pages_beside"]
    out.print(
        f"{report['pages']:,} {'result pages' if report['pages_are_logged'] else 'searches with a click, beside retrieved products'} "
        f"({report['rows']:,} products, {labels}) later than the unified model's data"
        + (f"; {clicks:,} pages of clicks without impressions" if clicks else "")
        + ("; soft labels of a teacher" if taught else ""),
        highlight=False,
    )
    errors = ", ".join(f"{task} {error:.3f}" for task, error in report["holdout_calibration_error"].items())
    out.print(f"calibration error on held-out pages: {errors}", highlight=False)
