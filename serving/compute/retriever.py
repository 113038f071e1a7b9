"""The compute of the retriever stage: one batch of searches and scorings, from queries to scored candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats, Ints
from models.unified.light_tower import LightTower
from serving.compute.catalogue_search import CatalogueSearch
from serving.compute.catalogue_state import FIXED, CatalogueState
from serving.compute.query_vectors import QueryVectors, SearchVectors
from serving.compute.readings import in_turns
from serving.compute.retrieval import (
    NOT_SCORED,
    Candidates,
    GivenCandidates,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    SearchItem,
    StudentScores,
    Subject,
)
from serving.compute.student import ScoringFailed, Student, StudentInput, StudentOutput

MAX_BATCH = 64  # searches; `serving.search.retrieve` states what candidates to score cost
RetrieverItem = SearchItem | ScoreItem
RetrieverResult = Retrieved | ScoredCandidates


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors of the readings of all items of a batch; those of item i start at `starts[i]`."""

    vectors: SearchVectors
    starts: Sequence[int]

    def of(self, items: Iterable[int]) -> Floats:
        """Returns the search vectors (readings, width) of some items."""
        places = [place for at in items for place in range(self.starts[at], self.starts[at + 1])]
        searches = self.vectors.searches
        return searches if len(places) == len(searches) else searches[places]


@dataclass(frozen=True, slots=True, eq=False)
class ToScore:
    """Candidates of a search that the student scores: rows (n,), their `word_evidence` (n, 2), and the reading that found each (n,), None
    where there is but one."""

    rows: Ints
    words: Floats
    readings: Ints | None = None

    @classmethod
    def first(cls, candidates: Candidates, depth: int) -> ToScore:
        readings = np.array(candidates.readings[:depth], np.int64) if candidates.readings else None
        return cls(np.array(candidates.rows[:depth], np.int64), candidates.words[:depth], readings)


class Retriever:
    """Searches and, if the bundle holds a ranker, scores. The student has no stage of its own: the hop would cost some 15 % of the
    throughput of searches, and the vectors that it reads are here."""

    max_batch_cost = MAX_BATCH

    def __init__(
        self,
        search: CatalogueSearch,
        tower: LightTower | None = None,
        student: Student | None = None,
        catalogue: CatalogueState = FIXED,
    ) -> None:
        """`tower` encodes queries where the unified model serves."""
        self._search, self._student, self._catalogue = search, student, catalogue
        index = search.index
        self._vectors = QueryVectors(tower, index.dim, index.width)
        self._dim = index.dim
        self.backend = f"faiss {index.backend}"

    def warm_up(self) -> None:
        with self._catalogue.lock:
            self._search.warm_up()

    def compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        self._catalogue.catch_up(max((item.min_sequence for item in items), default=0))
        with self._catalogue.lock:
            return self._compute(items)

    def _compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        encoded = self.encode(items)
        searches = {at: item for at, item in enumerate(items) if isinstance(item, SearchItem)}
        found = dict(zip(searches, self._search.search(list(searches.values()), encoded.of(searches)), strict=True))
        to_score = {at: ToScore.first(found[at].candidates, item.depth) for at, item in searches.items() if item.depth}
        scored = self.score(items, encoded, to_score)
        results: list[RetrieverResult | Exception] = []
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                results.append(self.detail(scored[at], item))
            else:
                results.append(
                    Retrieved(
                        found[at].candidates,
                        self._blend(scored[at], item, found[at].candidates) if at in scored else NOT_SCORED,
                        num_matching=found[at].num_matching,
                        num_considered=found[at].num_considered,
                        sorted=found[at].sorted,
                        facets=found[at].facets,
                        sequence=self._catalogue.sequence,
                        num_rows=self._search.index.size,
                    )
                )
        return results

    def encode(self, items: Sequence[RetrieverItem]) -> Encoded:
        readings = [reading for item in items for reading in item.readings]
        starts = list(itertools.accumulate((len(item.readings) for item in items), initial=0))
        return Encoded(self._vectors.encode(readings), starts)

    def score(
        self, items: Sequence[RetrieverItem], encoded: Encoded, to_score: Mapping[int, ToScore]
    ) -> dict[int, StudentOutput | ScoringFailed]:
        """Scores the candidates of all items at once, each for the reading that found it. `to_score` has those of searches, by the number
        of the item; searches that it leaves out are left out."""
        inputs: dict[int, list[StudentInput]] = {}
        order: dict[int, Ints] = {}  # of the candidates of each item that has several readings, as they are scored
        for at, item in enumerate(items):
            start = encoded.starts[at]
            if isinstance(item, ScoreItem):
                inputs[at] = [self._input(item.subject, encoded.vectors, start, item.candidates)]
            elif at in to_score:
                best = to_score[at]
                if best.readings is None:
                    given = GivenCandidates(best.rows, words=best.words)
                    inputs[at] = [self._input(item.subject, encoded.vectors, start, given)]
                    continue
                places = [np.flatnonzero(best.readings == number) for number in range(len(item.readings))]
                order[at] = np.concatenate(places)
                inputs[at] = [
                    self._input(
                        reading.subject,
                        encoded.vectors,
                        start + number,
                        GivenCandidates(best.rows[own], words=best.words[own]),
                    )
                    for number, (reading, own) in enumerate(zip(item.readings, places, strict=True))
                ]
        if self._student is None:
            return dict.fromkeys(inputs, ScoringFailed())
        outputs = iter(self._student.score([one for of_item in inputs.values() for one in of_item]))
        scored = {at: [next(outputs) for _ in of_item] for at, of_item in inputs.items()}
        return {at: _together(parts, order[at]) if at in order else parts[0] for at, parts in scored.items()}

    def _input(self, subject: Subject, vectors: SearchVectors, place: int, candidates: GivenCandidates) -> StudentInput:
        search = vectors.searches[place, : self._dim]
        return StudentInput(subject=subject, query=vectors.queries[place], search=search, candidates=candidates)

    @staticmethod
    def _blend(output: StudentOutput | ScoringFailed, item: SearchItem, candidates: Candidates) -> StudentScores:
        if isinstance(output, ScoringFailed):
            return StudentScores.missing(output.message)
        return blended(item, candidates, output.chances, output.features)

    def detail(self, output: StudentOutput | ScoringFailed, item: ScoreItem) -> ScoredCandidates | ScoringFailed:
        if isinstance(output, ScoringFailed) or self._student is None:
            return ScoringFailed()
        return self._student.detail(output, item.weights, explains=item.explains)


def blended(item: SearchItem, candidates: Candidates, chances: Floats, features: Floats | None) -> StudentScores:
    """Returns the scores of the first candidates of a search, whose chances are (scored, 3)."""
    coverages = candidates.coverages[: len(chances)]
    kept = features if item.keeps_features else None
    scores = StudentScores.blend(chances, item.weights, item.asked_weight, coverages, kept)
    if not candidates.readings:
        return scores
    return dataclasses.replace(scores, by_blend=in_turns(scores.by_blend, candidates.readings))


def _together(parts: Sequence[StudentOutput | ScoringFailed], order: Ints) -> StudentOutput | ScoringFailed:
    """Returns the scores of all readings of a search; `order` (candidates,) has the place of each candidate, reading after reading."""
    outputs = [part for part in parts if isinstance(part, StudentOutput)]
    if len(outputs) < len(parts):
        return ScoringFailed()
    back = np.argsort(order)
    chances = np.concatenate([part.chances for part in outputs])
    return StudentOutput(chances[back], np.concatenate([part.features for part in outputs])[back])
