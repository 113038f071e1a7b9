"""The parts that a query is read as. Each has its place in the query, `query[start:end]`, so that an answer can say what was understood."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a query as typed."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCondition(Part):
    """Bounds of the price, both inclusive, in minor units of `currency`: "under $50" is at most 4999."""

    min_minor: int | None
    max_minor: int | None
    currency: str  # ISO 4217: the catalogue's, unless the query names another
    is_stated: bool  # False for a bare number after a comparison, which may be an age


@dataclass(frozen=True, slots=True, kw_only=True)
class Negation(Part):
    """What is not wanted. `text` holds the negation too, `words` only what it negates."""

    words: str
    is_certain: bool  # False for "no" at the start: "no show socks" wants socks


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParts:
    """A query as its words are read. Its parts do not overlap."""

    query: str
    rest: str  # without price conditions and certain negations; may be empty
    prices: tuple[PriceCondition, ...]
    negations: tuple[Negation, ...]

    @property
    def conditions(self) -> tuple[Part, ...]:
        """Returns the parts that `rest` leaves out, as read: stated prices and certain negations."""
        prices = tuple(price for price in self.prices if price.is_stated)
        return (*prices, *(negation for negation in self.negations if negation.is_certain))

    def price_bounds(self, currency: str) -> tuple[int | None, int | None]:
        """Returns the least and the greatest price that every stated condition in this currency allows."""
        conditions = [price for price in self.prices if price.is_stated and price.currency == currency]
        lows = [price.min_minor for price in conditions if price.min_minor is not None]
        highs = [price.max_minor for price in conditions if price.max_minor is not None]
        return max(lows, default=None), min(highs, default=None)

    def contradicts_itself(self, currency: str) -> bool:
        """Returns whether no price can meet all conditions, as in "over 50 euro under 20 euro"."""
        low, high = self.price_bounds(currency)
        return low is not None and high is not None and low > high
