"""The result pages of the family "cascade": an earlier model orders them, which learned from the clicks on its own pages.

Demand is popularity and clicks, so what was clicked is shown more and higher, and is clicked again. The model learns anew every few days,
from all clicks until two days before: a page follows from its time, whenever it is asked for.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.assortment import Assortment
from models.sample_store.intents import MAX_CONSTRAINTS, Intents
from models.sample_store.page_draws import NUM_DRAWS, PageDraws, first_distinct
from models.sample_store.parameters import DAY_MS, PAGE_SIZE, CascadeParameters
from models.sample_store.stock import Stock
from models.sample_store.weighted_lists import WeightedLists
from models.sample_store.words import ABSENT

_LAG_MS = 2 * DAY_MS  # from the last click that the model knows to its first page


class LearnedPages:
    """Draws result pages, and states how likely a product is to be examined on them. Memory: about 400 bytes a product, and 16 a click."""

    def __init__(
        self, assortment: Assortment, intents: Intents, parameters: CascadeParameters, seed: int, start_ms: int
    ) -> None:
        self._assortment, self._intents, self._parameters = assortment, intents, parameters
        self._seed, self._start_ms = mix(seed), start_ms
        self._draws = PageDraws(assortment, intents, parameters)
        self.stock = Stock(assortment.demand, parameters, seed, start_ms)
        self.forget()

    def forget(self) -> None:
        self._products = self._times = np.zeros(0, np.int64)
        self._learned: tuple[int, Doubles, WeightedLists] | None = (
            None  # the latest model: its number, demand and lists
        )

    def add_clicks(self, products: Ints, times_ms: Ints) -> None:
        """Takes in clicks, of which a model that is learned later knows."""
        self._products = np.concatenate([self._products, products])
        self._times = np.concatenate([self._times, times_ms])

    def draw(self, numbers: Ints, intents: Ints, time_ms: Ints) -> Ints:
        """Returns the pages (num_searches, PAGE_SIZE) of searches with unique numbers: products by position, ABSENT where there are no
        more results."""
        uniforms = draw_uniforms(self._seed ^ 8, numbers, 2 * NUM_DRAWS)
        pages = np.empty((len(numbers), PAGE_SIZE), np.int64)
        models = self._model_at(time_ms)
        for model in np.unique(models):
            rows = np.flatnonzero(models == model)
            demand, lists = self._learn(int(model))
            drawn = self._draws.draw(intents[rows], uniforms[rows], lists)
            pages[rows] = self._ordered(
                first_distinct(drawn, self.is_for_sale(drawn, time_ms[rows, None])), intents[rows], demand
            )
        return pages

    def is_for_sale(self, products: Ints, time_ms: Ints) -> Bools:
        """Returns whether products are launched and in stock; the arguments broadcast together."""
        return np.asarray((self._assortment.launch_ms[products] <= time_ms) & ~self.stock.is_out(products, time_ms))

    def examined(self, top: int) -> Doubles:
        """Returns (top,) the probability that a shopper who clicks nothing reads each place."""
        return np.asarray(self._parameters.patience ** np.arange(top), np.float64)

    def candidates(self, intent: int, time_ms: int) -> tuple[Ints, Doubles]:
        """Returns the products that can be on the page, and about how likely each is to be on it and to be reached.

        That a shopper stops after a click, and that a page has 24 places, is left out.
        """
        demand, lists = self._learn(int(self._model_at(np.array([time_ms]))[0]))
        products, rates = self._draws.rates(intent, lists)
        live = self.is_for_sale(products, np.array(time_ms))
        products, rates = products[live], rates[live]
        on_page = -np.expm1(NUM_DRAWS * np.log1p(-np.minimum(rates, 1 - 1e-12)))
        on_page *= min(1.0, PAGE_SIZE / max(on_page.sum(), 1e-12))
        order = np.argsort(-self._scores(products, np.array(intent), demand), kind="stable")
        above = np.cumsum(on_page[order]) - on_page[order]
        return products[order], on_page[order] * self._parameters.patience**above

    def _model_at(self, time_ms: Ints) -> Ints:
        every_ms = self._parameters.learned_every_days * DAY_MS
        return ((time_ms - self._start_ms) // every_ms).astype(np.int64)

    def _learn(self, model: int) -> tuple[Doubles, WeightedLists]:
        """Returns the demand for products (num_products,) that a model knows of, and the lists weighted by it."""
        if self._learned is None or self._learned[0] != model:
            until_ms = self._start_ms + model * self._parameters.learned_every_days * DAY_MS - _LAG_MS
            clicks = np.bincount(self._products[self._times < until_ms], minlength=self._assortment.num_products)
            demand = self._assortment.demand * (1.0 + clicks) ** self._parameters.click_exponent
            self._learned = model, demand, self._assortment.lists_by(demand)
        return self._learned[1:]

    def _ordered(self, pages: Ints, intents: Ints, demand: Doubles) -> Ints:
        scores = np.where(pages == ABSENT, -np.inf, self._scores(pages, intents[:, None], demand))
        return np.take_along_axis(pages, np.argsort(-scores, axis=1, kind="stable"), 1)

    def _scores(self, products: Ints, intents: Ints, demand: Doubles) -> Doubles:
        """Returns the order of the earlier model: the demand for products, and the words of the query that they hold."""
        targets = self._intents
        held = np.zeros(np.broadcast(products, intents).shape)
        for at in range(MAX_CONSTRAINTS):
            field, value = targets.fields[intents, at], targets.values[intents, at]
            is_typed = targets.word_lists[intents, at] >= 0
            held += is_typed & (self._assortment.attributes[products, field] == value)
        held += 2 * (targets.exact[intents] == products)
        held -= 4 * (targets.types[intents] != self._assortment.latents.type[products])
        return np.log(demand[products]) + self._parameters.match_weight * held
