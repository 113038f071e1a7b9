"""Writes events in EVENT_SCHEMA as Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.events.event import EVENT_SCHEMA


def write_events(path: Path | str, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes batches in EVENT_SCHEMA as one Parquet file and returns the number of events.

    The file appears under its name when it is complete.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    num_events = 0
    try:
        with pq.ParquetWriter(partial, EVENT_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                num_events += batch.num_rows
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_events
