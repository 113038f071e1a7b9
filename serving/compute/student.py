"""The student beside the retriever: features of the candidates of a whole batch, made together, and the chances that they tell.

A hop to a stage of its own would cost some 15 % of the throughput of a search, and the vectors are at hand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.ranking.bundle_part import RANKER_PART
from models.ranking.features import CandidateFeatures, QueryInput
from serving.compute.order import GivenCandidates, RankInput, ScoredCandidates
from serving.logs import log

FAILED = "the ranker failed; the server's log says why"


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One search's candidates. `vector` and `search` (dim,) are those of the query and of query and shopper together, `shopper` is of any
    length."""

    query: str
    locale: str
    vector: Floats
    shopper: Floats | None
    search: Floats
    known: RankInput
    candidates: GivenCandidates
    keeps_features: bool


class Student:
    def __init__(self, bundle: Bundle) -> None:
        self._ranker = RANKER_PART.open(bundle)
        self._features = CandidateFeatures(bundle, query_attributes=self._ranker.query_attributes)

    def judge(self, questions: Sequence[Question]) -> list[ScoredCandidates | None]:
        """One for each question, None where it failed: then the log has it, and the others of the batch are judged all the same."""
        try:
            return list(self._judge(questions))
        except Exception as error:
            if len(questions) == 1:
                log.error("ranking failed", exc_info=error)
                return [None]
        return [self.judge([question])[0] for question in questions]

    def _judge(self, questions: Sequence[Question]) -> list[ScoredCandidates]:
        features = self._read(questions)
        chances = self._ranker.probabilities(features)
        if not np.isfinite(chances).all():
            raise ValueError("a chance is no finite number")
        judged = []
        start = 0
        for question in questions:
            part = slice(start, start + len(question.candidates))
            start = part.stop
            judged.append(ScoredCandidates(chances[part]))
            if question.keeps_features:
                judged[-1] = self._closely(chances[part], features[part], question.known)
        return judged

    def _closely(self, chances: Floats, features: Floats, known: RankInput) -> ScoredCandidates:
        is_known = ~np.isnan(features)
        read = np.where(is_known, features, self._ranker.scaling.mean).astype(np.float32)
        explained = self._ranker.explain(features, known.weights) if known.explains else None
        return ScoredCandidates(chances, read, is_known, explained)

    def _read(self, questions: Sequence[Question]) -> Floats:
        """(candidates of all, features)"""
        inputs = [
            QueryInput(one.query, one.locale, one.vector, one.shopper, one.search, one.known.taste, one.known.types)
            for one in questions
        ]
        features = self._features.compute_many(inputs, [one.candidates.rows for one in questions])
        if not any(one.candidates.products for one in questions):
            return features
        ends = np.cumsum([len(one.candidates.rows) for one in questions])
        parts = []
        for one, asked, rows in zip(questions, inputs, np.split(features, ends[:-1]), strict=True):
            parts.append(rows)
            if one.candidates.products:
                parts.append(self._features.compute_for_products(asked, one.candidates.products))
        return np.concatenate(parts)
