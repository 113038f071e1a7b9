"""From search vectors to candidates: the index, the filters, the types of the query, and the exact look-up of model numbers."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Floats, Ints
from models.bundles.bundle import Bundle
from models.index.float16 import to_float32
from models.index.neighbours import Neighbours
from models.index.spec import Device
from models.products.identifiers import IdentifierMatch
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.retrieval import Candidates, SearchItem

MAX_TIE_DEPTH = 2048
MAX_SCORED_ROWS = 8192  # products of a type that are scored one by one; the index searches more, 2 ms for a million


@dataclass(frozen=True, slots=True, eq=False)
class _Nearest:
    """Rows (n,) of products and their scores (n,) in the index."""

    rows: Ints
    scores: Floats


_NOTHING = _Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))


class CandidateSearch:
    """Searches the products of one bundle. One thread computes at a time."""

    def __init__(self, bundle: Bundle, device: Device = "cpu", threads: int = 0) -> None:
        self.index = bundle.index(device)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._vectors = np.asarray(bundle.vectors())  # still mapped, and faster to index
        self._masks = FilterMasks(bundle.products())
        self._identifiers = bundle.identifiers()
        self._is_seen = np.zeros(self.index.size, np.bool_)  # False between uses

    def warm_up(self) -> None:
        """Touches the index as the first queries will."""
        rng = np.random.default_rng(0)
        for batch in (1, 1, 8, 32):
            queries = rng.standard_normal((batch, self.index.width), np.float32)
            queries[:, self.index.dim :] = 0
            self.index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), min(100, self.index.size))

    def search(self, items: Sequence[SearchItem], vectors: Floats) -> list[Candidates]:
        """Returns the candidates of each item; `vectors` (items, width) are its search vectors."""
        results: dict[int, Candidates] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for at, item in enumerate(items):
            if item.only_types:
                results[at] = self._merge(item, vectors[at], _NOTHING, self._mask_of_types(item))
            else:
                groups[item.filter, _depth(item.k)].append(at)
        for (product_filter, depth), members in groups.items():
            mask = self._masks.mask(product_filter)
            found = self.index.search(vectors[members], min(depth, self.index.size), mask, self._threads)
            for n, at in enumerate(members):
                neighbours = Neighbours(found.ids[n : n + 1], found.scores[n : n + 1])
                nearest = self._break_ties(items[at].k, vectors[at], neighbours, mask)
                results[at] = self._merge(items[at], vectors[at], nearest, mask)
        return [results[at] for at in range(len(items))]

    def _mask_of_types(self, item: SearchItem) -> Bools:
        """Returns (products,) True for products that pass the filter and are of one of the types."""
        within = np.zeros(self.index.size, np.bool_)
        for path, _ in item.type_boosts:
            within[self._masks.rows_of_category(path)] = True
        mask = self._masks.mask(item.filter)
        return within if mask is None else within & mask

    def _break_ties(self, k: int, vector: Floats, nearest: Neighbours, mask: Bools | None) -> _Nearest:
        """Returns the nearest best first, equals by row: a product has one place, whatever the page.

        Where equals go on past the depth of the search, which of them the index returned is chance, so the search goes deeper.
        """
        depth = nearest.ids.shape[1]
        while (
            depth < min(self.index.size, MAX_TIE_DEPTH)
            and nearest.scores[0, min(k, depth) - 1] == nearest.scores[0, -1]
        ):
            if nearest.ids[0, -1] < 0:  # no more products pass the filter
                break
            depth = min(2 * depth, self.index.size)
            nearest = self.index.search(vector[None], depth, mask)
        count = int(np.count_nonzero(nearest.ids[0] >= 0))
        return _Nearest(nearest.ids[0, :count], nearest.scores[0, :count])

    def _merge(self, item: SearchItem, vector: Floats, nearest: _Nearest, mask: Bools | None) -> Candidates:
        """Returns the nearest products. Those that hold an identifier of the query or are of its types rise by their boosts."""
        query = item.subject.query.text
        matches = self._identifiers.find(query) if query else []
        if matches or item.type_boosts:
            return self._boosted(item, vector, nearest, matches, mask)
        rows, scores = nearest.rows[: item.k].tolist(), nearest.scores[: item.k].tolist()
        similarities, feature_boosts = self._split_scores(item, rows, scores)
        no_boosts = [0.0] * len(rows)
        return Candidates(
            rows=rows,
            scores=scores,
            similarities=similarities,
            identifier_boosts=no_boosts,
            type_boosts=no_boosts,
            feature_boosts=feature_boosts,
            matched={},
        )

    def _nearest_of_types(self, item: SearchItem, vector: Floats, mask: Bools | None) -> list[_Nearest]:
        """Returns the nearest k of each type, in any order. All products of a type get the same boost, so the best k of all are among
        these and the nearest k."""
        parts = []
        for path, _ in item.type_boosts:
            rows = self._masks.rows_of_category(path)
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) <= MAX_SCORED_ROWS:
                scores = to_float32(np.take(self._vectors, rows, axis=0)) @ vector
                if len(rows) > item.k:
                    best = np.argpartition(-scores, item.k - 1)[: item.k]
                    rows, scores = rows[best], scores[best]
                parts.append(_Nearest(rows, scores))
            else:
                within = np.zeros(self.index.size, np.bool_)
                within[rows] = True
                nearest = self.index.search(vector[None], min(_depth(item.k), self.index.size), within)
                parts.append(self._break_ties(item.k, vector, nearest, within))
        return parts

    def _split_scores(
        self, item: SearchItem, rows: list[int], scores: list[float]
    ) -> tuple[list[float], list[tuple[float, ...]]]:
        """Splits the index's scores into similarities and what each static feature adds."""
        if not item.boosts:
            return scores, [()] * len(rows)
        dim, weights = self.index.dim, np.array(item.boosts, np.float32)
        added = np.asarray(self._vectors[rows, dim : dim + len(weights)], np.float32) * weights  # (rows, weights)
        similarities = np.array(scores, np.float32) - added.sum(axis=1)
        return similarities.tolist(), list(map(tuple, added.tolist()))

    def _boosted(
        self,
        item: SearchItem,
        vector: Floats,
        nearest: _Nearest,
        matches: Sequence[IdentifierMatch],
        mask: Bools | None,
    ) -> Candidates:
        boosts: dict[int, float] = defaultdict(float)
        matched: dict[int, list[str]] = defaultdict(list)
        for match in matches:
            for row in match.rows.tolist():
                if mask is None or mask[row]:
                    boosts[row] += match.boost
                    matched[row].append(match.identifier)
        parts = [*self._nearest_of_types(item, vector, mask), nearest]
        if boosts:
            named = np.array(sorted(boosts), np.int64)
            parts.append(_Nearest(named, to_float32(self._vectors[named]) @ vector))
        rows, scores = self._union(parts)
        type_boosts = self._masks.type_boosts(item.type_boosts, rows)
        totals = scores + type_boosts
        if boosts:
            totals += np.array([boosts.get(row, 0.0) for row in rows.tolist()])
        best = _best(rows, totals, item.k)
        order = rows[best].tolist()
        similarities, feature_boosts = self._split_scores(item, order, scores[best].tolist())
        return Candidates(
            rows=order,
            scores=totals[best].tolist(),
            similarities=similarities,
            identifier_boosts=[boosts.get(row, 0.0) for row in order] if boosts else [0.0] * len(order),
            type_boosts=type_boosts[best].tolist(),
            feature_boosts=feature_boosts,
            matched={row: matched[row] for row in order if row in matched} if matched else {},
        )

    def _union(self, parts: Sequence[_Nearest]) -> tuple[Ints, Doubles]:
        """Returns the rows of all parts and their scores; a row of several parts has the score of the first."""
        rows, scores = [], []
        try:
            for part in parts:
                is_new = ~self._is_seen[part.rows]
                rows.append(part.rows[is_new])
                scores.append(part.scores[is_new])
                self._is_seen[part.rows] = True
        finally:
            for part in parts:
                self._is_seen[part.rows] = False
        return np.concatenate(rows), np.concatenate(scores, dtype=np.float64)


def _best(rows: Ints, totals: Doubles, k: int) -> Ints:
    """Returns the positions of the k best, best first, equals by row."""
    if len(rows) <= k:
        return np.lexsort((rows, -totals))
    least = np.partition(totals, len(totals) - k)[len(totals) - k]
    among = np.flatnonzero(totals >= least)
    return among[np.lexsort((rows[among], -totals[among]))[:k]]


def _depth(k: int) -> int:
    """Returns how many products to search for: more than `k`, which shows whether equals go on past it. Depths go by steps, so that calls
    of different page sizes share a search and a deep page does not slow down the others. A step is an eighth of the power of two below `k`,
    at least 32: each product that is not needed takes time too."""
    step = max(32, (1 << k.bit_length()) >> 4)
    return (k // step + 1) * step
