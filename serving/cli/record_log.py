"""Sends a shopping log to a running service, as a frontend sends events one by one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


@dataclass(slots=True)
class Told:
    """What the service said to all of it."""

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
) -> Told:
    """All but impressions, of shoppers who are known, or of `shoppers` alone. Raises InputError for a file that is no log."""
    wanted = (pc.field("shopper_id") != "") & (pc.field("kind") != EventKind.IMPRESSION.value)
    if shoppers:
        wanted &= pc.field("shopper_id").isin(list(shoppers))
    try:
        log = pq.read_table(events, filters=wanted).select(EVENT_SCHEMA.names)
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(f"{events} is not a shopping log: {error}") from None
    times = log["time"].cast(pa.int64()).to_pylist()
    moved_ms = int(time.time() * 1000) - max(times, default=0) if as_of_now else 0
    told = Told()
    stub = shopper_pb2_grpc.ShopperServiceStub(channel)
    for start in range(0, len(log), BATCH):
        progress("record events", start, len(log))
        batch = log.slice(start, BATCH).to_pylist()
        answer = stub.RecordEvents(
            shopper_pb2.RecordEventsRequest(
                events=[
                    shopper_pb2.Event(
                        **{
                            **row,
                            "kind": KIND_NUMBERS[EventKind(str(row["kind"]))],
                            "time_ms": at + moved_ms,
                        }
                    )
                    for at, row in zip(times[start : start + BATCH], map(_without_time, batch), strict=True)
                ]
            ),
            timeout=10,
            metadata=metadata,
        )
        told.recorded += answer.recorded
        told.duplicates += answer.duplicates
        told.refused += answer.refused
        told.reasons += [f"{r.field}: {r.reason}" for r in answer.rejected][: MAX_REASONS - len(told.reasons)]
    progress("record events", len(log), len(log))
    return told


def busiest_shoppers(events: Path, count: int) -> list[str]:
    """The known shoppers with most clicks, carts and purchases in a log."""
    wanted = (pc.field("shopper_id") != "") & (pc.field("kind") != EventKind.IMPRESSION.value)
    counted = (
        pq.read_table(events, columns=["shopper_id"], filters=wanted)
        .group_by("shopper_id")
        .aggregate([([], "count_all")])
    )
    ordered = counted.sort_by([("count_all", "descending"), ("shopper_id", "ascending")])
    shoppers: list[str] = ordered["shopper_id"][:count].to_pylist()
    return shoppers


def _without_time(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "time"}
