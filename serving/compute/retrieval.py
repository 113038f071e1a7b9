"""What goes into the retriever stage and what comes out of it.

SearchItem -> Retrieved: the nearest products of a query, and the student's scores of the best of them
ScoreItem  -> ScoredCandidates: the student's scores of candidates that the caller names, with the features behind them
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from models.arrays import Bools, Floats, Ints
from models.products.product import Product
from models.query_types.type_model import TypePrediction
from models.ranking.ranker import DEFAULT_BLEND
from models.ranking.taste import Taste
from serving.compute.facets import FacetCounts, FacetQuestion, Scope
from serving.compute.filter_masks import NO_FILTER, ProductFilter
from serving.compute.value_order import Group, SortBy

Value = TypeVar("Value")
Weights = tuple[float, float, float]  # value of a click, a cart and a purchase


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """The words of a query. Where the unified model serves, the retriever encodes them in its batch: looking up a few words costs less
    than the way to a stage of their own."""

    text: str
    locale: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuery(Query):
    """A query that the encoder stage has read: its unit vector (dim,)."""

    vector: Floats = field(kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """Who searches for what. The shopper's vector (dim,) moves the query's by `personalisation`, 0 to 1; without one the search is
    plain. `taste` and `types` are read by the student alone."""

    query: Query
    shopper: Floats | None = None
    personalisation: float = 1.0
    taste: Taste | None = None
    types: TypePrediction | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchItem:
    """Asks for the best `k` products that pass the filter. The student scores the best `depth` of them; 0 for none.

    Without words in its query it asks for all of them, in the order of `sort` or else of popularity.
    """

    subject: Subject
    k: int
    filter: ProductFilter = NO_FILTER
    boosts: tuple[float, ...] = ()  # weights of the bundle's static features, in their order; empty for none
    type_boosts: tuple[tuple[str, float], ...] = ()  # category and boost; a product of several gets the largest
    only_types: bool = False  # products of other categories are no candidates
    click_weight: float = 1.0  # of what earlier clicks after the query add; 0 leaves them out
    lexical_weight: float = 1.0  # of what the words of the query add to the similarity; 0 leaves the lexical leg out
    words_only: bool = False  # candidates hold a word or an identifier of the query
    depth: int = 0
    weights: Weights = DEFAULT_BLEND
    asked_weight: float = 0.0  # see `StudentScores.blend`
    sort: SortBy | None = None  # orders what matches the query, or else the best of `k`, by a value
    group_by: str = ""  # an attribute: of the best `k` the first of each value stays
    facets: tuple[FacetQuestion, ...] = ()
    min_similarity: float = -math.inf  # of the candidates that `facets` counts and `sort` orders
    min_sequence: int = 0  # of the latest change that must be there, if it is in the log
    others: tuple[SearchItem, ...] = ()  # the same for other readings of its query
    keeps_features: bool = False  # the answer has what the student read
    deadline: float = math.inf  # of the call, by the clock of the process that makes the item

    @property
    def readings(self) -> tuple[SearchItem, ...]:
        """Returns the item for each reading of its query, its own first."""
        return self, *self.others

    def within(self, product_filter: ProductFilter) -> SearchItem:
        """Returns the item and its other readings with another filter."""
        others = tuple(other.within(product_filter) for other in self.others)
        return dataclasses.replace(self, filter=product_filter, others=others)

    @property
    def browses(self) -> bool:
        query = self.subject.query
        return not query.text and not isinstance(query, EncodedQuery)


@dataclass(frozen=True, slots=True, eq=False)
class GivenCandidates:
    """Candidates that a caller names: rows of the catalogue first, then products that the catalogue need not hold."""

    rows: Ints
    products: tuple[Product, ...] = ()
    words: Floats | None = None  # (rows, 2) their `word_evidence`, where the search has computed it

    def __len__(self) -> int:
        return len(self.rows) + len(self.products)

    def slice(self, start: int, stop: int) -> GivenCandidates:
        num_rows = len(self.rows)
        return GivenCandidates(self.rows[start:stop], self.products[max(start - num_rows, 0) : max(stop - num_rows, 0)])

    def take(self, places: Sequence[int]) -> tuple[GivenCandidates, list[int]]:
        """Returns the candidates at `places`, rows before products, and the position of each place among them."""
        num_rows = len(self.rows)
        order = sorted(range(len(places)), key=lambda at: places[at] >= num_rows)
        taken = [places[at] for at in order]
        rows = self.rows[[place for place in taken if place < num_rows]]
        products = tuple(self.products[place - num_rows] for place in taken if place >= num_rows)
        positions = [0] * len(places)
        for position, at in enumerate(order):
            positions[at] = position
        return GivenCandidates(rows, products), positions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreItem:
    """Asks for the student's scores of candidates; with `explains` also for what each feature contributes to the blend."""

    subject: Subject
    candidates: GivenCandidates
    weights: Weights = DEFAULT_BLEND
    explains: bool = False
    min_sequence: int = 0  # as in `SearchItem`
    deadline: float = math.inf  # the same

    @property
    def readings(self) -> tuple[ScoreItem, ...]:
        """Returns the item: its query has one reading."""
        return (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Products by row, best first. A score is the similarity plus the boosts of identifiers, types, words, clicks and static features."""

    rows: list[int]
    scores: list[float]
    similarities: list[float]
    identifier_boosts: list[float]
    type_boosts: list[float]
    feature_boosts: list[tuple[float, ...]]  # in the order of the weights; empty tuples where none was given
    lexical_boosts: list[float]
    # The share of the query's words that a product holds, words weighed by how specific they are; less where it states another value than
    # the query names.
    coverages: list[float]
    words: Floats = field(compare=False)  # (rows, 2) the `word_evidence`, as the ranker reads it
    click_boosts: list[float]
    vector_ranks: list[int]  # among the nearest, from 1; 0 where another leg found the product
    lexical_ranks: list[int]  # the same among the best by words
    click_ranks: list[int]  # ... among the products that most engaged with after the query
    matched: dict[int, list[str]]  # by row, the identifiers behind a boost
    holds_words: bool = (
        False  # the filter passes a product that holds a word or an identifier of the query, or words are not known
    )
    groups: Mapping[int, Group] = field(default_factory=dict)  # by row, where the search groups
    readings: list[int] = field(
        default_factory=list
    )  # number of the reading that found each; empty where there is but one

    @classmethod
    def of_rows(cls, rows: list[int]) -> Candidates:
        """Returns products that no query found: their scores are 0."""
        zeros = [0.0] * len(rows)
        return cls(
            rows=rows,
            scores=zeros,
            similarities=zeros,
            identifier_boosts=zeros,
            type_boosts=zeros,
            feature_boosts=[()] * len(rows),
            lexical_boosts=zeros,
            coverages=zeros,
            words=np.zeros((len(rows), 2), np.float32),
            click_boosts=zeros,
            vector_ranks=[0] * len(rows),
            lexical_ranks=[0] * len(rows),
            click_ranks=[0] * len(rows),
            matched={},
        )

    def take(self, places: Sequence[int]) -> Candidates:
        """Returns the candidates at `places`, in that order."""

        def taken(values: list[Value]) -> list[Value]:
            return list(map(values.__getitem__, places))

        return Candidates(
            rows=taken(self.rows),
            scores=taken(self.scores),
            similarities=taken(self.similarities),
            identifier_boosts=taken(self.identifier_boosts),
            type_boosts=taken(self.type_boosts),
            feature_boosts=taken(self.feature_boosts),
            lexical_boosts=taken(self.lexical_boosts),
            coverages=taken(self.coverages),
            words=self.words[list(places)],
            click_boosts=taken(self.click_boosts),
            vector_ranks=taken(self.vector_ranks),
            lexical_ranks=taken(self.lexical_ranks),
            click_ranks=taken(self.click_ranks),
            matched=self.matched,
            holds_words=self.holds_words,
            groups=self.groups,
            readings=taken(self.readings) if self.readings else [],
        )

    @classmethod
    def concatenate(cls, of_readings: Sequence[Candidates]) -> Candidates:
        """Returns the candidates of all readings of a query, one after the other."""

        def all_of(values_of: Callable[[Candidates], Iterable[Value]]) -> list[Value]:
            return [value for candidates in of_readings for value in values_of(candidates)]

        return cls(
            rows=all_of(lambda one: one.rows),
            scores=all_of(lambda one: one.scores),
            similarities=all_of(lambda one: one.similarities),
            identifier_boosts=all_of(lambda one: one.identifier_boosts),
            type_boosts=all_of(lambda one: one.type_boosts),
            feature_boosts=all_of(lambda one: one.feature_boosts),
            lexical_boosts=all_of(lambda one: one.lexical_boosts),
            coverages=all_of(lambda one: one.coverages),
            words=np.concatenate([one.words for one in of_readings]),
            click_boosts=all_of(lambda one: one.click_boosts),
            vector_ranks=all_of(lambda one: one.vector_ranks),
            lexical_ranks=all_of(lambda one: one.lexical_ranks),
            click_ranks=all_of(lambda one: one.click_ranks),
            matched={row: names for one in of_readings for row, names in one.matched.items()},
            holds_words=any(one.holds_words for one in of_readings),
            readings=[number for number, one in enumerate(of_readings) for _ in one.rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudentScores:
    """The student's scores of the first candidates of a search: chances (scored, 3) of click, cart and purchase, and their weighted
    sum, the blend (scored,). `by_blend` has their places, best first by blend and by what was asked, equals as they were retrieved.
    `features` (scored, features) is what it read, NaN where one is not known; None unless the search keeps them.

    They are sorted in the batch: on the event loop that took a third of a search, since NumPy releases the interpreter's lock and waits
    behind the stages to get it back.
    """

    chances: Floats
    blends: Floats
    by_blend: list[int]
    features: Floats | None = None
    failure: str = ""  # why candidates that should have been scored were not

    def __len__(self) -> int:
        return len(self.by_blend)

    @classmethod
    def blend(
        cls,
        chances: Floats,
        weights: Weights,
        asked_weight: float = 0.0,
        coverages: Sequence[float] = (),
        features: Floats | None = None,
    ) -> StudentScores:
        """A product that holds all words of the query counts exp(`asked_weight`) times as much as one that holds none of them. `coverages`
        (scored,) are the shares of the words; empty where they are not known."""
        blends = chances @ np.array(weights, np.float32)
        keys = blends * np.exp(np.float32(asked_weight) * np.array(coverages, np.float32)) if len(coverages) else blends
        by_blend = (-keys).argsort(kind="stable").tolist()
        return cls(chances=chances, blends=blends, by_blend=by_blend, features=features)

    @classmethod
    def missing(cls, failure: str = "") -> StudentScores:
        return cls(chances=_NONE, blends=_NONE[:, 0], by_blend=[], failure=failure)

    def take(self, places: Sequence[int]) -> StudentScores:
        """Returns the scores of the candidates at `places`, which ascend and end before `len`."""
        if not self.by_blend:
            return self
        new_place = {place: at for at, place in enumerate(places)}
        return StudentScores(
            chances=self.chances[list(places)],
            blends=self.blends[list(places)],
            by_blend=[new_place[place] for place in self.by_blend if place in new_place],
            features=None if self.features is None else self.features[list(places)],
        )


_NONE: Floats = np.zeros((0, 3), np.float32)
NOT_SCORED = StudentScores.missing()


@dataclass(frozen=True, slots=True)
class Sorted:
    """What a value orders of the products of a query: `total` of them, or more unless `is_exact`."""

    scope: Scope
    total: int
    is_exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """The candidates of a search in their order, and the student's scores of the first of them. They are the best of `num_considered`
    products, of `num_matching` that pass the filter; or the first of `sorted`."""

    candidates: Candidates
    scores: StudentScores
    num_matching: int = 0
    num_considered: int = 0
    sorted: Sorted | None = None  # where a value orders the products of a query
    facets: tuple[FacetCounts, ...] = ()
    sequence: int = 0  # of the latest change of the catalogue that was there
    num_rows: int = 0  # that there were: later ones are newer
    coverage: float = 1.0  # the share of the rows that were searched; less where shards did not answer
    num_lost: int = 0  # shards that did not answer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredCandidates:
    """The student's chances (candidates, 3), and the features that it read (candidates, features): a feature's mean where `is_known` is
    False. `contributions` to the blend are (candidates, features) if the item had `explains`, else they have no columns."""

    chances: Floats
    features: Floats
    is_known: Bools
    contributions: Floats

    @classmethod
    def concatenate(cls, parts: Sequence[ScoredCandidates]) -> ScoredCandidates:
        if len(parts) == 1:
            return parts[0]
        return cls(
            chances=np.concatenate([part.chances for part in parts]),
            features=np.concatenate([part.features for part in parts]),
            is_known=np.concatenate([part.is_known for part in parts]),
            contributions=np.concatenate([part.contributions for part in parts]),
        )
