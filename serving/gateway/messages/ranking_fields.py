"""The ranking fields that Search and Rank share: model, weights and diversity in requests, scores and factors in answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from aisle.v1 import ranking_pb2, search_pb2
from models.ranking.feature_names import FEATURES
from serving.compute.retrieval import Weights
from serving.config import LimitsConfig, RankerConfig
from serving.errors import Violation
from serving.search.request import AS_RETRIEVED, Diversity, Ranking, RankModel
from serving.search.results import Chances, Degradation, Factors

MAX_WEIGHT = 1_000_000
MAX_ASKED_WEIGHT = 10
MAX_EACH_BRAND = 1000
MODELS = {
    search_pb2.RANK_MODEL_NONE: RankModel.NONE,
    search_pb2.RANK_MODEL_STUDENT: RankModel.STUDENT,
    search_pb2.RANK_MODEL_TEACHER: RankModel.TEACHER,
}
MODEL_NUMBERS = {model: number for number, model in MODELS.items()}
FEATURE_NAMES = tuple(FEATURES)


class _Explained(Protocol):
    def add(self, *, feature: str, value: float, contribution: float) -> object: ...


class RankingFields:
    """Reads the ranking fields for one served bundle."""

    def __init__(
        self, limits: LimitsConfig, config: RankerConfig, *, has_ranker: bool = False, has_teacher: bool = False
    ) -> None:
        self._limits = limits
        self._config = config
        self.has_ranker, self._has_teacher = has_ranker, has_teacher

    @property
    def default_model(self) -> RankModel:
        return RankModel(self._config.model) if self.has_ranker else RankModel.NONE

    def read_for_search(
        self,
        request: search_pb2.SearchRequest,
        violations: list[Violation],
        *,
        has_boosts: bool = False,
        has_its_words: bool = True,
    ) -> Ranking:
        """Returns the ranking that a search requests, without what has no effect: searches that mean the same are equal.

        `has_boosts` says that the request weighs features by hand; then nothing is ranked unless the request names a model.
        `has_its_words` says that the query is in the catalogue's own locale, where its words count by default.
        """
        depth = request.rank_depth if request.HasField("rank_depth") else self._config.depth
        if not 0 <= depth <= self._limits.max_rank_depth:
            violations.append(Violation("rank_depth", f"is {depth}; it must be 0 to {self._limits.max_rank_depth}"))
        default = RankModel.NONE if has_boosts else self.default_model
        model = self._read_model("rank_model", request.rank_model, default, violations)
        weights = self._read_weights("rank_weights", request, violations)
        by_default = float(self._config.asked_weight) if has_its_words else 0.0
        stated = request.asked_weight if request.HasField("asked_weight") else by_default
        asked_weight = _checked_asked_weight(stated, violations)
        diversity = None
        if request.HasField("diversity"):
            limit = f"to the rank depth, which is {depth}: candidates past it do not move"
            diversity = _read_diversity(request.diversity, depth, limit, violations)
        if not depth:
            model = RankModel.NONE
        if model is RankModel.NONE:
            return Ranking(depth=depth, diversity=diversity) if diversity else AS_RETRIEVED
        return Ranking(model=model, depth=depth, weights=weights, asked_weight=asked_weight, diversity=diversity)

    def read_for_rank(self, request: ranking_pb2.RankRequest, violations: list[Violation]) -> Ranking:
        """Returns the ranking that a Rank call requests. It has no depth: all candidates are ranked."""
        default = self.default_model if self.default_model is not RankModel.NONE else RankModel.STUDENT
        model = self._read_model("model", request.model, default, violations)
        if request.model == search_pb2.RANK_MODEL_NONE:
            violations.append(Violation("model", "is NONE; it must be unset, STUDENT or TEACHER"))
        weights = self._read_weights("weights", request, violations)
        asked_weight = _checked_asked_weight(request.asked_weight, violations)
        diversity = None
        if request.HasField("diversity"):
            most = self._limits.max_rank_candidates
            diversity = _read_diversity(request.diversity, most, f"to {most}", violations)
        return Ranking(model=model, weights=weights, asked_weight=asked_weight, diversity=diversity)

    def warnings(self, request: search_pb2.SearchRequest, ranking: Ranking) -> tuple[str, ...]:
        """Returns a warning if the request sets weights that nothing uses."""
        if ranking.model is RankModel.NONE and request.HasField("rank_weights"):
            return ("rank_weights: nothing is ranked",)
        return ()

    def _read_model(self, field: str, number: int, default: RankModel, violations: list[Violation]) -> RankModel:
        if number == search_pb2.RANK_MODEL_UNSPECIFIED:
            return default
        model = MODELS.get(number)  # type: ignore[call-overload]  # callers may send any number
        if model is None:
            violations.append(Violation(field, f"is {number}; it must be one of RankModel"))
        elif model is not RankModel.NONE and not self.has_ranker:
            violations.append(Violation(field, "must be unset or NONE: the served bundle holds no ranker"))
        elif model is RankModel.TEACHER and not self._has_teacher:
            violations.append(
                Violation(field, "is TEACHER, and the served bundle holds none: it must be STUDENT or NONE")
            )
        return model or RankModel.NONE

    def _read_weights(
        self, field: str, request: search_pb2.SearchRequest | ranking_pb2.RankRequest, violations: list[Violation]
    ) -> Weights:
        if not request.HasField(field):  # type: ignore[arg-type]
            return self._config.weights
        message: search_pb2.RankWeights = getattr(request, field)
        weights = (message.click, message.cart, message.purchase)
        names = ("click", "cart", "purchase")
        bad = [name for name, value in zip(names, weights, strict=True) if not 0 <= value <= MAX_WEIGHT]  # a NaN too
        violations.extend(
            Violation(f"{field}.{name}", f"is {getattr(message, name):g}; it must be 0 to {MAX_WEIGHT:,}")
            for name in bad
        )
        if not bad and not any(weights):
            violations.append(Violation(field, "must not be 0 for click, cart and purchase alike"))
        return weights


def _read_diversity(message: search_pb2.Diversity, most: int, limit: str, violations: list[Violation]) -> Diversity:
    if not 1 <= message.max_each_brand <= MAX_EACH_BRAND:
        what = f"is {message.max_each_brand}; it must be 1 to {MAX_EACH_BRAND}"
        violations.append(Violation("diversity.max_each_brand", what))
    if not 1 <= message.among <= most:
        violations.append(Violation("diversity.among", f"is {message.among}; it must be 1 {limit}"))
    return Diversity(message.max_each_brand, message.among)


def write_chances(to: search_pb2.Hit | ranking_pb2.RankedProduct, chances: Chances) -> None:
    """Writes the calibrated probabilities and the blend of one candidate."""
    to.chances.click, to.chances.cart, to.chances.purchase, to.blend = chances


def write_factors(to: _Explained, factors: Factors) -> None:
    """Writes the strongest contribution first."""
    for at in np.argsort(-np.abs(factors.contributions), kind="stable").tolist():
        value, contribution = float(factors.values[at]), float(factors.contributions[at])
        to.add(feature=FEATURE_NAMES[at], value=value, contribution=contribution)


def write_degradations(
    response: search_pb2.SearchResponse | ranking_pb2.RankResponse, degradations: Sequence[Degradation]
) -> None:
    for degradation in degradations:
        response.degradations.add(part=degradation.part, reason=degradation.reason)


def write_weights(weights: Weights) -> search_pb2.RankWeights:
    return search_pb2.RankWeights(click=weights[0], cart=weights[1], purchase=weights[2])


def _checked_asked_weight(stated: float, violations: list[Violation]) -> float:
    if not 0 <= stated <= MAX_ASKED_WEIGHT:
        violations.append(Violation("asked_weight", f"is {stated:g}; it must be 0 to {MAX_ASKED_WEIGHT}"))
    return stated
