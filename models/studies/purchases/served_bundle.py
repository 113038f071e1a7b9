"""The bundle that `aisle train all` makes of the earlier purchases, searched as a service does by default."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.arrays import Ints, Progress
from models.bundles.build import Recipe
from models.bundles.bundle import Bundle
from models.bundles.source import Source
from models.evaluation.cases import Cases
from models.evaluation.results import Ranker
from models.evaluation.whole_catalogue import OpenSearch, Search
from models.needs.matrix import REPORT, TEXT
from models.ranking.features import CandidateFeatures
from models.studies.case_histories import CaseHistories, history_events
from models.studies.purchases.online_retail import OnlineRetail
from models.studies.rankers import WithoutHistories
from models.train_all import LoopRecipe, Shop, look, train_all
from models.unified.bundle_part import UNIFIED_PART
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands

MAX_EVENTS = 64  # the newest of a shopper's events, which a service reads
LOCALE = "en-GB"
_BLOCK = 128  # searches


@dataclass(frozen=True, slots=True, eq=False)
class ServedBundle:
    """Ranks as a service that serves the bundle."""

    name: str
    search: Search
    features: CandidateFeatures  # that make its inputs
    histories: CaseHistories
    rows: Ints  # (products,) of the catalogue of the cases, by row of the bundle

    def rank(self, cases: Cases, k: int) -> Ints:
        ranked = np.full((len(cases), k), -1, np.int64)
        histories = self.histories.before(cases)
        for start in range(0, len(cases), _BLOCK):
            block = slice(start, start + _BLOCK)
            inputs = self.features.inputs(cases.texts[block], cases.locale_names[block], histories[block])
            for case, found in enumerate(self.search(inputs), start):
                ranked[case, : len(found)] = self.rows[found][:k]
        return ranked


def train_bundle(
    retail: OnlineRetail, end_ms: int, recipe: LoopRecipe, work: Path, progress: Progress, seed: int
) -> Bundle:
    """Trains all stages that serve on the purchases before a time."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = work / "purchases.parquet"
    pq.write_table(retail.log.filter(pc.less(pc.cast(retail.log["time"], pa.int64()), end_ms)), log)
    source = Source(
        name="Online Retail",
        fingerprint=str(end_ms),
        products=lambda: iter(retail.products),
        report=dict,
        attributes=(),
        text_attributes=(),
        num_products=len(retail.products),
    )
    shop = Shop(source, (log,), Recipe(name="online-retail", locales=(LOCALE,), currency="GBP"))
    looked = look(shop, recipe, progress)
    looked = replace(looked, plan=looked.plan.without(TEXT).without(REPORT))  # which serve nothing
    return Bundle(train_all(shop, recipe, work / "shop", progress, seed=seed, looked=looked).bundle)


def served_rankers(bundle: Bundle, cases: Cases, retail: OnlineRetail, open_search: OpenSearch) -> Sequence[Ranker]:
    """Returns the bundle as a service searches it, with and without the customers' histories."""
    table, unified = bundle.products(), UNIFIED_PART.open(bundle)
    rows = {product.id: row for row, product in enumerate(retail.products)}
    served = ServedBundle(
        "as served",
        open_search(bundle),
        CandidateFeatures(bundle, LightTower(unified)),
        CaseHistories(
            history_events(cases.events),
            retail.products.__getitem__,
            PriceBands.load(unified).band,
            MAX_EVENTS,
        ),
        np.array([rows[product_id] for product_id in table.strings("id")], np.int64),
    )
    return [served, WithoutHistories(served, "as served, history hidden")]
