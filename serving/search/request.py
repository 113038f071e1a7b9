"""What a call asks for, translated once from its message: the nouns below the gateway and above the stages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from models.events.event import Event
from models.ranking.ranker import DEFAULT_BLEND
from serving.compute.facets import FacetQuestion
from serving.compute.filter_masks import NO_FILTER, ProductFilter
from serving.compute.retrieval import GivenCandidates, Weights
from serving.compute.value_order import SortBy


class TypeUse(StrEnum):
    """What a search does with the product types of its query."""

    OFF = "off"
    FACETS = "facets"
    BOOST = "boost"
    FILTER = "filter"


class RankModel(StrEnum):
    NONE = "none"
    STUDENT = "student"
    TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Diversity:
    """Allows at most `max_each` products of a brand in the first `among` places."""

    max_each: int
    among: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How candidates are ordered. Those past the best `depth` of the retrieval keep their places, whatever ranks or spreads the others."""

    model: RankModel = RankModel.NONE
    depth: int = 0
    weights: Weights = DEFAULT_BLEND
    asked_weight: float = 0.0  # logarithm of what a product gains that holds all words of the query
    diversity: Diversity | None = None


AS_RETRIEVED = Ranking()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks for what: the fields that Search and Rank share."""

    query: str
    locale: str = ""
    shopper_id: str = ""
    recent_events: tuple[Event, ...] = ()  # read in place of what the store has of the shopper
    personalisation: float = 1.0  # strength, 0 to 1

    @property
    def reads_stored_events(self) -> bool:
        """Says whether the answer may depend on what the store has of the shopper, rather than on what the caller sent."""
        return bool(self.shopper_id) and not self.recent_events and self.personalisation > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Search(Caller):
    """A valid search. `offset` hits come before this page. An empty query asks for all products that pass the filter."""

    page_size: int
    offset: int = 0
    filter: ProductFilter = NO_FILTER
    verbatim: bool = False  # typing errors stay
    words_only: bool = False  # hits hold a word or an identifier of the query
    min_similarity: float = -math.inf
    explain: bool = False
    lexical_weight: float = 1.0
    click_weight: float = 1.0
    boosts: tuple[float, ...] = ()  # weights of the bundle's static features, in their order
    type_use: TypeUse = TypeUse.OFF
    type_boost: float = 0.0
    ranking: Ranking = AS_RETRIEVED
    facets: tuple[FacetQuestion, ...] = ()
    sort: SortBy | None = None
    group_by: str = ""
    min_sequence: int = 0  # of the latest change of the catalogue that the answer has to know
    keeps_features: bool = False  # the results have what the student read of each ranked hit

    @property
    def is_ranked(self) -> bool:
        return self.ranking.model is not RankModel.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCall(Caller):
    """A valid Rank call: all candidates of the caller are ranked, and the first `num_explained` explained."""

    candidates: GivenCandidates
    ranking: Ranking
    num_explained: int = 0
