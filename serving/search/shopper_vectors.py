"""Shopper vectors, from stored events or from the events of a request.

A search never fails because it has none. A slow or failing store takes a bounded time, and the answer says that it is plain and why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

from models.arrays import Floats
from models.events.event import Event, EventKind
from models.ranking.taste import Taste
from serving.compute.shopper_encoder import ShopperVector
from serving.metrics import table
from serving.search.failure import reason_of
from serving.shoppers.store import ShopperStore
from serving.stages.batcher import Outcome
from serving.stages.outcomes import gather_or_cancel
from serving.stages.stage import Stage

MAX_EVENTS = 64  # the newest events that are read: more than the model has places for
MAX_CACHED = 20_000  # shoppers; some 10 kB each
# When another gateway forgets a shopper, this one notices as it next reads their version, or after this time.
MAX_CACHED_S = 60.0
# The share of a call's remaining time that the store may take before the answer becomes a plain one.
STORE_SHARE = 0.3


class Source(StrEnum):
    NONE = "none"
    STORED = "stored"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopper:
    """What a search knows of its shopper. Without a `vector` (dim,) the answer is plain, and `reason` says why."""

    source: Source = Source.NONE
    vector: Floats | None = None
    taste: Taste | None = None  # for the ranker
    events: tuple[Event, ...] = ()
    num_events: int = 0
    reason: str = ""
    failed: bool = False  # the store or the stage failed
    outcome: Outcome[ShopperVector] | None = None  # of the stage, where it computed


@dataclass(frozen=True, slots=True)
class _Kept:
    version: int
    stamp: int | None  # of the store, from before the version was read
    since: float
    shopper: Shopper


class ShopperVectors:
    """Caches shopper vectors until the shopper's next event. Belongs to one event loop."""

    def __init__(
        self, stage: Stage[tuple[Event, ...], ShopperVector], store: ShopperStore | None, wait_ms: float
    ) -> None:
        self._stage = stage
        self._store = store
        self._wait_s = wait_ms / 1000
        self._cache: OrderedDict[str, _Kept] = OrderedDict()  # the oldest first
        self._hits, self._misses = (table.SHOPPER_CACHE.labels(result) for result in ("hit", "miss"))

    async def from_events(self, events: tuple[Event, ...], deadline: float) -> Shopper:
        """Returns the shopper of a request's events."""
        return await self._encode(Source.REQUEST, events[:MAX_EVENTS], deadline)

    async def stored(self, shopper_id: str, deadline: float) -> Shopper:
        """Returns a stored shopper. `deadline` is a time of `time.monotonic`."""
        if self._store is None:
            return Shopper(reason="this service keeps no events of shoppers")
        self._drop_old()
        stamp = self._store.stamp()
        kept = self._cache.get(shopper_id)
        if kept and kept.stamp == stamp is not None:
            self._hits.inc()
            return kept.shopper  # nobody has recorded anything since
        wait_s = min(self._wait_s, STORE_SHARE * (deadline - time.monotonic()))
        try:
            async with asyncio.timeout(wait_s):
                if kept and kept.version == await self._store.version(shopper_id):
                    if self._cache.get(shopper_id) is kept:  # not forgotten meanwhile
                        self._cache[shopper_id] = dataclasses.replace(kept, stamp=stamp)
                    self._hits.inc()
                    return kept.shopper
                self._misses.inc()
                history = await self._store.history(shopper_id, MAX_EVENTS)
        except TimeoutError:
            return Shopper(reason=f"the shopper store did not answer within {wait_s * 1000:.0f} ms", failed=True)
        except Exception as error:
            return Shopper(reason=reason_of("the shopper store", error), failed=True)
        shopper = await self._encode(Source.STORED, history.events, deadline)
        if not shopper.failed:
            self._keep(shopper_id, history.version, stamp, shopper)
        return shopper

    async def without_each(self, events: tuple[Event, ...], deadline: float) -> list[Floats]:
        """Returns the vectors (dim,) of the history without each event in turn."""
        fewer = [events[:at] + events[at + 1 :] for at in range(len(events))]
        # The search that they explain was admitted; many at once would fill the queue that they wait in.
        waiting = [self._stage(left, cost=1, deadline=deadline, admitted=True) for left in fewer]
        outcomes = await gather_or_cancel(waiting)
        return [outcome.value.vector for outcome in outcomes]

    async def _encode(self, source: Source, events: tuple[Event, ...], deadline: float) -> Shopper:
        # A product that was merely shown says nothing of the shopper, but the query behind it does.
        events = tuple(event for event in events if event.kind is not EventKind.IMPRESSION or event.query)
        if not events:
            return Shopper(reason="nothing is known of the shopper")
        try:
            outcome = await self._stage(events, cost=1, deadline=deadline)
        except Exception as error:
            return Shopper(reason=reason_of("the shopper stage", error), failed=True)
        encoded = outcome.value
        if not encoded.vector.any():
            return Shopper(
                reason="the shopper's events name no product of this catalogue", events=events, outcome=outcome
            )
        return Shopper(
            source=source,
            vector=encoded.vector,
            taste=encoded.taste,
            events=events,
            num_events=encoded.num_events,
            outcome=outcome,
        )

    def forget(self, shopper_id: str) -> None:
        self._cache.pop(shopper_id, None)

    def _keep(self, shopper_id: str, version: int, stamp: int | None, shopper: Shopper) -> None:
        self.forget(shopper_id)
        self._cache[shopper_id] = _Kept(version, stamp, time.monotonic(), dataclasses.replace(shopper, outcome=None))
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)

    def _drop_old(self) -> None:
        oldest = time.monotonic() - MAX_CACHED_S
        while self._cache and next(iter(self._cache.values())).since < oldest:
            self._cache.popitem(last=False)
