"""Where the clicks of a storefront's searches go, and what follows from them."""

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

MAX_CLICKS = 3  # of a search

_KINDS = tuple(EventKind)
_CLICK = _KINDS.index(EventKind.CLICK)  # a cart and a purchase come after it
_LETTERS = pa.array(["i", "c", "a", "p"])  # an event's kind in its id
_DRAWS = 10  # a click: 3 choices, 2 that follow, 1 for the position, 4 products
_MAX_STEP = 8  # places from one clicked result to the next; MAX_CLICKS of them are a page


@dataclass(frozen=True, slots=True)
class Clicks:
    """Events, clicks and what follows from them, each field (num_events,)."""

    search: Ints  # row of the searches that were asked for
    place: Ints  # of the click in its search, from 1
    kind: Ints  # place in EventKind
    product: Ints
    position: Ints
    time_ms: Ints

    def marks(self) -> pa.Array:
        """The ends of the events' ids, as "1c"."""
        places = pc.cast(pa.array(self.place), pa.string())
        return pc.binary_join_element_wise(places, _LETTERS.take(pa.array(self.kind)), "")

    def kinds(self) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(self.kind.astype(np.int8)), pa.array([str(k) for k in _KINDS]))


class ClickTargets:
    def __init__(self, assortment: Assortment, parameters: StorefrontParameters) -> None:
        self._assortment, self._parameters = assortment, parameters
        lists = assortment.lists
        sizes = lists.sizes()
        weights = np.empty(assortment.num_products)
        num_typed = int(lists.first[len(assortment.related)])  # the first lists hold each product once, by type
        weights[lists.items[:num_typed]] = lists.weights[:num_typed]
        there_always = np.nonzero(assortment.launch_ms == ALWAYS)[0]
        popular = there_always if len(there_always) else np.arange(assortment.num_products)
        self._any = len(sizes)  # the list of what was there before the log begins
        self._lists = WeightedLists(
            np.concatenate([lists.items, popular]),
            np.concatenate([lists.weights, weights[popular]]),
            np.concatenate([sizes, [len(popular)]]),
        )
        self._related = np.where(sizes[assortment.related] > 0, assortment.related, -1)

    def draw(self, seed: int, numbers: Ints, types: Ints, word_lists: Ints, time_ms: Ints) -> Clicks:
        """The events of searches by their numbers, wanted types, lists of what was named (or ABSENT) and times."""
        p = self._parameters
        search, place = self._clicks(seed, numbers)
        draws = draw_uniforms(seed ^ 6, numbers[search] * MAX_CLICKS + place, _DRAWS)
        wanted = types[search]
        product = self._products(wanted, word_lists[search], time_ms[search], draws)
        is_other = (self._assortment.latents.type[product] != wanted).astype(np.int64)
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
        """Rows of searches and places in them, from 0."""
        more = draw_uniforms(seed ^ 5, numbers, 1)[:, 0]
        rate = self._parameters.another_click_rate
        count: Ints = 1 + (more[:, None] < rate ** np.arange(1.0, MAX_CLICKS)).sum(axis=1, dtype=np.int64)
        search = np.repeat(np.arange(len(numbers)), count)
        return search, np.arange(len(search)) - (np.cumsum(count) - count)[search]

    def _products(self, wanted: Ints, word_lists: Ints, time_ms: Ints, draws: Doubles) -> Ints:
        """A product of each click; the first of those drawn that is launched by then, at last one that always was."""
        p = self._parameters
        named = np.where((word_lists >= 0) & (draws[:, 1] < p.word_share), word_lists, wanted)
        related = self._related[wanted]
        other = np.where((draws[:, 0] < p.wanted_share + p.related_share) & (related >= 0), related, self._any)
        is_wanted = draws[:, 0] < p.wanted_share
        chosen = np.where(is_wanted, named, other)
        wider = np.where(is_wanted, wanted, other)
        product = self._lists.draw(np.full(len(wanted), self._any), draws[:, 2])
        for tried, uniforms in zip((wider, wider, chosen, chosen), draws[:, 6:].T, strict=True):
            drawn = self._lists.draw(tried, uniforms)
            product = np.where(self._assortment.launch_ms[drawn] <= time_ms, drawn, product)
        return product


def _running(steps: Ints, place: Ints) -> Ints:
    """The sum of the steps of each search up to each of its clicks."""
    total = np.cumsum(steps)
    before = np.maximum.accumulate(np.where(place == 0, total - steps, 0))
    return total - before
