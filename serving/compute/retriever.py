"""The compute of the retriever stage: one batch of searches and scorings, from queries to scored candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.bundles.bundle import Bundle
from models.index.spec import Device
from models.ranking.bundle_part import RANKER_PART
from models.unified.bundle_part import UNIFIED_PART
from serving.compute.candidate_search import CandidateSearch
from serving.compute.query_encoder import light_tower
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

    def __init__(self, bundle: Bundle, device: Device = "cpu", threads: int = 0) -> None:
        self._search = CandidateSearch(bundle, device, threads)
        index = self._search.index
        tower = light_tower(bundle.folder) if UNIFIED_PART.is_in(bundle) else None
        self._vectors = QueryVectors(tower, index.dim, index.width)
        self._dim = index.dim
        self._student = Student(bundle) if RANKER_PART.is_in(bundle) else None
        self.backend = f"faiss {index.device} {index.spec.kind}"

    def warm_up(self) -> None:
        self._search.warm_up()

    def compute(self, items: Sequence[RetrieverItem]) -> list[RetrieverResult | Exception]:
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
                results.append(Retrieved(found[at], self._blend(scored[at], item) if at in scored else NOT_SCORED))
        return results

    def _score(
        self, items: Sequence[RetrieverItem], vectors: SearchVectors, found: dict[int, Candidates]
    ) -> dict[int, StudentOutput | ScoringFailed]:
        """Scores the candidates of all items at once; searches without a depth are left out."""
        inputs: dict[int, StudentInput] = {}
        for at, item in enumerate(items):
            if isinstance(item, ScoreItem):
                candidates = item.candidates
            elif item.depth:
                candidates = GivenCandidates(np.array(found[at].rows[: item.depth], np.int64))
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
    def _blend(output: StudentOutput | ScoringFailed, item: SearchItem) -> StudentScores:
        if isinstance(output, ScoringFailed):
            return StudentScores.missing(output.message)
        return StudentScores.blend(output.chances, item.weights)

    def _detail(self, output: StudentOutput | ScoringFailed, item: ScoreItem) -> ScoredCandidates | ScoringFailed:
        if isinstance(output, ScoringFailed) or self._student is None:
            return ScoringFailed()
        return self._student.detail(output, item.weights, explains=item.explains)


def load_retriever(bundle_folder: Path, device: Device, threads: int) -> Retriever:
    return Retriever(Bundle(bundle_folder), device, threads)
