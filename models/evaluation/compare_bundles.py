"""The report at the end of a training: the new bundle, and the one before it, on later pages of the log than either should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.arrays import Doubles, Ints, Progress
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.evaluation.bootstrap import Interval, mean_intervals
from models.evaluation.bundle_figures import (
    BLEND,
    DEPTH,
    JUDGED_PAGES,
    RETRIEVED,
    SEARCH_METRICS,
    STUDENT,
    TEACHER_BLEND,
    BundleFigures,
    bundle_figures,
)
from models.evaluation.page import Cell, Section, Table, write_sections
from models.evaluation.plots import groups_plot
from models.evaluation.run_facts import RunFacts
from models.ranking.tasks import TASKS
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import read_spec

NEW, BEFORE = "new", "before"


def compare_bundles(
    new: Bundle,
    before: Bundle | None,
    logs: Sequence[Path],
    log: pa.Table,
    since_ms: int,
    out: Path,
    progress: Progress,
    *,
    simulated: bool,
    seconds: Mapping[str, float],
    command: str = "",
    seed: int = 0,
    max_pages: int = 3_000,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the latter.

    `log` is all of `logs`; its pages from `since_ms` on are what both are measured on. `seconds` is what each stage of the new bundle's
    training took. Raises BundleError, LogError.
    """
    found = {}
    notes = []
    for name, bundle in ((NEW, new), (BEFORE, before)):
        if bundle is None:
            notes.append("There was no bundle before this one.")
            continue
        if name == BEFORE:
            notes += _warnings(bundle, since_ms)
            if not UNIFIED_PART.is_in(bundle):
                continue
        try:
            found[name] = bundle_figures(
                bundle,
                logs,
                log,
                since_ms,
                lambda what, done, total, name=name: progress(f"{name}: {what}", done, total),  # type: ignore[misc]
                max_pages=max_pages,
                seed=seed,
            )
        except BundleError as error:
            if name == NEW:
                raise
            notes.append(f"The bundle before is left out: {error}")
            continue
        notes += [f"The bundle {name}: {note}" for note in found[name].notes]
    facts = RunFacts.of_this_run(
        "A trained bundle, and the one before it",
        simulated=simulated,
        command=command,
        data={
            "bundle": f"{new.manifest.name}, version {new.manifest.version}",
            "before": f"{before.folder}, version {before.manifest.version}" if before else "none",
            "products": new.manifest.products,
            "pages": len(found[NEW].pages),
            "pages from": f"{_day(since_ms)} UTC",
        },
        seeds={"pages and intervals": seed},
        notes=notes,
    )
    both = _aligned(found)
    sections = [
        _search_section(both, seed),
        _ranking_section(both, seed),
        *_types_section(found),
        _cost_section(found, seconds),
    ]
    return write_sections(out, facts, _finding(both, found, seed), sections, _METHOD)


def _warnings(before: Bundle, since_ms: int) -> list[str]:
    """Why figures of the bundle before may be too good, or are not there."""
    if not UNIFIED_PART.is_in(before):
        return ["The bundle before has no unified model, so that nothing of it is measured here."]
    last = int(before.manifest.ranker.get("last_page_ms", 0))
    last = max(last, int(read_spec(UNIFIED_PART.open(before))["until_ms"]))
    if last < since_ms:
        return []
    return [
        f"The bundle before has learned from the log up to {_day(last)} UTC, and so from pages that it is measured on here: its figures "
        "are too good."
    ]


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _aligned(found: Mapping[str, BundleFigures]) -> dict[str, BundleFigures]:
    """The same pages in the same order: another catalogue leaves out other pages."""
    numbers = {name: {key: at for at, key in enumerate(one.pages)} for name, one in found.items()}
    common = [key for key in found[NEW].pages if all(key in of for of in numbers.values())]
    aligned = {}
    for name, one in found.items():
        rows = np.array([numbers[name][key] for key in dict.fromkeys(common)], np.int64)
        aligned[name] = BundleFigures(
            pages=[one.pages[row] for row in rows.tolist()],
            units=found[NEW].units[np.array([numbers[NEW][key] for key in dict.fromkeys(common)], np.int64)],
            search={key: values[rows] for key, values in one.search.items()},
            ranking={key: values[rows] for key, values in one.ranking.items()},
            calibration=one.calibration,
            types=one.types,
            sizes=one.sizes,
        )
    return aligned


def _means(values: Doubles, units: Ints, seed: int) -> list[Interval]:
    return mean_intervals(values, units, seed=seed)


def _search_section(found: Mapping[str, BundleFigures], seed: int) -> Section:
    rows: list[tuple[str, list[Cell]]] = []
    differences: list[tuple[str, list[Cell]]] = []
    groups: dict[str, dict[str, Interval]] = {metric: {} for metric in SEARCH_METRICS}
    for name, one in found.items():
        for way, values in one.search.items():
            means = _means(values, one.units, seed)
            rows.append((f"{name}: {_WAYS[way]}", list(means)))
            for metric, mean in zip(SEARCH_METRICS, means, strict=True):
                groups[metric][f"{name}: {_WAYS[way]}"] = mean
    for way, values in found[NEW].search.items():
        if BEFORE in found and way in found[BEFORE].search:
            gain = values - found[BEFORE].search[way]
            differences.append((f"{_WAYS[way]}: new - before", list(_means(gain, found[NEW].units, seed))))
        if way == BLEND:
            gain = values - found[NEW].search[RETRIEVED]
            differences.append(("new: ranked - retrieval alone", list(_means(gain, found[NEW].units, seed))))
    columns = list(SEARCH_METRICS)
    tables = [Table("Of purchases, over the whole catalogue", "search", columns, rows)]
    if differences:
        tables.append(Table("Differences, on the same searches", "search", columns, differences, signed=True))
    return Section(
        "Searches",
        f"Searches that led to a purchase, asked again with the shopper's history up to then. Ranked are the first {DEPTH}; recall@100 of "
        "the retrieval alone is what it can find at all.",
        [groups_plot(groups, "of purchases")],
        tables,
    )


def _ranking_section(found: Mapping[str, BundleFigures], seed: int) -> Section:
    rows: list[tuple[str, list[Cell]]] = []
    differences: list[tuple[str, list[Cell]]] = []
    groups: dict[str, dict[str, Interval]] = {task: {} for task in TASKS}
    for name, one in found.items():
        for way, values in one.ranking.items():
            means = _means(values, one.units, seed)
            rows.append((f"{name}: {way}", list(means)))
            for task, mean in zip(TASKS, means, strict=True):
                groups[task][f"{name}: {way}"] = mean
    if BEFORE in found:
        for way in (RETRIEVED, STUDENT, BLEND):
            if way in found[NEW].ranking and way in found[BEFORE].ranking:
                gain = found[NEW].ranking[way] - found[BEFORE].ranking[way]
                differences.append((f"{way}: new - before", list(_means(gain, found[NEW].units, seed))))
    ours = found[NEW].ranking
    if BLEND in ours and TEACHER_BLEND in ours:
        gain = ours[TEACHER_BLEND] - ours[BLEND]  # not a number of pages that the teacher did not judge
        differences.append(("new: teacher - ranker, blend", list(_means(gain, found[NEW].units, seed))))
    tables = [Table("NDCG@10 of each task", "order", list(TASKS), rows)]
    if differences:
        tables.append(Table("Differences, on the same pages", "order", list(TASKS), differences, signed=True))
    errors: list[tuple[str, list[Cell]]] = [
        (f"{name}: {who}", list(values)) for name, one in found.items() for who, values in one.calibration.items()
    ]
    if errors:
        tables.append(Table("Calibration error of the chances", "model", list(TASKS), errors))
    return Section(
        "Logged pages in another order",
        "The products that were shown, ordered anew; what was clicked, put into the cart or bought of them is known. "
        f"The teacher orders {JUDGED_PAGES} of the pages at most.",
        [groups_plot(groups, "NDCG@10")],
        tables,
    )


def _types_section(found: Mapping[str, BundleFigures]) -> list[Section]:
    names = [name for name, one in found.items() if one.types]
    if not names:
        return []
    columns = list(found[names[0]].types)
    rows: list[tuple[str, list[Cell]]] = [
        (name, [int(value) if key == "queries" else value for key, value in found[name].types.items()])
        for name in names
    ]
    return [
        Section(
            "Types of queries",
            "Of the queries of all locales that were asked after the moment, by the types of what was clicked.",
            tables=[Table("Types told", "bundle", columns, rows)],
        )
    ]


def _cost_section(found: Mapping[str, BundleFigures], seconds: Mapping[str, float]) -> Section:
    parts = list(found[NEW].sizes)
    sizes: list[tuple[str, list[Cell]]] = [(name, list(one.sizes.values())) for name, one in found.items()]
    times: list[tuple[str, list[Cell]]] = [(stage, [round(spent)]) for stage, spent in seconds.items()]
    times.append(("all", [round(sum(seconds.values()))]))
    return Section(
        "What it costs",
        tables=[
            Table("Size in MB, by part", "bundle", parts, sizes),
            Table("Training of the new bundle", "stage", ["seconds"], times),
        ],
    )


def _finding(found: Mapping[str, BundleFigures], whole: Mapping[str, BundleFigures], seed: int) -> str:
    new = found[NEW]
    at = SEARCH_METRICS.index("ndcg@10")
    parts = [f"On {len(new.pages):,} pages after the training:"]
    for way, values in new.search.items():
        mean = _means(values, new.units, seed)[at]
        parts.append(f"NDCG@10 of purchases {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], {_WAYS[way]};")
    if BEFORE in found and BLEND in new.search and BLEND in found[BEFORE].search:
        gain = _means(new.search[BLEND] - found[BEFORE].search[BLEND], new.units, seed)[at]
        parts.append(
            f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] against the ranked search of the bundle before;"
        )
    if whole[NEW].types:
        parts.append(f"types right for {whole[NEW].types['accuracy']:.3f} of queries.")
    return " ".join(parts).rstrip(";") + ("" if whole[NEW].types else ".")


_WAYS = {RETRIEVED: "retrieval alone", BLEND: "ranked"}

_METHOD = (
    "Every stage learned from an earlier part of the log than these pages: text encoder, retrieval and types from the first part, teacher "
    "and ranker from the next. A page is a search with the products that it showed; intervals are 95 % bootstrap intervals over shoppers. "
    "Retrieval is exact here; an index loses a little. Calibration error is the mean distance between chances told and what came of them."
)
