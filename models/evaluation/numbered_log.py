"""A shopping log as arrays of integer codes, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.arrays import Codes, Ints, Progress, silent
from models.events.event_log import EventLog, open_log
from models.events.searches import plain_queries
from models.unified.shopping_log import product_rows

Kinds = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class NumberedLog:
    """Events ordered by time. Codes are positions in the lists of names; -1 is none."""

    ids: pa.Array | None  # (events,) None: the log keeps no ids
    times_ms: Ints  # (events,) since 1970-01-01 UTC, ascending
    kinds: Kinds  # (events,) positions in KINDS
    products: Codes  # (events,) catalogue rows; -1: not in the catalogue
    shoppers: Codes  # (events,) -1: anonymous
    sessions: Codes  # (events,)
    queries: Codes  # (events,) -1: no search led to the event
    locales: Codes  # (events,)
    num_products: int  # in the catalogue
    query_names: list[str]  # normalised by `plain_query`
    shopper_names: list[str]
    num_sessions: int
    locale_names: list[str]
    num_repeated: int  # events left out because their id is a duplicate

    def __len__(self) -> int:
        return len(self.times_ms)

    @property
    def owners(self) -> Ints:
        """The owner of each event's history (events,): the shopper, or the session if the shopper is anonymous."""
        session_owners = len(self.shopper_names) + 1 + self.sessions.astype(np.int64)  # the first: unknown sessions
        return np.where(self.shoppers >= 0, self.shoppers, session_owners)


def read_log(logs: Path | Sequence[Path], product_ids: Sequence[str], progress: Progress = silent) -> NumberedLog:
    """Reads one log or several as `open_log` does. `product_ids` are the catalogue's, in order of row. Raises LogError."""
    progress("read events", 0, None)
    return numbered_log(open_log(logs), product_ids)


def numbered_log(log: EventLog | pa.Table, product_ids: Sequence[str]) -> NumberedLog:
    """Converts a log, or a table of EVENT_SCHEMA. `product_ids` are the catalogue's, in order of row. Raises LogError."""
    if isinstance(log, pa.Table):
        log = EventLog.from_table(log)
    plain = plain_queries(log.queries.to_pylist())  # the first is ""
    return NumberedLog(
        ids=log.ids,
        times_ms=np.asarray(log.time_ms),
        kinds=np.asarray(log.kind),
        products=product_rows(log, product_ids)[log.product],
        shoppers=np.asarray(log.shopper),
        sessions=np.asarray(log.session),
        queries=plain.code[log.query] - np.int32(1),
        locales=np.asarray(log.locale),
        num_products=len(product_ids),
        query_names=plain.names[1:],
        shopper_names=log.shoppers.to_pylist(),
        num_sessions=log.num_sessions,
        locale_names=log.locales.to_pylist(),
        num_repeated=log.num_repeated,
    )
