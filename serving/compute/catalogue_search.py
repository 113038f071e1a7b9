"""From search items to candidates: the nearest products of a query or, without one, all that pass the filter; then the order by a value,
groups and facets of what was found."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
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
from serving.compute.facets import FacetCounter, FacetCounts, FacetQuestion, Scope
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.named_values import NamedQuery
from serving.compute.readings import merged
from serving.compute.retrieval import Candidates, SearchItem, Sorted
from serving.compute.value_order import Group, SortBy, ValueOrder, group_rows

MAX_CACHED_FACETS = 512  # answers over all products
MAX_GROUPED = 10_000  # products of which groups are made where there is no query


# Where a value orders and no product holds all words of the query, those are ordered whose scores are so near the best. Of 310 queries in
# shoppers' words over the sample store ("velvet couch", simulated) the first ten by price were of the right type and value in .698, .640
# and .516 with 0.05, 0.1 and 0.2, and .297, .439 and .683 of such products were there at all; .418 with the largest share of the words in
# place of the score, .043 with all of the best 1,000.
NEAR = 0.1
_NO_ROWS: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The candidates of one item. `num_matching` products pass its filter, and the candidates are the best of `num_considered` of them."""

    candidates: Candidates
    num_matching: int
    num_considered: int
    sorted: Sorted | None = None  # where a value orders the products of a query
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

    def give(self, named: Mapping[str, NamedQuery]) -> None:
        """Takes queries as the values of the whole catalogue let them be read, if these are the products of a shard."""
        if self._nearest.named_values:
            self._nearest.named_values.given = named

    def search(self, items: Sequence[SearchItem], vectors: Floats) -> list[Found]:
        """Returns what each item found; `vectors` (readings of all items, width) are the search vectors, of which those without a query are
        not read."""
        found: dict[int, Found] = {}
        queries: dict[int, Floats] = {}  # the vectors (readings, width) of each item that is searched
        start = 0
        for at, item in enumerate(items):
            own = vectors[start : start + 1 + len(item.others)]
            start += len(own)
            if item.browses:
                found[at] = self._browse(item)
            elif item.sort and (matching := self._sort_matching(item, item.sort, own)):
                found[at] = matching
            else:
                queries[at] = own
        best = self._best([items[at] for at in queries], list(queries.values()))
        for at, candidates in zip(queries, best, strict=True):
            found[at] = self._of_query(items[at], queries[at], candidates)
        return [found[at] for at in range(len(items))]

    def _best(self, items: Sequence[SearchItem], vectors: Sequence[Floats]) -> list[Candidates]:
        """Returns the candidates of each item, those of all its readings; `vectors` are (readings, width) of each."""
        if not items:
            return []
        readings = [reading for item in items for reading in item.readings]
        nearest = iter(self._nearest.search(readings, vectors[0] if len(items) == 1 else np.concatenate(vectors)))
        return [
            merged([next(nearest) for _ in item.readings], item.k) if item.others else next(nearest) for item in items
        ]

    def _of_query(self, item: SearchItem, vectors: Floats, candidates: Candidates) -> Found:
        """Returns the best of a query or, where a value orders but nothing matches the query, those of its best that are near enough."""
        considered = len(candidates.rows)
        num_matching = considered if item.words_only else self._nearest.num_matching(item)
        facets = tuple(self._count(item, vectors, candidates, question) for question in item.facets)
        if item.sort or item.group_by:
            candidates = candidates.take(worth_showing(item, candidates))
        near = len(candidates.rows)
        if item.sort:
            candidates = candidates.take(self._order.sorted(item.sort, _rows(candidates)).tolist())
        if item.group_by:
            candidates = self._grouped(item, candidates)
        is_exact = near < considered or considered >= num_matching
        return Found(
            candidates=candidates,
            num_matching=num_matching,
            num_considered=considered,
            sorted=Sorted(Scope.BEST, len(candidates.rows), is_exact) if item.sort else None,
            facets=facets,
        )

    def _sort_matching(self, item: SearchItem, by: SortBy, vectors: Floats) -> Found | None:
        """Returns all products that match a reading of the query in the order of a value; None if there are none."""
        rows, readings = self._matching(item, vectors)
        if not len(rows):
            return None
        facets = tuple(self._count(item, vectors, rows, question) for question in item.facets)
        num_matching = len(rows)
        mask = np.zeros(len(self._masks), np.bool_)
        mask[rows] = True
        shown = self._order.first(by, mask, num_matching if item.group_by else item.k)
        total, groups = num_matching, dict[int, Group]()
        if item.group_by:
            kept, of_all = group_rows(self._masks, item.group_by, shown, self._masks.mask(item.filter))
            shown, total = shown[kept][: item.k], len(kept)
            groups = {row: of_all[row] for row in shown.tolist() if row in of_all}  # no more than the answer needs
        by_row = np.argsort(rows) if item.others else np.arange(len(rows))
        places = by_row[np.searchsorted(rows, shown, sorter=by_row)]
        candidates = self._with_evidence(item, vectors, shown, readings[places])
        return Found(
            candidates=dataclasses.replace(candidates, groups=groups),
            num_matching=num_matching,
            num_considered=num_matching,
            sorted=Sorted(Scope.MATCHING, total, is_exact=True),
            facets=facets,
        )

    def _matching(self, item: SearchItem, vectors: Floats) -> tuple[Ints, Ints]:
        """Returns the rows of all products that match a reading of the item's query and are similar enough to it, and the number of that
        reading, the first of several."""
        rows, readings = _NO_ROWS, _NO_ROWS
        for number, (reading, vector) in enumerate(zip(item.readings, vectors, strict=True)):
            new = self._nearest.matching(reading)
            if item.min_similarity > -math.inf and len(new):
                new = new[worth_showing(item, self._nearest.of_rows(reading, vector, new))]
            if number:
                new = np.setdiff1d(new, rows, assume_unique=True)
            rows = np.concatenate([rows, new])
            readings = np.concatenate([readings, np.full(len(new), number)])
        return rows, readings

    def _with_evidence(self, item: SearchItem, vectors: Floats, rows: Ints, readings: Ints) -> Candidates:
        """Returns given products in their order, each with the evidence of its reading (rows,)."""
        if not item.others:
            return self._nearest.of_rows(item, vectors[0], rows)
        places = [np.flatnonzero(readings == number) for number in range(len(vectors))]
        found = [
            self._nearest.of_rows(reading, vector, rows[own])
            for reading, vector, own in zip(item.readings, vectors, places, strict=True)
        ]
        return Candidates.concatenate(found).take(np.argsort(np.concatenate(places)).tolist())

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
        kept, groups = group_rows(self._masks, item.group_by, _rows(candidates), self._masks.mask(item.filter))
        return dataclasses.replace(candidates.take(kept), groups=groups)

    def _count(
        self, item: SearchItem, vectors: Floats, found: Candidates | Ints, question: FacetQuestion
    ) -> FacetCounts:
        """Counts over the products that the item without what its filter says of the field would find: under a value's order over all that
        match, otherwise over its best. `found` are those of the item itself."""
        relaxed = item.within(item.filter.without(question.name))
        if relaxed.filter != item.filter:
            matching, _ = self._matching(relaxed, vectors) if item.sort else (_NO_ROWS, _NO_ROWS)
            found = matching if len(matching) else self._best([relaxed], [vectors])[0]
        if isinstance(found, Candidates):
            return self._facets.of_rows(question, _rows(found)[worth_showing(item, found)])
        return self._facets.of_rows(question, found, Scope.MATCHING)

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


def worth_showing(item: SearchItem, candidates: Candidates) -> list[int]:
    """Returns the places of the candidates above the item's threshold of similarity, and of those that hold an identifier of the query.
    Where a value orders and the item has no threshold, what scores far less than the best of its reading is left out: scores are comparable
    within one reading only."""
    if item.min_similarity > -math.inf:
        pairs = zip(candidates.similarities, candidates.identifier_boosts, strict=True)
        return [at for at, (similarity, boost) in enumerate(pairs) if similarity >= item.min_similarity or boost > 0]
    if item.sort:
        readings = candidates.readings or [0] * len(candidates.rows)
        best: dict[int, float] = {}
        for reading, score in zip(readings, candidates.scores, strict=True):
            best[reading] = max(score, best.get(reading, score))
        scored = enumerate(zip(readings, candidates.scores, strict=True))
        return [at for at, (reading, score) in scored if score >= best[reading] - NEAR]
    return list(range(len(candidates.rows)))
