"""What a family of simulations decides: which results shoppers see, what they do with them, and what follows from it later.

Families share products, shoppers, their tastes and their queries. `SimulatedLog` makes events of what a family says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.arrays import Bools, Doubles, Ints
from models.sample_store.sessions import Searches


@dataclass(frozen=True, slots=True)
class Chances:
    """Conditional probabilities, all of the shape of the arguments."""

    click: Doubles  # of an examined product
    cart: Doubles  # of a clicked product
    purchase: Doubles  # of a product in the cart


@dataclass(frozen=True, slots=True)
class Visits:
    """The results that shoppers saw and what they did, by search and place; each field has a row for each result."""

    search: Ints  # row of the searches
    place: Ints  # on the page, from 0
    product: Ints
    click: Bools
    cart: Bools
    purchase: Bools
    waits: Doubles  # (rows, 2) draws from [0, 1): the time to the click, and from there to the cart


@dataclass(frozen=True, slots=True)
class Rows:
    """Events as numbers, each field (num_rows,)."""

    time_ms: Ints
    session: Ints
    place: Ints  # of the search in its session
    shopper: Ints  # -1: anonymous
    intent: Ints
    kind: Ints  # places of EventKind
    product: Ints
    position: Ints


class Pages(Protocol):
    """The result pages of a family."""

    def candidates(self, intent: int, time_ms: int) -> tuple[Ints, Doubles]:
        """Returns the products that can be on the page, and the probability of each to be on it and to be examined."""

    def is_for_sale(self, products: Ints, time_ms: Ints) -> Bools:
        """Returns whether products can be on a page; the arguments broadcast together."""

    def examined(self, top: int) -> Doubles:
        """Returns (top,) the probability that a shopper examines each place."""


class Responses(Protocol):
    """How shoppers respond to products that they examine."""

    def chances(self, intents: Ints, shoppers: Ints, products: Ints, time_ms: Ints) -> Chances:
        """Returns the probabilities for each (intent, shopper, product, time); the arguments broadcast together."""

    def relevance(self, intents: Ints, products: Ints) -> Doubles:
        """Returns the relevance of products: 0 if they satisfy type and constraints, less for each violation."""

    def preference(self, shoppers: Ints, products: Ints, time_ms: Ints) -> Doubles:
        """Returns how much shoppers prefer products, whatever the query."""


class Family(Protocol):
    """One way in which shoppers and a shop behave."""

    @property
    def pages(self) -> Pages: ...

    @property
    def engagement(self) -> Responses: ...

    @property
    def has_memory(self) -> bool:
        """Whether what happens depends on what happened more than two days before. A log is then made a day at a time."""

    def forget(self) -> None:
        """Forgets everything that happened."""

    def asked(self, searches: Searches, time_ms: Ints) -> Searches:
        """Returns the searches of sessions as shoppers make them at their times, after all that happened before."""

    def visit(self, searches: Searches, time_ms: Ints) -> Visits:
        """Draws what shoppers see and do. `searches` are those that `asked` returned."""

    def remember(self, rows: Rows) -> None:
        """Takes in what happened: the events of a block of sessions that were asked last, in their order."""

    def recall(self, searches: Searches) -> Searches:
        """Returns searches with the intents that they had in the log, which `asked` may have changed."""
