"""The distinct values of a column by number: frozen ones in their order, and behind them those that came later, as they arrived."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Bools, Doubles, Ints
from models.products.attributes.spec import AttributeType
from models.products.growing import GrowingArray

MAX_LISTED_KEYS = (
    65_536  # keywords of an attribute that are listed once it is filtered by: 1 us to find one, 20 us otherwise
)
Range = tuple[float | None, float | None]  # inclusive bounds; None leaves a side open


class _Arrived:
    """The values that came later. A key is a keyword without case, or the number."""

    def __init__(self, numbers: Doubles) -> None:
        self.strings: list[str] = []
        self.numbers = GrowingArray[np.float64](numbers)  # of all values
        self.keys: list[Any] = []  # in ascending order
        self.by_key = GrowingArray[np.int32](np.zeros(0, np.int32))  # the number of each of `keys`
        self.number_of: dict[Any, int] = {}  # by key; frozen ones that were asked for too

    def add(self, key: Any, text: str, number: float) -> int:
        """Returns the number of a new value."""
        at = len(self.numbers)
        self.strings.append(text)
        self.numbers.append(number, 1)
        place = bisect_left(self.keys, key)
        self.keys.insert(place, key)
        self.by_key.insert(place, at)
        return at


class NumberedValues(ABC):
    """Values of a type. A keyword keeps the spelling in which it came first."""

    _arrived: _Arrived | None = None

    def __init__(self, kind: AttributeType, num_frozen: int) -> None:
        self.type = kind
        self.holds_words = kind in (AttributeType.KEYWORD, AttributeType.KEYWORDS)
        self.num_frozen = num_frozen

    @property
    @abstractmethod
    def _frozen_strings(self) -> pa.LargeStringArray:
        """The frozen values of keywords (num_frozen,), as the catalogue spells them."""

    @property
    @abstractmethod
    def _frozen_numbers(self) -> Doubles:
        """The frozen numbers (num_frozen,), in ascending order; NaN for keywords."""

    @property
    def num_values(self) -> int:
        return self.num_frozen if self._arrived is None else len(self._arrived.numbers)

    @property
    def numbers(self) -> Doubles:
        """Returns (values,) the numbers; dates are milliseconds since 1970, bools 0 and 1, keywords NaN."""
        return self._frozen_numbers if self._arrived is None else self._arrived.numbers.values

    def value(self, number: int) -> str | float:
        """Returns a value: the keyword, or the number."""
        if not self.holds_words:
            return float(self.numbers[number])
        if self._arrived is not None and number >= self.num_frozen:
            return self._arrived.strings[number - self.num_frozen]
        keyword: str = self._frozen_strings[number].as_py()
        return keyword

    def find(self, keyword: str) -> int | None:
        """Returns the number of a keyword, compared without case; None if no product has had it."""
        key = keyword.casefold()
        if self._arrived is not None and (number := self._arrived.number_of.get(key)) is not None:
            return number
        if self.num_frozen <= MAX_LISTED_KEYS:
            return _find(key, self.num_frozen, self._keys.__getitem__)
        return _find(key, self.num_frozen, self._key)

    def number(self, value: str | float) -> int | None:
        """Returns the number of a value, None if no product has had it."""
        if isinstance(value, str):
            return self.find(value)
        number = int(np.searchsorted(self._frozen_numbers, value))
        if number < self.num_frozen and self._frozen_numbers[number] == value:
            return number
        return None if self._arrived is None else self._arrived.number_of.get(float(value))

    def number_of(self, value: str | float) -> int:
        """Returns the number of a value, which gets one if it is new."""
        if self._arrived is None:
            self._arrived = _Arrived(self._frozen_numbers)
        key = value.casefold() if isinstance(value, str) else float(value)
        number = self._arrived.number_of.get(key)
        if number is not None:
            return number
        if isinstance(key, str):
            # Listing the keys of all columns at the first product that is appended would take seconds.
            found = _find(key, self.num_frozen, self._key)
            number = self._arrived.add(key, str(value), np.nan) if found is None else found
        else:
            number = int(np.searchsorted(self._frozen_numbers, key))
            if number == self.num_frozen or self._frozen_numbers[number] != key:
                number = self._arrived.add(key, "", key)
        self._arrived.number_of[key] = number
        return number

    @cached_property
    def _keys(self) -> list[str]:
        return [text.casefold() for text in self._frozen_strings.to_pylist()]

    def _key(self, number: int) -> str:
        key: str = self._frozen_strings[number].as_py().casefold()
        return key

    def sort_key(self, number: int) -> Any:
        """Returns what ascends in the order of the values."""
        value = self.value(number)
        return value.casefold() if isinstance(value, str) else value

    def first(self, numbers: Sequence[int]) -> int:
        """Returns which of some values is the first in their order."""
        least = min(numbers)
        return least if max(numbers) < self.num_frozen else min(numbers, key=self.sort_key)

    def containing(self, text: str) -> Ints:
        """Returns the numbers of the keywords that contain a text, compared without case, ascending."""
        found = _containing(self._frozen_strings, text)
        if self._arrived is None:
            return found
        arrived = _containing(pa.array(self._arrived.strings, pa.large_string()), text)
        return np.concatenate([found, self.num_frozen + arrived])

    def frozen_range(self, low: float | None, high: float | None) -> tuple[int, int]:
        """Returns the first frozen value of an inclusive range of numbers and the one after its last."""
        numbers = self._frozen_numbers
        first = 0 if low is None else int(np.searchsorted(numbers, low, "left"))
        last = self.num_frozen if high is None else int(np.searchsorted(numbers, high, "right"))
        return first, max(first, last)

    def sums(self, counts: Ints, ranges: Sequence[Range]) -> tuple[int, ...]:
        """Returns for each inclusive range of numbers the sum of the counts (values,) of its values."""
        sums = np.concatenate(([0], np.cumsum(counts[: self.num_frozen])))
        spans = [self.frozen_range(low, high) for low, high in ranges]
        totals = [int(sums[last] - sums[first]) for first, last in spans]
        if len(counts) > self.num_frozen:
            numbers, arrived = self.numbers[self.num_frozen :], counts[self.num_frozen :]
            more = [int(arrived[within(numbers, low, high)].sum()) for low, high in ranges]
            totals = [one + other for one, other in zip(totals, more, strict=True)]
        return tuple(totals)

    def bounds(self, present: Ints) -> tuple[float, float]:
        """Returns the smallest and the largest of some numbers, which are named in ascending order; at least one."""
        frozen = int(np.searchsorted(present, self.num_frozen))
        ends = present[[0, frozen - 1]] if frozen else present[:0]
        numbers = self.numbers[np.concatenate([ends, present[frozen:]])]
        return float(numbers.min()), float(numbers.max())

    def most_frequent(self, counts: Ints, listed: Ints, count: int) -> list[int]:
        """Returns `count` of the values `listed` (ascending numbers), the most frequent first, equals in the order of the values."""
        frozen = listed[: int(np.searchsorted(listed, self.num_frozen))]
        best = _most_frequent(counts, frozen, count)
        if len(frozen) == len(listed) or self._arrived is None:
            return best
        is_listed = np.zeros(len(counts), np.bool_)
        is_listed[listed] = True
        by_key = self._arrived.by_key.values
        arrived = _most_frequent(counts, by_key[is_listed[by_key]], count)
        merged = heapq.merge(best, arrived, key=lambda number: (-counts[number], self.sort_key(number)))
        return list(islice(merged, count))


def within(numbers: Doubles, low: float | None, high: float | None) -> Bools:
    """Returns (numbers,) True for those within inclusive bounds; None leaves a side open."""
    passes = np.ones(len(numbers), np.bool_)
    if low is not None:
        passes &= numbers >= low
    if high is not None:
        passes &= numbers <= high
    return passes


def _find(key: str, count: int, key_of: Any) -> int | None:
    at = bisect_left(range(count), key, key=key_of)
    return at if at < count and key_of(at) == key else None


def _containing(strings: pa.LargeStringArray, text: str) -> Ints:
    return np.flatnonzero(pc.match_substring(strings, text, ignore_case=True).to_numpy(zero_copy_only=False))


def _most_frequent(counts: Ints, listed: Any, count: int) -> list[int]:
    best: list[int] = listed[np.argsort(-counts[listed], kind="stable")[:count]].tolist()
    return best
