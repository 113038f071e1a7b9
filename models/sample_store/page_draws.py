"""What the search of the simulated shop finds: draws of products by words and popularity, and nothing about the shopper.

A product's weight is its popularity (to an exponent), times more if its text holds a word of the query. The search has a list of shoppers'
nouns, as shops do; other words match only as sellers write them: "dark red sofa" retrieves sofas of all colours.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.sample_store.assortment import Assortment
from models.sample_store.intents import MAX_CONSTRAINTS, Intents
from models.sample_store.parameters import PAGE_SIZE, SharedParameters
from models.sample_store.weighted_lists import WeightedLists
from models.sample_store.words import ABSENT

NUM_DRAWS = 64  # for a page; a repeated product, or one that is not for sale then, gives no result

_TYPE, _WORDS, _RELATED, _EXACT = 0, 1, 1 + MAX_CONSTRAINTS, 2 + MAX_CONSTRAINTS
_NUM_SOURCES = 3 + MAX_CONSTRAINTS


class PageDraws:
    """Draws the products of pages from lists of the assortment, weighted by demand."""

    def __init__(self, assortment: Assortment, intents: Intents, parameters: SharedParameters) -> None:
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

    def draw(self, intents: Ints, uniforms: Doubles, lists: WeightedLists) -> Ints:
        """Draws (num_searches, NUM_DRAWS) products, with repeats. `uniforms` is (num_searches, 2 * NUM_DRAWS)."""
        choice, within = uniforms[:, :NUM_DRAWS], uniforms[:, NUM_DRAWS:]
        ends = np.cumsum(self._shares[intents], axis=1)[:, :-1]
        source = (choice[:, :, None] >= ends[:, None, :]).sum(axis=2)  # (num_searches, NUM_DRAWS)
        rows = intents[:, None]
        chosen = np.where(source == _EXACT, self._lists[rows, _TYPE], self._lists[rows, np.minimum(source, _RELATED)])
        return np.where(source == _EXACT, self._exact[rows], lists.draw(chosen, within))

    def rates(self, intent: int, lists: WeightedLists) -> tuple[Ints, Doubles]:
        """Returns products, and the probability of each to be the result of a draw."""
        shares = self._shares[intent]
        parts = [(int(number), shares[at]) for at, number in enumerate(self._lists[intent]) if shares[at] > 0]
        distributions = [lists.distribution(number) for number, _ in parts]
        products = [items for items, _ in distributions]
        weights = [share * chances for (_, share), (_, chances) in zip(parts, distributions, strict=True)]
        if shares[_EXACT] > 0:
            products.append(self._exact[intent : intent + 1])
            weights.append(shares[_EXACT : _EXACT + 1])
        distinct, place = np.unique(np.concatenate(products), return_inverse=True)
        return distinct, np.bincount(place, np.concatenate(weights)).astype(np.float64)


def first_distinct(drawn: Ints, is_valid: Bools) -> Ints:
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
