"""What shoppers bought, asked as of a time: the same question has the same answer while a log is made and afterwards."""

from __future__ import annotations

import numpy as np

from models.arrays import Ints
from models.sample_store.words import ABSENT


class _Latest:
    """Entries with a key and a time, of which the latest of a key before a time is looked up."""

    def __init__(self, keys: Ints, times_ms: Ints) -> None:
        self._order = np.argsort(times_ms, kind="stable")
        self._times = times_ms[self._order]
        self._keys, number = np.unique(keys[self._order], return_inverse=True)
        self._num = len(keys)
        places = number.astype(np.int64) * self._num + np.arange(self._num)
        self._places = np.sort(places)

    def before(self, keys: Ints, times_ms: Ints) -> Ints:
        """Returns the entry of each key that is the latest before each time, or ABSENT."""
        number = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        earlier = np.searchsorted(self._times, times_ms)  # entries of all keys
        at = np.searchsorted(self._places, number * self._num + earlier) - 1
        place = self._places[np.maximum(at, 0)]
        is_found = (self._keys[number] == keys) & (at >= 0) & (place // self._num == number)
        return np.where(is_found, self._order[place % self._num], ABSENT)


class PurchaseMemory:
    """The purchases so far. Memory: about 100 bytes a purchase."""

    def __init__(self, num_products: int) -> None:
        self._num_products = num_products
        self.forget()

    def forget(self) -> None:
        self._shoppers = self._products = self._times = np.zeros(0, np.int64)

    @property
    def is_empty(self) -> bool:
        return not len(self._times)

    def add(self, shoppers: Ints, products: Ints, times_ms: Ints) -> None:
        """Takes in purchases."""
        if not len(shoppers):
            return
        self._shoppers = np.concatenate([self._shoppers, shoppers])
        self._products = np.concatenate([self._products, products])
        self._times = np.concatenate([self._times, times_ms])
        self._by_product = _Latest(self._shoppers * self._num_products + self._products, self._times)
        self._by_shopper = _Latest(self._shoppers, self._times)

    def bought_within(self, shoppers: Ints, products: Ints, time_ms: Ints, ago_ms: tuple[int, int]) -> Ints:
        """Returns whether the shoppers bought the products from ago_ms[1] to ago_ms[0] before the times."""
        if self.is_empty:
            return np.zeros(np.broadcast(shoppers, products).shape, np.bool_)
        entry = self._by_product.before(shoppers * self._num_products + products, time_ms - ago_ms[0])
        return (entry != ABSENT) & (self._times[entry] >= time_ms - ago_ms[1])

    def last_bought(self, shoppers: Ints, time_ms: Ints, ago_ms: tuple[int, int]) -> Ints:
        """Returns what each shopper bought last from ago_ms[1] to ago_ms[0] before the times, or ABSENT."""
        if self.is_empty:
            return np.full(shoppers.shape, ABSENT)
        entry = self._by_shopper.before(shoppers, time_ms - ago_ms[0])
        is_recent = (entry != ABSENT) & (self._times[entry] >= time_ms - ago_ms[1])
        return np.where(is_recent, self._products[entry], ABSENT)
