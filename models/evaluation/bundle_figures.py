"""What a bundle is worth on the pages of a log after a moment: search, ranking, types, and what it weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.arrays import Doubles, Floats, Ints, Progress
from models.bundles.bundle import INDEX, Bundle
from models.bundles.manifest import BundleError
from models.evaluation.metrics import Relevance, ndcg_at, places, recall_at
from models.evaluation.ranked_types import rank_types
from models.evaluation.type_metrics import CalibrationError, query_metrics
from models.query_types.bundle_part import TYPES_PART
from models.query_types.calibration import expected_calibration_error
from models.query_types.examples import ExamplesError
from models.query_types.labels import label_log
from models.ranking.bundle_part import RANKER_PART
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures
from models.ranking.impressions import Impressions, read_impressions
from models.ranking.ranker import Ranker, blend
from models.ranking.tasks import TASKS
from models.ranking.teacher.bundle_part import TEACHER_PART
from models.ranking.teacher.soft_labels import soft_labels
from models.ranking.teacher.teacher import Teacher
from models.ranking.train_ranker import ranker_rows
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands

SHOWN, RETRIEVED, STUDENT, BLEND, TEACHER_BLEND = (
    "as shown",
    "retrieval",
    "ranker, its task",
    "ranker, blend",
    "teacher, blend",
)
SEARCH_METRICS = ("recall@10", "recall@100", "ndcg@10")
JUDGED_PAGES = 800  # at most, that a teacher orders: it takes milliseconds a product
DEPTH = 200  # candidates that are ranked, as a search does
_BLOCK = 128

PageKey = tuple[int, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class BundleFigures:
    """By page of the log; NaN of pages without what the figure is about."""

    pages: list[PageKey]  # when, what and where was asked
    units: Ints  # (pages,) shoppers
    search: Mapping[
        str, Doubles
    ]  # RETRIEVED or BLEND -> (pages, SEARCH_METRICS) of what was bought, over the whole catalogue
    ranking: Mapping[str, Doubles]  # SHOWN, RETRIEVED ... -> (pages, TASKS) NDCG@10 of the page's products
    calibration: Mapping[str, tuple[float, ...]]  # ranker or teacher -> error by task
    types: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)  # part -> MB
    notes: Sequence[str] = ()


def bundle_figures(
    bundle: Bundle,
    logs: Sequence[Path],
    log: pa.Table,
    since_ms: int,
    progress: Progress,
    *,
    max_pages: int = 3_000,
    seed: int = 0,
) -> BundleFigures:
    """Figures of the pages asked from `since_ms` on, of which `max_pages` are drawn. `log` is all of `logs`.

    Raises BundleError for a bundle without the unified model, LogError where no page is left.
    """
    if not UNIFIED_PART.is_in(bundle):
        raise BundleError(f"{bundle.folder} has no unified model, and no figure here is about text encoders")
    progress("read the log", 0, None)
    folder = UNIFIED_PART.open(bundle)
    table, bands = bundle.products(), PriceBands.load(folder)
    shown = read_impressions(log, table, bands, since_ms=since_ms, max_pages=max_pages, seed=seed)
    model = TYPES_PART.find(bundle)
    notes: list[str] = []
    ranker = _ranker(bundle, notes)
    features = CandidateFeatures(
        bundle, LightTower(folder), model, query_attributes=ranker.query_attributes if ranker else None
    )
    rows = ranker_rows(features, shown, progress)
    page_scores = {
        SHOWN: _alike(-shown.position.astype(np.float32)),
        RETRIEVED: _alike(rows.features[:, FEATURES.index("search_cosine")]),
    }
    calibration: dict[str, tuple[float, ...]] = {}
    if ranker is not None:
        chances = ranker.probabilities(rows.features)
        page_scores |= {STUDENT: chances, BLEND: _alike(blend(chances))}
        calibration["ranker"] = _calibration(chances, shown)
    if TEACHER_PART.is_in(bundle):
        teacher = Teacher.load(TEACHER_PART.open(bundle), features=FEATURES)
        count = min(JUDGED_PAGES, shown.num_pages)
        judged = np.unique(np.linspace(0, shown.num_pages - 1, count).astype(np.int64))
        at, some = np.flatnonzero(np.isin(shown.page, judged)), shown.take(judged)
        chances = soft_labels(teacher, some, rows.features[at], table, bands, progress)
        told = np.full(len(shown), np.nan, np.float32)
        told[at] = blend(chances)
        page_scores[TEACHER_BLEND] = _alike(told)
        calibration["teacher"] = _calibration(chances, some)
    return BundleFigures(
        pages=list(zip(shown.time_ms.tolist(), shown.queries, shown.locales, strict=True)),
        units=shown.shopper.astype(np.int64),
        search=_search(bundle, features, ranker, shown, progress),
        ranking={name: _page_ndcg(scores, shown) for name, scores in page_scores.items()},
        calibration=calibration,
        types=_types(bundle, logs, since_ms, progress),
        sizes=_sizes(bundle),
        notes=notes,
    )


def _ranker(bundle: Bundle, notes: list[str]) -> Ranker | None:
    if not RANKER_PART.is_in(bundle):
        return None
    try:
        return RANKER_PART.open(bundle)
    except BundleError as error:
        notes.append(f"Its ranker is left out: {error}")
        return None


def _alike(scores: Floats) -> Floats:
    """(rows, TASKS) the same for each task."""
    return np.repeat(scores[:, None], len(TASKS), axis=1)


def _calibration(chances: Floats, shown: Impressions) -> tuple[float, ...]:
    return tuple(expected_calibration_error(chances[:, at], shown.labels[:, at] > 0) for at in range(len(TASKS)))


def _page_ndcg(scores: Floats, shown: Impressions) -> Doubles:
    """(pages, TASKS) NDCG@10 of each page in the order of scores (rows, TASKS), by what came of it."""
    found = []
    for task in range(len(TASKS)):
        order = np.lexsort((-scores[:, task], shown.page))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - shown.offsets[shown.page[order]]
        wanted = np.flatnonzero(shown.labels[:, task] > 0)
        relevance = Relevance(
            shown.page[wanted].astype(np.int64),
            shown.product[wanted].astype(np.int64),
            np.ones(len(wanted)),
            shown.num_pages,
        )
        found.append(ndcg_at(place[wanted], relevance, 10))
    unknown = np.unique(shown.page[np.isnan(scores).any(axis=1)])
    every = np.stack(found, axis=1)
    every[unknown] = np.nan
    return every


def _search(
    bundle: Bundle, features: CandidateFeatures, ranker: Ranker | None, shown: Impressions, progress: Progress
) -> dict[str, Doubles]:
    """Of pages on which something was bought: where the whole catalogue's search puts it, by exact search."""
    vectors = np.asarray(bundle.unit_vectors(), np.float32)
    bought = np.flatnonzero(shown.labels[:, TASKS.index("purchase")] > 0)
    relevance = Relevance(
        shown.page[bought].astype(np.int64),
        shown.product[bought].astype(np.int64),
        np.ones(len(bought)),
        shown.num_pages,
    )
    asked = np.unique(shown.page[bought])
    depth = min(DEPTH, len(vectors))
    orders = {RETRIEVED: np.full((shown.num_pages, depth), -1, np.int64)}
    if ranker is not None:
        orders[BLEND] = np.full((shown.num_pages, depth), -1, np.int64)
    for start in range(0, len(asked), _BLOCK):
        pages = asked[start : start + _BLOCK].tolist()
        inputs = features.inputs(
            [shown.queries[page] for page in pages],
            [shown.locales[page] for page in pages],
            [shown.histories[page] for page in pages],
        )
        scores = np.stack([one.search for one in inputs]) @ vectors.T
        for page, query, score in zip(pages, inputs, scores, strict=True):
            near = np.argpartition(-score, depth - 1)[:depth]
            near = near[np.argsort(-score[near], kind="stable")]
            orders[RETRIEVED][page] = near
            if ranker is not None:
                worth = blend(ranker.probabilities(features.compute(query, near)))
                orders[BLEND][page] = near[np.argsort(-worth, kind="stable")]
        progress("search", min(start + _BLOCK, len(asked)), len(asked))
    found = {}
    for name, order in orders.items():
        at = places(order, relevance)
        found[name] = np.stack(
            [recall_at(at, relevance, 10), recall_at(at, relevance, 100), ndcg_at(at, relevance, 10)], axis=1
        )
    return found


def _types(bundle: Bundle, logs: Sequence[Path], since_ms: int, progress: Progress) -> dict[str, float]:
    """Of all locales' queries after the moment, labelled by clicks."""
    if not TYPES_PART.is_in(bundle):
        return {}
    model, category_of = TYPES_PART.open(bundle), bundle.products().category_by_id()
    try:
        labelled = label_log(list(logs), category_of, since=datetime.fromtimestamp(since_ms / 1000, UTC))
    except ExamplesError:
        return {}
    ranked = rank_types(model, labelled.examples, progress=progress, name="types")
    known = query_metrics(ranked).T
    first, third, coverage, precision = (
        float(np.mean(one[np.isfinite(one)])) if np.isfinite(one).any() else np.nan for one in known
    )
    error = CalibrationError.from_ranked(ranked)(np.ones(len(ranked)))
    return {
        "queries": float(len(ranked)),
        "accuracy": first,
        "among three": third,
        "answered": coverage,
        "right when answering": precision,
        "calibration error": error,
    }


def _sizes(bundle: Bundle) -> dict[str, float]:
    """MB by part."""
    parts = {"all": ""} | {
        name: f"{name}/" for name in (UNIFIED_PART.name, TYPES_PART.name, RANKER_PART.name, TEACHER_PART.name, INDEX)
    }
    return {
        name: sum(one.bytes for file, one in bundle.manifest.files.items() if file.startswith(prefix)) / 1e6
        for name, prefix in parts.items()
    }
