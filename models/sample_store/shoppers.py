"""The simulated shoppers: how often they come, which departments they visit, and what they prefer."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Floats, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.parameters import DAY_MS, SharedParameters
from models.sample_store.preferences import draw_preferences
from models.sample_store.product_types import departments, load_product_types

_DEPARTMENT_SHARES = (0.5, 0.3, 0.2)  # of searches in a shopper's three departments


class Shoppers:
    """`num_shoppers` simulated shoppers, numbered from 0, each drawn from its number and the seed.

    Memory: about 220 bytes a shopper. Times are milliseconds since 1970; preferences drift from `start_ms` on.
    """

    def __init__(self, num_shoppers: int, parameters: SharedParameters, seed: int, start_ms: int) -> None:
        self.num_shoppers = num_shoppers
        self._start_ms = start_ms
        numbers = np.arange(num_shoppers)
        draws = draw_uniforms(mix(seed) ^ 2, numbers, 8)
        self.is_habitual: Bools = draws[:, 0] < parameters.habitual_share
        self.strength = np.where(self.is_habitual, 1.0, parameters.occasional_strength)
        normal = np.sqrt(-2 * np.log1p(-draws[:, 1])) * np.cos(2 * np.pi * draws[:, 2])
        activity = np.exp(parameters.activity_spread * normal) * np.where(
            self.is_habitual, parameters.habitual_activity, 1.0
        )
        self._activity_below = np.cumsum(activity) / activity.sum()
        self.body_size = draws[:, 3]  # 0 (smallest) to 1
        self._price_band = 4 * draws[:, 4]
        self._price_drift = parameters.price_drift * (2 * draws[:, 5] - 1) / (365 * DAY_MS)
        self._change_ms = start_ms + (draws[:, 6] * parameters.change_days * DAY_MS).astype(np.int64)
        self.departments = _draw_departments(draw_uniforms(mix(seed) ^ 3, numbers, len(departments())))
        self._preferences = draw_preferences(num_shoppers, seed)
        second = parameters.second_favourite
        # (NEUTRAL to LATER, whether the shopper's change is past) -> preference, 0 to 1
        self._level = np.array([[0, 0], [1, 1], [second, second], [1, 0], [0, 1]], np.float32)

    def draw_active(self, uniforms: Doubles) -> Ints:
        """Draws shoppers in proportion to their activity."""
        return np.minimum(np.searchsorted(self._activity_below, uniforms, side="right"), self.num_shoppers - 1)

    def draw_department(self, shoppers: Ints, uniforms: Doubles) -> Ints:
        """Draws one of each shopper's three departments."""
        rank = np.searchsorted(np.cumsum(_DEPARTMENT_SHARES[:-1]), uniforms, side="right")
        return self.departments[shoppers, rank].astype(np.int64)

    def preference(self, shoppers: Ints, columns: npt.NDArray[np.integer], time_ms: Ints) -> Floats:
        """Returns how much shoppers prefer the attributes of `preference_columns` (0 to 1); arguments broadcast together."""
        is_past = (time_ms >= self._change_ms[shoppers]).astype(np.intp)
        return self._level[self._preferences[shoppers, columns], is_past]

    def fits(self, shoppers: Ints, types: Ints, sizes: Ints) -> Bools:
        """Returns whether clothes or shoes are in each shopper's size; False for what comes in no such sizes."""
        num_sizes = _num_sizes()[types]
        own_size = (self.body_size[shoppers] * num_sizes).astype(np.int64)
        return np.asarray((num_sizes > 0) & (sizes == own_size))

    def price_band(self, shoppers: Ints, time_ms: Ints) -> Doubles:
        """Returns the price band that shoppers prefer, which is 0 to 4 at first."""
        return self._price_band[shoppers] + self._price_drift[shoppers] * (time_ms - self._start_ms)


def _draw_departments(draws: Doubles) -> npt.NDArray[np.int8]:
    """Draws three departments for each shopper (num_shoppers, 3), those of more products more often."""
    shares = np.zeros(len(departments()))
    for kind in load_product_types():
        shares[departments().index(kind.department)] += kind.share
    races = -np.log1p(-draws) / shares  # the first arrivals of a race are a draw without replacement
    return np.argsort(races, axis=1, kind="stable")[:, :3].astype(np.int8)


@cache
def _num_sizes() -> Ints:
    """Returns how many sizes of clothes or shoes each type has; 0 for other types."""
    return np.array([len(kind.sizes) if kind.kind == "wear" else 0 for kind in load_product_types()])
