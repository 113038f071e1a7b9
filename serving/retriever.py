"""From a query vector to candidates: the index, the filters and the exact look-up of model numbers."""

from __future__ import annotations

import os
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.identifiers import IdentifierMatch
from models.product_table import ProductTable
from models.vector_index import Device, Neighbours

MAX_BATCH = 64  # queries
MAX_CACHED_MASKS = 64  # of one byte a product each
MAX_TIE_DEPTH = 2048
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
    """One query: its vector (dim,), the best `k` products that pass the filter, and the words to look up exactly."""

    vector: npt.NDArray[np.float32]
    k: int
    filter: ProductFilter = NO_FILTER
    query: str = ""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Products by row, best first. `scores` = `similarities` + `boosts`; `matched` are the identifiers behind a boost."""

    rows: list[int]
    scores: list[float]
    similarities: list[float]
    boosts: list[float]
    matched: dict[int, list[str]]


class FilterMasks:
    """Which products pass a filter, from columns that are coded once."""

    def __init__(self, table: ProductTable) -> None:
        self._table = table
        self._columns = {field: table.distinct(field) for field in ("brand", "category")}
        self._codes_of: dict[str, dict[str, list[int]]] = {}
        for field, (_, values) in self._columns.items():
            by_value: dict[str, list[int]] = defaultdict(list)
            for code, value in enumerate(values):
                for form in _prefixes(value) if field == "category" else (value,):
                    by_value[form.casefold()].append(code)
            self._codes_of[field] = dict(by_value)
        self._cache: OrderedDict[ProductFilter, Mask] = OrderedDict()

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

    def knows(self, field: str, value: str) -> bool:
        return value.casefold() in self._codes_of[field]

    def _make(self, wanted: ProductFilter) -> Mask:
        table = self._table
        mask: Mask = table.in_stock.copy() if wanted.in_stock_only else np.ones(len(table), np.bool_)
        for field, values in (("brand", wanted.brands), ("category", wanted.categories)):
            if values:
                codes, distinct = self._columns[field]
                passes = np.zeros(len(distinct), np.bool_)
                for value in values:
                    passes[self._codes_of[field].get(value.casefold(), [])] = True
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
        self.backend = f"faiss {self._index.device} {self._index.spec.kind}"

    def warm_up(self) -> None:
        """Touches the index as the first queries will."""
        rng = np.random.default_rng(0)
        for batch in (1, 1, 8, 32):
            queries = rng.standard_normal((batch, self._index.dim), np.float32)
            self._index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), min(100, self._index.size))

    def compute(self, items: Sequence[Retrieval]) -> list[Candidates | Exception]:
        answers: dict[int, Candidates | Exception] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for position, item in enumerate(items):
            groups[item.filter, _depth(item.k)].append(position)
        for (wanted, depth), positions in groups.items():
            mask = self._masks.mask(wanted)
            queries = np.stack([items[position].vector for position in positions])
            found = self._index.search(queries, min(depth, self._index.size), mask, self._threads)
            for at, position in enumerate(positions):
                nearest = Neighbours(found.ids[at : at + 1], found.scores[at : at + 1])
                answers[position] = self._merge(items[position], self._in_order(items[position], nearest, mask), mask)
        return [answers[position] for position in range(len(items))]

    def _in_order(self, item: Retrieval, nearest: Neighbours, mask: Mask | None) -> dict[int, float]:
        """Row -> similarity, best first, equals by row: a product has one place, whatever the page.

        Where equals go on past what was searched, which of them were found is chance, so the search goes deeper.
        """
        depth = nearest.ids.shape[1]
        while (
            depth < min(self._index.size, MAX_TIE_DEPTH)
            and nearest.scores[0, min(item.k, depth) - 1] == nearest.scores[0, -1]
        ):
            if nearest.ids[0, -1] < 0:  # no more products pass the filter
                break
            depth = min(2 * depth, self._index.size)
            nearest = self._index.search(item.vector[None], depth, mask)
        found = int(np.count_nonzero(nearest.ids[0] >= 0))
        return dict(zip(nearest.ids[0, :found].tolist(), nearest.scores[0, :found].tolist(), strict=True))

    def _merge(self, item: Retrieval, similarity: dict[int, float], mask: Mask | None) -> Candidates:
        """The nearest products, with those that hold an identifier of the query lifted to where they belong."""
        matches = self._identifiers.find(item.query) if item.query else []
        if matches:
            return self._boosted(item, similarity, matches, mask)
        rows = list(similarity)[: item.k]
        similarities = list(similarity.values())[: item.k]
        return Candidates(rows, similarities, similarities, [0.0] * len(rows), {})

    def _boosted(
        self, item: Retrieval, similarity: dict[int, float], matches: Sequence[IdentifierMatch], mask: Mask | None
    ) -> Candidates:
        boosts: dict[int, float] = defaultdict(float)
        matched: dict[int, list[str]] = defaultdict(list)
        for match in matches:
            for row in match.rows.tolist():
                if mask is None or mask[row]:
                    boosts[row] += match.boost
                    matched[row].append(match.identifier)
        missing = [row for row in boosts if row not in similarity]
        if missing:
            vectors = np.asarray(self._vectors[sorted(missing)], np.float32)
            similarity.update(zip(sorted(missing), (vectors @ item.vector).tolist(), strict=True))
        order = sorted(similarity, key=lambda row: (-(similarity[row] + boosts.get(row, 0.0)), row))[: item.k]
        return Candidates(
            rows=order,
            scores=[similarity[row] + boosts.get(row, 0.0) for row in order],
            similarities=[similarity[row] for row in order],
            boosts=[boosts.get(row, 0.0) for row in order],
            matched={row: matched[row] for row in order if row in matched},
        )


def _depth(k: int) -> int:
    """Powers of two from 32, so that calls of different page sizes share a search but a deep page does not burden the rest."""
    return max(32, 1 << (k - 1).bit_length())


def _prefixes(path: str) -> list[str]:
    parts = path.split(PATH_SEPARATOR)
    return [PATH_SEPARATOR.join(parts[: n + 1]) for n in range(len(parts))]
