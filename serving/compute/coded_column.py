"""What each product has one of, as a number by row (brand, price, set of categories), and the column that facets count of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from models.arrays import Bools, Codes, Doubles, Ints
from models.products.attributes.columns import Selection, histogram
from models.products.attributes.numbered_values import NumberedValues
from models.products.attributes.spec import AttributeType
from models.products.growing import GrowingArray

Key = TypeVar("Key", bound=Hashable)


class Coded(Generic[Key]):
    """`codes` (rows,) are places in the distinct `keys`. Keys that come later are put behind them."""

    def __init__(self, codes: Codes, keys: Sequence[Key], alive: Bools) -> None:
        self.keys = list(keys)
        self._code_of = {key: code for code, key in enumerate(self.keys)}
        self._codes = GrowingArray[np.int32](codes)
        self._counts = GrowingArray[np.int64](histogram(codes, len(keys)))  # products of each key, removed ones too
        self._dead = GrowingArray[np.int64](histogram(codes[~alive], len(keys)))
        self.version = 0  # the number of changes

    @property
    def codes(self) -> Codes:
        return self._codes.values

    @property
    def counts(self) -> Ints:
        """Returns (keys,) how many products have each, removed ones too."""
        return self._counts.values

    @property
    def living(self) -> Ints:
        """Returns (keys,) how many living products have each."""
        return self._counts.values - self._dead.values

    def is_living(self, code: int) -> bool:
        return bool(self._counts.values[code] > self._dead.values[code])

    def append(self, keys: Sequence[Key]) -> None:
        codes = [self._code(key) for key in keys]
        np.add.at(self._counts.writable(), codes, 1)
        self._codes.append(codes, len(codes))
        self.version += 1

    def remove(self, rows: Ints) -> None:
        np.add.at(self._dead.writable(), self.codes[rows], 1)
        self.version += 1

    def change(self, rows: Ints, keys: Sequence[Key]) -> None:
        """Gives rows other keys."""
        codes = [self._code(key) for key in keys]
        np.subtract.at(self._counts.writable(), self.codes[rows], 1)
        np.add.at(self._counts.writable(), codes, 1)
        self._codes.writable()[rows] = codes
        self.version += 1

    def _code(self, key: Key) -> int:
        code = self._code_of.get(key)
        if code is None:
            code = len(self.keys)
            self._counts.append(0, 1)
            self._dead.append(0, 1)
            self._code_of[key] = code
            self.keys.append(key)
        return code


class CodedColumn(NumberedValues, Generic[Key]):
    """A column for facets. `values_of` gives the values of a key: keywords, or one number."""

    def __init__(
        self, kind: AttributeType, coded: Coded[Key], values_of: Callable[[Key], Sequence[str] | Sequence[float]]
    ) -> None:
        self._coded = coded
        self._values_of = values_of
        are_words = kind is not AttributeType.NUMBER
        of_keys = [values_of(key) for key in coded.keys]
        spelling: dict[str | float, str | float] = {}
        for values in of_keys:
            for value in values:
                spelling.setdefault(value.casefold() if isinstance(value, str) else value, value)
        ordered = sorted(spelling)
        super().__init__(kind, len(ordered))
        words = [str(spelling[key]) for key in ordered] if are_words else [""] * len(ordered)
        self._strings = pa.array(words, pa.large_string())
        self._numbers = np.array([np.nan if are_words else key for key in ordered], np.float64)
        number_of = {key: number for number, key in enumerate(ordered)}
        # The code and the number of each value of each key.
        self._value_codes = GrowingArray[np.int32](np.zeros(0, np.int32))
        self._value_numbers = GrowingArray[np.int32](np.zeros(0, np.int32))
        self._is_one_to_one = True  # each value is that of one key, in the order of the keys
        self._num_known = len(coded.keys)
        self._living: tuple[int, Ints] | None = None  # counts of all living products, and the version of the codes
        numbers = [
            dict.fromkeys(number_of[value.casefold() if isinstance(value, str) else value] for value in values)
            for values in of_keys
        ]
        self._add(0, [list(one) for one in numbers])

    @property
    def _frozen_strings(self) -> pa.LargeStringArray:
        return self._strings

    @property
    def _frozen_numbers(self) -> Doubles:
        return self._numbers

    def take_in(self) -> None:
        """Takes the values of keys that came since."""
        new = self._coded.keys[self._num_known :]
        if new:
            self._add(
                self._num_known,
                [list(dict.fromkeys(self.number_of(value) for value in self._values_of(key))) for key in new],
            )
            self._num_known += len(new)

    def _add(self, first_code: int, numbers: Sequence[Sequence[int]]) -> None:
        codes = np.repeat(np.arange(first_code, first_code + len(numbers)), [len(one) for one in numbers])
        flat = np.array([number for one in numbers for number in one], np.int32)
        start = len(self._value_codes)
        self._is_one_to_one &= np.array_equal(flat, np.arange(start, start + len(flat)))
        self._value_codes.append(codes, len(codes))
        self._value_numbers.append(flat, len(flat))

    def counts(self, selected: Selection | None = None) -> Ints:
        """Returns (values,) how many products have each value, of all living ones or of a selection of them."""
        if selected is None:
            if self._living is None or self._living[0] != self._coded.version:
                self._living = self._coded.version, self._of_values(self._coded.living)
            return self._living[1]
        counts = histogram(self._coded.codes.take(selected.rows), len(self._coded.keys))
        return self._of_values(counts if selected.lists_selected else self._coded.counts - counts)

    def counts_among(self, rows: Ints) -> Ints:
        """Returns (values,) how many of these products have each value."""
        return self._of_values(histogram(self._coded.codes.take(rows), len(self._coded.keys)))

    def _of_values(self, counts: Ints) -> Ints:
        """Returns (values,) the sums of the counts (keys,) of the keys with each value."""
        if self._is_one_to_one:
            return counts.take(self._value_codes.values)
        sums = np.bincount(self._value_numbers.values, counts[self._value_codes.values], minlength=self.num_values)
        return sums.astype(np.int64)
