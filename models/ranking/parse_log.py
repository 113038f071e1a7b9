"""Reads a shopping log together with the position at which each product was shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from models.arrays import Codes
from models.events.event_log import EventLog, open_log
from models.products.product_table import ProductTable
from models.unified.shopping_log import ShoppingLog


class ParsedLog(NamedTuple):
    """A log of a catalogue's products: its events, and the position (events,) of each, 0 if it has none."""

    events: ShoppingLog
    position: Codes


Log: TypeAlias = "Path | Sequence[Path] | pa.Table | EventLog | ParsedLog"


def parse_log(log: Log, table: ProductTable) -> ParsedLog:
    """Reads what `open_log` opens, or a table of EVENT_SCHEMA; a ParsedLog is returned as it is. Raises LogError."""
    if isinstance(log, ParsedLog):
        return log
    if isinstance(log, pa.Table):
        log = EventLog.from_table(log)
    if not isinstance(log, EventLog):
        log = open_log(log)
    events = ShoppingLog.from_log(log, [table.id(row) for row in range(len(table))])
    return ParsedLog(events, np.asarray(log.position))
