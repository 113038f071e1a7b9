"""From a query vector to candidates: the index, the filters and the exact look-up of model numbers."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.identifiers import IdentifierMatch
from models.product_table import ProductTable
from models.vector_index import Device, Neighbours
from serving.shopper_encoder import light_tower

MAX_BATCH = 64  # queries
MAX_CACHED_MASKS = 64  # of one byte a product each
MAX_TIE_DEPTH = 2048
MAX_SCORED_ROWS = 8192  # of a type, each scored; more are searched for in the index, 2 ms for a million products
PATH_SEPARATOR = " > "

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ProductFilter:
    """All that is set must hold. Prices are in minor units, bounds inclusive."""

    brands: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    min_price_minor: int | None = None
    max_price_minor: int | None = None
    in_stock_only: bool = False


NO_FILTER = ProductFilter()


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One query: its vector (dim,), the best `k` products that pass the filter, the words to look up exactly, the weights of the
    bundle's boosts, in their order (none is no weight), and who asks: the shopper's vector (dim,) moves the query's by `strength`.

    Where the unified model encodes queries, the words go without a vector: a word table costs less than the way to another stage.

    `type_gains` are categories and what their products gain, the most of them where a product is in several; with `only_types` others
    are no candidates."""

    vector: npt.NDArray[np.float32] | None
    k: int
    filter: ProductFilter = NO_FILTER
    query: str = ""
    weights: tuple[float, ...] = ()
    shopper: npt.NDArray[np.float32] | None = None
    strength: float = 1.0
    locale: str = ""
    type_gains: tuple[tuple[str, float], ...] = ()
    only_types: bool = False


@dataclass(frozen=True, slots=True)
class Candidates:
    """Products by row, best first. A score is the similarity and what identifiers of the query, its types and weighed features add."""

    rows: list[int]
    scores: list[float]
    similarities: list[float]
    identifier_boosts: list[float]
    matched: dict[int, list[str]]  # the identifiers behind a boost
    feature_boosts: list[tuple[float, ...]]  # in the order of the weights; empty where none was given
    type_boosts: list[float] = field(default_factory=list)  # what each gains by its type; empty where none gains


class FilterMasks:
    """Which products pass a filter, from columns that are coded once."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table
        self._columns = {name: table.distinct(name) for name in ("brand", "category")}
        self._codes_of: dict[str, dict[str, list[int]]] = {}
        for name, (_, values) in self._columns.items():
            by_value: dict[str, list[int]] = defaultdict(list)
            for code, value in enumerate(values):
                for form in _prefixes(value) if name == "category" else (value,):
                    by_value[form.casefold()].append(code)
            self._codes_of[name] = dict(by_value)
        self._cache: OrderedDict[ProductFilter, Mask] = OrderedDict()
        self._rows_of: dict[str, npt.NDArray[np.int64]] = {}

    def mask(self, wanted: ProductFilter) -> Mask | None:
        """(products,) True where the product passes; None for the empty filter. Read-only: it is shared."""
        if wanted == NO_FILTER:
            return None
        mask = self._cache.get(wanted)
        if mask is None:
            mask = self._cache[wanted] = self._make(wanted)
            if len(self._cache) > MAX_CACHED_MASKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(wanted)
        return mask

    def knows(self, name: str, value: str) -> bool:
        return value.casefold() in self._codes_of[name]

    def rows_of_category(self, path: str) -> npt.NDArray[np.int64]:
        """Rows of all products of a category and below it, in order."""
        rows = self._rows_of.get(path)
        if rows is None:
            codes, _ = self._columns["category"]
            rows = self._rows_of[path] = np.flatnonzero(
                np.isin(codes, self._codes_of["category"].get(path.casefold(), []))
            )
        return rows

    def gains(self, by_category: Sequence[tuple[str, float]], rows: Sequence[int]) -> npt.NDArray[np.float64]:
        """(rows,) the greatest gain among the categories that each product is in; 0 where there is none."""
        codes, distinct = self._columns["category"]
        gain_of = np.zeros(len(distinct))
        for path, gain in by_category:
            within = self._codes_of["category"].get(path.casefold(), [])
            gain_of[within] = np.maximum(gain_of[within], gain)
        return gain_of[codes[list(rows)]]

    def categories(self, rows: Sequence[int]) -> list[str]:
        """The category of each row, "" where it has none."""
        codes, distinct = self._columns["category"]
        return [distinct[code] for code in codes[list(rows)].tolist()]

    def _make(self, wanted: ProductFilter) -> Mask:
        table = self._table
        mask: Mask = table.in_stock.copy() if wanted.in_stock_only else np.ones(len(table), np.bool_)
        for name, values in (("brand", wanted.brands), ("category", wanted.categories)):
            if values:
                codes, distinct = self._columns[name]
                passes = np.zeros(len(distinct), np.bool_)
                for value in values:
                    passes[self._codes_of[name].get(value.casefold(), [])] = True
                mask &= passes[codes]
        if wanted.min_price_minor is not None:
            mask &= table.has_price & (table.prices >= wanted.min_price_minor)
        if wanted.max_price_minor is not None:
            mask &= table.has_price & (table.prices <= wanted.max_price_minor)
        return mask


class Retriever:
    """The compute of the retrieval stage."""

    max_batch_cost = MAX_BATCH

    def __init__(self, bundle: Bundle, device: Device = "cpu", threads: int = 0) -> None:
        self._index = bundle.index(device)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._vectors = bundle.vectors()
        self._masks = FilterMasks(bundle.products())
        self._identifiers = bundle.identifiers()
        self._tower = light_tower(bundle.folder) if bundle.is_unified else None
        self.backend = f"faiss {self._index.device} {self._index.spec.kind}"

    def warm_up(self) -> None:
        """Touches the index as the first queries will."""
        rng = np.random.default_rng(0)
        for batch in (1, 1, 8, 32):
            queries = rng.standard_normal((batch, self._index.width), np.float32)
            queries[:, self._index.dim :] = 0
            self._index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), min(100, self._index.size))

    def compute(self, items: Sequence[Retrieval]) -> list[Candidates | Exception]:
        vectors = self._search_vectors(items)
        answers: dict[int, Candidates | Exception] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for position, item in enumerate(items):
            if item.only_types:
                answers[position] = self._merge(item, vectors[position], {}, self._only_types(item))
            else:
                groups[item.filter, _depth(item.k)].append(position)
        for (wanted, depth), positions in groups.items():
            mask = self._masks.mask(wanted)
            found = self._index.search(vectors[positions], min(depth, self._index.size), mask, self._threads)
            for at, position in enumerate(positions):
                nearest = Neighbours(found.ids[at : at + 1], found.scores[at : at + 1])
                item, vector = items[position], vectors[position]
                answers[position] = self._merge(item, vector, self._in_order(item.k, vector, nearest, mask), mask)
        return [answers[position] for position in range(len(items))]

    def _only_types(self, item: Retrieval) -> Mask:
        """(products,) the filter, and of one of the types."""
        within = np.zeros(self._index.size, np.bool_)
        for path, _ in item.type_gains:
            within[self._masks.rows_of_category(path)] = True
        mask = self._masks.mask(item.filter)
        return within if mask is None else within & mask

    def _search_vectors(self, items: Sequence[Retrieval]) -> npt.NDArray[np.float32]:
        """(items, width) the vectors to search with, and the weights of the static features behind them.

        Encoding and moving all at once costs a few us each in a batch of 16, some 30 us alone.
        """
        dim = self._index.dim
        searched = np.zeros((len(items), self._index.width), np.float32)
        worded = [at for at, item in enumerate(items) if item.vector is None]
        if worded:
            if self._tower is None:
                raise ValueError("a query without a vector, and the bundle has no model that encodes it here")
            texts = [(items[at].query, items[at].locale) for at in worded]
            searched[worded, :dim] = self._tower.encode_queries(texts)
        for at, item in enumerate(items):
            if item.vector is not None:
                searched[at, :dim] = item.vector
        moved = [at for at, item in enumerate(items) if item.shopper is not None]
        if moved and self._tower:
            searched[moved, :dim] = self._tower.personalise(
                searched[moved, :dim],
                np.stack([np.asarray(items[at].shopper) for at in moved]),
                np.array([items[at].strength for at in moved], np.float32),
            )
        for at, item in enumerate(items):
            if item.weights:
                searched[at, dim : dim + len(item.weights)] = item.weights
        return searched

    def _in_order(
        self, k: int, vector: npt.NDArray[np.float32], nearest: Neighbours, mask: Mask | None
    ) -> dict[int, float]:
        """Row -> score, best first, equals by row: a product has one place, whatever the page.

        Where equals go on past what was searched, which of them were found is chance, so the search goes deeper.
        """
        depth = nearest.ids.shape[1]
        while (
            depth < min(self._index.size, MAX_TIE_DEPTH)
            and nearest.scores[0, min(k, depth) - 1] == nearest.scores[0, -1]
        ):
            if nearest.ids[0, -1] < 0:  # no more products pass the filter
                break
            depth = min(2 * depth, self._index.size)
            nearest = self._index.search(vector[None], depth, mask)
        found = int(np.count_nonzero(nearest.ids[0] >= 0))
        return dict(zip(nearest.ids[0, :found].tolist(), nearest.scores[0, :found].tolist(), strict=True))

    def _merge(
        self, item: Retrieval, vector: npt.NDArray[np.float32], scores: dict[int, float], mask: Mask | None
    ) -> Candidates:
        """The nearest products, with those that hold an identifier of the query or are of its types lifted to where they belong."""
        matches = self._identifiers.find(item.query) if item.query else []
        if item.type_gains:
            self._add_types(item, vector, scores, mask)
        if matches or item.type_gains:
            return self._lifted(item, vector, scores, matches, mask)
        rows = list(scores)[: item.k]
        found = list(scores.values())[: item.k]
        similarities, feature_boosts = self._parted(item, rows, found)
        return Candidates(rows, found, similarities, [0.0] * len(rows), {}, feature_boosts)

    def _add_types(
        self, item: Retrieval, vector: npt.NDArray[np.float32], scores: dict[int, float], mask: Mask | None
    ) -> None:
        """Adds the nearest k of each type. With these, the best k after all of a type has gained alike are among the scores."""
        for path, _ in item.type_gains:
            rows = self._masks.rows_of_category(path)
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) <= MAX_SCORED_ROWS:
                found = np.asarray(self._vectors[rows], np.float32) @ vector
                if len(rows) > item.k:
                    best = np.argpartition(-found, item.k - 1)[: item.k]
                    rows, found = rows[best], found[best]
                scores.update(zip(rows.tolist(), found.tolist(), strict=True))
            else:
                within = np.zeros(self._index.size, np.bool_)
                within[rows] = True
                nearest = self._index.search(vector[None], min(_depth(item.k), self._index.size), within)
                scores.update(self._in_order(item.k, vector, nearest, within))

    def _parted(
        self, item: Retrieval, rows: list[int], scores: list[float]
    ) -> tuple[list[float], list[tuple[float, ...]]]:
        """What of the index's scores is similarity, and what each weighed feature adds."""
        if not item.weights:
            return scores, [()] * len(rows)
        dim, weights = self._index.dim, np.array(item.weights, np.float32)
        added = np.asarray(self._vectors[rows, dim : dim + len(weights)], np.float32) * weights  # (rows, weights)
        similarities = np.array(scores, np.float32) - added.sum(axis=1)
        return similarities.tolist(), list(map(tuple, added.tolist()))

    def _lifted(
        self,
        item: Retrieval,
        vector: npt.NDArray[np.float32],
        scores: dict[int, float],
        matches: Sequence[IdentifierMatch],
        mask: Mask | None,
    ) -> Candidates:
        boosts: dict[int, float] = defaultdict(float)
        matched: dict[int, list[str]] = defaultdict(list)
        for match in matches:
            for row in match.rows.tolist():
                if mask is None or mask[row]:
                    boosts[row] += match.boost
                    matched[row].append(match.identifier)
        missing = [row for row in boosts if row not in scores]
        if missing:
            vectors = np.asarray(self._vectors[sorted(missing)], np.float32)
            scores.update(zip(sorted(missing), (vectors @ vector).tolist(), strict=True))
        rows = list(scores)
        gains = self._masks.gains(item.type_gains, rows)
        totals = np.fromiter(scores.values(), np.float64, len(rows)) + gains
        if boosts:
            totals += np.array([boosts.get(row, 0.0) for row in rows])
        best = np.lexsort((np.array(rows, np.int64), -totals))[: item.k].tolist()
        order = [rows[at] for at in best]
        similarities, feature_boosts = self._parted(item, order, [scores[row] for row in order])
        return Candidates(
            rows=order,
            scores=totals[best].tolist(),
            similarities=similarities,
            identifier_boosts=[boosts.get(row, 0.0) for row in order],
            matched={row: matched[row] for row in order if row in matched},
            feature_boosts=feature_boosts,
            type_boosts=gains[best].tolist() if item.type_gains else [],
        )


def _depth(k: int) -> int:
    """Powers of two from 32, so that calls of different page sizes share a search but a deep page does not burden the rest."""
    return max(32, 1 << (k - 1).bit_length())


def _prefixes(path: str) -> list[str]:
    parts = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(parts[: n + 1]) for n in range(len(parts))]
