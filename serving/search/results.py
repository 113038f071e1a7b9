"""What a call answers with, before it becomes a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.arrays import Bools, Floats
from models.query_types.type_model import TypePrediction
from serving.compute.facets import FacetCounts, Scope
from serving.compute.retrieval import Candidates, GivenCandidates
from serving.search.personaliser import Gain
from serving.search.query_text import UnderstoodPart
from serving.search.request import RankModel, TypeUse
from serving.search.shopper_vectors import Shopper
from serving.search.type_use import NOT_CLASSIFIED
from serving.stages.batcher import Outcome

Chances = tuple[float, float, float, float]  # of a click, a cart and a purchase, and the blend of them


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """Where time went: waiting for a stage, and the batch that computed."""

    name: str
    queue_ms: float
    compute_ms: float
    batch_size: int

    @classmethod
    def of_stage(cls, name: str, outcome: Outcome[Any]) -> PhaseTime:
        return cls(name, outcome.queue_ms, outcome.compute_ms, outcome.batch_size)


@dataclass(frozen=True, slots=True)
class Degradation:
    """A part of the answer that is less than the call requested: "shopper", "types", "readings", "shards", "rank", "teacher" or
    "catalogue", and why."""

    part: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """What moved one candidate: the value of each feature (features,), NaN where it is not known, and its contribution (features,)."""

    values: Floats
    contributions: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One page of hits in their order. `offset` hits come before it; `has_more` says that a page follows."""

    hits: Candidates
    offset: int
    has_more: bool
    retrieval_ranks: Sequence[int]  # of each hit: its rank among all candidates by score, the best being 1
    chances: Sequence[Chances] = ()  # of the first hits, as many as were ranked
    ranked_by: RankModel = RankModel.NONE
    ranked_depth: int = 0  # candidates that were ranked
    features: Floats | None = None  # (hits with chances, features) that the student read, if the search keeps them
    searched_query: str = ""  # what was searched: without typing errors, conditions and negations
    corrected_query: str = ""  # what was searched, where typing errors were corrected; else empty
    understood: tuple[UnderstoodPart, ...] = ()
    alternative_queries: tuple[str, ...] = ()  # that may be meant too
    searched_queries: Mapping[int, str] = field(
        default_factory=dict
    )  # by number, the readings that found hits, if there are others
    shopper: Shopper = field(default_factory=Shopper)
    prediction: TypePrediction = NOT_CLASSIFIED  # the product types of the query
    type_use: TypeUse = TypeUse.OFF  # what the search did with them
    type_facets: tuple[tuple[str, int], ...] = ()  # categories of the first hits, the most frequent first
    facets: tuple[FacetCounts, ...] = ()  # that the call asks for, in its order
    sorted_over: Scope | None = None  # which products a value orders, where the call asks for one
    notice: str = ""  # for the caller, where no page has a hit, or none holds a word of the query
    holds_words: bool = False  # a hit of some page holds a word or an identifier of the query, or there was no query
    total: int = 0  # hits of all pages
    total_is_exact: bool = False  # there may be more than `total` otherwise
    gains: dict[int, Gain] = field(
        default_factory=dict
    )  # by row, of an explained page: what the shopper's history added
    factors: dict[int, Factors] = field(
        default_factory=dict
    )  # by row, of an explained page: what moved each ranked hit
    degradations: tuple[Degradation, ...] = ()
    phases: tuple[PhaseTime, ...] = ()
    sequence: int = 0  # of the latest change of the catalogue that the page knows
    num_rows: int = 0  # that the catalogue had: the next pages leave out later ones
    coverage: float = 1.0  # the share of the products that were searched

    @classmethod
    def first_page(cls, candidates: Candidates, page_size: int) -> Results:
        """Returns the first page of candidates that nothing ranks or explains."""
        count = min(page_size, len(candidates.rows))
        return cls(
            hits=candidates.take(range(count)),
            offset=0,
            has_more=len(candidates.rows) > page_size,
            retrieval_ranks=range(1, count + 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankedProducts:
    """A caller's candidates, ordered. `places` are places among them, best first, each with its chances. `factors` explain the first
    `RankCall.num_explained`. `is_known` (candidates, features), in the caller's order, is False where a feature counted as average."""

    candidates: GivenCandidates
    places: Sequence[int]
    chances: Sequence[Chances]
    ranked_by: RankModel
    is_known: Bools
    factors: list[Factors]
    shopper: Shopper
    degradations: tuple[Degradation, ...]
    phases: tuple[PhaseTime, ...]
