"""The verb that writes a simulated shop to disk: its catalogue, its shopping log and what both were made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from models.event_log import write_events
from models.sample_store.generate import CURRENCY, SAMPLE_COLUMNS, SampleStore
from models.sample_store.shopping import ShoppingLog

CATALOGUE, EVENTS, TRUTH = "catalogue.parquet", "events.parquet", "truth.json"

# What is going on, how much is done, how much there is (None when unknown).
Progress = Callable[[str, int, int | None], None]


def write_sample_log(
    out: Path, num_products: int, num_shoppers: int, num_events: int, seed: int, progress: Progress, *, days: int = 60
) -> ShoppingLog:
    """Writes catalogue.parquet (read with SAMPLE_COLUMNS), events.parquet and truth.json into the folder `out`.

    All of it is simulated. Files that are there are replaced. Raises ValueError for sizes outside their limits.
    """
    store = SampleStore(num_products, seed)
    log = ShoppingLog(store, num_shoppers, num_events, seed, days=days)
    out.mkdir(parents=True, exist_ok=True)
    progress("Writing the catalogue", 0, num_products)
    store.write_parquet(
        out / CATALOGUE, progress=lambda written: progress("Writing the catalogue", written, num_products)
    )
    progress("Writing the events", 0, num_events)
    write_events(out / EVENTS, _counted(log, progress))
    truth = {
        "simulated": True,
        "num_products": num_products,
        "num_shoppers": num_shoppers,
        "num_events": num_events,
        "seed": seed,
        "start_ms": log.start_ms,
        "days": days,
        "currency": CURRENCY,
        "columns": asdict(SAMPLE_COLUMNS),
        "parameters": asdict(log.parameters),
    }
    (out / TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return log


def _counted(log: ShoppingLog, progress: Progress) -> Iterator[pa.RecordBatch]:
    written = 0
    for batch in log.batches():
        yield batch
        written += batch.num_rows
        progress("Writing the events", written, log.num_events)
