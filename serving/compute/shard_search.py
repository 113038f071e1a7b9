"""The compute of one shard of the retriever: what its products are worth to a batch of searches, for `shard_merge` to choose from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Doubles, Floats, Ints
from models.lexical.lexical_index import LexicalIndex
from models.products.identifiers import IdentifierIndex
from models.unified.light_tower import LightTower
from serving.compute.catalogue_search import MAX_GROUPED, CatalogueSearch
from serving.compute.catalogue_state import FIXED, CatalogueState
from serving.compute.facets import FacetQuestion
from serving.compute.filter_masks import ProductFilter
from serving.compute.pool import Pool
from serving.compute.readings import merged
from serving.compute.retrieval import ScoredCandidates, ScoreItem, SearchItem
from serving.compute.retriever import MAX_BATCH, Retriever, ToScore
from serving.compute.shard_items import FacetPart, Ordered, ReadText, ShardFacet, ShardFound, ShardItem, ShardScores
from serving.compute.student import ScoringFailed, Student, StudentOutput
from serving.compute.value_order import SortBy, first_of_groups

ShardResult = ShardFound | ScoredCandidates


class ShardSearch(CatalogueSearch):
    """Searches the products of a shard."""

    def search_shard(
        self, asked: Sequence[ShardItem], items: Sequence[SearchItem], vectors: Floats
    ) -> list[ShardFound]:
        """Returns what each item found; `vectors` (readings of all items, width) are the search vectors."""
        found: dict[int, ShardFound] = {}
        queries: dict[int, Floats] = {}
        start = 0
        for at, item in enumerate(items):
            own = vectors[start : start + len(item.readings)]
            start += len(own)
            if item.browses:
                found[at] = self._browsed(item)
            elif item.sort and (matching := self._ordered_matching(item, item.sort, own, asked[at])):
                found[at] = matching
            else:
                queries[at] = own
        if queries:
            pools = self._pools([items[at] for at in queries], list(queries.values()), [asked[at] for at in queries])
            for (at, own), of_item in zip(queries.items(), pools, strict=True):
                item = items[at]
                found[at] = ShardFound(
                    num_matching=0 if item.words_only else self._nearest.num_matching(item),
                    pools=of_item,
                    values=self._values(item, of_item),
                    facets=tuple(self._facet(item, asked[at], own, question) for question in item.facets),
                )
        return [found[at] for at in range(len(items))]

    def _pools(
        self, items: Sequence[SearchItem], vectors: Sequence[Floats], asked: Sequence[ShardItem]
    ) -> list[tuple[Pool, ...]]:
        """Returns the pools of the readings of each item."""
        readings = [reading for item in items for reading in item.readings]
        depths = [one.leg_depth for item, one in zip(items, asked, strict=True) for _ in item.readings]
        found = self._nearest.pools(readings, np.concatenate(vectors), depths)
        told = iter(map(self._with_features, readings, found))
        return [tuple(itertools.islice(told, len(item.readings))) for item in items]

    def _with_features(self, item: SearchItem, pool: Pool) -> Pool:
        if not item.boosts:
            return pool
        return dataclasses.replace(pool, feature_boosts=self._nearest.feature_boosts(item, pool.rows))

    def _values(self, item: SearchItem, pools: Sequence[Pool]) -> tuple[Doubles, ...]:
        return tuple(self._order.keys(item.sort, pool.rows) for pool in pools) if item.sort else ()

    def _browsed(self, item: SearchItem) -> ShardFound:
        mask = self._masks.mask(item.filter)
        num_matching = len(self._masks) if mask is None else int(np.count_nonzero(mask))
        by = item.sort or self._order.default
        rows = self._order.first(by, mask, MAX_GROUPED if item.group_by else item.k)
        keys = self._order.keys(by, rows) if by else np.zeros(len(rows))
        return ShardFound(
            num_matching=num_matching,
            ordered=Ordered(rows=rows, keys=keys, readings=np.zeros_like(rows), num_products=num_matching),
            facets=tuple(
                ShardFacet(counts=self._part_of_all(question.name, item.filter.without(question.name)))
                for question in item.facets
            ),
        )

    def _ordered_matching(self, item: SearchItem, by: SortBy, vectors: Floats, asked: ShardItem) -> ShardFound | None:
        rows, readings = self._matching(item, vectors)
        if not len(rows):
            return None
        unfit = self._unfit(item, rows, readings)
        mask = np.zeros(len(self._masks), np.bool_)
        mask[rows] = True
        shown = self._order.first(by, mask, len(rows) if item.group_by else item.k)
        if item.group_by:
            shown = shown[first_of_groups(self._masks, item.group_by, shown)[0]]
        reading_of = np.zeros(len(self._masks), np.int64)
        reading_of[rows] = readings
        first = shown[: item.k]
        pools = tuple(
            self._with_features(
                reading, self._nearest.pool_of(reading, vectors[number], first[reading_of[first] == number])
            )
            for number, reading in enumerate(item.readings)
        )
        return ShardFound(
            num_matching=len(rows),
            pools=pools,
            ordered=Ordered(
                rows=shown,
                keys=self._order.keys(by, shown),
                readings=reading_of[shown],
                num_products=len(rows),
                is_unfit=None if unfit is None else np.isin(shown, unfit),
            ),
            facets=tuple(self._facet(item, asked, vectors, question, (rows, readings)) for question in item.facets),
        )

    def _unfit(self, item: SearchItem, rows: Ints, readings: Ints) -> Ints | None:
        """Returns those of the matching rows that state another value than the query names, where the shard holds none that does not."""
        unfit = []
        for number, reading in enumerate(item.readings):
            own, is_unfit = self._nearest.matching_and_fit(reading)
            if is_unfit:
                unfit.append(np.setdiff1d(np.intersect1d(own, rows[readings == number]), self._nearest.named(reading)))
        return np.concatenate(unfit) if unfit else None

    def _facet(
        self,
        item: SearchItem,
        asked: ShardItem,
        vectors: Floats,
        question: FacetQuestion,
        matching: tuple[Ints, Ints] | None = None,
    ) -> ShardFacet:
        relaxed = item.within(item.filter.without(question.name))
        if relaxed.filter != item.filter:
            matching = self._matching(relaxed, vectors) if item.sort else None
            if matching is None or not len(matching[0]):
                (pools,) = self._pools([relaxed], [vectors], [asked])
                return ShardFacet(pools=pools)
        if matching is None:
            return ShardFacet()
        column = self._facets.column(question.name)
        return ShardFacet(counts=FacetPart.of(column, column.counts_among(matching[0]), len(matching[0])))

    def _part_of_all(self, name: str, product_filter: ProductFilter) -> FacetPart:
        return FacetPart.of(*self._facets.counts(name, self._masks.mask(product_filter)))


class ShardRetriever:
    """Searches and scores the products of a shard."""

    max_batch_cost = MAX_BATCH

    def __init__(
        self,
        search: ShardSearch,
        identifiers: IdentifierIndex,
        lexical: LexicalIndex | None,
        tower: LightTower | None = None,
        student: Student | None = None,
        catalogue: CatalogueState = FIXED,
    ) -> None:
        self._retriever = Retriever(search, tower, student, catalogue)
        self._search, self._identifiers, self._lexical = search, identifiers, lexical
        self._catalogue = catalogue
        self.backend = self._retriever.backend
        self.warm_up = self._retriever.warm_up

    def compute(self, items: Sequence[ShardItem]) -> list[ShardResult | Exception]:
        self._catalogue.catch_up(max((one.item.min_sequence for one in items), default=0))
        with self._catalogue.lock:
            texts: dict[str, ReadText] = {}
            for one in items:
                texts.update(one.texts)
            self._give(texts)
            return self._compute(items)

    def _give(self, texts: Mapping[str, ReadText]) -> None:
        """Lets what reads texts read these as the whole catalogue does."""
        identifiers = self._identifiers
        identifiers.given = {text: read.identifiers for text, read in texts.items() if read.identifiers is not None}
        identifiers.given_keys = {
            text: set(read.identifier_keys) for text, read in texts.items() if read.identifier_keys is not None
        }
        if self._lexical:
            self._lexical.given = {text: read.words for text, read in texts.items() if read.words is not None}
        self._search.give({text: read.named for text, read in texts.items() if read.named is not None})

    def _compute(self, asked: Sequence[ShardItem]) -> list[ShardResult | Exception]:
        items = [one.item for one in asked]
        encoded = self._retriever.encode(items)
        searches = {at: item for at, item in enumerate(items) if isinstance(item, SearchItem)}
        parts = self._search.search_shard([asked[at] for at in searches], list(searches.values()), encoded.of(searches))
        found = dict(zip(searches, parts, strict=True))
        to_score = {
            at: best_of(found[at].pools, asked[at])
            for at, item in searches.items()
            if asked[at].num_scored and found[at].ordered is None
        }
        scored = self._retriever.score(items, encoded, to_score)
        results: list[ShardResult | Exception] = []
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                results.append(self._retriever.detail(scored[at], item))
            else:
                scores = _scores(to_score[at], scored[at], item) if at in scored else None
                results.append(dataclasses.replace(found[at], scores=scores, sequence=self._catalogue.sequence))
        return results


def best_of(pools: Sequence[Pool], asked: ShardItem) -> ToScore:
    """Returns the best of a shard."""
    count, levels = asked.num_scored, asked.levels
    if len(pools) == 1:
        (pool,) = pools
        best = pool.best(count, levels)
        return ToScore(pool.rows[best], pool.evidence[best])
    found = []
    for pool in pools:
        best = pool.best(count, levels)
        found.append(pool.candidates(best, *pool.split_scores(best)))
    candidates = merged(found, count)
    return ToScore(np.array(candidates.rows, np.int64), candidates.words, np.array(candidates.readings, np.int64))


def _scores(to_score: ToScore, output: StudentOutput | ScoringFailed, item: SearchItem) -> ShardScores:
    readings = np.zeros(len(to_score.rows), np.int64) if to_score.readings is None else to_score.readings
    if isinstance(output, ScoringFailed):
        none = np.zeros(0, np.int64)
        return ShardScores(readings=none, rows=none, chances=np.zeros((0, 3), np.float32), failure=output.message)
    features = output.features if item.keeps_features else None
    return ShardScores(readings=readings, rows=to_score.rows, chances=output.chances, features=features)
