"""Random numbers that are the same on every platform and in every version: splitmix64 (Steele, Lea, Flood, 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from models.arrays import Doubles, Ints, UInt64s

T = TypeVar("T")

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Draws:
    """A stream of random draws."""

    def __init__(self, seed: int) -> None:
        self._state = mix(seed + _GOLDEN)

    def word(self) -> int:
        """Draws 64 random bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        return mix(self._state)

    def below(self, stop: int) -> int:
        """Draws from 0 to stop - 1; the probabilities differ by less than stop / 2**64."""
        return (self.word() * stop) >> 64

    def chance(self, probability: float) -> bool:
        """Returns True with the given probability."""
        return (self.word() >> 11) < probability * 2**53

    def pick(self, items: Sequence[T]) -> T:
        """Draws an item, all with the same probability."""
        return items[self.below(len(items))]


def mix(value: int) -> int:
    """Applies splitmix64's finaliser: a bijection of 64 bits."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MIX_1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX_2) & _MASK
    return value ^ (value >> 31)


def draw_words(seed: int, start: int, stop: int, num_words: int) -> UInt64s:
    """Draws random words (stop - start, num_words); a row depends only on the seed and its number, `start` to stop - 1."""
    places = np.arange(start * num_words + 1, stop * num_words + 1, dtype=np.uint64)
    return _words_at(seed, places).reshape(-1, num_words)  # (stop - start, num_words)


def draw_uniforms(seed: int, numbers: Ints, num_draws: int) -> Doubles:
    """Draws from [0, 1), (len(numbers), num_draws); a row depends only on the seed and its number (not negative)."""
    places = numbers[:, None] * num_draws + np.arange(1, num_draws + 1)
    words = _words_at(seed, places.astype(np.uint64))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _words_at(seed: int, places: UInt64s) -> UInt64s:
    values = places * np.uint64(_GOLDEN) + np.uint64(mix(seed + _GOLDEN))
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_MIX_1)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_MIX_2)
    values ^= values >> np.uint64(31)
    return values
