"""What is sent: serialised requests, prepared before the load, in the order of their draw."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from aisle.v1 import shopper_pb2

SEARCH = "/aisle.v1.SearchService/Search"
EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Call:
    """One prepared call. `is_known` says that a shopper with a history asks; `sample` numbers its answer in `Calls.idle`."""

    kind: str
    method: bytes
    message: bytes
    is_known: bool = False
    sample: int = -1


@dataclass(frozen=True, slots=True)
class Calls:
    """A pool of calls that a worker sends in a random order, again and again. `idle` has the products that an idle service answered with,
    `ranked_by` what orders its hits."""

    pool: tuple[Call, ...]
    ranked_by: int = 0
    idle: tuple[tuple[str, ...], ...] = ()
    shoppers: tuple[str, ...] = ()
    products: tuple[str, ...] = field(default=())

    def endless(self, seed: int) -> Iterator[Call]:
        """Yields calls without end. Events are made anew each time: a service ignores one that it has."""
        rng = random.Random(seed)
        order = list(self.pool)
        rng.shuffle(order)
        run, numbers = uuid.UUID(int=rng.getrandbits(128)).hex[:12], itertools.count()
        for call in itertools.cycle(order):
            if call.kind == EVENTS:
                event = shopper_pb2.Event(
                    id=f"{run}-{next(numbers)}",
                    time_ms=time.time_ns() // 1_000_000,
                    shopper_id=rng.choice(self.shoppers),
                    session_id=run,
                    kind=shopper_pb2.EVENT_KIND_CLICK,
                    product_id=rng.choice(self.products),
                )
                message = shopper_pb2.RecordEventsRequest(events=[event]).SerializeToString()
                yield Call(call.kind, call.method, message)
            else:
                yield call
