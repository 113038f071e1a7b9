"""Measures a bundle on the result pages of a log after a given time: search, ranking, product types and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from models.arrays import Doubles, Floats, Ints, Progress
from models.bundles.bundle import INDEX, Bundle
from models.bundles.manifest import BundleError
from models.evaluation.buckets import Bucket
from models.evaluation.metrics import Relevance, ndcg_at, places_by_score
from models.evaluation.page_buckets import page_buckets
from models.evaluation.ranked_types import rank_types
from models.evaluation.simple_searches import SimpleSearches
from models.evaluation.type_metrics import QUERY_METRICS, CalibrationError, query_metrics
from models.evaluation.whole_catalogue import RANKED, SERVED, VECTORS, OpenSearch, whole_catalogue
from models.events.event_log import EventLog
from models.events.kinds import IMPRESSION
from models.products.product_table import ProductTable
from models.query_types.bundle_part import TYPES_PART
from models.query_types.calibration import expected_calibration_error
from models.query_types.examples import ExamplesError
from models.query_types.labels import label_log
from models.ranking.bundle_part import RANKER_PART
from models.ranking.click_memory import CatalogueClicks
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures
from models.ranking.impressions import Impressions, read_impressions
from models.ranking.parse_log import parse_log
from models.ranking.ranker import Ranker, blend
from models.ranking.tasks import TASKS
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.train_ranker import ranker_rows
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import UNKNOWN, ShoppingLog

SHOWN, RETRIEVED, STUDENT, BLEND, TEACHER_BLEND = (
    "as shown",
    "retrieval",
    "ranker, its task",
    "ranker, blend",
    "teacher, blend",
)
TEACHER_PAGES = 800  # the most pages that the teacher ranks: it takes milliseconds per product
_NOWHERE = -1e9  # score of a product of which the log does not say where it was shown: behind all others

PageKey = tuple[int, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class BundleFigures:
    """Figures by page of the log; NaN for a page where a figure is undefined, such as a page without a purchase."""

    pages: list[PageKey]  # time, query and locale
    units: Ints  # (pages,) shoppers
    target: str  # the strongest task that pages have: what a search is to find
    search: Mapping[str, Doubles]  # way -> (pages, SEARCH_METRICS) of the target's products in the whole catalogue
    # SHOWN, RETRIEVED ... -> (pages, TASKS) NDCG@10 over the page's products; empty for a log without impressions
    ranking: Mapping[str, Doubles]
    calibration: Mapping[str, tuple[float, ...]]  # ranker or teacher -> error by task; empty without impressions
    types: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)  # part -> MB
    notes: Sequence[str] = ()
    buckets: Mapping[str, Bucket] = field(default_factory=dict)  # of the pages, see `page_buckets`

    @property
    def main_way(self) -> str:
        """The way to search that shoppers get, or what comes closest to it of what was measured."""
        return next(way for way in (SERVED, RANKED, VECTORS) if way in self.search)


def bundle_figures(
    bundle: Bundle,
    logs: Sequence[Path],
    log: EventLog,
    since_ms: int,
    progress: Progress,
    *,
    max_pages: int = 3_000,
    seed: int = 0,
    served: OpenSearch | None = None,
    with_simple: bool = False,
) -> BundleFigures:
    """Measures the bundle on at most `max_pages` random pages from `since_ms` on. `log` holds the events of all `logs`.

    `served` opens the bundle as a service searches it; None leaves this way out. `with_simple` adds searches without training. Searches
    that led to a click and of which the log shows no page, as of a locale that logs no impressions, are drawn beside, as many: on them only
    search is measured.

    Raises BundleError for a bundle without the unified model, LogError if there is no page.
    """
    if not UNIFIED_PART.is_in(bundle):
        raise BundleError(f"{bundle.folder} has no unified model; these figures need one")
    progress("read the log", 0, None)
    folder = UNIFIED_PART.open(bundle)
    table, bands = bundle.products(), PriceBands.load(folder)
    parsed = parse_log(log, table)
    read = partial(read_impressions, parsed, table, bands, since_ms=since_ms, max_pages=max_pages, seed=seed)
    shown = read() if _has_searches(parsed.events, since_ms, logged=True) else None
    if shown is None:
        every = read(logged=False)
    elif _has_searches(parsed.events, since_ms, logged=False):
        every = shown.with_pages(read(logged=False))
    else:
        every = shown
    target = max((task for task in range(len(TASKS)) if every.labels[:, task].any()), default=0)
    model = TYPES_PART.find(bundle)
    notes: list[str] = []
    ranker = _ranker(bundle, notes)
    features = CandidateFeatures(
        bundle,
        LightTower(folder),
        model,
        query_attributes=ranker.query_attributes if ranker else None,
        clicks=CatalogueClicks(ranker.click_memory, table) if ranker else None,
    )
    simple = SimpleSearches.before(bundle, parsed.events, since_ms) if with_simple else None
    ranking, calibration = (
        ({}, {}) if shown is None else _ranked_pages(bundle, features, ranker, shown, simple, table, bands, progress)
    )
    return BundleFigures(
        pages=list(zip(every.time_ms.tolist(), every.queries, every.locales, strict=True)),
        units=every.shopper.astype(np.int64),
        target=TASKS[target],
        search=whole_catalogue(
            bundle,
            features,
            ranker,
            every,
            target,
            progress,
            served=served(bundle) if served else None,
            simple=simple,
        ),
        ranking={name: _of_logged_pages(ndcg, every.num_pages) for name, ndcg in ranking.items()},
        calibration=calibration,
        types=_types(bundle, logs, since_ms, progress),
        sizes=_sizes(bundle),
        notes=notes,
        buckets=page_buckets(every, parsed.events, table, since_ms, target),
    )


def _ranked_pages(
    bundle: Bundle,
    features: CandidateFeatures,
    ranker: Ranker | None,
    shown: Impressions,
    simple: SimpleSearches | None,
    table: ProductTable,
    bands: PriceBands,
    progress: Progress,
) -> tuple[dict[str, Doubles], dict[str, tuple[float, ...]]]:
    """Returns the fields `ranking`, of the logged pages alone, and `calibration` of BundleFigures."""
    rows = ranker_rows(features, shown, progress)
    page_scores = {
        SHOWN: _same_for_all_tasks(np.where(shown.position > 0, -shown.position, _NOWHERE).astype(np.float32)),
        RETRIEVED: _same_for_all_tasks(rows.features[:, FEATURES.index("search_cosine")]),
    }
    if simple is not None:
        page_scores |= {name: _same_for_all_tasks(scores) for name, scores in simple.page_scores(shown).items()}
    calibration: dict[str, tuple[float, ...]] = {}
    if ranker is not None:
        probabilities = ranker.probabilities(rows.features)
        page_scores |= {STUDENT: probabilities, BLEND: _same_for_all_tasks(blend(probabilities))}
        calibration["ranker"] = _calibration(probabilities, shown)
    if TEACHER_PART.is_in(bundle):
        teacher = Teacher.load(TEACHER_PART.open(bundle), features=FEATURES)
        count = min(TEACHER_PAGES, shown.num_pages)
        pages = np.unique(np.linspace(0, shown.num_pages - 1, count).astype(np.int64))
        at, sample = np.flatnonzero(np.isin(shown.page, pages)), shown.take(pages)
        probabilities = soft_labels(teacher, sample, rows.features[at], table, bands, progress)
        teacher_scores = np.full(len(shown), np.nan, np.float32)
        teacher_scores[at] = blend(probabilities)
        page_scores[TEACHER_BLEND] = _same_for_all_tasks(teacher_scores)
        calibration["teacher"] = _calibration(probabilities, sample)
    return {name: page_ndcg(scores, shown) for name, scores in page_scores.items()}, calibration


def _of_logged_pages(values: Doubles, num_pages: int) -> Doubles:
    """Returns (num_pages, TASKS): the values of the logged pages, which come first, and NaN for the others."""
    return np.concatenate([values, np.full((num_pages - len(values), values.shape[1]), np.nan)])


def _has_searches(events: ShoppingLog, since_ms: int, *, logged: bool) -> bool:
    """Whether the log has a later search that led to a product of the catalogue, with a page or, without `logged`, with none."""
    used = np.flatnonzero((events.query > 0) & (events.product != UNKNOWN) & (events.searched_ms >= since_ms))
    has_page = np.zeros(len(events.search_time_ms), np.bool_)
    has_page[events.search[used[events.kind[used] == IMPRESSION]]] = True
    return bool((has_page[events.search[used]] == logged).any())


def _ranker(bundle: Bundle, notes: list[str]) -> Ranker | None:
    if not RANKER_PART.is_in(bundle):
        return None
    try:
        return RANKER_PART.open(bundle)
    except BundleError as error:
        notes.append(f"Its ranker is left out: {error}")
        return None


def _same_for_all_tasks(scores: Floats) -> Floats:
    """Returns (rows, TASKS)."""
    return np.repeat(scores[:, None], len(TASKS), axis=1)


def _calibration(probabilities: Floats, shown: Impressions) -> tuple[float, ...]:
    return tuple(
        expected_calibration_error(probabilities[:, task], shown.labels[:, task] > 0) for task in range(len(TASKS))
    )


def page_ndcg(scores: Floats, shown: Impressions) -> Doubles:
    """Returns (pages, TASKS) NDCG@10 of each page ordered by `scores` (rows, TASKS), equal ones at random; NaN where a score is NaN."""
    by_task = []
    for task in range(len(TASKS)):
        place = places_by_score(scores[:, task], shown.page)
        positive = np.flatnonzero(shown.labels[:, task] > 0)
        relevance = Relevance(
            shown.page[positive].astype(np.int64),
            shown.product[positive].astype(np.int64),
            np.ones(len(positive)),
            shown.num_pages,
        )
        by_task.append(ndcg_at(place[positive], relevance, 10))
    ndcg = np.stack(by_task, axis=1)
    ndcg[np.unique(shown.page[np.isnan(scores).any(axis=1)])] = np.nan
    return ndcg


def _types(bundle: Bundle, logs: Sequence[Path], since_ms: int, progress: Progress) -> dict[str, float]:
    """Measures the classifier of queries on all locales' queries from `since_ms` on, labelled by clicks; empty without one."""
    if not TYPES_PART.is_in(bundle):
        return {}
    model, category_of = TYPES_PART.open(bundle), bundle.products().category_by_id()
    try:
        labelled = label_log(list(logs), category_of, since=datetime.fromtimestamp(since_ms / 1000, UTC))
    except ExamplesError:
        return {}
    ranked = rank_types(model, labelled.examples, progress=progress, name="types")
    means = [
        float(np.mean(column[np.isfinite(column)])) if np.isfinite(column).any() else np.nan
        for column in query_metrics(ranked).T
    ]
    error = CalibrationError.from_ranked(ranked)(np.ones(len(ranked)))
    return {
        "queries": float(len(ranked)),
        **dict(zip(QUERY_METRICS, means, strict=True)),
        "calibration error": error,
    }


def _sizes(bundle: Bundle) -> dict[str, float]:
    """Returns the size of each part of the bundle in MB."""
    parts = {"all": ""} | {
        name: f"{name}/" for name in (UNIFIED_PART.name, TYPES_PART.name, RANKER_PART.name, TEACHER_PART.name, INDEX)
    }
    return {
        name: sum(entry.bytes for file, entry in bundle.manifest.files.items() if file.startswith(prefix)) / 1e6
        for name, prefix in parts.items()
    }
