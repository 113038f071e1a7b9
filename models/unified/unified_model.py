"""A trained model for evaluation: search vectors, and the vectors of the catalogue. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from models.arrays import Float16s, Floats
from models.unified.history import HistoryItem
from models.unified.light_tower import LightTower, ModelError, read_spec
from models.unified.model_files import IDS_FILE, VECTORS_FILE
from models.unified.price_bands import PriceBands

_SEARCHES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Search:
    """One search: the query, its locale and the shopper's history, which is empty for an anonymous shopper."""

    query: str
    locale: str = ""
    history: Sequence[HistoryItem] = ()


@dataclass(frozen=True, slots=True)
class UnifiedModel:
    """A model folder, opened."""

    tower: LightTower
    product_vectors: Float16s  # (products, dim) memory-mapped unit vectors
    product_ids: list[str]  # (products,)
    bands: PriceBands
    until_ms: int  # end of the training window

    @classmethod
    def load(cls, folder: Path) -> UnifiedModel:
        """Raises ModelError if the folder is not complete."""
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
        """Returns unit vectors (searches, dim); the dot product with a product's vector is its score."""
        made = [np.zeros((0, self.tower.spec.dim), np.float32)]
        for start in range(0, len(searches), _SEARCHES_AT_ONCE):
            some = searches[start : start + _SEARCHES_AT_ONCE]
            queries = self.tower.encode_queries([(search.query, search.locale) for search in some])
            shoppers = self.tower.encode_shoppers([search.history for search in some])
            made.append(self.tower.personalise(queries, shoppers, strength))
        return np.concatenate(made)
