"""The verb that writes a simulated shop to disk: its catalogue, its logs and the numbers that they follow from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from models.arrays import Progress
from models.events.write_events import write_events
from models.sample_store.families import family_name
from models.sample_store.locales.storefront_parameters import default_volumes
from models.sample_store.locales.storefronts import StorefrontLog
from models.sample_store.parameters import SharedParameters
from models.sample_store.simulated_log import SimulatedLog
from models.sample_store.store import CURRENCY, SAMPLE_COLUMNS, SampleStore

CATALOGUE, EVENTS, STOREFRONTS, TRUTH = "catalogue.parquet", "events.parquet", "storefronts.parquet", "truth.json"

_STOREFRONT_SEARCHES = 0.22  # for each event of the main log; a search has 1.73 events
_STOREFRONT_STAGE = "Writing the events of other locales"


def write_sample_log(
    out: Path,
    num_products: int,
    num_shoppers: int,
    num_events: int,
    seed: int,
    progress: Progress,
    *,
    days: int = 60,
    parameters: SharedParameters | None = None,
) -> SimulatedLog:
    """Writes catalogue.parquet (read with SAMPLE_COLUMNS), events.parquet, storefronts.parquet and truth.json into `out`.

    The first log is that of the main locale; the second has the searches of all other locales, about 0.38 events for each event of the
    first, and shares no id with it; it is the same in every family. All of it is simulated. Existing files are replaced. Raises ValueError
    for sizes outside their limits.
    """
    store = SampleStore(num_products, seed)
    log = SimulatedLog(store, num_shoppers, num_events, seed, days=days, parameters=parameters)
    out.mkdir(parents=True, exist_ok=True)
    progress("Writing the catalogue", 0, num_products)
    store.write_parquet(
        out / CATALOGUE, progress=lambda written: progress("Writing the catalogue", written, num_products)
    )
    progress("Writing the events", 0, num_events)
    write_events(out / EVENTS, _counted(log.batches(), "Writing the events", num_events, progress))
    storefronts = StorefrontLog(store, default_volumes(round(_STOREFRONT_SEARCHES * num_events)), seed, days=days)
    progress(_STOREFRONT_STAGE, 0, None)
    write_events(out / STOREFRONTS, _counted(storefronts.batches(), _STOREFRONT_STAGE, None, progress))
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
        "family": family_name(log.parameters),
        "parameters": asdict(log.parameters),
        "storefronts": {"searches": storefronts.volumes, "parameters": asdict(storefronts.parameters)},
    }
    (out / TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return log


def _counted(
    batches: Iterator[pa.RecordBatch], what: str, total: int | None, progress: Progress
) -> Iterator[pa.RecordBatch]:
    written = 0
    for batch in batches:
        yield batch
        written += batch.num_rows
        progress(what, written, total)
