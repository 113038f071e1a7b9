"""The unified model as a ranker: searches as serving does, over the product vectors in the model's folder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.evaluation.cases import Cases, Histories, search_keys
from models.evaluation.numbered_log import NumberedLog
from models.events.event import Event
from models.events.kinds import CLICK, KINDS
from models.products.product import Product
from models.products.product_table import ProductTable
from models.studies.rankers import nearest
from models.unified.history import HistoryItem, history_items
from models.unified.unified_model import Search, UnifiedModel

MAX_EVENTS = 256  # the latest of a history; a model reads at most 64 items of each kind


@dataclass(frozen=True, slots=True, eq=False)
class UnifiedRanker:
    """Ranks by exact search with a trained model's vector of query and history."""

    name: str
    model: UnifiedModel
    table: ProductTable
    histories: Histories  # `history_events` of the log of the cases

    def rank(self, cases: Cases, k: int) -> Ints:
        return nearest(self.search_vectors(cases), self.model.product_vectors, k)

    def search_vectors(self, cases: Cases) -> Floats:
        """Returns (cases, dim)."""
        searches = zip(cases.texts, cases.locale_names, self._histories(cases), strict=True)
        return self.model.search_vectors([Search(query, locale, history) for query, locale, history in searches])

    def _histories(self, cases: Cases) -> list[list[HistoryItem]]:
        if not self.model.tower.spec.history.total:
            return [[] for _ in range(len(cases))]
        starts, stops = self.histories.before(cases.moments)
        return [
            history_items(
                (
                    self._event(cases.events, row)
                    for row in self.histories.rows[max(start, stop - MAX_EVENTS) : stop].tolist()
                ),
                self._product,
                self.model.bands.band,
            )
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def _event(self, log: NumberedLog, row: int) -> Event:
        """Returns an event of the log as serving records it, with the row as product id; "" if it is not in the catalogue."""
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


def history_events(log: NumberedLog) -> Histories:
    """Returns the events that make up histories: the first event of each search, and every click, cart and purchase."""
    keys = search_keys(log)
    searches, first = np.unique(keys, return_index=True)
    engaged = np.flatnonzero(log.kinds >= CLICK)
    return Histories.of_rows(log, np.union1d(first[searches >= 0], engaged))
