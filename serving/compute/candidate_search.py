"""From searches to candidates: by vectors, by words, by the types of the query, and by the exact look-up of model numbers.

Each of these is a *leg*. The candidates of all legs are one set, and each has the evidence of every leg, whoever found it.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Doubles, Floats, Ints
from models.index.float16 import to_float32
from models.index.neighbours import Neighbours
from models.index.vector_index import VectorIndex
from models.lexical.fusion import lexical_boost, word_evidence
from models.lexical.lexical_index import LexicalHits, LexicalIndex, LexicalQuery
from models.products.identifiers import IdentifierIndex, IdentifierMatch
from models.ranking.click_memory import NOTHING, Clicked, Clicks
from serving.compute.filter_masks import FilterMasks, ProductFilter
from serving.compute.named_values import NamedValues
from serving.compute.pool import Leg, Pool, depth_for
from serving.compute.retrieval import Candidates, SearchItem

# Added for a product that has all engagements after its query, half of what all words add. On a simulated log, whose purchases follow
# taste more than the query, Recall@10 of 327 later purchase pages was .189 without it and .191, .191, .186, .194 with 0.1, 0.2, 0.4, 0.8,
# every difference within its interval; Recall@100 fell from 0.4 on.
CLICK_BOOST = np.float32(0.2)
# Of a word that names a value, so much is lost where a product states another. With 0, .3 and .5 the share of the first ten hits that hold
# two named attributes and the type was .923, .973 and .986 at an `asked_weight` of 8 (simulated, seed 2); NDCG@10 of 62 judged queries of
# real electronics .744, .742 and .740, of judged products alone .875, .878 and .880.
OTHER_VALUE = np.float32(0.5)
MAX_TIE_DEPTH = 2048
MAX_SCORED_ROWS = 8192  # products of a type that are scored one by one; the index searches more, 2 ms for a million


@dataclass(frozen=True, slots=True, eq=False)
class _Nearest:
    """Rows (n,) of products and their scores (n,) in the index."""

    rows: Ints
    scores: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What a query asks for beside its vector. Products are those within its filter."""

    words: LexicalQuery | None
    clicked: Clicked
    named: Ints  # rows of the products that hold an identifier
    identifier_boosts: dict[int, float]  # by row
    matched: dict[int, list[str]]  # by row, the identifiers


_NO_ROWS = np.zeros(0, np.int64)
_NOTHING = _Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))
_NO_HITS = LexicalHits(np.zeros(0, np.int64), np.zeros(0, np.float32))


class CandidateSearch:
    """Searches the products of a catalogue. One thread computes at a time. What it searches may grow between searches."""

    def __init__(
        self,
        index: VectorIndex,
        masks: FilterMasks,
        identifiers: IdentifierIndex,
        lexical: LexicalIndex | None = None,
        clicks: Clicks | None = None,
        threads: int = 0,
    ) -> None:
        """`lexical` is None for a bundle of an older version: then there is no lexical leg. `clicks` is None without a ranker."""
        self.index = index
        self._threads = threads or len(os.sched_getaffinity(0))
        self._vectors = index.vectors
        self._masks = masks
        self._identifiers = identifiers
        self._lexical = lexical
        self._clicks = clicks
        self.named_values = NamedValues(masks, lexical.analyzer) if lexical else None
        self._place = np.empty(0, np.int64)  # of each product, whatever the last use left there

    def warm_up(self) -> None:
        """Touches the index as the first queries will."""
        rng = np.random.default_rng(0)
        for batch in (1, 1, 8, 32):
            queries = rng.standard_normal((batch, self.index.width), np.float32)
            queries[:, self.index.dim :] = 0
            self.index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), min(100, self.index.size))

    def search(self, items: Sequence[SearchItem], vectors: Floats) -> list[Candidates]:
        """Returns the candidates of each item; `vectors` (items, width) are its search vectors."""
        pools = self.pools(items, vectors, [depth_for(item.k) for item in items])
        return [self._candidates(item, pool, pool.best(item.k)) for item, pool in zip(items, pools, strict=True)]

    def pools(self, items: Sequence[SearchItem], vectors: Floats, depths: Sequence[int]) -> list[Pool]:
        """Returns what the legs of each item find, of each as many products as its depth."""
        results: dict[int, Pool] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for at, item in enumerate(items):
            if item.words_only:
                mask = self._masks.mask(item.filter)
                results[at] = self._pool(item, vectors[at], _NOTHING, mask, depths[at])
            elif item.only_types:
                results[at] = self._pool(item, vectors[at], _NOTHING, self._mask_of_types(item), depths[at])
            else:
                groups[item.filter, depths[at]].append(at)
        for (product_filter, depth), members in groups.items():
            mask = self._masks.mask(product_filter)
            found = self.index.search(vectors[members], min(_more(depth), self.index.size), mask, self._threads)
            for n, at in enumerate(members):
                neighbours = Neighbours(found.ids[n : n + 1], found.scores[n : n + 1])
                nearest = self._break_ties(depth, vectors[at], neighbours, mask)
                results[at] = self._pool(items[at], vectors[at], nearest, mask, depth)
        return [results[at] for at in range(len(items))]

    def num_matching(self, item: SearchItem) -> int:
        """Returns how many products pass the item's filter and, if it says so, are of the types of one of its readings.

        A mask passes no removed product; where there is no mask, none was removed.
        """
        mask = self._masks.mask(item.filter)
        if all(reading.only_types for reading in item.readings):
            mask = np.logical_or.reduce([self._mask_of_types(reading) for reading in item.readings])
        return self.index.size if mask is None else int(np.count_nonzero(mask))

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
        rows, scores = nearest.ids[0, :count], nearest.scores[0, :count]
        order = np.lexsort((rows, -scores))[:k]
        return _Nearest(rows[order], scores[order])

    def matching(self, item: SearchItem) -> Ints:
        """Returns the rows, ascending, of the products within the item's filter that hold all words of its query where they say what they
        are, and that state no other value in the place of one that it names, unless all do; and of those that hold an identifier of it.

        Nothing where words do not count.
        """
        return self.matching_and_fit(item)[0]

    def matching_and_fit(self, item: SearchItem) -> tuple[Ints, bool]:
        """Returns these rows, and whether all of them but those with an identifier state another value: then they are left out if a product
        elsewhere does not."""
        text = item.subject.query.text
        if self._lexical is None or not (item.lexical_weight or item.words_only) or not text:
            return _NO_ROWS, False
        mask = self._mask_of_types(item) if item.only_types else self._masks.mask(item.filter)
        rows = self._lexical.naming(self._lexical.query(text))
        rows = rows if mask is None else rows[mask[rows]]
        mismatch = self.named_values.mismatch(text, rows) if self.named_values and len(rows) else None
        is_unfit = mismatch is not None and bool(mismatch.all())
        if mismatch is not None and not is_unfit:
            rows = rows[mismatch == 0]
        named, _ = _boosts_of(self._identifiers.find(text), mask)
        return np.union1d(rows, np.fromiter(named, np.int64, len(named))) if named else rows, is_unfit

    def named(self, item: SearchItem) -> Ints:
        """Returns the rows, ascending, of the products that pass the filter and hold an identifier of the query."""
        boosts, _ = _boosts_of(self._identifiers.find(item.subject.query.text), self._masks.mask(item.filter))
        return np.fromiter(sorted(boosts), np.int64, len(boosts))

    def of_rows(self, item: SearchItem, vector: Floats, rows: Ints) -> Candidates:
        """Returns given products in their order, with the evidence that a search would find for them. No leg has ranked them."""
        return self._candidates(item, self.pool_of(item, vector, rows), np.arange(len(rows)), is_ranked=False)

    def pool_of(self, item: SearchItem, vector: Floats, rows: Ints) -> Pool:
        """Returns given products with the evidence that a search would find for them."""
        within = np.zeros(self.index.size, np.bool_)
        within[rows] = True
        asked = self._ask(item, within)
        return self._weigh(item, asked, vector, [_Nearest(rows, self.similarities(vector, rows))], _NO_HITS, 0)

    def similarities(self, vector: Floats, rows: Ints) -> Floats:
        """Returns (rows,) the scores of products in the index."""
        scores: Floats = to_float32(self._vectors.take(rows)) @ vector
        return scores

    def _pool(self, item: SearchItem, vector: Floats, nearest: _Nearest, mask: Bools | None, depth: int) -> Pool:
        """Returns the products of all legs. Those of `nearest` come best first."""
        asked = self._ask(item, mask)
        hits = self._lexical_hits(item, asked.words, mask, depth)
        legs = [nearest, *self._nearest_of_types(item, vector, mask, depth)]
        return self._weigh(item, asked, vector, legs, hits, depth)

    def _ask(self, item: SearchItem, mask: Bools | None) -> _Asked:
        """Returns what a query asks for beside its vector."""
        text = item.subject.query.text
        boosts, matched = _boosts_of(self._identifiers.find(text) if text else [], mask)
        return _Asked(
            words=self._lexical.query(text) if self._lexical and text else None,
            clicked=self._clicked(item, mask),
            named=np.fromiter(sorted(boosts), np.int64, len(boosts)),
            identifier_boosts=boosts,
            matched=matched,
        )

    def _weigh(
        self,
        item: SearchItem,
        asked: _Asked,
        vector: Floats,
        nearest: Sequence[_Nearest],
        hits: LexicalHits,
        depth: int,
    ) -> Pool:
        """Unites the products of all legs, and weighs the evidence of each."""
        text, clicked = item.subject.query.text, asked.clicked
        by_clicks = np.argsort(-clicked.weights, kind="stable")
        ordered = [
            *((leg.rows, leg.scores, depth) for leg in nearest),
            (clicked.rows[by_clicks], clicked.weights[by_clicks], 0),
            (hits.rows, hits.scores, depth),
            (asked.named, np.zeros(len(asked.named), np.float32), 0),
        ]
        rows, scores, positions = self._unite(nearest, [leg_rows for leg_rows, _, _ in ordered], vector)
        totals = scores.copy()
        identifier_boosts, type_boosts, click_boosts = None, None, None
        if asked.identifier_boosts:
            identifier_boosts = np.zeros(len(rows))
            identifier_boosts[positions[-1]] = [asked.identifier_boosts[row] for row in asked.named.tolist()]
            totals += identifier_boosts
        if item.type_boosts:
            type_boosts = self._masks.type_boosts(item.type_boosts, rows)
            totals += type_boosts
        lexical_boosts, coverages = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
        evidence = np.zeros((len(rows), 2), np.float32)
        if asked.words is not None and self._lexical:
            match = self._lexical.match(asked.words, rows)
            evidence = word_evidence(asked.words, match)
            kept = self._share_kept(text, rows)
            fitting = dataclasses.replace(match, coverage=match.coverage * kept)
            lexical_boosts = item.lexical_weight * lexical_boost(asked.words, fitting)
            coverages = evidence[:, 0] * kept
        totals += lexical_boosts
        if len(clicked.rows):
            click_boosts = np.zeros(len(rows), np.float32)
            click_boosts[self._place[clicked.rows]] = np.float32(item.click_weight) * CLICK_BOOST * clicked.shares
            totals += click_boosts
        return Pool(
            rows=rows,
            scores=scores,
            totals=totals,
            legs=tuple(Leg(at, keys, most) for at, (_, keys, most) in zip(positions, ordered, strict=True)),
            identifier_boosts=identifier_boosts,
            type_boosts=type_boosts,
            click_boosts=click_boosts,
            lexical_boosts=lexical_boosts,
            coverages=coverages,
            evidence=evidence,
            matched=asked.matched,
            holds_words=self._lexical is None or bool(len(hits.rows)),
        )

    def _candidates(self, item: SearchItem, pool: Pool, best: Ints, *, is_ranked: bool = True) -> Candidates:
        rows, scores = pool.rows[best], pool.scores[best].tolist()
        if not item.boosts:
            return pool.candidates(best, scores, [()] * len(scores), is_ranked=is_ranked)
        added = self.feature_boosts(item, rows)
        similarities = np.array(scores, np.float32) - added.sum(axis=1)
        return pool.candidates(best, similarities.tolist(), list(map(tuple, added.tolist())), is_ranked=is_ranked)

    def feature_boosts(self, item: SearchItem, rows: Ints) -> Floats:
        """Returns (rows, weights) what each static feature adds."""
        dim, weights = self.index.dim, np.array(item.boosts, np.float32)
        added: Floats = self._vectors.columns(rows, dim, dim + len(weights)).astype(np.float32) * weights
        return added

    def _share_kept(self, text: str, rows: Ints) -> Floats | np.float32:
        """Returns (rows,) what is left of the share of words that a product holds: less where it states another value than the query
        names."""
        mismatch = self.named_values.mismatch(text, rows) if self.named_values else None
        return np.float32(1) if mismatch is None else 1 - OTHER_VALUE * mismatch

    def _clicked(self, item: SearchItem, mask: Bools | None) -> Clicked:
        """Returns the products that the filter passes of those that shoppers engaged with after the same query."""
        query = item.subject.query
        if self._clicks is None or item.words_only or not query.text or not item.click_weight:
            return NOTHING
        clicked = self._clicks.find(query.text, query.locale)
        return clicked if mask is None or not len(clicked.rows) else clicked.within(mask)

    def _lexical_hits(
        self, item: SearchItem, words: LexicalQuery | None, mask: Bools | None, depth: int
    ) -> LexicalHits:
        """Returns the best products by the words of the query."""
        if self._lexical is None or words is None or not (item.lexical_weight or item.words_only):
            return _NO_HITS
        return self._lexical.search(words, depth, mask)

    def _unite(
        self, scored: Sequence[_Nearest], legs: Sequence[Ints], vector: Floats
    ) -> tuple[Ints, Doubles, list[Ints]]:
        """Returns the products of all legs, each once, their scores in the index, and the positions of those of each leg. The first legs
        are `scored`; of products of others alone the score is computed here."""
        every = np.concatenate(legs, dtype=np.int64)
        if len(self._place) < self.index.size:  # with room, so that a catalogue that grows seldom comes here
            self._place = np.empty(self.index.size + self.index.size // 8, np.int64)
        numbers = np.arange(len(every))
        self._place[every[::-1]] = numbers[::-1]  # the first place of each row counts
        first = np.flatnonzero(self._place[every] == numbers)
        rows = every[first]
        self._place[rows] = np.arange(len(rows))
        positions = [self._place[leg] for leg in legs]
        scores = np.zeros(len(rows))
        num_scored = int(np.searchsorted(first, sum(len(leg.rows) for leg in scored)))
        scores[:num_scored] = np.concatenate([leg.scores for leg in scored])[first[:num_scored]]
        if num_scored < len(rows):
            scores[num_scored:] = self.similarities(vector, rows[num_scored:])
        return rows, scores, positions

    def _nearest_of_types(self, item: SearchItem, vector: Floats, mask: Bools | None, depth: int) -> list[_Nearest]:
        """Returns the nearest of each type, best first. All products of a type get the same boost, so that the best of a leg stay so."""
        parts = []
        for path, _ in item.type_boosts:
            rows = self._masks.rows_of_category(path)
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) <= MAX_SCORED_ROWS:
                scores = self.similarities(vector, rows)
                if len(rows) > depth:
                    best = np.argpartition(-scores, depth - 1)[:depth]
                    rows, scores = rows[best], scores[best]
                order = np.lexsort((rows, -scores))
                parts.append(_Nearest(rows[order], scores[order]))
            else:
                within = np.zeros(self.index.size, np.bool_)
                within[rows] = True
                nearest = self.index.search(vector[None], min(_more(depth), self.index.size), within)
                parts.append(self._break_ties(depth, vector, nearest, within))
        return parts


def _boosts_of(matches: Sequence[IdentifierMatch], mask: Bools | None) -> tuple[dict[int, float], dict[int, list[str]]]:
    """Returns, by row, the boost of a product for the identifiers that it holds, and these identifiers."""
    boosts: dict[int, float] = defaultdict(float)
    matched: dict[int, list[str]] = defaultdict(list)
    for match in matches:
        for row, boost in zip(match.rows.tolist(), match.boosts.tolist(), strict=True):
            if mask is None or mask[row]:
                boosts[row] += boost
                matched[row].append(match.identifier)
    return boosts, matched


def _more(depth: int) -> int:
    """Returns how many products to search for: more than `depth`, which shows whether equals go on past it."""
    return depth + 32
