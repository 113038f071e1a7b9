"""From a query vector to candidates: the index, the filters and the exact look-up of model numbers."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from models.arrays import Bools, Doubles, Floats, Ints
from models.bundles.bundle import Bundle
from models.index.float16 import to_float32
from models.index.neighbours import Neighbours
from models.index.spec import Device
from models.products.identifiers import IdentifierMatch
from models.ranking.bundle_part import RANKER_PART
from models.unified.bundle_part import UNIFIED_PART
from serving.compute.filter_masks import NO_FILTER, FilterMasks, ProductFilter
from serving.compute.order import GivenCandidates, Ranked, RankInput, ScoredCandidates, by_student
from serving.compute.shopper_encoder import light_tower
from serving.compute.student import FAILED, Question, Student

Value = TypeVar("Value")
MAX_BATCH = 64  # queries
MAX_TIE_DEPTH = 2048
MAX_SCORED_ROWS = 8192  # of a type, each scored; more are searched for in the index, 2 ms for a million products


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One query: its vector (dim,), the best `k` products that pass the filter, the words to look up exactly, the weights of the
    bundle's boosts, in their order (none is no weight), and who asks: the shopper's vector (dim,) moves the query's by `strength`.

    Where the unified model encodes queries, the words go without a vector: a word table costs less than the way to another stage.

    `type_gains` are categories and what their products gain, the most of them where a product is in several; with `only_types` others
    are no candidates.

    With `ranking` the student tells the chances of the best candidates; the order stays that of the scores. `picked` are candidates that
    it judges instead of searching any."""

    vector: Floats | None
    k: int
    filter: ProductFilter = NO_FILTER
    query: str = ""
    weights: tuple[float, ...] = ()
    shopper: Floats | None = None
    strength: float = 1.0
    locale: str = ""
    type_gains: tuple[tuple[str, float], ...] = ()
    only_types: bool = False
    ranking: RankInput | None = None
    picked: GivenCandidates | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Products by row, best first. A score is the similarity and what identifiers of the query, its types and weighed features add.

    Of candidates that were picked there is only what the student `judged`."""

    rows: list[int]
    scores: list[float]
    similarities: list[float]
    identifier_boosts: list[float]
    matched: dict[int, list[str]]  # the identifiers behind a boost
    feature_boosts: list[tuple[float, ...]]  # in the order of the weights; empty where none was given
    type_boosts: list[float] = field(default_factory=list)  # what each gains by its type; empty where none gains
    judged: ScoredCandidates | None = None  # of the first, as many as were asked for
    ranked: Ranked | None = None  # the order of what was judged, where it was searched for
    rank_failed: str = ""  # why nothing was judged that should have been

    def take(self, places: Sequence[int]) -> Candidates:
        """Those at `places`, in that order, without what was judged."""

        def taken(values: list[Value]) -> list[Value]:
            return list(map(values.__getitem__, places))

        return Candidates(
            rows=taken(self.rows),
            scores=taken(self.scores),
            similarities=taken(self.similarities),
            identifier_boosts=taken(self.identifier_boosts),
            matched=self.matched,
            feature_boosts=taken(self.feature_boosts),
            type_boosts=taken(self.type_boosts) if self.type_boosts else [],
        )


NO_CANDIDATES = Candidates([], [], [], [], {}, [])


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Products (n,) and their scores (n,) in the index."""

    rows: Ints
    scores: Floats


_NOTHING = _Found(np.zeros(0, np.int64), np.zeros(0, np.float32))


class Retriever:
    """The compute of the retrieval stage."""

    max_batch_cost = MAX_BATCH

    def __init__(self, bundle: Bundle, device: Device = "cpu", threads: int = 0) -> None:
        self._index = bundle.index(device)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._vectors = np.asarray(bundle.vectors())  # still mapped, and faster to index
        self._masks = FilterMasks(bundle.products())
        self._identifiers = bundle.identifiers()
        self._tower = light_tower(bundle.folder) if UNIFIED_PART.is_in(bundle) else None
        self._is_seen = np.zeros(self._index.size, np.bool_)  # False between uses; one thread computes at a time
        self._student = Student(bundle) if RANKER_PART.is_in(bundle) else None
        self.backend = f"faiss {self._index.device} {self._index.spec.kind}"

    def warm_up(self) -> None:
        """Touches the index as the first queries will."""
        rng = np.random.default_rng(0)
        for batch in (1, 1, 8, 32):
            queries = rng.standard_normal((batch, self._index.width), np.float32)
            queries[:, self._index.dim :] = 0
            self._index.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), min(100, self._index.size))

    def compute(self, items: Sequence[Retrieval]) -> list[Candidates | Exception]:
        queries, vectors = self._search_vectors(items)
        answers: dict[int, Candidates] = {}
        groups: dict[tuple[ProductFilter, int], list[int]] = defaultdict(list)
        for position, item in enumerate(items):
            if item.picked is not None:
                answers[position] = NO_CANDIDATES
            elif item.only_types:
                answers[position] = self._merge(item, vectors[position], _NOTHING, self._only_types(item))
            else:
                groups[item.filter, _depth(item.k)].append(position)
        for (wanted, depth), positions in groups.items():
            mask = self._masks.mask(wanted)
            found = self._index.search(vectors[positions], min(depth, self._index.size), mask, self._threads)
            for at, position in enumerate(positions):
                nearest = Neighbours(found.ids[at : at + 1], found.scores[at : at + 1])
                item, vector = items[position], vectors[position]
                answers[position] = self._merge(item, vector, self._in_order(item.k, vector, nearest, mask), mask)
        self._judge(items, queries, vectors, answers)
        return [answers[position] for position in range(len(items))]

    def _judge(
        self,
        items: Sequence[Retrieval],
        queries: Floats,
        vectors: Floats,
        answers: dict[int, Candidates],
    ) -> None:
        """Adds what the student tells to the answers of the items that are ranked, all of them at once."""
        dim = self._index.dim
        questions: dict[int, Question] = {}
        for at, item in enumerate(items):
            known = item.ranking
            if known is None:
                continue
            best = answers[at].rows[: known.depth]
            picked = GivenCandidates(np.array(best, np.int64)) if item.picked is None else item.picked
            questions[at] = Question(
                item.query,
                item.locale,
                queries[at],
                item.shopper,
                vectors[at, :dim],
                known,
                picked,
                item.picked is not None,
            )
        judged = self._student.judge(list(questions.values())) if self._student else [None] * len(questions)
        for (at, question), one in zip(questions.items(), judged, strict=True):
            found = answers[at]
            ranked = None
            if one and items[at].picked is None:
                ranked = by_student(one.chances, question.known.weights, found.identifier_boosts)
            answers[at] = dataclasses.replace(found, judged=one, ranked=ranked, rank_failed="" if one else FAILED)

    def _only_types(self, item: Retrieval) -> Bools:
        """(products,) the filter, and of one of the types."""
        within = np.zeros(self._index.size, np.bool_)
        for path, _ in item.type_gains:
            within[self._masks.rows_of_category(path)] = True
        mask = self._masks.mask(item.filter)
        return within if mask is None else within & mask

    def _search_vectors(self, items: Sequence[Retrieval]) -> tuple[Floats, Floats]:
        """(items, dim) the queries' vectors, and (items, width) those to search with, the weights of the static features behind them.

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
        queries = searched[:, :dim].copy()
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
        return queries, searched

    def _in_order(self, k: int, vector: Floats, nearest: Neighbours, mask: Bools | None) -> _Found:
        """Best first, equals by row: a product has one place, whatever the page.

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
        return _Found(nearest.ids[0, :found], nearest.scores[0, :found])

    def _merge(self, item: Retrieval, vector: Floats, found: _Found, mask: Bools | None) -> Candidates:
        """The nearest products, with those that hold an identifier of the query or are of its types lifted to where they belong."""
        matches = self._identifiers.find(item.query) if item.query else []
        if matches or item.type_gains:
            return self._lifted(item, vector, found, matches, mask)
        rows, scores = found.rows[: item.k].tolist(), found.scores[: item.k].tolist()
        similarities, feature_boosts = self._parted(item, rows, scores)
        return Candidates(rows, scores, similarities, [0.0] * len(rows), {}, feature_boosts)

    def _of_types(self, item: Retrieval, vector: Floats, mask: Bools | None) -> list[_Found]:
        """The nearest k of each type, in any order. With these, the best k after all of a type has gained alike are among the
        candidates."""
        found = []
        for path, _ in item.type_gains:
            rows = self._masks.rows_of_category(path)
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) <= MAX_SCORED_ROWS:
                scores = to_float32(np.take(self._vectors, rows, axis=0)) @ vector
                if len(rows) > item.k:
                    best = np.argpartition(-scores, item.k - 1)[: item.k]
                    rows, scores = rows[best], scores[best]
                found.append(_Found(rows, scores))
            else:
                within = np.zeros(self._index.size, np.bool_)
                within[rows] = True
                nearest = self._index.search(vector[None], min(_depth(item.k), self._index.size), within)
                found.append(self._in_order(item.k, vector, nearest, within))
        return found

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
        vector: Floats,
        found: _Found,
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
        parts = [*self._of_types(item, vector, mask), found]
        if boosts:
            named = np.array(sorted(boosts), np.int64)
            parts.append(_Found(named, to_float32(self._vectors[named]) @ vector))
        rows, scores = self._each_once(parts)
        gains = self._masks.gains(item.type_gains, rows)
        totals = scores + gains
        if boosts:
            totals += np.array([boosts.get(row, 0.0) for row in rows.tolist()])
        best = _best(rows, totals, item.k)
        order = rows[best].tolist()
        similarities, feature_boosts = self._parted(item, order, scores[best].tolist())
        return Candidates(
            rows=order,
            scores=totals[best].tolist(),
            similarities=similarities,
            identifier_boosts=[boosts.get(row, 0.0) for row in order] if boosts else [0.0] * len(order),
            matched={row: matched[row] for row in order if row in matched} if matched else {},
            feature_boosts=feature_boosts,
            type_boosts=gains[best].tolist() if item.type_gains else [],
        )

    def _each_once(self, parts: Sequence[_Found]) -> tuple[Ints, Doubles]:
        """The rows of all parts and their scores; of a row that several have, the score of the first."""
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
    """Where the k best are, best first, equals by row."""
    if len(rows) <= k:
        return np.lexsort((rows, -totals))
    least = np.partition(totals, len(totals) - k)[len(totals) - k]
    among = np.flatnonzero(totals >= least)
    return among[np.lexsort((rows[among], -totals[among]))[:k]]


def _depth(k: int) -> int:
    """More than `k`, which tells whether equals go on past it. By steps, so that calls of different page sizes share a search but a deep
    page does not burden the rest; of an eighth of the power of two below, as each product that is found and then not needed costs too."""
    step = max(32, (1 << k.bit_length()) >> 4)
    return (k // step + 1) * step
