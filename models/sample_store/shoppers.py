"""Who the simulated shoppers are: how often they come, which departments they visit, and what they like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Floats, Ints
from models.draws import draw_uniforms, mix
from models.sample_store.parameters import DAY_MS, LogParameters
from models.sample_store.product_types import PRODUCT_TYPES
from models.sample_store.vocabulary import AUDIENCES, BRANDS, COLOURS, PALETTES, STYLE_FAMILIES, STYLES, Word, names

DEPARTMENTS = tuple(dict.fromkeys(kind.department for kind in PRODUCT_TYPES))

# Columns of the table of likings: brands, then colours, styles and audiences, then one that nobody likes.
FIRST_COLOUR = len(BRANDS)
FIRST_STYLE = FIRST_COLOUR + len(COLOURS)
FIRST_AUDIENCE = FIRST_STYLE + len(STYLES)
NOTHING = FIRST_AUDIENCE + len(AUDIENCES)
FIRST_COLUMNS = {"brand": 0, "colour": FIRST_COLOUR, "style": FIRST_STYLE, "audience": FIRST_AUDIENCE}

# What the table holds.
_NEUTRAL, _FAVOURITE, _SECOND, _FORMER, _LATER = range(5)
_FAVOURITE_DEPARTMENTS = (0.5, 0.3, 0.2)  # how the searches in a shopper's three departments divide


class Shoppers:
    """`num_shoppers` simulated shoppers, numbered from 0, each drawn from its number and the seed.

    Memory: about 220 bytes a shopper. Times are milliseconds since 1970; tastes drift from `start_ms` on.
    """

    def __init__(self, num_shoppers: int, parameters: LogParameters, seed: int, start_ms: int) -> None:
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
        self.departments = _departments(draw_uniforms(mix(seed) ^ 3, numbers, len(DEPARTMENTS)))
        self._liking = _likings(num_shoppers, seed)
        second = parameters.second_favourite
        # (what the table holds, whether the shopper's change is past) -> how much it is liked, 0 to 1
        self._level = np.array([[0, 0], [1, 1], [second, second], [1, 0], [0, 1]], np.float32)

    def draw_active(self, uniforms: Doubles) -> Ints:
        """Shoppers in proportion to their activity."""
        return np.minimum(np.searchsorted(self._activity_below, uniforms, side="right"), self.num_shoppers - 1)

    def draw_department(self, shoppers: Ints, uniforms: Doubles) -> Ints:
        """One of each shopper's three departments."""
        rank = np.searchsorted(np.cumsum(_FAVOURITE_DEPARTMENTS[:-1]), uniforms, side="right")
        return self.departments[shoppers, rank].astype(np.int64)

    def liking(self, shoppers: Ints, columns: npt.NDArray[np.integer], time_ms: Ints) -> Floats:
        """How much shoppers like brands, colours, styles or audiences (0 to 1); arguments broadcast together."""
        is_past = (time_ms >= self._change_ms[shoppers]).astype(np.intp)
        return self._level[self._liking[shoppers, columns], is_past]

    def price_band(self, shoppers: Ints, time_ms: Ints) -> Doubles:
        """The price band that shoppers look for, 0 to 4 at first."""
        return self._price_band[shoppers] + self._price_drift[shoppers] * (time_ms - self._start_ms)

    def favourite_brand(self, shopper: int, department: str, time_ms: int) -> int:
        """The brand that a shopper likes most in a department."""
        sellers = np.array(_sellers(department))
        liked = self.liking(np.full(len(sellers), shopper), sellers, np.full(len(sellers), time_ms))
        return int(sellers[liked.argmax()])


def _departments(draws: Doubles) -> npt.NDArray[np.int8]:
    """Three departments a shopper, larger ones more often (num_shoppers, 3)."""
    shares = np.zeros(len(DEPARTMENTS))
    for kind in PRODUCT_TYPES:
        shares[DEPARTMENTS.index(kind.department)] += kind.share
    races = -np.log1p(-draws) / shares  # the first arrivals of a race are a draw without replacement
    return np.argsort(races, axis=1, kind="stable")[:, :3].astype(np.int8)


def _sellers(department: str) -> list[int]:
    return [at for at, brand in enumerate(BRANDS) if department in brand.departments]


def _likings(num_shoppers: int, seed: int) -> npt.NDArray[np.int8]:
    """What each shopper likes (num_shoppers, NOTHING + 1): two brands in each department, one of which changes; two styles
    in each family, one of which changes; two colours of each palette; own audiences and at times those of a child."""
    table = np.full((num_shoppers, NOTHING + 1), _NEUTRAL, np.int8)
    groups = [(_sellers(department), True) for department in DEPARTMENTS]
    groups += [(_columns(FIRST_STYLE, STYLES, family), True) for family in STYLE_FAMILIES.values()]
    groups += [(_columns(FIRST_COLOUR, COLOURS, palette), False) for palette in PALETTES.values()]
    draws = draw_uniforms(mix(seed) ^ 4, np.arange(num_shoppers), 3 * len(groups) + 2)
    for at, (columns, changes) in enumerate(groups):
        _mark_group(table, np.array(columns), draws[:, 3 * at : 3 * at + 3], changes)
    women, men, girls, boys, unisex = range(FIRST_AUDIENCE, NOTHING)
    rows = np.arange(num_shoppers)
    table[rows, np.where(draws[:, -1] < 0.5, women, men)] = _FAVOURITE
    table[:, unisex] = _SECOND
    is_parent = draws[:, -2] < 0.3
    table[rows[is_parent], np.where(draws[is_parent, -2] < 0.15, girls, boys)] = _FAVOURITE
    return table


def _mark_group(table: npt.NDArray[np.int8], columns: Ints, draws: Doubles, changes: bool) -> None:
    """Marks a first and a second favourite, and what the first changes to, all different where there are enough."""
    rows = np.arange(len(table))
    chosen = (draws * len(columns)).astype(np.int64)
    first, second, later = columns[chosen].T
    if changes:
        table[rows, later] = _LATER
        table[rows, first] = np.where(first == later, _FAVOURITE, _FORMER)
        kept = (second != first) & (second != later)
        table[rows[kept], second[kept]] = _SECOND
    else:
        table[rows, second] = _SECOND
        table[rows, first] = _FAVOURITE


def _columns(first: int, listed: Sequence[Word], notation: str) -> list[int]:
    sellers = [word.seller for word in listed]
    return [first + sellers.index(name) for name in names(notation)]
