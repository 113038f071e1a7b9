"""The result pages of the simulated shop: a lexical ranker that uses words and popularity, and nothing about the shopper.

A product's weight is its popularity (to an exponent), times more if its text holds a word of the query. A page is drawn without
replacement in proportion to weight, so that products of a larger weight tend to rank higher. Chance stands for what changes results from
hour to hour: stock, location, experiments, paging. The ranker has a list of shoppers' nouns, as shops do; other words match only as
sellers write them: "dark red sofa" retrieves sofas of all colours.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import MAX_CONSTRAINTS, Intents
from models.sample_store.parameters import PAGE_SIZE, LogParameters
from models.sample_store.words import ABSENT

NUM_DRAWS = 64  # for a page; a repeated product, or one that is not launched yet, gives no result

_TYPE, _WORDS, _RELATED, _EXACT = 0, 1, 1 + MAX_CONSTRAINTS, 2 + MAX_CONSTRAINTS
_NUM_SOURCES = 3 + MAX_CONSTRAINTS


class ResultPages:
    """Draws result pages, and states how likely a product is to be examined on them."""

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
        self._examination: Doubles = np.arange(1.0, PAGE_SIZE + 1) ** -parameters.look_exponent
        depth_reached = 1 - np.concatenate(([0.0], self._depth_below[:-1])).repeat(
            PAGE_SIZE // len(parameters.depth_shares)
        )
        self._examined = np.concatenate((depth_reached * self._examination, [0.0]))  # (PAGE_SIZE + 1,)

    def draw(self, intents: Ints, time_ms: Ints, uniforms: Doubles) -> Ints:
        """Draws pages (num_searches, PAGE_SIZE) of products by position, ABSENT where there are no more results.

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
        """Returns how many results of the page each shopper scrolls to."""
        steps = np.searchsorted(self._depth_below[:-1], uniforms, side="right") + 1
        return steps * (PAGE_SIZE // len(self._depth_below))

    def examination(self) -> Doubles:
        """Returns (PAGE_SIZE,) the probability that a result is examined, given that the shopper scrolls to it."""
        return self._examination

    def candidates(self, intent: int, time_ms: int) -> tuple[Ints, Doubles]:
        """Returns the products that can be on the page, and the probability of each to be on it and to be examined.

        The probability of each draw is exact; the position at a draw is replaced by its expectation.
        """
        products, weights = self._rates(intent)
        live = self._assortment.launch_ms[products] <= time_ms
        products, weights = products[live], weights[live]
        missed = np.exp(np.arange(NUM_DRAWS) * np.log1p(-np.minimum(weights, 1 - 1e-12))[:, None])
        shown = (1 - missed).sum(axis=0)  # (NUM_DRAWS,) results above, before each draw
        examined = np.interp(shown, np.arange(PAGE_SIZE + 1), self._examined)
        return products, weights * (missed @ examined)

    def _rates(self, intent: int) -> tuple[Ints, Doubles]:
        """Returns products, and the probability of each to be the result of a draw."""
        shares = self._shares[intent]
        parts = [(int(number), shares[at]) for at, number in enumerate(self._lists[intent]) if shares[at] > 0]
        lists = [self._assortment.lists.distribution(number) for number, _ in parts]
        products = [items for items, _ in lists]
        weights = [share * chances for (_, share), (_, chances) in zip(parts, lists, strict=True)]
        if shares[_EXACT] > 0:
            products.append(self._exact[intent : intent + 1])
            weights.append(shares[_EXACT : _EXACT + 1])
        distinct, place = np.unique(np.concatenate(products), return_inverse=True)
        return distinct, np.bincount(place, np.concatenate(weights)).astype(np.float64)


def _first_distinct(drawn: Ints, is_valid: Bools) -> Ints:
    """Returns the first PAGE_SIZE distinct valid products of each row, in their order, then ABSENT."""
    slots = np.arange(drawn.shape[1])
    packed = np.sort((drawn << 8) | slots, axis=1)  # by product, then by slot
    product, slot = packed >> 8, packed & 255
    repeats = np.zeros(drawn.shape, np.bool_)
    repeats[:, 1:] = product[:, 1:] == product[:, :-1]
    np.put_along_axis(is_valid, slot, np.take_along_axis(is_valid, slot, 1) & ~repeats, 1)
    last = np.int64(255) << 32
    ordered = np.sort(np.where(is_valid, (slots << 32) | drawn, last), axis=1)[:, :PAGE_SIZE]
    return np.where(ordered == last, ABSENT, ordered & 0xFFFFFFFF)
