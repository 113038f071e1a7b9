"""The compute of the shopper stage: a shopper's events to the vector that moves their searches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.events.event import Event
from models.products.product_cache import ProductCache
from models.products.product_table import ProductTable
from models.ranking.bundle_part import RANKER_PART
from models.ranking.taste import Taste
from models.unified.bundle_part import UNIFIED_PART
from models.unified.history import HistoryItem, history_items
from models.unified.price_bands import PriceBands
from serving.compute.query_encoder import light_tower

MAX_BATCH = 64  # shoppers
MAX_PRODUCTS = 20_000  # kept ready, about 1 kB each; reading one takes 30 us


@dataclass(frozen=True, slots=True)
class ShopperVector:
    """A shopper as the models see them: `vector` (dim,), all zeros where the events say nothing, and the number of events that count.
    `taste` is what the ranker reads; None for a bundle without a ranker, and for a shopper who engaged with no product."""

    vector: Floats
    num_events: int
    taste: Taste | None = None


class ShopperEncoder:
    """Looks up the products behind the events, so its items hold only ids and words."""

    max_batch_cost = MAX_BATCH
    backend = "numpy cpu fp32"

    def __init__(self, bundle_folder: Path, products: ProductTable | None = None) -> None:
        """`products` is the bundle's table, if it was opened before."""
        bundle = Bundle(bundle_folder)
        self._tower = light_tower(bundle_folder)
        self._products = bundle.products() if products is None else products
        self._product_of = ProductCache(self._products.product_of, MAX_PRODUCTS)
        self.parts = (self._product_of,)  # that are parallel by row
        self._band_of = functools.lru_cache(MAX_PRODUCTS)(PriceBands.load(UNIFIED_PART.open(bundle)).band)
        self._is_ranked = RANKER_PART.is_in(bundle)

    def warm_up(self) -> None:
        self._products.row_of("")
        self.compute([()])

    def compute(self, items: Sequence[tuple[Event, ...]]) -> Sequence[ShopperVector | Exception]:
        histories = [self._history(events) for events in items]
        vectors = self._tower.encode_shoppers(histories)
        return [
            ShopperVector(
                vector,
                sum(self._counts(event) for event in events),
                Taste.from_history(history) if self._is_ranked else None,
            )
            for vector, events, history in zip(vectors, items, histories, strict=True)
        ]

    def _history(self, events: tuple[Event, ...]) -> list[HistoryItem]:
        return history_items(sorted(events, key=lambda event: event.time_ms), self._product_of, self._band_of)

    def _counts(self, event: Event) -> bool:
        return bool(event.query) or self._product_of(event.product_id) is not None
