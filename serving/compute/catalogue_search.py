"""From search items to candidates: the nearest products of a query or, without one, all that pass the filter; then the order by a value,
groups and facets of what was found."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.index.vector_index import VectorIndex
from models.lexical.lexical_index import LexicalIndex
from models.products.changes import RowParallel
from models.products.identifiers import IdentifierIndex
from models.products.product_table import ProductTable
from models.ranking.click_memory import Clicks
from serving.compute.candidate_search import CandidateSearch
from serving.compute.facets import FacetCounter, FacetCounts, FacetQuestion
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.retrieval import Candidates, SearchItem
from serving.compute.value_order import ValueOrder

MAX_CACHED_FACETS = 512  # answers over all products
MAX_GROUPED = 10_000  # products of which groups are made where there is no query


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The candidates of one item. `num_matching` products pass its filter, and the candidates are the best of `num_considered` of them."""

    candidates: Candidates
    num_matching: int
    num_considered: int
    facets: tuple[FacetCounts, ...] = ()


class CatalogueSearch:
    """Searches the products of a catalogue. One thread computes at a time. What it searches may grow between searches; `parts` grow with
    it."""

    def __init__(
        self,
        table: ProductTable,
        index: VectorIndex,
        masks: FilterMasks,
        identifiers: IdentifierIndex,
        lexical: LexicalIndex | None = None,
        clicks: Clicks | None = None,
        boosts: Sequence[str] = (),
        threads: int = 0,
    ) -> None:
        """`boosts` are the names of the static features behind the unit vectors of the index."""
        self.index = index
        self._masks = masks
        self._nearest = CandidateSearch(index, masks, identifiers, lexical, clicks, threads)
        self._order = ValueOrder(table, masks, index.vectors.base, index.dim, boosts)
        self.parts: tuple[RowParallel, ...] = (self._order,)
        self._facets = FacetCounter(self._masks)
        self._counted: OrderedDict[tuple[FacetQuestion, ProductFilter], FacetCounts] = OrderedDict()
        self._counted_version = 0  # of the catalogue

    def warm_up(self) -> None:
        self._nearest.warm_up()
        self._masks.warm_up()

    def search(self, items: Sequence[SearchItem], vectors: Floats) -> list[Found]:
        """Returns what each item found; `vectors` (items, width) are the search vectors, of which those without a query are not read."""
        queries = [at for at, item in enumerate(items) if not item.browses]
        nearest = self._nearest.search(
            [items[at] for at in queries], vectors if len(queries) == len(items) else vectors[queries]
        )
        found = {
            at: self._of_query(items[at], vectors[at], candidates)
            for at, candidates in zip(queries, nearest, strict=True)
        }
        return [found[at] if at in found else self._browse(item) for at, item in enumerate(items)]

    def _of_query(self, item: SearchItem, vector: Floats, candidates: Candidates) -> Found:
        considered = len(candidates.rows)
        num_matching = considered if item.words_only else self._nearest.num_matching(item)
        facets = tuple(self._count_best(item, vector, candidates, question) for question in item.facets)
        if item.sort or item.group_by:
            candidates = candidates.take(_similar(candidates, item.min_similarity))
        if item.sort:
            candidates = candidates.take(self._order.sorted(item.sort, _rows(candidates)).tolist())
        if item.group_by:
            candidates = self._grouped(item, candidates)
        return Found(candidates=candidates, num_matching=num_matching, num_considered=considered, facets=facets)

    def _browse(self, item: SearchItem) -> Found:
        mask = self._masks.mask(item.filter)
        num_matching = len(self._masks) if mask is None else int(np.count_nonzero(mask))
        rows = self._order.first(item.sort or self._order.default, mask, MAX_GROUPED if item.group_by else item.k)
        candidates = Candidates.of_rows(rows.tolist())
        if item.group_by:
            candidates = self._grouped(item, candidates)
        return Found(
            candidates=candidates,
            num_matching=num_matching,
            num_considered=min(num_matching, MAX_GROUPED) if item.group_by else num_matching,
            facets=tuple(self._count_all(question, item.filter.without(question.name)) for question in item.facets),
        )

    def _grouped(self, item: SearchItem, candidates: Candidates) -> Candidates:
        kept, groups = self._order.groups(item.group_by, _rows(candidates), self._masks.mask(item.filter))
        return dataclasses.replace(candidates.take(kept), groups=groups)

    def _count_best(
        self, item: SearchItem, vector: Floats, candidates: Candidates, question: FacetQuestion
    ) -> FacetCounts:
        """Counts over the best candidates of the item without what its filter says of the field."""
        relaxed = item.filter.without(question.name)
        if relaxed != item.filter:
            (candidates,) = self._nearest.search([dataclasses.replace(item, filter=relaxed)], vector[None])
        return self._facets.of_rows(question, _rows(candidates)[_similar(candidates, item.min_similarity)])

    def _count_all(self, question: FacetQuestion, product_filter: ProductFilter) -> FacetCounts:
        if self._counted_version != self._masks.version:
            self._counted.clear()
            self._counted_version = self._masks.version
        key = (question, product_filter)
        counts = self._counted.get(key)
        if counts is None:
            counts = self._counted[key] = self._facets.of_all(question, self._masks.mask(product_filter))
            if len(self._counted) > MAX_CACHED_FACETS:
                self._counted.popitem(last=False)
        else:
            self._counted.move_to_end(key)
        return counts


def _rows(candidates: Candidates) -> Ints:
    return np.array(candidates.rows, np.int64)


def _similar(candidates: Candidates, min_similarity: float) -> list[int]:
    """Returns the places of the candidates above a threshold, and of those that hold an identifier of the query."""
    if min_similarity == -math.inf:
        return list(range(len(candidates.rows)))
    pairs = zip(candidates.similarities, candidates.identifier_boosts, strict=True)
    return [at for at, (similarity, boost) in enumerate(pairs) if similarity >= min_similarity or boost > 0]
