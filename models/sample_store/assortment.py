"""The products as the simulation uses them: attributes as a table, launches, and lists of the products that share a word."""

from __future__ import annotations

import numpy as np

from models.arrays import Codes, Doubles, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.parameters import SharedParameters
from models.sample_store.product_types import load_product_types
from models.sample_store.store import SampleStore
from models.sample_store.weighted_lists import WeightedLists
from models.sample_store.words import ABSENT

# What a query can name. Each is a column of `Assortment.attributes`, the last the product's own number.
FIELDS = ("colour", "material", "style", "size", "feature", "audience", "brand", "price_band", "model")
_NUM_TEXT_FIELDS = 7  # the first fields are words of a product's text and retrieve it

ALWAYS = np.iinfo(np.int64).min  # launch of products that are older than the log


class Assortment:
    """All products of a store over the window of a log. Memory: about 500 bytes a product."""

    def __init__(self, store: SampleStore, parameters: SharedParameters, seed: int, start_ms: int, end_ms: int) -> None:
        latents = store.latents()
        self.num_products = store.num_products
        self.latents = latents
        numbers = np.arange(store.num_products)
        fields = [getattr(latents, name) for name in FIELDS[:-1]]
        self.attributes = np.stack([*fields, numbers], axis=1).astype(np.int32)  # (num_products, len(FIELDS))
        draws = draw_uniforms(mix(seed) ^ 1, numbers, 2)
        launches = start_ms + (draws[:, 1] * (end_ms - start_ms)).astype(np.int64)
        self.launch_ms = np.where(draws[:, 0] < parameters.new_share, launches, ALWAYS)  # (num_products,)
        self.quality = (latents.quality - 128) / 37.0  # (num_products,) in standard deviations
        self.demand = latents.popularity.astype(np.float64) ** parameters.exposure_exponent
        self.lists, self._list_of = self._index()  # first a list for each type, then one for each type and word
        self.accessory_of, self.related = _related_types()

    def lists_by(self, demand: Doubles) -> WeightedLists:
        """Returns the same lists as `lists`, weighted by another demand (num_products,)."""
        return WeightedLists(self.lists.items, demand[self.lists.items], self.lists.sizes())

    def list_of_word(self, product: int, field: int) -> int:
        """Returns the list of products of the same type with the same value of a field, or ABSENT."""
        if field >= _NUM_TEXT_FIELDS:
            return ABSENT
        return int(self._list_of[field][product])

    def _index(self) -> tuple[WeightedLists, list[Codes]]:
        types, num_lists = self.latents.type, len(load_product_types())
        order = np.argsort(types, kind="stable")
        items, sizes, list_of = [order.astype(np.int32)], [np.bincount(types, minlength=num_lists)], []
        for field in range(_NUM_TEXT_FIELDS):
            values = self.attributes[:, field].astype(np.int64)
            keys = types * (int(values.max()) + 2) + values + 1
            order = np.argsort(keys, kind="stable")
            _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
            items.append(order.astype(np.int32))
            sizes.append(counts)
            list_of.append(np.where(values == ABSENT, ABSENT, num_lists + place).astype(np.int32))
            num_lists += len(counts)
        listed = np.concatenate(items)
        return WeightedLists(listed, self.demand[listed], np.concatenate(sizes)), list_of


def _related_types() -> tuple[Ints, Ints]:
    """Returns for each type what it is an accessory of, and another that shares words with it: that, or an accessory of its own.

    ABSENT stands where there is none.
    """
    types = load_product_types()
    at = {kind.name: index for index, kind in enumerate(types)}
    related = np.full(len(types), ABSENT)
    for index, kind in enumerate(types):
        if kind.accessory_of:
            related[index] = at[kind.accessory_of]
            related[at[kind.accessory_of]] = index
    accessory_of = np.array([at[kind.accessory_of] if kind.accessory_of else ABSENT for kind in types])
    return accessory_of, related
