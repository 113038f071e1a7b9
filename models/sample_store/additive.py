"""The family "additive": utilities add up in logits, results are examined independently of each other, and nothing is remembered."""

from __future__ import annotations

import numpy as np

from models.arrays import Ints
from models.draws import draw_uniforms, mix
from models.sample_store.assortment import Assortment
from models.sample_store.engagement import Engagement
from models.sample_store.family import Rows, Visits
from models.sample_store.intents import Intents
from models.sample_store.page_draws import NUM_DRAWS
from models.sample_store.parameters import PAGE_SIZE, LogParameters
from models.sample_store.result_pages import ResultPages
from models.sample_store.sessions import Searches
from models.sample_store.shoppers import Shoppers


class Additive:
    """See `Family`."""

    has_memory = False

    def __init__(
        self, assortment: Assortment, shoppers: Shoppers, intents: Intents, parameters: LogParameters, seed: int
    ) -> None:
        self.pages = ResultPages(assortment, intents, parameters)
        self.engagement = Engagement(assortment, shoppers, intents, parameters)
        self._seed = mix(seed)

    def forget(self) -> None:
        pass

    def asked(self, searches: Searches, time_ms: Ints) -> Searches:  # noqa: ARG002 - nothing changes with time
        return searches

    def visit(self, searches: Searches, time_ms: Ints) -> Visits:
        numbers = searches.number()
        pages = self.pages.draw(searches.intent, time_ms, draw_uniforms(self._seed ^ 8, numbers, 2 * NUM_DRAWS))
        is_shown = np.arange(PAGE_SIZE) < self.pages.depth(searches.depth_draw)[:, None]
        search, place = np.nonzero(is_shown & (pages >= 0))
        product = pages[search, place]
        chances = self.engagement.chances(searches.intent[search], searches.shopper[search], product, time_ms[search])
        draws = draw_uniforms(self._seed ^ 9, numbers[search] * PAGE_SIZE + place, 5)
        click = draws[:, 0] < chances.click * self.pages.examination()[place]
        cart = click & (draws[:, 1] < chances.cart)
        purchase = cart & (draws[:, 2] < chances.purchase)
        return Visits(search, place, product, click, cart, purchase, waits=draws[:, 3:])

    def remember(self, rows: Rows) -> None:
        pass

    def recall(self, searches: Searches) -> Searches:
        return searches
