"""The compute of the retriever stage: one batch of searches and scorings, from queries to scored candidates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from models.arrays import Ints
from models.unified.light_tower import LightTower
from serving.compute.catalogue_search import CatalogueSearch, Found
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
        self.backend = f"faiss {index.device} {index.spec.kind}"

    def warm_up(self) -> None:
        with self._catalogue.lock:
            self._search.warm_up()

    def compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        self._catalogue.catch_up(max((item.min_sequence for item in items), default=0))
        with self._catalogue.lock:
            return self._compute(items)

    def _compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        readings = [reading for item in items for reading in item.readings]
        starts = list(itertools.accumulate((len(item.readings) for item in items), initial=0))
        vectors = self._vectors.encode(readings)
        searches = {at: item for at, item in enumerate(items) if isinstance(item, SearchItem)}
        places = [place for at in searches for place in range(starts[at], starts[at + 1])]
        search_vectors = vectors.searches if len(places) == len(readings) else vectors.searches[places]
        found = dict(zip(searches, self._search.search(list(searches.values()), search_vectors), strict=True))
        scored = self._score(items, starts, vectors, found)
        results: list[RetrieverResult | Exception] = []
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                results.append(self._detail(scored[at], item))
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

    def _score(
        self, items: Sequence[RetrieverItem], starts: Sequence[int], vectors: SearchVectors, found: dict[int, Found]
    ) -> dict[int, StudentOutput | ScoringFailed]:
        """Scores the candidates of all items at once, each for the reading that found it; searches without a depth are left out.

        `starts` are the places of the items' readings in `vectors`.
        """
        inputs: dict[int, list[StudentInput]] = {}
        order: dict[int, Ints] = {}  # of the candidates of each item that has several readings, as they are scored
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                inputs[at] = [self._input(item.subject, vectors, starts[at], item.candidates)]
            elif item.depth:
                best = found[at].candidates
                rows, words = np.array(best.rows[: item.depth], np.int64), best.words[: item.depth]
                if not best.readings:
                    inputs[at] = [self._input(item.subject, vectors, starts[at], GivenCandidates(rows, words=words))]
                    continue
                of_reading = np.array(best.readings[: item.depth])
                places = [np.flatnonzero(of_reading == number) for number in range(len(item.readings))]
                order[at] = np.concatenate(places)
                inputs[at] = [
                    self._input(
                        reading.subject, vectors, starts[at] + number, GivenCandidates(rows[own], words=words[own])
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
        coverages = candidates.coverages[: len(output.chances)]
        features = output.features if item.keeps_features else None
        scores = StudentScores.blend(output.chances, item.weights, item.asked_weight, coverages, features)
        if not candidates.readings:
            return scores
        return dataclasses.replace(scores, by_blend=in_turns(scores.by_blend, candidates.readings))

    def _detail(self, output: StudentOutput | ScoringFailed, item: ScoreItem) -> ScoredCandidates | ScoringFailed:
        if isinstance(output, ScoringFailed) or self._student is None:
            return ScoringFailed()
        return self._student.detail(output, item.weights, explains=item.explains)


def _together(parts: Sequence[StudentOutput | ScoringFailed], order: Ints) -> StudentOutput | ScoringFailed:
    """Returns the scores of all readings of a search; `order` (candidates,) has the place of each candidate, reading after reading."""
    outputs = [part for part in parts if isinstance(part, StudentOutput)]
    if len(outputs) < len(parts):
        return ScoringFailed()
    back = np.argsort(order)
    chances = np.concatenate([part.chances for part in outputs])
    return StudentOutput(chances[back], np.concatenate([part.features for part in outputs])[back])
