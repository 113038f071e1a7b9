"""The result pages of the simulated shop: a lexical ranker that knows words and popularity, and no shopper.

A product's weight is its popularity (to an exponent), times more where it holds a word of the query; a page is drawn without
replacement in proportion to weight, so that what weighs more tends to stand higher. Chance stands for what moves results
from hour to hour: stock, place, tests, paging. Nouns of shoppers are known to the ranker (shops keep such lists); other
words count only as sellers write them: "dark red sofa" finds sofas of all colours.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import MAX_ASKS, Intents
from models.sample_store.latents import ABSENT
from models.sample_store.parameters import PAGE_SIZE, LogParameters

NUM_DRAWS = 64  # for a page; a product that is drawn again, or is not launched yet, gives no result

_TYPE, _WORDS, _RELATED, _EXACT = 0, 1, 1 + MAX_ASKS, 2 + MAX_ASKS
_NUM_SOURCES = 3 + MAX_ASKS


class ResultPages:
    def __init__(self, assortment: Assortment, intents: Intents, parameters: LogParameters) -> None:
        self._assortment = assortment
        related = assortment.related[intents.types]
        related = np.where((related >= 0) & (assortment.lists.sizes()[related] > 0), related, ABSENT)
        self._lists = np.column_stack([intents.types, intents.word_lists, related])
        self._exact = intents.exact
        weights = np.zeros((len(intents), _NUM_SOURCES))
        weights[:, _TYPE] = 1.0
        weights[:, _WORDS:_RELATED] = parameters.word_weight * (intents.word_lists >= 0)
        weights[:, _RELATED] = parameters.related_weight * (related >= 0)
        weights[:, _EXACT] = parameters.word_weight * (intents.exact >= 0)
        self._shares = weights / weights.sum(axis=1, keepdims=True)  # (num_intents, _NUM_SOURCES) of the draws
        self._depth_below = np.cumsum(parameters.depth_shares)
        self._look: Doubles = np.arange(1.0, PAGE_SIZE + 1) ** -parameters.look_exponent
        seen = 1 - np.concatenate(([0.0], self._depth_below[:-1])).repeat(PAGE_SIZE // len(parameters.depth_shares))
        self._examined = np.concatenate((seen * self._look, [0.0]))  # (PAGE_SIZE + 1,)

    def draw(self, intents: Ints, time_ms: Ints, uniforms: Doubles) -> Ints:
        """Pages (num_searches, PAGE_SIZE) of products by position, ABSENT where there are no more results.

        `uniforms` is (num_searches, 2 * NUM_DRAWS).
        """
        choice, within = uniforms[:, :NUM_DRAWS], uniforms[:, NUM_DRAWS:]
        ends = np.cumsum(self._shares[intents], axis=1)[:, :-1]
        source = (choice[:, :, None] >= ends[:, None, :]).sum(axis=2)  # (num_searches, NUM_DRAWS)
        rows = intents[:, None]
        lists = np.where(source == _EXACT, self._lists[rows, _TYPE], self._lists[rows, np.minimum(source, _RELATED)])
        drawn = self._assortment.lists.draw(lists, within)
        drawn = np.where(source == _EXACT, self._exact[rows], drawn)
        is_live = self._assortment.launch_ms[drawn] <= time_ms[:, None]
        return _first_distinct(drawn, is_live)

    def depth(self, uniforms: Doubles) -> Ints:
        """How many results of its page each shopper sees."""
        steps = np.searchsorted(self._depth_below[:-1], uniforms, side="right") + 1
        return steps * (PAGE_SIZE // len(self._depth_below))

    def look(self) -> Doubles:
        """(PAGE_SIZE,) chance that a result is looked at, if seen."""
        return self._look

    def candidates(self, intent: int, time_ms: int) -> tuple[Ints, Doubles]:
        """Products that can be on the page, and the chance that each is on it and is examined.

        Exact in the chance of every draw; the position at a draw is taken as its expectation.
        """
        products, weights = self._rates(intent)
        live = self._assortment.launch_ms[products] <= time_ms
        products, weights = products[live], weights[live]
        missed = np.exp(np.arange(NUM_DRAWS) * np.log1p(-np.minimum(weights, 1 - 1e-12))[:, None])
        shown = (1 - missed).sum(axis=0)  # (NUM_DRAWS,) results above, before each draw
        examined = np.interp(shown, np.arange(PAGE_SIZE + 1), self._examined)
        return products, weights * (missed @ examined)

    def _rates(self, intent: int) -> tuple[Ints, Doubles]:
        """Products, and the chance that one draw is each of them."""
        shares = self._shares[intent]
        parts = [(number, shares[at]) for at, number in enumerate(self._lists[intent]) if shares[at] > 0]
        found = [self._assortment.lists.of(int(number)) for number, _ in parts]
        products = [items for items, _ in found]
        weights = [share * chances for (_, share), (_, chances) in zip(parts, found, strict=True)]
        if shares[_EXACT] > 0:
            products.append(self._exact[intent : intent + 1])
            weights.append(shares[_EXACT : _EXACT + 1])
        distinct, place = np.unique(np.concatenate(products), return_inverse=True)
        return distinct, np.bincount(place, np.concatenate(weights)).astype(np.float64)


def _first_distinct(drawn: Ints, is_valid: Bools) -> Ints:
    """The first PAGE_SIZE different valid products of each row, in their order, then ABSENT."""
    slots = np.arange(drawn.shape[1])
    packed = np.sort((drawn << 8) | slots, axis=1)  # by product, then by slot
    product, slot = packed >> 8, packed & 255
    repeats = np.zeros(drawn.shape, np.bool_)
    repeats[:, 1:] = product[:, 1:] == product[:, :-1]
    np.put_along_axis(is_valid, slot, np.take_along_axis(is_valid, slot, 1) & ~repeats, 1)
    last = np.int64(255) << 32
    ordered = np.sort(np.where(is_valid, (slots << 32) | drawn, last), axis=1)[:, :PAGE_SIZE]
    return np.where(ordered == last, ABSENT, ordered & 0xFFFFFFFF)
