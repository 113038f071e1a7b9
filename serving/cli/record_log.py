"""Sends a shopping log to a running service, as a frontend sends events."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aisle.v1 import shopper_pb2, shopper_pb2_grpc
from models.arrays import Ints, Progress
from models.events.event import EventKind
from models.events.event_log import EventLog, log_digests, open_log
from models.events.kinds import IMPRESSION
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

    With `as_of_now` all times are shifted so that the last event is now. Raises LogError for what is no log.
    """
    opened = open_log(events)
    rows = _identified_engagement(opened)
    if shoppers:
        named = np.asarray(pc.is_in(opened.shoppers, value_set=pa.array(shoppers, pa.large_string())), np.bool_)
        rows = rows[named[opened.shopper[rows]]]
    log = opened.table(rows)
    if opened.request_ids is not None:
        log = log.append_column("request_id", opened.request_ids.take(pa.array(rows)))
    if opened.ids is None:  # numbers name the events of one log only
        log = log.set_column(0, "id", pc.binary_join_element_wise(_short_digest(events), log["id"], "-"))
        session = pc.binary_join_element_wise(_short_digest(events), log["session_id"], "-")
        log = log.set_column(log.column_names.index("session_id"), "session_id", session)
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
    log = open_log(events)
    found = log.shopper[_identified_engagement(log)]
    counted = pa.table({"shopper": log.shoppers, "count": np.bincount(found, minlength=len(log.shoppers))})
    ordered = counted.sort_by([("count", "descending"), ("shopper", "ascending")])
    shoppers: list[str] = ordered["shopper"][:count].to_pylist()
    return shoppers


def _identified_engagement(log: EventLog) -> Ints:
    return np.flatnonzero((log.shopper >= 0) & (log.kind != IMPRESSION))


def _short_digest(log: Path) -> str:
    return hashlib.sha256("".join(log_digests(log)).encode()).hexdigest()[:12]


def _event(row: dict[str, Any]) -> shopper_pb2.Event:
    return shopper_pb2.Event(**{**row, "kind": KIND_NUMBERS[EventKind(str(row["kind"]))]})
