"""The histories of cases as a service has them: the items that models read, of the events before each case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.evaluation.cases import Cases, Histories, search_keys
from models.evaluation.numbered_log import NumberedLog
from models.events.event import Event
from models.events.kinds import CLICK, KINDS
from models.products.product import Product
from models.unified.history import HistoryItem, history_items


@dataclass(frozen=True, slots=True, eq=False)
class CaseHistories:
    """The last `max_events` events before a case, as items."""

    events: Histories  # `history_events` of the log of the cases
    product_of: Callable[[int], Product]  # by row of the catalogue
    band_of: Callable[[Product], int | None]
    max_events: int

    def before(self, cases: Cases) -> list[list[HistoryItem]]:
        """Returns the items of each case, in order of time."""
        starts, stops = self.events.before(cases.moments)
        return [
            history_items(
                (
                    _event(cases.events, row)
                    for row in self.events.rows[max(start, stop - self.max_events) : stop].tolist()
                ),
                self._product,
                self.band_of,
            )
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]

    def _product(self, row: str) -> Product | None:
        return self.product_of(int(row)) if row else None


def _event(log: NumberedLog, row: int) -> Event:
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


def history_events(log: NumberedLog) -> Histories:
    """Returns the events that make up histories: the first event of each search, and every click, cart and purchase."""
    keys = search_keys(log)
    searches, first = np.unique(keys, return_index=True)
    engaged = np.flatnonzero(log.kinds >= CLICK)
    return Histories.of_rows(log, np.union1d(first[searches >= 0], engaged))
