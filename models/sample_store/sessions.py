"""Simulated sessions: their shoppers and the intents of their searches. A session depends on the seed and its number."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Floats, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.assortment import FIELDS, Assortment
from models.sample_store.intents import Intents
from models.sample_store.parameters import MAX_SEARCHES, SharedParameters
from models.sample_store.preferences import preference_columns
from models.sample_store.product_types import departments, load_product_types
from models.sample_store.shoppers import Shoppers
from models.sample_store.weighted_lists import WeightedLists

_SEARCH_DRAWS = 6


@dataclass(frozen=True, slots=True)
class Searches:
    """Searches in the order of their sessions, each field (num_searches,)."""

    session: Ints
    place: Ints  # of the search in its session, from 0
    shopper: Ints  # the true shopper
    is_anonymous: Bools  # the log does not name the shopper
    intent: Ints
    start: Doubles  # of the session, as a fraction of the time that its block covers
    later_ms: Ints  # from the start of the session to the search
    depth_draw: Doubles

    def __len__(self) -> int:
        return len(self.session)

    def number(self) -> Ints:
        """Returns a number for each search that is unique in its log."""
        return self.session * MAX_SEARCHES + self.place

    def at(self, rows: npt.NDArray[np.intp]) -> Searches:
        return Searches(*(getattr(self, field.name)[rows] for field in fields(self)))


class SessionPlan:
    """Draws the sessions of a log, any of them from its number alone."""

    def __init__(
        self, assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: SharedParameters, seed: int
    ) -> None:
        self._shoppers, self._intents, self._parameters = shoppers, intents, parameters
        self._seed = mix(seed)
        self._columns = _preference_columns_of(intents)
        self._types = _types_by_department(assortment, intents)

    def searches(self, sessions: Ints) -> Searches:
        """Draws all searches of the given sessions."""
        p = self._parameters
        draws = draw_uniforms(self._seed ^ 6, sessions, 5)
        is_anonymous = draws[:, 0] < p.anonymous_share
        evenly = (draws[:, 1] * self._shoppers.num_shoppers).astype(np.int64)
        shopper = np.where(is_anonymous, evenly, self._shoppers.draw_active(draws[:, 1]))
        with np.errstate(divide="ignore"):
            length = 1 + (np.log(draws[:, 2]) / np.log(p.another_search_rate)).clip(max=MAX_SEARCHES - 1).astype(int)
        row = np.repeat(np.arange(len(sessions)), length)
        first = np.cumsum(length) - length  # search of each session
        place = np.arange(len(row)) - first[row]
        per_search = draw_uniforms(self._seed ^ 7, sessions[row] * MAX_SEARCHES + place, _SEARCH_DRAWS)
        own_type = self._draw_types(shopper[row], per_search[:, 0], per_search[:, 1])
        keeps = (place == 0) | (per_search[:, 2] < p.same_type_rate)
        types = np.where(keeps, own_type[first[row]], own_type)
        gap_ms = 30_000 + (per_search[:, 4] * 150_000).astype(np.int64)
        so_far = np.cumsum(gap_ms)
        return Searches(
            session=sessions[row],
            place=place,
            shopper=shopper[row],
            is_anonymous=is_anonymous[row],
            intent=self._draw_intents(shopper[row], types, per_search),
            start=draws[row, 3],
            later_ms=so_far - so_far[first[row]],
            depth_draw=per_search[:, 5],
        )

    def intent_frequencies(self) -> Doubles:
        """Returns the relative frequency of each intent, in the mean over shoppers (num_intents,)."""
        types, shares = self._types.distribution(len(departments()))
        type_share = np.zeros(len(load_product_types()))
        type_share[types] = shares
        return type_share[self._intents.types] * self._intents.probabilities()

    def _draw_types(self, shopper: Ints, which: Doubles, within: Doubles) -> Ints:
        favourite_rate = self._parameters.favourite_department_rate
        department = self._shoppers.draw_department(shopper, which / favourite_rate)
        is_sold = self._types.sizes()[department] > 0
        everything = len(departments())
        return self._types.draw(np.where((which < favourite_rate) & is_sold, department, everything), within)

    def _draw_intents(self, shopper: Ints, types: Ints, draws: Doubles) -> Ints:
        """Draws two queries of each type and returns the one that names more of the shopper's preferences."""
        first = self._intents.by_type.draw(types, draws[:, 3])
        second = self._intents.by_type.draw(types, (draws[:, 3] * 65_536) % 1.0)
        return np.where(self._preference(shopper, second) > self._preference(shopper, first), second, first)

    def _preference(self, shopper: Ints, intents: Ints) -> Floats:
        start = np.zeros(1, np.int64)  # before all preferences change
        return self._shoppers.preference(shopper[:, None], self._columns[intents], start).sum(axis=1)


def _preference_columns_of(intents: Intents) -> Ints:
    """Returns the constraints of intents as columns of the table of preferences (num_intents, MAX_CONSTRAINTS)."""
    first = preference_columns().first
    columns = np.full(intents.fields.shape, preference_columns().neutral)
    for field, name in enumerate(FIELDS):
        if name in first:
            columns = np.where(intents.fields == field, first[name] + intents.values, columns)
    return columns


def _types_by_department(assortment: Assortment, intents: Intents) -> WeightedLists:
    """Lists the types of each department, then all types, weighted by their number of products; only types with an intent."""
    kinds = load_product_types()
    counts = np.bincount(assortment.latents.type, minlength=len(kinds)) * (intents.by_type.sizes() > 0)
    searched = [at for at in range(len(kinds)) if counts[at]]
    lists = [[at for at in searched if kinds[at].department == department] for department in departments()]
    lists.append(searched)
    items = np.concatenate([np.array(types, np.int64) for types in lists])
    return WeightedLists(items, counts[items].astype(np.float64), np.array([len(types) for types in lists]))
