"""The products as the simulated shop and its shoppers see them: attributes as one table, launches, and word lists."""

from __future__ import annotations

import numpy as np

from models.arrays import Codes, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.generate import SampleStore
from models.sample_store.latents import ABSENT
from models.sample_store.parameters import LogParameters
from models.sample_store.product_types import PRODUCT_TYPES
from models.sample_store.weighted_lists import WeightedLists

# What a query can ask for. Each is a column of `Assortment.attributes`, the last the product's own number.
FIELDS = ("colour", "material", "style", "size", "feature", "audience", "brand", "price_band", "model")
_LISTED = 7  # the first fields are words of a product's text, by which it is found

ALWAYS = np.iinfo(np.int64).min  # launch of what was there before the log begins


class Assortment:
    """All products of a store over the window of a log. Memory: about 500 bytes a product."""

    def __init__(self, store: SampleStore, parameters: LogParameters, seed: int, start_ms: int, end_ms: int) -> None:
        latents = store.latents()
        self.num_products = store.num_products
        self.latents = latents
        numbers = np.arange(store.num_products)
        fields = [getattr(latents, name) for name in FIELDS[:-1]]
        self.attributes = np.stack([*fields, numbers], axis=1).astype(np.int32)  # (num_products, len(FIELDS))
        draws = draw_uniforms(mix(seed) ^ 1, numbers, 2)
        launches = start_ms + (draws[:, 1] * (end_ms - start_ms)).astype(np.int64)
        self.launch_ms = np.where(draws[:, 0] < parameters.new_share, launches, ALWAYS)  # (num_products,)
        self.quality = (latents.quality - 128) / 37.0  # (num_products,) in deviations
        self._demand = latents.popularity.astype(np.float64) ** parameters.exposure_exponent
        self.lists, self._list_of = self._index()
        self.related = _related_types()

    def list_of_word(self, product: int, field: int) -> int:
        """The list of the products of the same type that share the product's value of a field; ABSENT without one."""
        if field >= _LISTED:
            return ABSENT
        return int(self._list_of[field][product])

    def _index(self) -> tuple[WeightedLists, list[Codes]]:
        types = self.latents.type
        order = np.argsort(types, kind="stable")
        items, sizes, list_of = [order.astype(np.int32)], [np.bincount(types, minlength=len(PRODUCT_TYPES))], []
        num_lists = len(PRODUCT_TYPES)
        for field in range(_LISTED):
            values = self.attributes[:, field].astype(np.int64)
            keys = types * (int(values.max()) + 2) + values + 1
            order = np.argsort(keys, kind="stable")
            _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
            items.append(order.astype(np.int32))
            sizes.append(counts)
            list_of.append(np.where(values == ABSENT, ABSENT, num_lists + place).astype(np.int32))
            num_lists += len(counts)
        listed = np.concatenate(items)
        return WeightedLists(listed, self._demand[listed], np.concatenate(sizes)), list_of


def _related_types() -> Ints:
    """For each type one that shares words with it: an accessory of it, or what it is an accessory of; ABSENT if none."""
    at = {kind.name: index for index, kind in enumerate(PRODUCT_TYPES)}
    related = np.full(len(PRODUCT_TYPES), ABSENT)
    for index, kind in enumerate(PRODUCT_TYPES):
        if kind.accessory_of:
            related[index] = at[kind.accessory_of]
            related[at[kind.accessory_of]] = index
    return related
