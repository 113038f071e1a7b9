"""The unified model as a ranker: what serving would search with, over the product vectors of the model's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.catalogue import Product
from models.evaluation.cases import Cases, Histories, search_keys
from models.evaluation.numbered_log import CLICK, KINDS, Ids, NumberedLog
from models.evaluation.rankers import Floats, VectorRanker
from models.events import Event
from models.product_table import ProductTable
from models.unified.history import HistoryItem, history_items
from models.unified.light_tower import LightTower
from models.unified.price_bands import PriceBands
from models.unified.saved_model import VECTORS_FILE

MAX_EVENTS = 256  # of a history, the latest; a model reads at most 64 of each kind of item


@dataclass(frozen=True, slots=True, eq=False)
class UnifiedRanker:
    """A trained model that asks with the query and the shopper's history, by exact search."""

    name: str
    tower: LightTower
    bands: PriceBands
    table: ProductTable
    told: Histories
    product_vectors: Floats  # (products, dim)

    @classmethod
    def load(cls, name: str, folder: Path, table: ProductTable, told: Histories) -> UnifiedRanker:
        """`told` is `told_events` of the log that the cases are from."""
        vectors = np.load(folder / VECTORS_FILE).astype(np.float32)
        return cls(name, LightTower(folder), PriceBands.load(folder), table, told, vectors)

    def rank(self, cases: Cases, k: int) -> Ids:
        return VectorRanker(self.name, self.search_vectors, self.product_vectors).rank(cases, k)

    def search_vectors(self, cases: Cases) -> Floats:
        """(cases, dim)"""
        queries = self.tower.encode_queries(list(zip(cases.texts, cases.locale_names, strict=True)))
        return self.tower.personalise(queries, self.tower.encode_shoppers(self._histories(cases)))

    def _histories(self, cases: Cases) -> list[list[HistoryItem]]:
        if not self.tower.spec.history.total:
            return [[] for _ in range(len(cases))]
        starts, stops = self.told.before(cases.moments)
        return [
            history_items(
                (
                    self._event(cases.events, row)
                    for row in self.told.rows[max(start, stop - MAX_EVENTS) : stop].tolist()
                ),
                self._product,
                self.bands.band,
            )
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def _event(self, log: NumberedLog, row: int) -> Event:
        """An event of the log as serving records it; its product by row, "" for one that is not in the catalogue."""
        query, product = int(log.queries[row]), int(log.products[row])
        return Event(
            id="",
            time_ms=int(log.times_ms[row]),
            shopper_id="",
            session_id=str(log.sessions[row]),
            locale="",
            kind=KINDS[log.kinds[row]],
            product_id="" if product < 0 else str(product),
            query="" if query < 0 else log.query_names[query],
        )

    def _product(self, row: str) -> Product | None:
        return self.table.product(int(row)) if row else None


def told_events(log: NumberedLog) -> Histories:
    """What a history is made of: the first event of each search, and every click, cart and purchase."""
    keys = search_keys(log)
    searches, first = np.unique(keys, return_index=True)
    engaged = np.flatnonzero(log.kinds >= CLICK)
    return Histories.of(log, np.union1d(first[searches >= 0], engaged))
