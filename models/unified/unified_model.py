"""A trained model as evaluation sees it: searches in, vectors out, beside the vectors of the catalogue. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from models.arrays import Float16s, Floats
from models.events.kinds import CART, CLICK, PURCHASE
from models.products.product_table import ProductTable
from models.unified.history import HistoryItem, HistoryKind, product_item
from models.unified.light_tower import LightTower, ModelError, read_spec
from models.unified.model_files import IDS_FILE, VECTORS_FILE
from models.unified.price_bands import PriceBands
from models.unified.shopping_log import UNKNOWN, ShoppingLog

_SEARCHES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Search:
    """One search: what is asked, where, and what the shopper did before. No history is an anonymous shopper."""

    query: str
    locale: str = ""
    history: Sequence[HistoryItem] = ()


@dataclass(frozen=True, slots=True)
class UnifiedModel:
    """A model folder, opened."""

    tower: LightTower
    product_vectors: Float16s  # (products, dim) unit vectors, mapped from the file
    product_ids: list[str]  # (products,)
    bands: PriceBands
    until_ms: int  # training saw nothing from then on

    @classmethod
    def load(cls, folder: Path) -> UnifiedModel:
        """Raises ModelError where the folder is not complete."""
        spec = read_spec(folder)
        try:
            vectors = np.load(folder / VECTORS_FILE, mmap_mode="r", allow_pickle=False)
            product_ids = pq.read_table(folder / IDS_FILE)["id"].to_pylist()
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder} holds no product vectors: {error}") from error
        if len(vectors) != len(product_ids):
            raise ModelError(f"{folder} holds {len(vectors):,} product vectors and {len(product_ids):,} ids")
        return cls(LightTower(folder), vectors, product_ids, PriceBands.load(folder), int(spec["until_ms"]))

    def search_vectors(self, searches: Sequence[Search], strength: float = 1.0) -> Floats:
        """Unit vectors (searches, dim); the dot product with a product's vector is its score."""
        made = [np.zeros((0, self.tower.spec.dim), np.float32)]
        for start in range(0, len(searches), _SEARCHES_AT_ONCE):
            some = searches[start : start + _SEARCHES_AT_ONCE]
            queries = self.tower.encode_queries([(search.query, search.locale) for search in some])
            shoppers = self.tower.encode_shoppers([search.history for search in some])
            made.append(self.tower.personalise(queries, shoppers, strength))
        return np.concatenate(made)

    def history_before(self, log: ShoppingLog, table: ProductTable, shopper: int, time_ms: int) -> list[HistoryItem]:
        """Items of a shopper of a log strictly before a time. Reads the whole log; for many shoppers use `Histories`."""
        events = np.flatnonzero((log.shopper == shopper) & (log.time_ms < time_ms))
        items: list[HistoryItem] = []
        seen: set[tuple[int, ...]] = set()
        for event in events.tolist():
            search, product, kind = int(log.search[event]), int(log.product[event]), int(log.kind[event])
            time = int(log.time_ms[event])
            if log.query[event] and (search,) not in seen:
                seen.add((search,))
                items.append(HistoryItem(HistoryKind.SEARCH, time, query=log.queries[log.query[event]]))
            if product == UNKNOWN or kind < CLICK or (kind in (CLICK, CART) and (search, product) in seen):
                continue
            seen |= {(search, product)} if kind != PURCHASE else set()
            found = table.product(product)
            wanted = HistoryKind.PURCHASE if kind == PURCHASE else HistoryKind.CLICK
            items.append(product_item(wanted, time, found, self.bands.band(found)))
        return items
