"""The result pages that rankers are trained on, and the later pages that they are measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.arrays import Floats, Ints, Progress
from models.bundles.bundle import Bundle
from models.bundles.manifest import BundleError
from models.evaluation.buckets import Bucket
from models.evaluation.learned_until import retrieval_learned_until
from models.evaluation.numbered_log import NumberedLog
from models.evaluation.numbered_log import read_log as read_numbered_log
from models.events.errors import LogError
from models.events.event_log import log_digests
from models.query_types.bundle_part import TYPES_PART
from models.query_types.labels import label_log
from models.query_types.recipe import STARTER as TYPES_STARTER
from models.query_types.type_model import TypeModel
from models.ranking.click_history import ClickHistory
from models.ranking.click_memory import CatalogueClicks, ClickMemory
from models.ranking.feature_names import FEATURES
from models.ranking.features import CandidateFeatures
from models.ranking.fit_ranker import RankerRows
from models.ranking.impressions import Impressions, read_impressions
from models.ranking.learn_query_attributes import learn_query_attributes
from models.ranking.parse_log import parse_log
from models.ranking.product_columns import ProductColumns
from models.ranking.query_attributes import QueryAttributes
from models.ranking.train_ranker import ranker_rows
from models.studies.ranking.segments import page_segments, searches_before
from models.studies.types.trained_types import TrainedTypes
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands

MIN_PAGES = 50  # to train on, and to measure on


@dataclass(frozen=True, slots=True)
class PageSplit:
    """How to divide the pages after the unified model's training window."""

    train_share: float = 0.55  # the earlier share of these pages is for training
    max_train: int = 6_000  # a random sample of them, as a recipe's max_pages
    max_test: int = 6_000  # a random sample of the later pages
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RankingPages:
    """Pages with features. `train` is earlier than `test`; both are later than the training data of the unified model and classifier."""

    train: Impressions
    train_rows: RankerRows
    test: Impressions
    test_rows: RankerRows
    segments: Mapping[str, Bucket]  # of the test pages
    since_ms: int  # the end of the unified model's training window
    test_since_ms: int
    events: NumberedLog
    learning: CandidateFeatures  # of training pages: each knows the clicks before it
    features: CandidateFeatures  # as served when the test pages begin: the clicks before them
    query_attributes: QueryAttributes
    click_memory: ClickMemory
    types: TypeModel | None

    @property
    def units(self) -> Ints:
        """Resampling units (test pages,): shoppers, or sessions of anonymous ones."""
        return self.test.shopper.astype(np.int64)

    def column(self, feature: str) -> Floats:
        """Returns one feature (test rows,)."""
        return self.test_rows.features[:, FEATURES.index(feature)]


def read_pages(bundle: Bundle, logs: Sequence[Path], split: PageSplit, work: Path, progress: Progress) -> RankingPages:
    """Reads the pages of the first log and computes their features, which are cached in `work`. Clicks are those of all logs.

    Raises BundleError without a unified model, LogError if there are too few pages.
    """
    if not UNIFIED_PART.is_in(bundle):
        raise BundleError(
            "a ranker needs the unified model, and the bundle has none; make one with 'aisle train unified'"
        )
    log, table = logs[0], bundle.products()
    since_ms = retrieval_learned_until(bundle)
    progress("read the log", 0, None)
    shown = read_impressions(log, table, PriceBands.load(UNIFIED_PART.open(bundle)), since_ms=since_ms)
    cut = int(split.train_share * shown.num_pages)
    if min(cut, shown.num_pages - cut) < MIN_PAGES:
        raise LogError(
            f"{shown.num_pages} result pages are later than the unified model's training window; {2 * MIN_PAGES} are needed: give "
            "a longer log, or train the unified model with a smaller train_share"
        )
    rng = np.random.default_rng([split.seed, 0xE7])
    train = shown.take(_sample(rng, np.arange(cut), split.max_train))
    test = shown.take(_sample(rng, np.arange(cut, shown.num_pages), split.max_test))
    if not (train.labels[:, -1].any() and test.labels[:, -1].any()):
        raise LogError(
            "no purchase follows from the result pages to learn from, or none from those to measure on; rankers are compared by "
            "purchases. 'aisle train all' reports on clicks alone"
        )
    test_since_ms = int(shown.time_ms[cut])
    events = read_numbered_log(log, [table.id(row) for row in range(len(table))], progress)
    types = _types_until(bundle, logs, since_ms, split.seed, work, progress) if TYPES_PART.is_in(bundle) else None
    columns = ProductColumns.from_bundle(bundle)
    progress("learn the attributes that words name", 0, None)
    query_attributes = learn_query_attributes(list(logs), table, columns, until_ms=since_ms)
    clicks = ClickHistory.from_events(parse_log(list(logs), table).events, test_since_ms)
    memory = clicks.memory(table, test_since_ms)
    learning = CandidateFeatures(
        bundle,
        LightTower(UNIFIED_PART.open(bundle)),
        types,
        query_attributes=query_attributes,
        columns=columns,
        clicks=clicks,
    )
    features = learning.with_clicks(CatalogueClicks(memory, table))
    key = _key(bundle, logs, split)
    return RankingPages(
        train=train,
        train_rows=_rows(learning, train, work / f"features-train-{key}.npy", progress),
        test=test,
        test_rows=_rows(features, test, work / f"features-test-{key}.npy", progress),
        segments=page_segments(test, searches_before(events, test_since_ms)),
        since_ms=since_ms,
        test_since_ms=test_since_ms,
        events=events,
        learning=learning,
        features=features,
        click_memory=memory,
        query_attributes=query_attributes,
        types=types,
    )


def _sample(rng: np.random.Generator, pages: Ints, max_pages: int) -> Ints:
    return pages if len(pages) <= max_pages else np.sort(rng.choice(pages, max_pages, replace=False))


def _types_until(
    bundle: Bundle, logs: Sequence[Path], until_ms: int, seed: int, work: Path, progress: Progress
) -> TypeModel:
    """Trains a classifier without the clicks of these pages; the bundle's own may have been trained on the whole log."""
    progress("train the query classifier", 0, None)
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    labelled = label_log(list(logs), bundle.products().category_by_id(), until=until)
    return TrainedTypes(work, progress).train("types", labelled.examples, TYPES_STARTER, seed)


def _rows(features: CandidateFeatures, shown: Impressions, cache: Path, progress: Progress) -> RankerRows:
    if cache.exists():
        return RankerRows(np.load(cache), shown.labels, shown.page, shown.position)
    rows = ranker_rows(features, shown, progress)
    partial = cache.with_name(f"{cache.stem}.partial.npy")
    np.save(partial, rows.features)
    partial.replace(cache)
    return rows


def _key(bundle: Bundle, logs: Sequence[Path], split: PageSplit) -> str:
    """Clicks of all logs are in the features."""
    digests = [log_digests(log) for log in logs]
    key = [bundle.manifest.version, TYPES_PART.is_in(bundle), digests, repr(split), FEATURES]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
