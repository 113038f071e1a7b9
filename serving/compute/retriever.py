"""The compute of the retriever stage: one batch of searches and scorings, from queries to scored candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.unified.light_tower import LightTower
from serving.compute.catalogue_search import CatalogueSearch, Found
from serving.compute.catalogue_state import FIXED, CatalogueState
from serving.compute.query_vectors import QueryVectors, SearchVectors
from serving.compute.retrieval import (
    NOT_SCORED,
    Candidates,
    GivenCandidates,
    Retrieved,
    ScoredCandidates,
    ScoreItem,
    SearchItem,
    StudentScores,
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
        self._search.warm_up()

    def compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        self._catalogue.catch_up(max((item.min_sequence for item in items), default=0))
        with self._catalogue.lock:
            return self._compute(items)

    def _compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
        vectors = self._vectors.encode(items)
        searches = {at: item for at, item in enumerate(items) if isinstance(item, SearchItem)}
        places = list(searches)
        search_vectors = vectors.searches if len(places) == len(items) else vectors.searches[places]
        found = dict(zip(places, self._search.search(list(searches.values()), search_vectors), strict=True))
        scored = self._score(items, vectors, found)
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
                        facets=found[at].facets,
                        sequence=self._catalogue.sequence,
                        num_rows=self._search.index.size,
                    )
                )
        return results

    def _score(
        self, items: Sequence[RetrieverItem], vectors: SearchVectors, found: dict[int, Found]
    ) -> dict[int, StudentOutput | ScoringFailed]:
        """Scores the candidates of all items at once; searches without a depth are left out."""
        inputs: dict[int, StudentInput] = {}
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                candidates = item.candidates
            elif item.depth:
                best = found[at].candidates
                rows = np.array(best.rows[: item.depth], np.int64)
                candidates = GivenCandidates(rows, words=best.words[: item.depth])
            else:
                continue
            search = vectors.searches[at, : self._dim]
            inputs[at] = StudentInput(
                subject=item.subject, query=vectors.queries[at], search=search, candidates=candidates
            )
        if self._student is None:
            return dict.fromkeys(inputs, ScoringFailed())
        return dict(zip(inputs, self._student.score(list(inputs.values())), strict=True))

    @staticmethod
    def _blend(output: StudentOutput | ScoringFailed, item: SearchItem, candidates: Candidates) -> StudentScores:
        if isinstance(output, ScoringFailed):
            return StudentScores.missing(output.message)
        coverages = candidates.coverages[: len(output.chances)]
        features = output.features if item.keeps_features else None
        return StudentScores.blend(output.chances, item.weights, item.asked_weight, coverages, features)

    def _detail(self, output: StudentOutput | ScoringFailed, item: ScoreItem) -> ScoredCandidates | ScoringFailed:
        if isinstance(output, ScoringFailed) or self._student is None:
            return ScoringFailed()
        return self._student.detail(output, item.weights, explains=item.explains)
