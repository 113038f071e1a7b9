"""Stock that runs out: each product has at most one gap in a cycle, and products of a higher demand have more of them."""

from __future__ import annotations

import numpy as np

from models.arrays import Bools, Doubles, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.parameters import DAY_MS, CascadeParameters

_MAX_CYCLES = 4_096  # of a log; after them the gaps repeat


class Stock:
    """Says when products are out of stock, each by its number, the time and the seed. Memory: 16 bytes a product."""

    def __init__(self, demand: Doubles, parameters: CascadeParameters, seed: int, start_ms: int) -> None:
        """`demand` (num_products,) orders products by how often they run out: from never to twice the mean."""
        self._seed = mix(seed) ^ 12
        self._start_ms = start_ms
        self._cycle_ms = parameters.cycle_days * DAY_MS
        self._out_ms = parameters.out_days * DAY_MS
        rank = np.empty(len(demand))
        rank[np.argsort(demand, kind="stable")] = (np.arange(len(demand)) + 0.5) / len(demand)
        self._rate = np.minimum(2 * parameters.out_rate * rank, 1.0)
        self._phase = draw_uniforms(self._seed ^ 1, np.arange(len(demand)), 1)[:, 0]

    def is_out(self, products: Ints, time_ms: Ints) -> Bools:
        """Returns whether products are out of stock; the arguments broadcast together."""
        products, time_ms = np.broadcast_arrays(products, time_ms)
        cycles = (time_ms - self._start_ms) / self._cycle_ms + self._phase[products]
        cycle = np.floor(cycles)
        numbers = products * _MAX_CYCLES + cycle.astype(np.int64) % _MAX_CYCLES
        draws = draw_uniforms(self._seed, numbers.ravel(), 2).reshape(*products.shape, 2)
        begin = draws[..., 1] * (self._cycle_ms - self._out_ms)
        since = (cycles - cycle) * self._cycle_ms - begin
        is_out = (draws[..., 0] < self._rate[products]) & (since >= 0) & (since < self._out_ms)
        return np.asarray(is_out)
