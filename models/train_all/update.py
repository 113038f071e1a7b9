"""Learns what is new since a bundle was trained, in a fraction of the time: `aisle train all --update`.

Retrieval, types and counts learn what is new, see `learn_newest`; ranker, teacher and text encoder stay. The report measures the bundle
before the update on the new pages, of which it knows nothing; the updated one has learned from them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.arrays import Progress
from models.bundles.bundle import Bundle
from models.bundles.manifest import FORMAT_VERSION, MANIFEST, BundleError
from models.bundles.resumable_stages import ResumableStages, resumable_stages
from models.bundles.work_folder import check_replaceable
from models.devices import check_training_device
from models.evaluation.compare_bundles import compare_bundles
from models.evaluation.gate import METRICS
from models.evaluation.learned_until import learned_until, utc
from models.evaluation.whole_catalogue import OpenSearch
from models.events.errors import LogError
from models.events.event_log import log_digests
from models.needs.look_at_shop import SeenShop, look_at_shop
from models.needs.matrix import LEAST_LATER, RANKER, REPORT, TEACHER, TYPES, UNIFIED
from models.needs.plan import Plan, plan_training
from models.needs.shop_facts import Windows
from models.ranking.bundle_part import RANKER_PART
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.train_all.newest import Newest, learn_newest
from models.train_all.recipe import LoopRecipe
from models.train_all.shop import Shop
from models.train_all.stages import Makers
from models.train_all.train import BUNDLE, LOG, WORK, measured_of, put_bundle
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import read_spec

UPDATE = "update"
UPDATE_REPORT = f"{UPDATE}-report"
# Of the events that the bundle was trained on: with fewer, the counts of the log would forget more than they gain.
LEAST_KEPT = 0.5
IN_FULL = "train in full: the same command without --update"
_REPORT_TITLE = "The bundle before the update, on searches that came after its training"
_REPORT_NOTE = (
    "These are the figures of the bundle before the update, which is called new in the tables. The updated bundle has learned from these "
    "pages: it can be measured on later ones."
)
_MEASURED_NOTE = (
    "The one called before is the measured bundle of its training, so that the difference is what it has learned since."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateLook:
    """What is new to the bundle `start`."""

    start: Bundle
    seen: SeenShop
    since_ms: int  # its retrieval has learned from what came before
    events: int  # new ones, of all logs
    same_catalogue: bool
    plan: Plan  # of what is trained again

    @property
    def nothing(self) -> bool:
        return self.events == 0 and self.same_catalogue

    @property
    def later(self) -> bool:
        """Whether the bundle can be measured on the new pages."""
        return self.seen.facts.later >= LEAST_LATER

    def rows(self) -> list[tuple[str, str, str]]:
        """Returns stage, what becomes of it, and why."""
        day, has_ranker = utc(self.since_ms), RANKER_PART.is_in(self.start)
        catalogue = "the same catalogue" if self.same_catalogue else "another catalogue: all its products are in"
        return [
            (UNIFIED, "updated", f"{self.events:,} events from {day} on; {catalogue}"),
            (TYPES, "trained again" if self.plan.trains(TYPES) else "left out", "on the whole log"),
            (TEACHER, "kept" if TEACHER_PART.is_in(self.start) else "none", ""),
            (
                RANKER,
                "kept" if has_ranker else "none",
                "its click memory is that of the whole log" if has_ranker else "",
            ),
            (
                REPORT,
                "of the bundle before" if self.later else "left out",
                f"{self.seen.facts.later:,} new searches with a click"
                + ("" if self.later else f", {LEAST_LATER} are needed"),
            ),
        ]


@dataclass(frozen=True, slots=True)
class Updated:
    bundle: Path
    report: Path | None
    version: str
    seconds: dict[str, float]  # by stage


def trained_half_life(out: Path, before: Path | None) -> float:
    """Returns `half_life_days` of the retrieval that would be updated; 0 for a bundle without."""
    start = _start(out, before)
    return (
        float(read_spec(UNIFIED_PART.open(start))["recipe"].get("half_life_days", 0))
        if UNIFIED_PART.is_in(start)
        else 0.0
    )


def look_at_update(
    shop: Shop, recipe: LoopRecipe, out: Path, progress: Progress, *, before: Path | None = None
) -> UpdateLook:
    """Looks at what is new to the bundle `before`, by default the one in `out`, and trains nothing.

    Raises BundleError for a bundle that cannot be updated by this recipe or with this catalogue, and says what differs; LogError for a
    log that lacks what the bundle was trained on; the errors of `look`.
    """
    check_replaceable(out / BUNDLE, replace=True)
    start = _start(out, before)
    if not UNIFIED_PART.is_in(start):
        raise BundleError(f"{start.folder} has no unified model, which is what learns; {IN_FULL}")
    spec = read_spec(UNIFIED_PART.open(start))
    _check_same(start, spec, shop, recipe)
    since_ms = int(spec["until_ms"])
    seen = look_at_shop(
        shop.source.products,
        shop.logs,
        lambda _: Windows(until=None, since=since_ms, report=learned_until(start)),
        locale=shop.bundle.locales[0],
        has_text=bool(shop.source.text_attributes),
        progress=progress,
    )
    logs = [one.log for one in seen.mended]
    locales = dict.fromkeys(name for log in logs for name in log.locales.to_pylist())
    if new := [name for name in locales if name not in spec["locales"]]:
        raise LogError(
            f"the log has events in {', '.join(new)}, which the bundle's retrieval has not learned; {IN_FULL}"
        )
    _check_older(start, sum(int(np.searchsorted(log.time_ms, since_ms)) for log in logs), since_ms)
    return UpdateLook(
        start=start,
        seen=seen,
        since_ms=since_ms,
        events=sum(int(np.count_nonzero(log.time_ms >= since_ms)) for log in logs),
        same_catalogue=start.manifest.catalogue.get("fingerprint") == shop.source.fingerprint,
        plan=plan_training(seen.facts, (UNIFIED, TYPES)),
    )


def _start(out: Path, before: Path | None) -> Bundle:
    if before is None and not (out / BUNDLE / MANIFEST).is_file():
        raise BundleError(
            f"{out / BUNDLE} is no bundle, so there is nothing to update; {IN_FULL}, or name a bundle with --before"
        )
    return Bundle(before or out / BUNDLE)


def _check_same(start: Bundle, spec: dict[str, Any], shop: Shop, recipe: LoopRecipe) -> None:
    """Raises BundleError, with what differs and what to do, for a bundle of another format, recipe, features or catalogue schema."""
    manifest = start.manifest
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{start.folder} is of format {manifest.format_version}, and this Aisle trains bundles of format {FORMAT_VERSION}; {IN_FULL}"
        )
    stated: dict[str, Any] = json.loads(json.dumps(asdict(recipe.unified)))
    trained_by = spec["recipe"].get("name")
    if trained_by != recipe.unified.name:
        raise BundleError(
            f"{start.folder}: its retrieval was trained by recipe {trained_by}, not {recipe.unified.name}; name its recipe with --recipe, "
            f"or {IN_FULL}"
        )
    if differing := {name: value for name, value in stated.items() if spec["recipe"].get(name) != value}:
        told = ", ".join(f"{name} was {spec['recipe'].get(name)} and is {value}" for name, value in differing.items())
        raise BundleError(
            f"{start.folder}: recipe {trained_by} has changed since its training: {told}; give the "
            f"options of its training, or {IN_FULL}"
        )
    built = json.loads(json.dumps(asdict(shop.bundle)))
    pairs = {
        "columns of text": (list(manifest.text_attributes), list(shop.source.text_attributes)),
        "columns of identifiers": (list(manifest.catalogue.get("identifiers", ())), list(shop.source.identifiers)),
        "currency": (manifest.recipe.get("currency"), built["currency"]),
        "locales": (list(manifest.recipe.get("locales", ())), built["locales"]),
    }
    for name, (had, has) in pairs.items():
        if had != has:
            raise BundleError(
                f"{start.folder}: its {name} are {had}, and now {has}; give the options of its training, or {IN_FULL}"
            )

    for part in (RANKER_PART, TEACHER_PART):  # one of other features is refused now, not after the training
        if part.is_in(start):
            try:
                part.open(start)
            except BundleError as error:
                raise BundleError(f"{error}; {IN_FULL}") from None


def _check_older(start: Bundle, older: int, since_ms: int) -> None:
    had = int(start.manifest.catalogue.get("learned_events", 0))
    if older < max(1, LEAST_KEPT * had):
        raise LogError(
            f"the log has {older:,} events from before {utc(since_ms)}, and the bundle was trained on {had:,}: popularity, types and "
            "click memory are counted in the whole log; give the log with what came before, not the new events alone"
        )


def update_all(
    shop: Shop,
    recipe: LoopRecipe,
    out: Path,
    progress: Progress,
    looked: UpdateLook,
    *,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    served: OpenSearch | None = None,
) -> Updated:
    """Replaces `out/bundle` by the bundle `looked.start` with what is new, and `out/report.*` by figures of `looked.start`.

    After an interruption the same call resumes. Raises LogError if retrieval cannot be trained, and the errors of the stages.
    """
    check_training_device(device)
    looked.plan.check()
    with resumable_stages(out / WORK, progress) as stages:
        logs = looked.seen.write_logs(out / WORK / LOG)
        make = Makers(shop=replace(shop, logs=logs), recipe=recipe, seed=seed, device=device)
        inputs = [looked.start.manifest.version, shop.source.fingerprint, [log_digests(log) for log in logs], seed]
        report = _report(looked, make, stages, inputs, out, command, served) if looked.later else None
        newest = _newest(looked)
        made = learn_newest(newest, make, stages, inputs)
        put_bundle(made, out / BUNDLE)
        seconds = {name: spent for name in (UPDATE_REPORT, *newest.stages) if (spent := stages.seconds(name))}
        return Updated(out / BUNDLE, report, made.manifest.version, seconds)


def _newest(looked: UpdateLook) -> Newest:
    start, had = looked.start, looked.start.manifest.catalogue
    updates = {"updates": int(had.get("updates", 0)) + 1}
    return Newest(
        name=UPDATE,
        start=start,
        since_ms=looked.since_ms,
        retrieval_key=start.manifest.version,
        key=start.manifest.version,
        trains_types=looked.plan.trains(TYPES),
        training=[{"stage": name, "outcome": outcome, "lacks": why} for name, outcome, why in looked.rows()],
        facts=updates | ({"measured": had["measured"]} if "measured" in had else {}),
    )


def _report(
    looked: UpdateLook,
    make: Makers,
    stages: ResumableStages,
    inputs: list[Any],
    out: Path,
    command: str,
    served: OpenSearch | None,
) -> Path:
    """Measures the bundle before the update on the new pages."""
    since_ms = learned_until(looked.start)
    measured = measured_of(looked.start)
    is_other = measured.manifest.version != looked.start.manifest.version

    def write(folder: Path, tell: Progress) -> None:
        compare_bundles(
            looked.start,
            measured if is_other else None,
            make.shop.logs,
            make.log,
            since_ms,
            folder,
            tell,
            simulated=make.shop.simulated,
            seconds={},
            stages=looked.rows(),
            command=command,
            seed=make.seed,
            max_pages=make.recipe.report_pages,
            notes=[_REPORT_NOTE, *([_MEASURED_NOTE] if is_other else [])],
            title=_REPORT_TITLE,
            served=served,
        )

    shown = [served is not None, make.shop.simulated]
    made = stages.run(
        UPDATE_REPORT, [inputs, measured.manifest.version, make.recipe.report_pages, METRICS, shown], write
    )
    for path in sorted(made.iterdir()):
        (out / path.name).write_bytes(path.read_bytes())
    return out / "report.html"
