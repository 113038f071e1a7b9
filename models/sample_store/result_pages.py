"""The result pages of the family "additive": a page is drawn without replacement in proportion to weight, see `page_draws`.

Products of a larger weight so tend to rank higher. Chance stands for what changes results from hour to hour: stock, location, experiments,
paging.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import Intents
from models.sample_store.page_draws import NUM_DRAWS, PageDraws, first_distinct
from models.sample_store.parameters import PAGE_SIZE, LogParameters


class ResultPages:
    """Draws result pages, and states how likely a product is to be examined on them."""

    def __init__(self, assortment: Assortment, intents: Intents, parameters: LogParameters) -> None:
        self._assortment = assortment
        self._draws = PageDraws(assortment, intents, parameters)
        self._depth_below = np.cumsum(parameters.depth_shares)
        self._examination: Doubles = np.arange(1.0, PAGE_SIZE + 1) ** -parameters.look_exponent
        depth_reached = 1 - np.concatenate(([0.0], self._depth_below[:-1])).repeat(
            PAGE_SIZE // len(parameters.depth_shares)
        )
        self._examined = np.concatenate((depth_reached * self._examination, [0.0]))  # (PAGE_SIZE + 1,)

    def draw(self, intents: Ints, time_ms: Ints, uniforms: Doubles) -> Ints:
        """Draws pages (num_searches, PAGE_SIZE) of products by position, ABSENT where there are no more results.

        `uniforms` is (num_searches, 2 * NUM_DRAWS).
        """
        drawn = self._draws.draw(intents, uniforms, self._assortment.lists)
        return first_distinct(drawn, self.is_for_sale(drawn, time_ms[:, None]))

    def depth(self, uniforms: Doubles) -> Ints:
        """Returns how many results of the page each shopper scrolls to."""
        steps = np.searchsorted(self._depth_below[:-1], uniforms, side="right") + 1
        return steps * (PAGE_SIZE // len(self._depth_below))

    def examination(self) -> Doubles:
        """Returns (PAGE_SIZE,) the probability that a result is examined, given that the shopper scrolls to it."""
        return self._examination

    def is_for_sale(self, products: Ints, time_ms: Ints) -> Bools:
        """Returns whether products are launched; the arguments broadcast together."""
        return np.asarray(self._assortment.launch_ms[products] <= time_ms)

    def examined(self, top: int) -> Doubles:
        """Returns (top,) the probability that a shopper examines each place."""
        return self._examined[:top]

    def candidates(self, intent: int, time_ms: int) -> tuple[Ints, Doubles]:
        """Returns the products that can be on the page, and the probability of each to be on it and to be examined.

        The probability of each draw is exact; the position at a draw is replaced by its expectation.
        """
        products, weights = self._draws.rates(intent, self._assortment.lists)
        live = self.is_for_sale(products, np.array(time_ms))
        products, weights = products[live], weights[live]
        missed = np.exp(np.arange(NUM_DRAWS) * np.log1p(-np.minimum(weights, 1 - 1e-12))[:, None])
        shown = (1 - missed).sum(axis=0)  # (NUM_DRAWS,) results above, before each draw
        examined = np.interp(shown, np.arange(PAGE_SIZE + 1), self._examined)
        return products, weights * (missed @ examined)
