"""The student in the retriever's batch: features of the candidates of all its searches, made together, and their chances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import Floats
from models.bundles.bundle import Bundle
from models.lexical.lexical_index import LexicalIndex
from models.products.identifiers import IdentifierIndex
from models.ranking.click_memory import Clicks
from models.ranking.features import CandidateFeatures, QueryInput
from models.ranking.product_columns import ProductColumns
from models.ranking.ranker import Ranker
from serving.compute.retrieval import GivenCandidates, ScoredCandidates, Subject, Weights
from serving.errors import AisleError
from serving.logs import log


class ScoringFailed(AisleError):
    """The student could not score. The log has the reason."""

    def __init__(self, message: str = "the ranker failed; the server's log says why") -> None:
        super().__init__(message)  # the message alone, so that a remote stage can send it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudentInput:
    """The candidates of one search. `query` and `search` (dim,) are the vectors of the query, and of query and shopper together."""

    subject: Subject
    query: Floats
    search: Floats
    candidates: GivenCandidates


@dataclass(frozen=True, slots=True, eq=False)
class StudentOutput:
    """Chances (candidates, 3) and the features behind them (candidates, features), NaN where one is not known."""

    chances: Floats
    features: Floats


class Student:
    def __init__(self, ranker: Ranker, features: CandidateFeatures) -> None:
        self._ranker, self._features = ranker, features

    @classmethod
    def from_bundle(
        cls,
        bundle: Bundle,
        ranker: Ranker,
        columns: ProductColumns,
        identifiers: IdentifierIndex,
        lexical: LexicalIndex | None,
        clicks: Clicks,
    ) -> Student:
        """Takes the bundle's ranker, and the structures of the bundle's that it reads."""
        features = CandidateFeatures(
            bundle,
            query_attributes=ranker.query_attributes,
            columns=columns,
            identifiers=identifiers,
            lexical=lexical,
            clicks=clicks,
        )
        return cls(ranker, features)

    def score(self, inputs: Sequence[StudentInput]) -> list[StudentOutput | ScoringFailed]:
        """Scores each input. Where one fails the log says why, and the others of the batch are scored all the same."""
        if not inputs:
            return []
        try:
            return list(self._score(inputs))
        except Exception as error:
            if len(inputs) == 1:
                log.error("ranking failed", exc_info=error)
                return [ScoringFailed()]
        return [self.score([one])[0] for one in inputs]

    def detail(self, output: StudentOutput, weights: Weights, *, explains: bool) -> ScoredCandidates:
        """Adds what the ranker read of each candidate and, with `explains`, what each feature contributes to the blend."""
        is_known = ~np.isnan(output.features)
        return ScoredCandidates(
            chances=output.chances,
            features=np.where(is_known, output.features, self._ranker.scaling.mean).astype(np.float32),
            is_known=is_known,
            contributions=self._ranker.explain(output.features, weights) if explains else output.features[:, :0],
        )

    def _score(self, inputs: Sequence[StudentInput]) -> list[StudentOutput]:
        features = self._read(inputs)
        chances = self._ranker.probabilities(features)
        if not np.isfinite(chances).all():
            raise ValueError("a chance is no finite number")
        outputs = []
        start = 0
        for one in inputs:
            part = slice(start, start + len(one.candidates))
            start = part.stop
            outputs.append(StudentOutput(chances[part], features[part]))
        return outputs

    def _read(self, inputs: Sequence[StudentInput]) -> Floats:
        """Returns the features (candidates of all inputs, features)."""
        queries = [
            QueryInput(
                one.subject.query.text,
                one.subject.query.locale,
                one.query,
                one.subject.shopper,
                one.search,
                one.subject.taste,
                one.subject.types,
            )
            for one in inputs
        ]
        features = self._features.compute_many(
            queries, [one.candidates.rows for one in inputs], [one.candidates.words for one in inputs]
        )
        if not any(one.candidates.products for one in inputs):
            return features
        ends = np.cumsum([len(one.candidates.rows) for one in inputs])
        parts = []
        for one, query, rows in zip(inputs, queries, np.split(features, ends[:-1]), strict=True):
            parts.append(rows)
            if one.candidates.products:
                parts.append(self._features.compute_for_products(query, one.candidates.products))
        return np.concatenate(parts)
