"""Reads a shopping log together with the position at which each product was shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.arrays import Codes
from models.products.product_table import ProductTable
from models.unified.shopping_log import LogError, ShoppingLog


class ParsedLog(NamedTuple):
    """A log in memory: its events, and the position (events,) of each, 0 if it has none."""

    events: ShoppingLog
    position: Codes


Log: TypeAlias = "Path | pa.Table | ParsedLog"


def parse_log(log: Log, table: ProductTable) -> ParsedLog:
    """Reads a Parquet file, a folder of them, or a table, each of EVENT_SCHEMA; a ParsedLog is returned as it is. Raises LogError."""
    if isinstance(log, ParsedLog):
        return log
    if isinstance(log, Path):
        try:
            log = pq.read_table(log)
        except (OSError, pa.ArrowInvalid) as error:
            raise LogError(f"{log} is not a log in Parquet: {error}") from error
    assert isinstance(log, pa.Table)  # noqa: S101 - a path was read
    missing = [name for name in ("id", "time", "position") if name not in log.column_names]
    if missing:
        raise LogError(f"the log has no column {', '.join(missing)}; its columns are {', '.join(log.column_names)}")
    # ShoppingLog orders by time and drops repeated ids: done here first, so that the rows of events and positions are the same.
    log = log.take(pa.array(np.argsort(np.asarray(log["time"].cast(pa.int64())), kind="stable")))
    ids: Any = log["id"].combine_chunks().dictionary_encode()
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    log = log.take(pa.array(np.sort(np.unique(np.asarray(ids.indices), return_index=True)[1])))
    events = ShoppingLog.from_table(log, [table.id(row) for row in range(len(table))])
    return ParsedLog(events, np.asarray(log["position"].fill_null(0).to_numpy(), np.int32))


def concat_logs(log: Path | pa.Table | Sequence[Path], columns: Sequence[str] | None = None) -> pa.Table:
    """Concatenates files, or folders of them, as one table with the `columns` (None: all). Raises LogError for a file that is no log."""
    if isinstance(log, pa.Table):
        return log
    paths = [log] if isinstance(log, Path) else list(log)
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path, columns=None if columns is None else list(columns)))
        except (OSError, pa.ArrowInvalid) as error:
            raise LogError(f"{path} is not a log in Parquet: {error}") from error
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise LogError(f"{', '.join(path.name for path in paths)} are not of one schema: {error}") from error
