"""Trains a ranker of candidates from a bundle and a shopping log. Needs the extra `aisle[train]`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from models.arrays import Floats, Progress, silent
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.events.errors import LogError
from models.query_types.bundle_part import TYPES_PART
from models.query_types.calibration import Calibration, expected_calibration_error
from models.ranking.click_history import ClickHistory
from models.ranking.click_memory import ClickMemory
from models.ranking.features import CandidateFeatures
from models.ranking.fit_ranker import FittedRanker, RankerRows, fit_ranker
from models.ranking.impressions import Impressions, read_impressions
from models.ranking.learn_query_attributes import learn_query_attributes
from models.ranking.parse_log import Log, ParsedLog, parse_log
from models.ranking.product_columns import ProductColumns
from models.ranking.query_attributes import QueryAttributes
from models.ranking.ranker import Ranker
from models.ranking.recipe import RankerRecipe
from models.ranking.tasks import TASKS
from models.ranking.unshown_pages import num_clicked_searches, unshown_pages
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower, read_spec
from models.unified.price_bands import PriceBands

LEAST_PAGES = 10
_INPUTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPages:
    """The training data of a ranker."""

    shown: Impressions  # logged pages, or pages of clicks among retrieved products where the log shows none
    rows: RankerRows  # of `shown`
    unshown: RankerRows | None  # of `unshown_pages`
    query_attributes: QueryAttributes  # that the features of both were computed with
    click_memory: ClickMemory  # at the end of the pages; their features know what came before each
    seconds: float  # spent reading them
    clicks_until_ms: int = 0  # the time of `click_memory`
    are_logged: bool = True  # False: nobody knows what was shown beside the clicked products


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRanker:
    """A ranker and the `report` of its training: plain numbers, for a manifest."""

    ranker: Ranker
    report: dict[str, Any]


def train_ranker(
    bundle: Bundle,
    log: Log,
    recipe: RankerRecipe,
    *,
    teacher_probabilities: Floats | None = None,
    seed: int = 0,
    progress: Progress = silent,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> TrainedRanker:
    """Trains a ranker; the same bundle, log, recipe and seed give the same ranker on the same machine.

    `teacher_probabilities` (rows, TASKS) are a teacher's probabilities of the rows of `training_impressions` with the same arguments,
    NaN in rows that it did not score. Raises BundleError for a bundle without the unified model, LogError if there is too little to
    learn from, DegenerateLoss if the loss is not a number.
    """
    pages = read_pages(bundle, log, recipe, seed=seed, progress=progress, since_ms=since_ms, until_ms=until_ms)
    return train_on(pages, recipe, teacher_probabilities=teacher_probabilities, seed=seed, progress=progress)


def read_pages(
    bundle: Bundle,
    log: Log,
    recipe: RankerRecipe,
    *,
    seed: int = 0,
    progress: Progress = silent,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> TrainingPages:
    """Reads the pages of `training_impressions`, adds `unshown_pages`, and computes the features of both.

    A log of clicks without impressions gives `unshown_pages` alone. Raises the errors of `training_impressions` if there are too few of
    either.
    """
    started = perf_counter()
    progress("read the log", 0, None)
    log = _read(log, bundle)
    since_ms = _since(bundle, since_ms)
    shown: Impressions | None = None
    try:
        shown = training_impressions(bundle, log, recipe, seed=seed, since_ms=since_ms, until_ms=until_ms)
    except LogError:
        if recipe.clicked_pages == 0 or num_clicked_searches(log, since_ms, until_ms) < LEAST_PAGES:
            raise
    types = TYPES_PART.find(bundle)
    progress("read the catalogue", 0, None)
    columns = ProductColumns.from_bundle(bundle)
    progress("learn query attributes", 0, None)
    query_attributes = learn_query_attributes(log, bundle.products(), columns, until_ms=since_ms)
    clicks = ClickHistory.from_events(log.events, until_ms)
    features = CandidateFeatures(
        bundle,
        LightTower(UNIFIED_PART.open(bundle)),
        types,
        query_attributes=query_attributes,
        columns=columns,
        clicks=clicks,
    )
    clicks_until_ms = _end(log) if until_ms is None else until_ms
    memory = clicks.memory(bundle.products(), clicks_until_ms)
    find = partial(
        unshown_pages, log, bundle, features, since_ms=since_ms, until_ms=until_ms, seed=seed, progress=progress
    )
    progress("retrieve unshown products", 0, None)
    if shown is None:
        found = find(max_pages=recipe.max_pages)
        assert found is not None  # noqa: S101 - the searches were counted
        rows = ranker_rows(features, found, progress)
        return TrainingPages(
            found, rows, None, query_attributes, memory, perf_counter() - started, clicks_until_ms, are_logged=False
        )
    rows = ranker_rows(features, shown, progress)
    unshown: RankerRows | None = None
    for share, logged in ((recipe.found_pages, True), (recipe.clicked_pages, False)):
        more = find(max_pages=round(share * shown.num_pages), logged=logged)
        if more is not None:
            more_rows = ranker_rows(features, more)
            unshown = more_rows if unshown is None else unshown.append(more_rows)
    return TrainingPages(shown, rows, unshown, query_attributes, memory, perf_counter() - started, clicks_until_ms)


def train_on(
    pages: TrainingPages,
    recipe: RankerRecipe,
    *,
    teacher_probabilities: Floats | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> TrainedRanker:
    """Trains and calibrates a ranker; the latest shown pages are held out for both. Raises the errors of `fit_ranker`.

    A task that no page has a label of is left out: its probability stays a constant near 0, and the order follows the others.
    """
    started = perf_counter()
    shown, rows = pages.shown, pages.rows
    recipe = replace(recipe, task_weights=_weights_of_learned(recipe, rows))
    if teacher_probabilities is not None:
        rows = replace(rows, teacher=np.asarray(teacher_probabilities, np.float32))
    cut = shown.num_pages - max(1, int(recipe.holdout_share * shown.num_pages))
    holdout = rows.between(cut, shown.num_pages)
    learned = rows.between(0, cut)
    if pages.unshown is not None:
        learned = learned.append(pages.unshown)
    fitted = fit_ranker(learned, holdout, recipe, seed=seed, report=partial(progress, f"train ranker {recipe.name}"))
    progress("calibrate", 0, None)
    ranker = calibrated(fitted.ranker, holdout).with_tables(pages.query_attributes, pages.click_memory)
    seconds = pages.seconds + perf_counter() - started
    report = _report(shown, fitted, ranker, holdout, cut, seconds)
    beside = {
        "pages_beside": pages.unshown.num_pages if pages.unshown else 0,
        "pages_are_logged": pages.are_logged,
        "clicks_until_ms": pages.clicks_until_ms,
    }
    return TrainedRanker(ranker, report | beside)


def _weights_of_learned(recipe: RankerRecipe, rows: RankerRows) -> tuple[float, float, float]:
    click, cart, purchase = (
        weight if labels.any() else 0.0 for weight, labels in zip(recipe.task_weights, rows.labels.T, strict=True)
    )
    return click or 1.0, cart, purchase  # without a click `fit_ranker` refuses the pages


def training_impressions(
    bundle: Bundle,
    log: Log,
    recipe: RankerRecipe,
    *,
    seed: int = 0,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Impressions:
    """Returns the logged pages that a ranker trains on. Raises LogError if they are too few, BundleError without the unified model.

    With `since_ms` None they begin at the end of the unified model's training window. Earlier pages leak: the model's vectors were
    trained on the clicks that the ranker is to predict. On a simulated log of 20,000 products, 12,000 pages of that window gave a worse
    ranker than 2,400 pages after it (NDCG@10 of later purchases 0.44 and 0.53).
    """
    since_ms = _since(bundle, since_ms)
    shown = read_impressions(
        _read(log, bundle),
        bundle.products(),
        PriceBands.load(UNIFIED_PART.open(bundle)),
        since_ms=since_ms,
        until_ms=until_ms,
        max_pages=recipe.max_pages,
        seed=seed,
    )
    if shown.num_pages < LEAST_PAGES:
        raise LogError(
            f"{shown.num_pages} result pages were searched from {_day(since_ms)} on; {LEAST_PAGES} are the least to learn from. A ranker "
            "learns from what came after the unified model's training window: a longer log or a smaller train_share leaves more"
        )
    return shown


def _read(log: Log, bundle: Bundle) -> ParsedLog:
    return parse_log(log, bundle.products())


def ranker_since(bundle: Bundle) -> int:
    """Returns the time (ms) at which the unified model's training window ends. Raises BundleError for a bundle without the model."""
    if not UNIFIED_PART.is_in(bundle):
        raise BundleError("a ranker needs the unified model, and the bundle has none")
    return int(read_spec(UNIFIED_PART.open(bundle))["until_ms"])


def _since(bundle: Bundle, since_ms: int | None) -> int:
    learned_until = ranker_since(bundle)
    return learned_until if since_ms is None else since_ms


def _end(log: ParsedLog) -> int:
    """Returns a time after all events."""
    return int(log.events.time_ms[-1]) + 1


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def ranker_rows(
    features: CandidateFeatures, shown: Impressions, progress: Progress = silent, teacher: Floats | None = None
) -> RankerRows:
    """Computes the features of pages, for training or evaluation."""
    offsets, parts = shown.offsets, []
    for start in range(0, shown.num_pages, _INPUTS_AT_ONCE):
        stop = min(start + _INPUTS_AT_ONCE, shown.num_pages)
        page = slice(start, stop)
        inputs = features.inputs(
            shown.queries[page], shown.locales[page], shown.histories[page], shown.time_ms[page].tolist()
        )
        for at, query in enumerate(inputs, start):
            parts.append(features.compute(query, shown.product[offsets[at] : offsets[at + 1]]))
        progress("compute features", stop, shown.num_pages)
    return RankerRows(
        np.concatenate(parts),
        shown.labels,
        shown.page,
        shown.position,
        None if teacher is None else np.asarray(teacher, np.float32),
    )


def calibrated(ranker: Ranker, holdout: RankerRows) -> Ranker:
    """Returns the ranker calibrated on held-out pages, whose positions are ignored."""
    odds = ranker.log_odds(holdout.features)
    labels = holdout.labels > 0
    return ranker.calibrated([Calibration.fit(odds[:, task], labels[:, task]) for task in range(len(TASKS))])


def _report(
    shown: Impressions, fitted: FittedRanker, ranker: Ranker, holdout: RankerRows, cut: int, seconds: float
) -> dict[str, Any]:
    probabilities = ranker.probabilities(holdout.features)
    errors = [
        expected_calibration_error(probabilities[:, task], holdout.labels[:, task] > 0) for task in range(len(TASKS))
    ]
    return {
        "pages": shown.num_pages,
        "learned_pages": cut,
        "rows": len(shown),
        "first_page_ms": int(shown.time_ms[0]),
        "last_page_ms": int(shown.time_ms[-1]),
        "labels": dict(zip(TASKS, shown.labels.sum(axis=0).astype(int).tolist(), strict=True)),
        "steps": fitted.steps,
        "holdout_loss": fitted.holdout_loss,
        "holdout_calibration_error": {task: round(e, 5) for task, e in zip(TASKS, errors, strict=True)},
        "gate_entropy": fitted.gate_entropy,
        "position_odds": np.round(fitted.position_odds, 4).tolist(),
        "seconds": round(seconds, 1),
    }
