"""The vectors that a batch searches with: queries encoded, moved by their shoppers, with the weights of static features behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats
from models.unified.light_tower import LightTower
from serving.compute.retrieval import EncodedQuery, ScoreItem, SearchItem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchVectors:
    """The vectors of a batch: of the queries (items, dim), and those to search the index with (items, width)."""

    queries: Floats
    searches: Floats


class QueryVectors:
    """Encodes and personalises a batch at once: a few us each in a batch of 16, some 30 us alone. `tower` is None for bundles of a text
    encoder, whose queries come encoded."""

    def __init__(self, tower: LightTower | None, dim: int, width: int) -> None:
        self._tower = tower
        self._dim = dim
        self._width = width

    def encode(self, items: Sequence[SearchItem | ScoreItem]) -> SearchVectors:
        dim = self._dim
        searches = np.zeros((len(items), self._width), np.float32)
        words: list[int] = []
        for at, item in enumerate(items):
            query = item.subject.query
            if isinstance(query, EncodedQuery):
                searches[at, :dim] = query.vector
            elif query.text:  # an item that browses has no vector
                words.append(at)
        if words:
            if self._tower is None:
                raise ValueError("a query without a vector, and the bundle has no model that encodes it here")
            texts = [(items[at].subject.query.text, items[at].subject.query.locale) for at in words]
            searches[words, :dim] = self._tower.encode_queries(texts)
        queries = searches[:, :dim].copy()
        self._personalise(items, searches)
        for at, item in enumerate(items):
            if isinstance(item, SearchItem) and item.boosts:
                searches[at, dim : dim + len(item.boosts)] = item.boosts
        return SearchVectors(queries=queries, searches=searches)

    def _personalise(self, items: Sequence[SearchItem | ScoreItem], searches: Floats) -> None:
        moved = [at for at, item in enumerate(items) if item.subject.shopper is not None]
        if moved and self._tower:
            searches[moved, : self._dim] = self._tower.personalise(
                searches[moved, : self._dim],
                np.stack([np.asarray(items[at].subject.shopper) for at in moved]),
                np.array([items[at].subject.personalisation for at in moved], np.float32),
            )
