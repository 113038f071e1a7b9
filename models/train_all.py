"""Trains all models of a shop from its catalogue and log: writes a bundle that retrieves, classifies queries and ranks, and a report on it.

    events before           text encoder (tuned on clicks)     the teacher's base, also for `aisle build`
    a first time            unified model                      retrieval; it has its own words, and no text encoder
                            types                              the query classifier
    between it and          teacher                            a cross-encoder on the tuned text encoder
    a second time           ranker                             the served student, distilled from the teacher
    after the second time   report                             a comparison with the previous bundle

Each model is trained on earlier events than the next one, and none on the events of the report. What there is decides what is trained:
`look` says before anything is trained which stages lack what (`models.needs`), and those that cannot learn are left out. Retrieval alone
is a bundle that can be served. The result of every stage is kept in `OUT/work`: the same call resumes after an interruption, and repeats
only the stages whose inputs or recipe changed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from models.arrays import Progress
from models.bundles.build import Recipe, build_bundle
from models.bundles.bundle import Bundle
from models.bundles.extend import link_bundle
from models.bundles.manifest import MANIFEST
from models.bundles.resumable_stages import ResumableStages, resumable_stages
from models.bundles.source import Source
from models.bundles.work_folder import check_replaceable
from models.devices import check_training_device
from models.evaluation.compare_bundles import compare_bundles
from models.evaluation.gate import METRICS, OPEN, Gate, GateError
from models.evaluation.page import JSON_FILE
from models.evaluation.whole_catalogue import OpenSearch
from models.events.event_log import EventLog, log_digests, open_log
from models.needs.look_at_shop import SeenShop, look_at_shop
from models.needs.matrix import RANKER, REPORT, STAGES, TEACHER, TEXT, TYPES, UNIFIED
from models.needs.plan import Plan, plan_training
from models.needs.shop_facts import Windows
from models.query_types.add_to_bundle import add_types
from models.query_types.labels import label_log
from models.query_types.recipe import RECIPES as TYPES_RECIPES
from models.query_types.recipe import TypesRecipe
from models.query_types.train_types import train_types
from models.ranking.add_to_bundle import add_ranker
from models.ranking.distil import distil_ranker, train_teacher_on
from models.ranking.feature_names import FEATURES
from models.ranking.recipe import RECIPES as RANKER_RECIPES
from models.ranking.recipe import RankerRecipe
from models.ranking.teacher.recipe import RECIPES as TEACHER_RECIPES
from models.ranking.teacher.recipe import PageSample, TeacherRecipe
from models.ranking.train_ranker import TrainingPages, read_pages, train_on
from models.text_encoder.hugging_face import PACKAGED
from models.text_tuning.recipe import RECIPES as TEXT_RECIPES
from models.text_tuning.recipe import Stage, TextRecipe
from models.text_tuning.train_text_encoder import train_text_encoder
from models.unified.embed_products import UnifiedEmbedding
from models.unified.recipe import RECIPES as UNIFIED_RECIPES
from models.unified.recipe import UnifiedRecipe

BUNDLE, WORK = "bundle", "work"
LOG = "log"  # folder of the mended logs in the work folder
TEXT_STAGES = (Stage.CLICK,)  # "mlm" before "click" improved nothing
HELD_OUT = 0.05  # of the log's events, the latest, for the report


@dataclass(frozen=True, slots=True)
class LoopRecipe:
    """The recipes of all stages."""

    name: str
    text: TextRecipe
    unified: UnifiedRecipe
    types: TypesRecipe
    teacher: TeacherRecipe
    ranker: RankerRecipe
    base: str = PACKAGED  # base of the text encoder
    report_pages: int = 3_000

    def __post_init__(self) -> None:
        if self.unified.train_share >= 1 - HELD_OUT:
            raise ValueError(
                f"unified: train_share {self.unified.train_share} leaves no events for the ranker; it must be below {1 - HELD_OUT:g}"
            )


STARTER = LoopRecipe(
    "starter",
    TEXT_RECIPES["starter"],
    UNIFIED_RECIPES["starter"],
    TYPES_RECIPES["starter"],
    TEACHER_RECIPES["starter"],
    replace(RANKER_RECIPES["starter"], judged_pages=1_500),
    report_pages=2_000,
)
# Less than half an hour on two cores with a log of 2,000,000 events: text encoder and teacher train for less long than by themselves.
# With 250 steps after 60 steps of "mlm", and 2,500 pages for the teacher, teacher and ranker were no better at more than twice the time
# (simulated store, 979 later pages with a purchase: NDCG@10 0.584 and 0.577, with this recipe 0.587 and 0.574).
SMALL = LoopRecipe(
    "small",
    replace(TEXT_RECIPES["small"], click=replace(TEXT_RECIPES["small"].click, max_steps=90)),
    UNIFIED_RECIPES["small"],
    TYPES_RECIPES["starter"],
    replace(TEACHER_RECIPES["small"], sample=PageSample(pages=600)),
    replace(RANKER_RECIPES["small"], max_pages=10_000, judged_pages=600),
)
# For a GPU, hours: the teacher reads every page of the ranker's window, so that the ranker may be taught by 30,000 of them. The intervals
# of the report are a third as wide as small's with ten times the pages.
FULL = LoopRecipe(
    "full",
    TEXT_RECIPES["full"],
    UNIFIED_RECIPES["full"],
    TYPES_RECIPES["full"],
    TEACHER_RECIPES["full"],
    RANKER_RECIPES["full"],
    report_pages=30_000,
)
RECIPES = {recipe.name: recipe for recipe in (STARTER, SMALL, FULL)}


@dataclass(frozen=True, slots=True)
class Shop:
    """The training data. `logs` are what `open_log` opens; retrieval is trained on the first. Events without a locale have the first of
    `bundle`."""

    source: Source
    logs: tuple[Path, ...]
    bundle: Recipe
    simulated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a shop has, and what becomes of the stages."""

    seen: SeenShop
    plan: Plan


@dataclass(frozen=True, slots=True)
class TrainedAll:
    bundle: Path  # in the work folder where the gate holds it back
    report: Path | None  # None: no later part of the log to measure on
    version: str
    seconds: dict[str, float]  # by stage that was trained, interruptions included
    plan: Plan
    missed: tuple[str, ...] = ()  # the conditions of the gate that the report does not meet


def look(shop: Shop, recipe: LoopRecipe, progress: Progress) -> Look:
    """Looks at catalogue and log, and trains nothing. Raises CatalogueError and LogError for what cannot be read."""
    seen = look_at_shop(
        shop.source.products,
        shop.logs,
        lambda log: Windows.by_share(log, recipe.unified.train_share, HELD_OUT),
        locale=shop.bundle.locales[0],
        has_text=bool(shop.source.text_attributes),
        progress=progress,
    )
    return Look(seen=seen, plan=plan_training(seen.facts))


def train_all(
    shop: Shop,
    recipe: LoopRecipe,
    out: Path,
    progress: Progress,
    *,
    before: Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    looked: Look | None = None,
    served: OpenSearch | None = None,
    gate: Gate = OPEN,
) -> TrainedAll:
    """Writes `out/bundle` (replacing an earlier one), `out/work` and, if there is something to measure on, `out/report.html` and
    `out/report.json`. A report that misses a condition of `gate` leaves `out/bundle` as it is; the new bundle stays in the work folder.
    `served` opens a bundle as a service searches it, for the report.

    Stages that lack what they need are left out, see `look`, whose result `looked` is. Text encoder, unified model and teacher are trained
    on `device`, "cpu" or "cuda". The report compares with the bundle `before`, by default with the earlier `out/bundle`. Raises LogError
    if retrieval cannot be trained, and the errors of the stages: BundleError, CatalogueError, ExamplesError, TrainingError, TeacherError,
    DegenerateLoss, EncoderError.
    """
    check_training_device(device)
    earlier = check_before(before, out)
    looked = looked or look(shop, recipe, progress)
    looked.plan.check()
    check_gate(gate, looked.plan)
    with resumable_stages(out / WORK, progress) as stages:
        logs = looked.seen.write_logs(out / WORK / LOG)
        loop = _Loop(replace(shop, logs=logs), recipe, looked, seed, device, stages, progress, served)
        bundle = loop.train()
        report = loop.report(bundle, earlier, out, command) if looked.plan.trains(REPORT) else None
        missed = tuple(gate.missed(out / JSON_FILE)) if report else ()
        seconds = {name: stages.seconds(name) for name in STAGES if looked.plan.trains(name)}
        if missed:
            return TrainedAll(bundle.folder, report, bundle.manifest.version, seconds, looked.plan, missed)
        if not (out / BUNDLE).exists() or Bundle(out / BUNDLE).manifest.version != bundle.manifest.version:
            link_bundle(bundle, out / BUNDLE, replace=True)
        return TrainedAll(out / BUNDLE, report, bundle.manifest.version, seconds, looked.plan)


def check_gate(gate: Gate, plan: Plan) -> None:
    """Raises GateError for conditions on a report that the plan leaves out."""
    if not gate.is_open and not plan.trains(REPORT):
        raise GateError("no report is made of this log, so no figure can be required; leave --fail-below out")


def check_before(before: Path | None, out: Path) -> Bundle | None:
    """Returns the bundle to compare with: `before`, or the one in `out`, if any. Raises BundleError if `before` is none, or if something
    else stands where the new one will be written."""
    standing = out / BUNDLE
    check_replaceable(standing, replace=True)
    if before is not None:
        return Bundle(before)
    return Bundle(standing) if (standing / MANIFEST).is_file() else None


class _Loop:
    """Runs the stages of the plan, one after the other."""

    def __init__(
        self,
        shop: Shop,
        recipe: LoopRecipe,
        looked: Look,
        seed: int,
        device: str,
        stages: ResumableStages,
        progress: Progress,
        served: OpenSearch | None,
    ) -> None:
        self._served = served
        self._shop, self._recipe, self._seed, self._device = shop, recipe, seed, device
        self._plan, self._stages, self._progress = looked.plan, stages, progress
        self._hashes = [log_digests(log) for log in shop.logs]
        windows = looked.seen.windows
        if windows.until is None or windows.report is None:
            raise ValueError(f"the windows of all stages must be known, not {windows}")
        self._first_ms, self._second_ms = windows.until, windows.report
        self._inputs = [shop.source.fingerprint, self._hashes, seed, [self._first_ms, self._second_ms]]

    def train(self) -> Bundle:
        recipe, plan, run, key_of = self._recipe, self._plan, self._stages.run, self._stages.key_of
        text: Path | None = None
        if plan.trains(TEXT):
            text = run(TEXT, [self._inputs, asdict(recipe.text), TEXT_STAGES, recipe.base], self._text)
        facts = plan.to_json()
        folder = run(UNIFIED, [self._inputs, asdict(recipe.unified), asdict(self._shop.bundle), facts], self._unified)
        last = UNIFIED
        if plan.trains(TYPES):
            untyped = folder
            inputs = [self._inputs, key_of(UNIFIED), asdict(recipe.types)]
            folder = run(TYPES, inputs, lambda out, tell: self._types(untyped, out, tell))
            last = TYPES
        typed = self._typed = Bundle(folder)
        pages = [self._inputs, key_of(last), recipe.ranker.max_pages, FEATURES]
        teacher: Path | None = None
        if plan.trains(TEACHER):
            base = str(text or recipe.base)
            teacher = run(
                TEACHER,
                [pages, key_of(TEXT) if text else recipe.base, asdict(recipe.teacher)],
                lambda out, tell: self._teacher(typed, base, out, tell),
            )
        if not plan.trains(RANKER):
            return typed
        return Bundle(
            run(
                RANKER,
                [pages, key_of(TEACHER) if teacher else None, asdict(recipe.ranker)],
                lambda out, tell: self._ranker(typed, teacher, out, tell),
            )
        )

    def report(self, bundle: Bundle, earlier: Bundle | None, out: Path, command: str) -> Path:
        """Writes the report, again if the bundle to compare with has changed; a bundle is not compared with itself."""
        new = bundle.manifest.version
        named = earlier.manifest.version if earlier and earlier.manifest.version != new else None
        kept = self._stages.facts(REPORT) if (out / WORK / REPORT).exists() else {}
        if kept.get("new") == new and named is None:
            named = kept.get("before")
        seconds = {name: self._stages.seconds(name) for name in STAGES if name != REPORT and self._plan.trains(name)}

        def write(folder: Path, tell: Progress) -> dict[str, Any]:
            compare_bundles(
                bundle,
                earlier if earlier and earlier.manifest.version == named else None,
                self._shop.logs,
                self._log,
                self._second_ms,
                folder,
                tell,
                simulated=self._shop.simulated,
                seconds=seconds,
                stages=[(one.stage, str(one.outcome), one.reason) for one in self._plan.stages],
                command=command,
                seed=self._seed,
                max_pages=self._recipe.report_pages,
                served=self._served,
            )
            return {"new": new, "before": named}

        made = self._stages.run(
            REPORT, [new, named, self._hashes, self._second_ms, self._recipe.report_pages, METRICS], write
        )
        for path in sorted(made.iterdir()):
            (out / path.name).write_bytes(path.read_bytes())
        return out / "report.html"

    def _text(self, out: Path, progress: Progress) -> dict[str, Any]:
        trained = train_text_encoder(
            self._shop.source,
            [self._shop.logs[0]],
            out,
            self._recipe.text,
            TEXT_STAGES,
            self._recipe.base,
            self._seed,
            progress,
            before_ms=self._first_ms,
            device=self._device,
        )
        return {"pairs": trained.pairs.pairs}

    def _unified(self, out: Path, progress: Progress) -> None:
        embedding = UnifiedEmbedding(self._shop.logs[0], self._recipe.unified, self._seed, self._device)
        facts = {"catalogue": {"training": self._plan.to_json()}}
        build_bundle(self._shop.source, self._shop.bundle, out, progress, embedding=embedding, facts=facts)

    def _types(self, unified: Path, out: Path, progress: Progress) -> dict[str, Any]:
        bundle = Bundle(unified)
        category_of = bundle.products().category_by_id()
        progress("read the log", 0, None)
        until = datetime.fromtimestamp(self._first_ms / 1000, UTC)
        labelled = label_log(list(self._shop.logs), category_of, until=until)
        model = train_types(labelled.examples, self._recipe.types, seed=self._seed, progress=progress)
        add_types(bundle, model, out)
        return {"queries": len(labelled.examples)}

    def _teacher(self, typed: Bundle, base: str, out: Path, progress: Progress) -> None:
        recipe, seed = self._recipe.teacher, self._seed
        train_teacher_on(typed, self._pages, out, recipe, base, seed=seed, progress=progress, device=self._device)

    def _ranker(self, typed: Bundle, teacher: Path | None, out: Path, progress: Progress) -> dict[str, Any]:
        recipe, seed = self._recipe.ranker, self._seed
        if teacher is None:
            trained = train_on(self._pages, recipe, seed=seed, progress=progress)
        else:
            trained = distil_ranker(typed, self._pages, teacher, recipe, seed=seed, progress=progress)
        add_ranker(typed, trained.ranker, out, report=trained.report, teacher=teacher)
        return {"pages": trained.report["pages"]}

    @cached_property
    def _log(self) -> EventLog:
        return open_log(self._shop.logs)

    @cached_property
    def _pages(self) -> TrainingPages:
        """The pages of teacher and ranker, between the two times; read once for both."""
        return read_pages(
            self._typed,
            self._log,
            self._recipe.ranker,
            seed=self._seed,
            progress=self._progress,
            until_ms=self._second_ms,
        )
