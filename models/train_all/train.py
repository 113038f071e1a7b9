"""Runs the stages of `train all`, each once, and writes the bundles and the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.bundles.extend import link_bundle
from models.bundles.manifest import MANIFEST
from models.bundles.resumable_stages import ResumableStages, resumable_stages
from models.bundles.work_folder import check_replaceable
from models.devices import check_training_device
from models.evaluation.compare_bundles import compare_bundles
from models.evaluation.gate import METRICS, OPEN, Gate, GateError
from models.evaluation.page import JSON_FILE
from models.evaluation.whole_catalogue import OpenSearch
from models.events.event_log import log_digests
from models.needs.matrix import RANKER, REFIT, REPORT, STAGES, TEACHER, TEXT, TYPES, UNIFIED
from models.needs.plan import Plan
from models.ranking.add_to_bundle import add_ranker
from models.ranking.feature_names import FEATURES
from models.ranking.train_ranker import TrainingPages
from models.train_all.newest import Newest, learn_newest
from models.train_all.recipe import TEXT_STAGES, LoopRecipe
from models.train_all.shop import Look, Shop, look
from models.train_all.stages import Makers

BUNDLE, MEASURED, WORK = "bundle", "measured", "work"
LOG = "log"  # folder of the mended logs in the work folder
SHIPPED_NOTE = (
    "These are the figures of the bundle in 'measured', which has learned nothing from these pages. The bundle in 'bundle' is the one to "
    "serve: it has also learned the rest of the log, these pages included. Nothing later is there to measure it on."
)


@dataclass(frozen=True, slots=True)
class TrainedAll:
    bundle: Path  # to serve; in the work folder where the gate holds it back
    measured: Path  # the same bundle where nothing was refitted
    report: Path | None  # None: no later part of the log to measure on
    version: str
    seconds: dict[str, float]  # by stage that was trained, interruptions included
    plan: Plan
    missed: tuple[str, ...] = ()  # the conditions of the gate that the report does not meet


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
    """Writes `out/bundle` and `out/measured` (replacing earlier ones), `out/work` and, if there is something to measure on,
    `out/report.html` and `out/report.json`. A report that misses a condition of `gate` leaves both bundles as they are; the new one stays
    in the work folder, and is not refitted. `served` opens a bundle as a service searches it, for the report.

    Stages that lack what they need are left out, see `look`, whose result `looked` is; it also says whether the bundle is refitted. Text
    encoder, unified model and teacher are trained on `device`, "cpu" or "cuda". The report compares the measured bundle with `before`, see
    `check_before`. Raises LogError if retrieval cannot be trained, and the errors of the stages: BundleError, CatalogueError,
    ExamplesError, TrainingError, TeacherError, DegenerateLoss, EncoderError, GateError.
    """
    check_training_device(device)
    earlier = check_before(before, out)
    looked = looked or look(shop, recipe, progress)
    looked.plan.check()
    check_gate(gate, looked.plan)
    with resumable_stages(out / WORK, progress) as stages:
        logs = looked.seen.write_logs(out / WORK / LOG)
        loop = _Loop(replace(shop, logs=logs), recipe, looked, seed, device, stages, progress, served)
        measured = loop.train()
        report = loop.report(measured, earlier, out, command) if looked.plan.trains(REPORT) else None
        if missed := tuple(gate.missed(out / JSON_FILE)) if report else ():
            held, version = measured.folder, measured.manifest.version
            return TrainedAll(held, held, report, version, loop.seconds(), looked.plan, missed)
        shipped = loop.refit(measured) if looked.plan.trains(REFIT) else measured
        put_bundle(measured, out / MEASURED)
        put_bundle(shipped, out / BUNDLE)
        return TrainedAll(out / BUNDLE, out / MEASURED, report, shipped.manifest.version, loop.seconds(), looked.plan)


def check_gate(gate: Gate, plan: Plan) -> None:
    """Raises GateError for conditions on a report that the plan leaves out."""
    if not gate.is_open and not plan.trains(REPORT):
        raise GateError("no report is made of this log, so no figure can be required; leave --fail-below out")


def check_before(before: Path | None, out: Path) -> Bundle | None:
    """Returns the bundle to compare with: `before`, or the one of the last training in `out`, if any.

    A bundle that was refitted knows the end of its log, on which the next one may be measured: the measured bundle next to it, trained by
    the same recipe, takes its place. Raises BundleError if `before` is none, or if something else stands where the new ones will be
    written.
    """
    for name in (BUNDLE, MEASURED):
        check_replaceable(out / name, replace=True)
    if before is not None:
        return measured_of(Bundle(before))
    standing = next((out / name for name in (MEASURED, BUNDLE) if (out / name / MANIFEST).is_file()), None)
    return None if standing is None else Bundle(standing)


def measured_of(bundle: Bundle) -> Bundle:
    """Returns the measured bundle that a refitted one was made after, if it still stands next to it; else the bundle itself."""
    version = bundle.manifest.catalogue.get("measured")
    beside = bundle.folder.resolve().with_name(MEASURED)
    if version is None or not (beside / MANIFEST).is_file():
        return bundle
    measured = Bundle(beside)
    return measured if measured.manifest.version == version else bundle


def put_bundle(bundle: Bundle, place: Path) -> None:
    """Links a bundle to its place, unless it is there."""
    if not place.exists() or Bundle(place).manifest.version != bundle.manifest.version:
        link_bundle(bundle, place, replace=True)


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
        self._make = Makers(shop=shop, recipe=recipe, seed=seed, device=device)
        self._shop, self._recipe, self._seed = shop, recipe, seed
        self._plan, self._stages, self._progress = looked.plan, stages, progress
        self._hashes = [log_digests(log) for log in shop.logs]
        windows = looked.seen.windows
        if windows.until is None or windows.report is None:
            raise ValueError(f"the windows of all stages must be known, not {windows}")
        self._first_ms, self._second_ms = windows.until, windows.report
        self._refits: tuple[str, ...] = ()
        self._inputs = [shop.source.fingerprint, self._hashes, seed, [self._first_ms, self._second_ms]]

    def train(self) -> Bundle:
        """Returns the bundle that is measured."""
        recipe, plan, make, run, key_of = self._recipe, self._plan, self._make, self._stages.run, self._stages.key_of
        first_ms = self._first_ms
        text: Path | None = None
        if plan.trains(TEXT):
            inputs: list[Any] = [self._inputs, asdict(recipe.text), TEXT_STAGES, recipe.base]
            text = run(TEXT, inputs, lambda out, tell: make.text(first_ms, out, tell))
        facts = plan.without(REFIT).to_json()
        folder = run(
            UNIFIED,
            [self._inputs, asdict(recipe.unified), asdict(self._shop.bundle), facts],
            lambda out, tell: make.unified(first_ms, facts, out, tell),
        )
        last = UNIFIED
        if plan.trains(TYPES):
            untyped = folder
            inputs = [self._inputs, key_of(UNIFIED), asdict(recipe.types)]
            folder = run(TYPES, inputs, lambda out, tell: make.types(untyped, first_ms, out, tell))
            last = TYPES
        typed = self._typed = Bundle(folder)
        pages = [self._inputs, key_of(last), recipe.ranker.max_pages, FEATURES]
        self._teacher: Path | None = None
        if plan.trains(TEACHER):
            base = str(text or recipe.base)
            self._teacher = run(
                TEACHER,
                [pages, key_of(TEXT) if text else recipe.base, asdict(recipe.teacher)],
                lambda out, tell: make.teacher(typed, self._pages, base, out, tell),
            )
        if not plan.trains(RANKER):
            return typed
        inputs = [pages, key_of(TEACHER) if self._teacher else None, asdict(recipe.ranker)]
        return Bundle(run(RANKER, inputs, self._ranker))

    def refit(self, measured: Bundle) -> Bundle:
        """Returns the bundle that is shipped: the measured one, which has learned the rest of the log."""
        key_of = self._stages.key_of
        newest = Newest(
            name=REFIT,
            start=measured,
            since_ms=self._first_ms,
            retrieval_key=key_of(UNIFIED),
            key=key_of(next(name for name in (RANKER, TYPES, UNIFIED) if self._plan.trains(name))),
            trains_types=self._plan.trains(TYPES),
            training=self._plan.to_json(),
            facts={"measured": measured.manifest.version},
        )
        self._refits = newest.stages
        return learn_newest(newest, self._make, self._stages, self._inputs)

    def report(self, bundle: Bundle, earlier: Bundle | None, out: Path, command: str) -> Path:
        """Writes the report, again if the bundle to compare with has changed; a bundle is not compared with itself."""
        new = bundle.manifest.version
        named = earlier.manifest.version if earlier and earlier.manifest.version != new else None
        kept = self._stages.facts(REPORT) if (out / WORK / REPORT).exists() else {}
        if kept.get("new") == new and named is None:
            named = kept.get("before")
        seconds = {name: spent for name, spent in self.seconds().items() if name not in (REPORT, REFIT)}
        notes = [SHIPPED_NOTE] if self._plan.trains(REFIT) else []

        def write(folder: Path, tell: Progress) -> dict[str, Any]:
            compare_bundles(
                bundle,
                earlier if earlier and earlier.manifest.version == named else None,
                self._shop.logs,
                self._make.log,
                self._second_ms,
                folder,
                tell,
                simulated=self._shop.simulated,
                seconds=seconds,
                stages=[(one.stage, str(one.outcome), one.reason) for one in self._plan.stages],
                command=command,
                seed=self._seed,
                max_pages=self._recipe.report_pages,
                notes=notes,
                served=self._served,
            )
            return {"new": new, "before": named}

        shown = [self._served is not None, self._shop.simulated]
        inputs = [new, named, self._hashes, self._second_ms, self._recipe.report_pages, notes, METRICS, shown]
        made = self._stages.run(REPORT, inputs, write)
        for path in sorted(made.iterdir()):
            (out / path.name).write_bytes(path.read_bytes())
        return out / "report.html"

    def seconds(self) -> dict[str, float]:
        """Returns the time that each stage of the plan took, 0 for one that did not run yet."""
        parts = {name: (name,) for name in STAGES} | {REFIT: self._refits}
        return {name: sum(map(self._stages.seconds, parts[name])) for name in STAGES if self._plan.trains(name)}

    def _ranker(self, out: Path, progress: Progress) -> dict[str, Any]:
        trained = self._make.ranker(self._typed, self._pages, self._teacher, progress)
        add_ranker(self._typed, trained.ranker, out, report=trained.report, teacher=self._teacher)
        return {"pages": trained.report["pages"]}

    @cached_property
    def _pages(self) -> TrainingPages:
        """The pages of teacher and ranker, between the two times; read once for both."""
        return self._make.pages(self._typed, self._second_ms, self._progress)
