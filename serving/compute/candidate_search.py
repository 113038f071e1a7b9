"""From searches to candidates: by vectors, by words, by the types of the query, and by the exact look-up of model numbers.

Each of these is a *leg*. The candidates of all legs are one set, and each has the evidence of every leg, whoever found it.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Sequence, Sized
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
from serving.compute.retrieval import Candidates, SearchItem

# A search for the best k takes as many products of each leg as the next of these. Which candidates there are depends on that depth, so the
# places up to a level stay where a search of that level puts them: pages follow each other.
LEVELS = (200, 800, 3200, 12_800)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The products of all legs."""

    rows: Ints  # (candidates,)
    scores: Doubles  # (candidates,) in the index
    places: Ints  # (candidates,) the best place in a leg, from 0
    positions: list[Ints]  # of each leg, (its products,) where they are among the candidates

    def ranks(self, leg: int) -> Ints:
        """Returns (candidates,) the rank of each product in a leg, from 1; 0 where the leg did not find it."""
        ranks = np.zeros(len(self.rows), np.int64)
        ranks[self.positions[leg]] = np.arange(1, len(self.positions[leg]) + 1)
        return ranks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What a query asks for beside its vector. Products are those within its filter."""

    words: LexicalQuery | None
    clicked: Clicked
    named: Ints  # rows of the products that hold an identifier
    identifier_boosts: dict[int, float]  # by row
    matched: dict[int, list[str]]  # by row, the identifiers

    @property
    def most_clicked(self) -> Ints:
        return self.clicked.rows[np.argsort(-self.clicked.weights, kind="stable")]


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
        self._named_values = NamedValues(masks, lexical.analyzer) if lexical else None
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
        results: dict[int, Candidates] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for at, item in enumerate(items):
            if item.words_only:
                results[at] = self._merge(item, vectors[at], _NOTHING, self._masks.mask(item.filter))
            elif item.only_types:
                results[at] = self._merge(item, vectors[at], _NOTHING, self._mask_of_types(item))
            else:
                groups[item.filter, _depth(item.k)].append(at)
        for (product_filter, depth), members in groups.items():
            mask = self._masks.mask(product_filter)
            found = self.index.search(vectors[members], min(_more(depth), self.index.size), mask, self._threads)
            for n, at in enumerate(members):
                neighbours = Neighbours(found.ids[n : n + 1], found.scores[n : n + 1])
                nearest = self._break_ties(depth, vectors[at], neighbours, mask)
                results[at] = self._merge(items[at], vectors[at], nearest, mask)
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
        text = item.subject.query.text
        if self._lexical is None or not (item.lexical_weight or item.words_only) or not text:
            return _NO_ROWS
        mask = self._mask_of_types(item) if item.only_types else self._masks.mask(item.filter)
        rows = self._lexical.naming(self._lexical.query(text))
        rows = rows if mask is None else rows[mask[rows]]
        mismatch = self._named_values.mismatch(text, rows) if self._named_values and len(rows) else None
        if mismatch is not None and not mismatch.all():
            rows = rows[mismatch == 0]
        named, _ = _boosts_of(self._identifiers.find(text), mask)
        return np.union1d(rows, np.fromiter(named, np.int64, len(named))) if named else rows

    def of_rows(self, item: SearchItem, vector: Floats, rows: Ints) -> Candidates:
        """Returns given products in their order, with the evidence that a search would find for them. No leg has ranked them."""
        within = np.zeros(self.index.size, np.bool_)
        within[rows] = True
        asked = self._ask(item, within)
        given = _Nearest(rows, self.similarities(vector, rows))
        pool = self._unite([given], [asked.most_clicked, _NO_ROWS, asked.named], vector)
        candidates = self._candidates(item, asked, pool, lambda _: np.arange(len(rows)))
        return dataclasses.replace(candidates, vector_ranks=[0] * len(rows), click_ranks=[0] * len(rows))

    def similarities(self, vector: Floats, rows: Ints) -> Floats:
        """Returns (rows,) the scores of products in the index."""
        scores: Floats = to_float32(self._vectors.take(rows)) @ vector
        return scores

    def _merge(self, item: SearchItem, vector: Floats, nearest: _Nearest, mask: Bools | None) -> Candidates:
        """Returns the best `item.k` of the candidates of all legs. Those of `nearest` come best first."""
        asked = self._ask(item, mask)
        hits = self._lexical_hits(item, asked.words, mask)
        legs = [nearest, *self._nearest_of_types(item, vector, mask)]
        pool = self._unite(legs, [asked.most_clicked, hits.rows, asked.named], vector)
        candidates = self._candidates(item, asked, pool, lambda totals: _best(pool, totals, item.k))
        return dataclasses.replace(candidates, holds_words=candidates.holds_words or bool(len(hits.rows)))

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

    def _candidates(
        self, item: SearchItem, asked: _Asked, pool: _Pool, chosen: Callable[[Doubles], Ints]
    ) -> Candidates:
        """Weighs the evidence of the products of a pool. `chosen` returns the positions of those to return, from the scores (pool,)."""
        text = item.subject.query.text
        boosts = np.zeros(len(pool.rows))
        if asked.identifier_boosts:
            boosts[pool.positions[-1]] = [asked.identifier_boosts[row] for row in asked.named.tolist()]
        type_boosts = self._masks.type_boosts(item.type_boosts, pool.rows)
        lexical_boosts, coverage = np.zeros(len(pool.rows), np.float32), np.zeros(len(pool.rows), np.float32)
        evidence = np.zeros((len(pool.rows), 2), np.float32)
        if asked.words is not None and self._lexical:
            match = self._lexical.match(asked.words, pool.rows)
            evidence = word_evidence(asked.words, match)
            kept = self._share_kept(text, pool.rows)
            fitting = dataclasses.replace(match, coverage=match.coverage * kept)
            lexical_boosts = item.lexical_weight * lexical_boost(asked.words, fitting)
            coverage = evidence[:, 0] * kept
        clicked = asked.clicked
        click_boosts = np.zeros(len(pool.rows), np.float32)
        if len(clicked.rows):
            click_boosts[self._place[clicked.rows]] = np.float32(item.click_weight) * CLICK_BOOST * clicked.shares
        totals = pool.scores + boosts + type_boosts + lexical_boosts + click_boosts
        best = chosen(totals)
        rows = pool.rows[best].tolist()
        similarities, feature_boosts = self._split_scores(item, rows, pool.scores[best].tolist())
        matched = asked.matched
        return Candidates(
            rows=rows,
            scores=totals[best].tolist(),
            similarities=similarities,
            identifier_boosts=_listed(boosts, best, asked.identifier_boosts),
            type_boosts=_listed(type_boosts, best, item.type_boosts),
            feature_boosts=feature_boosts,
            lexical_boosts=lexical_boosts[best].tolist(),
            coverages=coverage[best].tolist(),
            words=evidence[best],
            click_boosts=_listed(click_boosts, best, clicked.rows),
            vector_ranks=pool.ranks(0)[best].tolist(),
            lexical_ranks=pool.ranks(-2)[best].tolist(),
            click_ranks=pool.ranks(-3)[best].tolist() if len(clicked.rows) else [0] * len(rows),
            matched={row: matched[row] for row in rows if row in matched} if matched else {},
            holds_words=self._lexical is None or bool(matched) or bool(evidence.any()),
        )

    def _share_kept(self, text: str, rows: Ints) -> Floats | np.float32:
        """Returns (rows,) what is left of the share of words that a product holds: less where it states another value than the query
        names."""
        mismatch = self._named_values.mismatch(text, rows) if self._named_values else None
        return np.float32(1) if mismatch is None else 1 - OTHER_VALUE * mismatch

    def _clicked(self, item: SearchItem, mask: Bools | None) -> Clicked:
        """Returns the products that the filter passes of those that shoppers engaged with after the same query."""
        query = item.subject.query
        if self._clicks is None or item.words_only or not query.text or not item.click_weight:
            return NOTHING
        clicked = self._clicks.find(query.text, query.locale)
        return clicked if mask is None or not len(clicked.rows) else clicked.within(mask)

    def _lexical_hits(self, item: SearchItem, words: LexicalQuery | None, mask: Bools | None) -> LexicalHits:
        """Returns the best products by the words of the query."""
        if self._lexical is None or words is None or not (item.lexical_weight or item.words_only):
            return _NO_HITS
        return self._lexical.search(words, _depth(item.k), mask)

    def _unite(self, scored: Sequence[_Nearest], named: Sequence[Ints], vector: Floats) -> _Pool:
        """Returns the products of all legs, each once. Of those in `named` alone the score is computed here."""
        legs = [leg.rows for leg in scored] + list(named)
        every = np.concatenate(legs, dtype=np.int64)
        if len(self._place) < self.index.size:  # with room, so that a catalogue that grows seldom comes here
            self._place = np.empty(self.index.size + self.index.size // 8, np.int64)
        numbers = np.arange(len(every))
        self._place[every[::-1]] = numbers[::-1]  # the first place of each row counts
        first = np.flatnonzero(self._place[every] == numbers)
        rows = every[first]
        self._place[rows] = np.arange(len(rows))
        positions = [self._place[leg] for leg in legs]
        places = np.full(len(rows), len(every))
        for position in positions:
            places[position] = np.minimum(places[position], np.arange(len(position)))
        scores = np.zeros(len(rows))
        num_scored = int(np.searchsorted(first, sum(len(leg.rows) for leg in scored)))
        scores[:num_scored] = np.concatenate([leg.scores for leg in scored])[first[:num_scored]]
        if num_scored < len(rows):
            scores[num_scored:] = self.similarities(vector, rows[num_scored:])
        return _Pool(rows, scores, places, positions)

    def _nearest_of_types(self, item: SearchItem, vector: Floats, mask: Bools | None) -> list[_Nearest]:
        """Returns the nearest of each type, best first. All products of a type get the same boost, so that the best of a leg stay so."""
        parts = []
        depth = _depth(item.k)
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

    def _split_scores(
        self, item: SearchItem, rows: list[int], scores: list[float]
    ) -> tuple[list[float], list[tuple[float, ...]]]:
        """Splits the index's scores into similarities and what each static feature adds."""
        if not item.boosts:
            return scores, [()] * len(rows)
        dim, weights = self.index.dim, np.array(item.boosts, np.float32)
        features = self._vectors.columns(np.array(rows, np.int64), dim, dim + len(weights))
        added = features.astype(np.float32) * weights  # (rows, weights)
        similarities = np.array(scores, np.float32) - added.sum(axis=1)
        return similarities.tolist(), list(map(tuple, added.tolist()))


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


def _listed(values: Doubles | Floats, best: Ints, because_of: Sized) -> list[float]:
    """Returns the values of the best; zeros, which cost less, where there was nothing that they could come of."""
    return values[best].tolist() if len(because_of) else [0.0] * len(best)


def _best(pool: _Pool, totals: Doubles, k: int) -> Ints:
    """Returns the positions of the k best, best first, equals by row; level by level, see LEVELS."""
    order = np.lexsort((pool.rows, -totals))
    chosen = np.zeros(len(order), np.bool_)
    best: list[Ints] = []
    for level in LEVELS:
        added = order[~chosen[order] & (pool.places[order] < level)][: min(k, level) - int(chosen.sum())]
        chosen[added] = True
        best.append(added)
        if k <= level:
            break
    return np.concatenate(best)


def _depth(k: int) -> int:
    """Returns how many products to take of each leg."""
    return next((level for level in LEVELS if k <= level), LEVELS[-1])


def _more(depth: int) -> int:
    """Returns how many products to search for: more than `depth`, which shows whether equals go on past it."""
    return depth + 32
