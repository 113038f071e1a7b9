"""Who is searching, and which of their events moved a hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.events.event import Event
from models.index.product_vectors import ProductVectors
from models.unified.light_tower import LightTower
from serving.compute.retrieval import Subject
from serving.compute.shopper_encoder import ShopperVector
from serving.search.shopper_vectors import Shopper, ShopperVectors
from serving.shoppers.store import ShopperStore
from serving.stages.stage import Stage

MAX_MOVED_BY = 3  # events named for a hit
MIN_GAIN = 1e-4  # less is rounding


@dataclass(frozen=True, slots=True)
class Gain:
    """What the shopper's history adds to a hit's similarity, and the events that add or subtract most."""

    total: float
    by_event: tuple[tuple[Event, float], ...]


class Personaliser:
    """`tower` encodes queries and moves them by shoppers; `product_vectors` are the catalogue's."""

    def __init__(
        self,
        stage: Stage[tuple[Event, ...], ShopperVector],
        store: ShopperStore | None,
        wait_ms: float,
        tower: LightTower,
        product_vectors: ProductVectors,
    ) -> None:
        self.stage = stage
        self.shoppers = ShopperVectors(stage, store, wait_ms)
        self._tower = tower
        self._product_vectors = product_vectors

    async def shopper(self, shopper_id: str, events: tuple[Event, ...], strength: float, deadline: float) -> Shopper:
        """Returns the shopper of a call; events that the call states replace the stored ones."""
        if strength == 0:
            return Shopper(reason="the call asks for a plain result")
        if events:
            return await self.shoppers.from_events(events, deadline)
        if shopper_id:
            return await self.shoppers.stored(shopper_id, deadline)
        return Shopper(reason="the call names no shopper")

    async def explain(
        self, rows: Sequence[int], subject: Subject, shopper: Shopper, deadline: float
    ) -> dict[int, Gain]:
        """Returns by row what each product gained. An event's gain: the similarity with the whole history minus that without the event."""
        if shopper.vector is None or not rows:
            return {}
        strength = subject.personalisation
        query = self._tower.encode_queries([(subject.query.text, subject.query.locale)])[0]
        products = self._product_vectors.columns(np.array(rows), 0, len(query)).astype(np.float32)  # (rows, dim)
        without = np.stack(await self.shoppers.without_each(shopper.events, deadline))  # (events, dim)
        moved = self._tower.personalise(query[None], shopper.vector[None], strength)[0]
        searches = self._tower.personalise(np.repeat(query[None], len(without), axis=0), without, strength)
        totals = products @ (moved - query)
        by_event = products @ (moved - searches).T  # (rows, events)
        gains = {}
        for at, row in enumerate(rows):
            strongest = np.argsort(-np.abs(by_event[at]))[:MAX_MOVED_BY]
            named = [(shopper.events[n], float(by_event[at, n])) for n in strongest if abs(by_event[at, n]) > MIN_GAIN]
            gains[row] = Gain(float(totals[at]), tuple(named))
        return gains
