"""The family "cascade": results are read from the top down, chances are products of what fits, and what happens has consequences.

What was clicked is shown more (`learned_pages`), what was bought is bought again or asks for accessories (`cascade_taste`), and products
run out of stock (`stock`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.draws import draw_uniforms, mix
from models.events.event import EventKind
from models.sample_store.assortment import Assortment
from models.sample_store.cascade_taste import CascadeTaste
from models.sample_store.family import Rows, Visits
from models.sample_store.intents import Intents
from models.sample_store.learned_pages import LearnedPages
from models.sample_store.parameters import DAY_MS, MAX_SEARCHES, PAGE_SIZE, CascadeParameters
from models.sample_store.purchase_memory import PurchaseMemory
from models.sample_store.query_fit import num_violated
from models.sample_store.sessions import Searches
from models.sample_store.shoppers import Shoppers
from models.sample_store.words import ABSENT

_ROW = 4  # results that a screen shows: the rest of a row is shown, but not read
_TRIES = 4  # queries of which a shopper takes the one that says most about what was bought before
_CLICK, _PURCHASE = (list(EventKind).index(kind) for kind in (EventKind.CLICK, EventKind.PURCHASE))


class Cascade:
    """See `Family`."""

    has_memory = True

    def __init__(
        self,
        assortment: Assortment,
        shoppers: Shoppers,
        intents: Intents,
        parameters: CascadeParameters,
        seed: int,
        start_ms: int,
    ) -> None:
        self._assortment, self._intents, self._parameters = assortment, intents, parameters
        self._seed = mix(seed)
        self._memory = PurchaseMemory(assortment.num_products)
        self.pages = LearnedPages(assortment, intents, parameters, seed, start_ms)
        self.engagement = CascadeTaste(assortment, shoppers, intents, parameters, self._memory)
        related, accessory_of = assortment.related, assortment.accessory_of
        is_accessory = (related >= 0) & (accessory_of[related] == np.arange(len(related)))
        is_searched = intents.by_type.sizes()[related] > 0
        self._accessory = np.where(is_accessory & is_searched, related, ABSENT)  # of each type
        self.forget()

    def forget(self) -> None:
        self._memory.forget()
        self.pages.forget()
        nothing = np.zeros(0, np.int64)
        self._reminded = nothing, nothing  # numbers of searches, ascending, and the intents that they have instead
        self._proposed = nothing, nothing  # the same of the last block

    def asked(self, searches: Searches, time_ms: Ints) -> Searches:
        first = np.flatnonzero((searches.place == 0) & ~searches.is_anonymous)
        numbers, shoppers, times = searches.number()[first], searches.shopper[first], time_ms[first]
        draws = draw_uniforms(self._seed ^ 11, numbers, 1 + _TRIES)
        rate = self._parameters.repeat_rate
        due = self._last_bought(shoppers, times, self._parameters.repeat_days)
        again = (due >= 0) & (draws[:, 0] < rate)
        bought = self._last_bought(shoppers, times, self._parameters.complement_days)
        accessory = self._accessory[self._assortment.latents.type[bought]]
        completes = ~again & (bought >= 0) & (accessory >= 0)
        completes &= draws[:, 0] >= 1 - self._parameters.complement_rate
        types = np.where(again, self._assortment.latents.type[due], accessory)
        rows = np.flatnonzero(again | completes)
        product = np.where(again, due, bought)[rows]
        chosen = self._query_for(types[rows], product, draws[rows, 1:])
        self._proposed = numbers[rows], chosen
        intent = searches.intent.copy()
        intent[first[rows]] = chosen
        return replace(searches, intent=intent)

    def visit(self, searches: Searches, time_ms: Ints) -> Visits:
        p, numbers = self._parameters, searches.number()
        pages = self.pages.draw(numbers, searches.intent, time_ms)
        cells = (numbers[:, None] * PAGE_SIZE + np.arange(PAGE_SIZE)).ravel()
        draws = draw_uniforms(self._seed ^ 9, cells, 7).reshape(*pages.shape, 7)
        chances = self.engagement.chances(searches.intent[:, None], searches.shopper[:, None], pages, time_ms[:, None])
        click = draws[..., 0] < chances.click
        cart = click & (draws[..., 1] < chances.cart)
        purchase = cart & (draws[..., 2] < chances.purchase)
        stops = np.where(cart, p.stop_after_cart, np.where(click, p.stop_after_click, 0.0))
        stops = (draws[..., 5] < stops) | (draws[..., 6] >= p.patience)
        is_read = np.ones(pages.shape, np.bool_)
        is_read[:, 1:] = ~np.logical_or.accumulate(stops[:, :-1], axis=1)
        search, place = np.nonzero(_in_full_rows(is_read) & (pages >= 0))
        at, read = (search, place), is_read[search, place]
        return Visits(
            search,
            place,
            pages[at],
            click[at] & read,
            cart[at] & read,
            purchase[at] & read,
            waits=draws[..., 3:5][at],
        )

    def remember(self, rows: Rows) -> None:
        clicked, bought = rows.kind == _CLICK, (rows.kind == _PURCHASE) & (rows.shopper >= 0)
        self.pages.add_clicks(rows.product[clicked], rows.time_ms[clicked])
        self._memory.add(rows.shopper[bought], rows.product[bought], rows.time_ms[bought])
        numbers, intents = self._proposed
        kept = numbers // MAX_SEARCHES <= rows.session[-1]
        before, changed = self._reminded
        self._reminded = np.concatenate([before, numbers[kept]]), np.concatenate([changed, intents[kept]])

    def recall(self, searches: Searches) -> Searches:
        numbers, intents = self._reminded
        if not len(numbers):
            return searches
        at = np.minimum(np.searchsorted(numbers, searches.number()), len(numbers) - 1)
        return replace(searches, intent=np.where(numbers[at] == searches.number(), intents[at], searches.intent))

    def _last_bought(self, shoppers: Ints, times: Ints, days: tuple[float, float]) -> Ints:
        return self._memory.last_bought(shoppers, times, (round(days[0] * DAY_MS), round(days[1] * DAY_MS)))

    def _query_for(self, types: Ints, products: Ints, draws: Doubles) -> Ints:
        """Draws queries of each type and returns the one that names most of what the product has, and nothing that it has not."""
        best = self._intents.by_type.draw(types, draws[:, 0])
        for at in range(1, _TRIES):
            other = self._intents.by_type.draw(types, draws[:, at])
            best = np.where(self._says(other, products) > self._says(best, products), other, best)
        return best

    def _says(self, intents: Ints, products: Ints) -> Ints:
        violated = num_violated(self._intents, self._assortment, intents, products)
        return (self._intents.fields[intents] >= 0).sum(axis=1) - 10 * violated


def _in_full_rows(is_read: Bools) -> Bools:
    """Returns what a screen shows that has full rows of results."""
    return is_read.reshape(len(is_read), -1, _ROW).any(axis=2).repeat(_ROW, axis=1)
