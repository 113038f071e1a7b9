"""Sends a shopping log to a running service, as a frontend sends events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aisle.v1 import shopper_pb2, shopper_pb2_grpc
from models.arrays import Progress
from models.errors import InputError
from models.events.event import EVENT_SCHEMA, EventKind
from serving.gateway.messages.event_fields import KIND_NUMBERS

BATCH = 500
MAX_REASONS = 5
TIMEOUT_S = 10


@dataclass(slots=True)
class Recorded:
    """How many events of a log the service recorded, had already, and refused; and why, for some."""

    recorded: int = 0
    duplicates: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)


def record_log(
    channel: grpc.Channel,
    metadata: tuple[tuple[str, str], ...],
    events: Path,
    shoppers: Sequence[str],
    as_of_now: bool,
    progress: Progress,
) -> Recorded:
    """Sends the clicks, carts and purchases of all identified shoppers, or of `shoppers` alone.

    With `as_of_now` all times are shifted so that the last event is now. Raises InputError for a file that is no log.
    """
    condition = _identified_engagement()
    if shoppers:
        condition &= pc.field("shopper_id").isin(list(shoppers))
    try:
        log = pq.read_table(events, filters=condition).select(EVENT_SCHEMA.names)
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{events} is not a shopping log: {error}") from None
    times = log["time"].cast(pa.int64())
    shift_ms = int(time.time() * 1000) - (pc.max(times).as_py() or 0) if as_of_now else 0
    log = log.drop_columns(["time"]).append_column("time_ms", pc.add(times, shift_ms))
    sent = Recorded()
    stub = shopper_pb2_grpc.ShopperServiceStub(channel)
    for start in range(0, len(log), BATCH):
        progress("record events", start, len(log))
        batch = [_event(row) for row in log.slice(start, BATCH).to_pylist()]
        answer = stub.RecordEvents(shopper_pb2.RecordEventsRequest(events=batch), timeout=TIMEOUT_S, metadata=metadata)
        sent.recorded += answer.recorded
        sent.duplicates += answer.duplicates
        sent.refused += answer.refused
        sent.reasons += [f"{r.field}: {r.reason}" for r in answer.rejected][: MAX_REASONS - len(sent.reasons)]
    progress("record events", len(log), len(log))
    return sent


def busiest_shoppers(events: Path, count: int) -> list[str]:
    """Returns the identified shoppers with the most clicks, carts and purchases in a log."""
    counted = (
        pq.read_table(events, columns=["shopper_id"], filters=_identified_engagement())
        .group_by("shopper_id")
        .aggregate([([], "count_all")])
    )
    ordered = counted.sort_by([("count_all", "descending"), ("shopper_id", "ascending")])
    shoppers: list[str] = ordered["shopper_id"][:count].to_pylist()
    return shoppers


def _identified_engagement() -> pc.Expression:
    return (pc.field("shopper_id") != "") & (pc.field("kind") != EventKind.IMPRESSION.value)


def _event(row: dict[str, Any]) -> shopper_pb2.Event:
    return shopper_pb2.Event(**{**row, "kind": KIND_NUMBERS[EventKind(str(row["kind"]))]})
