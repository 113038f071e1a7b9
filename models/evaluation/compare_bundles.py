"""The report at the end of training: compares the new bundle with the previous one on log pages later than their training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.arrays import Doubles, Ints, Progress
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.evaluation.bootstrap import Interval, mean_intervals
from models.evaluation.bundle_figures import (
    BLEND,
    RETRIEVED,
    STUDENT,
    TEACHER_BLEND,
    TEACHER_PAGES,
    BundleFigures,
    bundle_figures,
)
from models.evaluation.by_kind import by_kind_section
from models.evaluation.gate import PAGES, SEARCH, TYPES, Figure
from models.evaluation.gate import VECTORS as VECTOR_SEARCH
from models.evaluation.learned_until import learned_until, utc
from models.evaluation.page import Cell, Section, Table, write_sections
from models.evaluation.plots import groups_plot
from models.evaluation.run_facts import RunFacts
from models.evaluation.simple_searches import SIMPLE
from models.evaluation.whole_catalogue import DEPTH, RANKED, SEARCH_METRICS, SERVED, VECTORS, OpenSearch
from models.events.event_log import EventLog
from models.ranking.tasks import TASKS
from models.unified.bundle_part import UNIFIED_PART

NEW, BEFORE = "new", "before"


def compare_bundles(
    new: Bundle,
    before: Bundle | None,
    logs: Sequence[Path],
    log: EventLog,
    since_ms: int,
    out: Path,
    progress: Progress,
    *,
    simulated: bool,
    seconds: Mapping[str, float],
    stages: Sequence[tuple[str, str, str]] = (),
    command: str = "",
    seed: int = 0,
    max_pages: int = 3_000,
    notes: Sequence[str] = (),
    title: str = "New bundle compared with the previous one",
    served: OpenSearch | None = None,
) -> Path:
    """Writes report.json and report.html into `out` and returns the path of the HTML file.

    `served` opens a bundle as a service searches it; without it the report measures vectors and ranker alone. Both bundles are measured on
    the pages of the log from `since_ms` on; `log` holds the events of all `logs`. `seconds` is the training time of each stage of the new
    bundle, `stages` name, outcome and lacks of each, `notes` come first. Raises BundleError, LogError.
    """
    notes = [*notes, *([] if before else ["There was no previous bundle."])]
    figures: dict[str, BundleFigures] = {}
    for name, bundle in ((NEW, new), (BEFORE, before)):
        if bundle is None:
            continue
        try:
            if name == BEFORE:
                notes += known_pages(bundle, since_ms)
            figures[name] = bundle_figures(
                bundle,
                logs,
                log,
                since_ms,
                _named(progress, name),
                max_pages=max_pages,
                seed=seed,
                served=served,
                with_simple=name == NEW,
            )
        except BundleError as error:
            if name == NEW:
                raise
            notes.append(f"The previous bundle is not measured: {error}")
        else:
            notes += [f"The bundle {name}: {note}" for note in figures[name].notes]
    facts = RunFacts.of_this_run(
        title,
        simulated=simulated,
        command=command,
        data={
            "bundle": f"{new.manifest.name}, version {new.manifest.version}",
            "before": f"{before.folder}, version {before.manifest.version}" if before else "none",
            "products": new.manifest.products,
            "pages": len(figures[NEW].pages),
            "pages from": utc(since_ms),
        },
        seeds={"pages and intervals": seed},
        notes=notes,
    )
    both = _aligned(figures)
    sections = [
        _search_section(both, seed),
        *([_ranking_section(both, seed)] if both[NEW].ranking else []),
        by_kind_section(both[NEW], both.get(BEFORE), seed),
        *_types_section(figures),
        _cost_section(figures, seconds),
        *_stages_section(stages),
    ]
    named = {name: figure.to_json() for name, figure in named_figures(both, figures, seed).items()}
    return write_sections(out, facts, _finding(both, figures, seed), sections, _METHOD, {"figures": named})


def _named(progress: Progress, name: str) -> Progress:
    """Returns a callback that puts `name` before what is going on."""
    return lambda what, done, total: progress(f"{name}: {what}", done, total)


def known_pages(before: Bundle, since_ms: int) -> list[str]:
    """Returns the reasons why figures of the previous bundle on pages from `since_ms` on are too high."""
    if not UNIFIED_PART.is_in(before):
        return []  # `bundle_figures` refuses it
    learned = learned_until(before)
    if learned <= since_ms:
        return []
    return [
        f"The previous bundle was trained on the log up to {utc(learned)}, which includes pages that it is measured on: its figures are "
        "too high."
    ]


def _aligned(figures: Mapping[str, BundleFigures]) -> dict[str, BundleFigures]:
    """Returns the pages that all bundles have, in the same order. Bundles of different catalogues leave out different pages."""
    numbers = {name: {key: at for at, key in enumerate(measured.pages)} for name, measured in figures.items()}
    common = [key for key in figures[NEW].pages if all(key in of for of in numbers.values())]
    aligned = {}
    for name, measured in figures.items():
        rows = np.array([numbers[name][key] for key in dict.fromkeys(common)], np.int64)
        aligned[name] = BundleFigures(
            pages=[measured.pages[row] for row in rows.tolist()],
            units=figures[NEW].units[np.array([numbers[NEW][key] for key in dict.fromkeys(common)], np.int64)],
            target=measured.target,
            search={key: values[rows] for key, values in measured.search.items()},
            ranking={key: values[rows] for key, values in measured.ranking.items()},
            calibration=measured.calibration,
            types=measured.types,
            sizes=measured.sizes,
            buckets={key: bucket.take(rows) for key, bucket in measured.buckets.items()},
        )
    return aligned


def _means(values: Doubles, units: Ints, seed: int) -> list[Interval]:
    return mean_intervals(values, units, seed=seed)


def _search_section(figures: Mapping[str, BundleFigures], seed: int) -> Section:
    rows: list[tuple[str, list[Cell]]] = []
    differences: list[tuple[str, list[Cell]]] = []
    groups: dict[str, dict[str, Interval]] = {metric: {} for metric in SEARCH_METRICS}
    for name, measured in figures.items():
        for way, values in measured.search.items():
            means = _means(values, measured.units, seed)
            label = way if way in SIMPLE else f"{name}: {way}"
            rows.append((label, list(means)))
            for metric, mean in zip(SEARCH_METRICS, means, strict=True):
                groups[metric][label] = mean
    ours, units = figures[NEW].search, figures[NEW].units
    for way, values in ours.items():
        if BEFORE in figures and way in figures[BEFORE].search:
            lift = values - figures[BEFORE].search[way]
            differences.append((f"{way}: new minus before", list(_means(lift, units, seed))))
    if RANKED in ours:
        differences.append(("new: ranked minus vectors alone", list(_means(ours[RANKED] - ours[VECTORS], units, seed))))
    main = figures[NEW].main_way
    differences += [
        (f"new: {main} minus {way}", list(_means(ours[main] - ours[way], units, seed))) for way in SIMPLE if way in ours
    ]
    columns = list(SEARCH_METRICS)
    target = figures[NEW].target
    tables = [Table(f"Products of a {target} in the ranking of the whole catalogue", "search", columns, rows)]
    if differences:
        tables.append(Table("Differences on the same searches", "search", columns, differences, signed=True))
    return Section(
        "Search",
        f"Searches that led to a {target}, repeated with the shopper's history at that time; those of locales without "
        f"logged pages too. '{SERVED}' is what a service answers by "
        "default: vectors, words, types and clicks together, ranked, with the weight of what was asked. The ranker orders the first "
        f"{DEPTH} candidates; recall@100 of vectors alone shows how many of these products they find among their first 100. Searches "
        "without training stand beside: words in the bundle's own index (BM25F over identifiers, title, brand, category, attributes, "
        "description), popularity before these pages, and what was engaged with after the same query before them. All count only products "
        "that the shop had shown: a better product that was never shown cannot count.",
        [groups_plot(groups, f"over products of a {target}")],
        tables,
    )


def _ranking_section(figures: Mapping[str, BundleFigures], seed: int) -> Section:
    rows: list[tuple[str, list[Cell]]] = []
    differences: list[tuple[str, list[Cell]]] = []
    groups: dict[str, dict[str, Interval]] = {task: {} for task in TASKS}
    for name, measured in figures.items():
        for way, values in measured.ranking.items():
            means = _means(values, measured.units, seed)
            label = way if way in SIMPLE else f"{name}: {way}"
            rows.append((label, list(means)))
            for task, mean in zip(TASKS, means, strict=True):
                groups[task][label] = mean
    if BEFORE in figures:
        for way in (RETRIEVED, STUDENT, BLEND):
            if way in figures[NEW].ranking and way in figures[BEFORE].ranking:
                lift = figures[NEW].ranking[way] - figures[BEFORE].ranking[way]
                differences.append((f"{way}: new minus before", list(_means(lift, figures[NEW].units, seed))))
    ours = figures[NEW].ranking
    if BLEND in ours and TEACHER_BLEND in ours:
        lift = ours[TEACHER_BLEND] - ours[BLEND]  # NaN for pages that the teacher did not rank
        differences.append(("new: teacher minus ranker, blend", list(_means(lift, figures[NEW].units, seed))))
    tables = [Table("NDCG@10 by task", "order", list(TASKS), rows)]
    if differences:
        tables.append(Table("Differences on the same pages", "order", list(TASKS), differences, signed=True))
    errors: list[tuple[str, list[Cell]]] = [
        (f"{name}: {who}", list(values))
        for name, measured in figures.items()
        for who, values in measured.calibration.items()
    ]
    if errors:
        tables.append(Table("Calibration error of the predicted probabilities", "model", list(TASKS), errors))
    return Section(
        "Reranking of logged pages",
        "The products of logged result pages, reordered. The log says which of them were clicked, put into the cart or bought. "
        f"The teacher ranks at most {TEACHER_PAGES} of the pages.",
        [groups_plot(groups, "NDCG@10")],
        tables,
    )


def _types_section(figures: Mapping[str, BundleFigures]) -> list[Section]:
    names = [name for name, measured in figures.items() if measured.types]
    if not names:
        return []
    columns = list(figures[names[0]].types)
    rows: list[tuple[str, list[Cell]]] = [
        (name, [int(value) if key == "queries" else value for key, value in figures[name].types.items()])
        for name in names
    ]
    return [
        Section(
            "Product types of queries",
            "Queries of all locales after the training data, labelled by the types of the clicked products.",
            tables=[Table("Predicted product types", "bundle", columns, rows)],
        )
    ]


def _cost_section(figures: Mapping[str, BundleFigures], seconds: Mapping[str, float]) -> Section:
    parts = list(figures[NEW].sizes)
    sizes: list[tuple[str, list[Cell]]] = [(name, list(measured.sizes.values())) for name, measured in figures.items()]
    times: list[tuple[str, list[Cell]]] = [(stage, [round(spent)]) for stage, spent in seconds.items()]
    times.append(("all", [round(sum(seconds.values()))]))
    return Section(
        "Size and training time",
        tables=[
            Table("Size in MB, by part", "bundle", parts, sizes),
            Table("Training of the new bundle", "stage", ["seconds"], times),
        ],
    )


def _stages_section(stages: Sequence[tuple[str, str, str]]) -> list[Section]:
    if not stages:
        return []
    rows: list[tuple[str, list[Cell]]] = [(name, [outcome, lacks]) for name, outcome, lacks in stages]
    return [
        Section(
            "What was trained",
            "What there is decides what is trained; docs/training.md says what each lack costs and what mends it.",
            tables=[Table("Stages", "stage", ["outcome", "lacks"], rows)],
        )
    ]


def named_figures(
    figures: Mapping[str, BundleFigures], whole: Mapping[str, BundleFigures], seed: int
) -> dict[str, Figure]:
    """Returns the figures that a gate knows by name (`models.evaluation.gate.METRICS`) as far as they were measured."""
    new, before = figures[NEW], figures.get(BEFORE)
    named: dict[str, Figure] = {}

    def add(names: Sequence[str], ours: Doubles, theirs: Doubles | None) -> None:
        lifts = [None] * len(names) if theirs is None else _means(ours - theirs, new.units, seed)
        for name, value, lift in zip(names, _means(ours, new.units, seed), lifts, strict=True):
            if value.num_cases:
                named[name] = Figure(value, lift)

    for group, way in ((SEARCH, new.main_way), (VECTOR_SEARCH, VECTORS)):
        theirs = before.search.get(way) if before else None
        add([f"{group}.{metric}" for metric in SEARCH_METRICS], new.search[way], theirs)
    ranked = BLEND if BLEND in new.ranking else RETRIEVED
    if ranked in new.ranking:
        theirs = before.ranking.get(ranked) if before else None
        add([f"{PAGES}.{task}.ndcg@10" for task in TASKS], new.ranking[ranked], theirs)
    for metric in ("accuracy@1", "accuracy@3"):
        if whole[NEW].types:
            count = int(whole[NEW].types["queries"])
            named[f"{TYPES}.{metric}"] = Figure(Interval(whole[NEW].types[metric], np.nan, np.nan, count, count))
    return named


def _finding(figures: Mapping[str, BundleFigures], whole: Mapping[str, BundleFigures], seed: int) -> str:
    new = figures[NEW]
    at = SEARCH_METRICS.index("ndcg@10")
    parts = [f"On {len(new.pages):,} pages later than the training data:"]
    for way, values in new.search.items():
        if way not in SIMPLE:
            mean = _means(values, new.units, seed)[at]
            parts.append(f"NDCG@10 of {new.target}s {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], {way};")
    main = new.main_way
    if BEFORE in figures and main in figures[BEFORE].search:
        lift = _means(new.search[main] - figures[BEFORE].search[main], new.units, seed)[at]
        parts.append(
            f"{lift.value:+.3f} [{lift.low:+.3f}, {lift.high:+.3f}] compared with the previous bundle, {main};"
        )
    if whole[NEW].types:
        parts.append(f"first product type correct for {whole[NEW].types['accuracy@1']:.3f} of queries.")
    return " ".join(parts).rstrip(";") + ("" if whole[NEW].types else ".")


_METHOD = (
    "Every stage was trained on earlier parts of the log: text encoder, retrieval and product types on the first part, teacher and "
    "ranker on the next. These pages come last. A page is a search with the products that it showed. Intervals are 95 % bootstrap "
    "intervals over shoppers. Vectors alone are searched exactly; an approximate index, as it is served, loses a little recall. Products "
    "of equal score are ordered at random. Calibration error is the mean distance between predicted probabilities and observed shares."
)
