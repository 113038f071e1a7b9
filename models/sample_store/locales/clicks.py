"""The clicks of a storefront's searches, and the carts and purchases after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Doubles, Ints
from models.draws import draw_uniforms
from models.events.event import EventKind
from models.sample_store.assortment import ALWAYS, Assortment
from models.sample_store.locales.storefront_parameters import StorefrontParameters
from models.sample_store.weighted_lists import WeightedLists

MAX_CLICKS = 3  # in a search

_KINDS = tuple(EventKind)
_CLICK = _KINDS.index(EventKind.CLICK)  # a cart and a purchase come after it
_LETTERS = pa.array(["i", "c", "a", "p"])  # an event's kind in its id
_DRAWS = 10  # for a click: 3 choices, 2 for cart and purchase, 1 for the position, 4 products
_MAX_STEP = 8  # places from one clicked result to the next; MAX_CLICKS of them are a page


@dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks, carts and purchases, each field (num_events,)."""

    search: Ints  # row of the given searches
    place: Ints  # of the click in its search, from 1
    kind: Ints  # index of EventKind
    product: Ints
    position: Ints
    time_ms: Ints

    def id_endings(self) -> pa.Array:
        """Returns the ends of the events' ids, as "1c"."""
        places = pc.cast(pa.array(self.place), pa.string())
        return pc.binary_join_element_wise(places, _LETTERS.take(pa.array(self.kind)), "")

    def kinds(self) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(self.kind.astype(np.int8)), pa.array([str(k) for k in _KINDS]))


class ClickTargets:
    """Draws the products that shoppers click on."""

    def __init__(self, assortment: Assortment, parameters: StorefrontParameters) -> None:
        self._assortment, self._parameters = assortment, parameters
        lists = assortment.lists
        sizes = lists.sizes()
        weights = np.empty(assortment.num_products)
        num_typed = int(lists.first[len(assortment.related)])  # the first lists hold each product once, by type
        weights[lists.items[:num_typed]] = lists.weights[:num_typed]
        is_older = assortment.launch_ms == ALWAYS
        older = np.nonzero(is_older)[0] if is_older.any() else np.arange(assortment.num_products)
        self._any = len(sizes)  # the list of products that are older than the log
        self._lists = WeightedLists(
            np.concatenate([lists.items, older]),
            np.concatenate([lists.weights, weights[older]]),
            np.concatenate([sizes, [len(older)]]),
        )
        self._related = np.where(sizes[assortment.related] > 0, assortment.related, -1)

    def draw(self, seed: int, numbers: Ints, types: Ints, word_lists: Ints, time_ms: Ints) -> Clicks:
        """Draws the events of searches from their numbers, target types, lists of their constraints (or ABSENT) and times."""
        p = self._parameters
        search, place = self._clicks(seed, numbers)
        draws = draw_uniforms(seed ^ 6, numbers[search] * MAX_CLICKS + place, _DRAWS)
        target = types[search]
        product = self._products(target, word_lists[search], time_ms[search], draws)
        is_other = (self._assortment.latents.type[product] != target).astype(np.int64)
        cart = draws[:, 3] < np.array(p.cart_rates)[is_other]
        purchase = cart & (draws[:, 4] < np.array(p.purchase_rates)[is_other])
        at = np.concatenate([np.arange(len(search)), np.nonzero(cart)[0], np.nonzero(purchase)[0]])
        stage = np.repeat(np.arange(3), [len(search), int(cart.sum()), int(purchase.sum())])
        steps = 1 + (_MAX_STEP * draws[:, 5] ** 2).astype(np.int64)
        clicked_ms = time_ms[search] + _running(steps, place) * 4_000
        return Clicks(
            search=search[at],
            place=place[at] + 1,
            kind=_CLICK + stage,
            product=product[at],
            position=_running(steps, place)[at],
            time_ms=clicked_ms[at] + stage * 25_000,
        )

    def _clicks(self, seed: int, numbers: Ints) -> tuple[Ints, Ints]:
        """Draws the number of clicks: returns the row of the search and the place in it, from 0, of each click."""
        more = draw_uniforms(seed ^ 5, numbers, 1)[:, 0]
        rate = self._parameters.another_click_rate
        count: Ints = 1 + (more[:, None] < rate ** np.arange(1.0, MAX_CLICKS)).sum(axis=1, dtype=np.int64)
        search = np.repeat(np.arange(len(numbers)), count)
        return search, np.arange(len(search)) - (np.cumsum(count) - count)[search]

    def _products(self, target: Ints, word_lists: Ints, time_ms: Ints, draws: Doubles) -> Ints:
        """Draws the product of each click. Replaces a product that is not launched yet by a wider draw, at last by an older product."""
        p = self._parameters
        named = np.where((word_lists >= 0) & (draws[:, 1] < p.word_share), word_lists, target)
        related = self._related[target]
        other = np.where((draws[:, 0] < p.wanted_share + p.related_share) & (related >= 0), related, self._any)
        is_on_target = draws[:, 0] < p.wanted_share
        narrow = np.where(is_on_target, named, other)
        wide = np.where(is_on_target, target, other)
        product = self._lists.draw(np.full(len(target), self._any), draws[:, 2])
        for lists, uniforms in zip((wide, wide, narrow, narrow), draws[:, 6:].T, strict=True):
            drawn = self._lists.draw(lists, uniforms)
            product = np.where(self._assortment.launch_ms[drawn] <= time_ms, drawn, product)
        return product


def _running(steps: Ints, place: Ints) -> Ints:
    """Returns the sum of the steps of each search up to each of its clicks."""
    total = np.cumsum(steps)
    before = np.maximum.accumulate(np.where(place == 0, total - steps, 0))
    return total - before
