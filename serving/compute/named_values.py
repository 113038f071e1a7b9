"""Which values of attributes and categories a query names, and which products have another value in their place.

To the words alone "leather" is in "Faux Leather" and "shirts" in "T-Shirts". Where the whole name of a value stands in the query, the
longest first, a product that states another value of the same attribute is not what was asked for. A product that states none may be.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from models.arrays import Bools, Floats, Ints
from models.lexical.analysis import Analyzer
from models.products.attributes.columns import AttributeColumn
from models.products.attributes.spec import AttributeType
from serving.compute.filter_masks import PATH_SEPARATOR, FilterMasks

MAX_VALUES = 1_000  # of an attribute; of more they are names, not kinds
MAX_PHRASE_WORDS = 4
MAX_KEPT = 4_096  # queries, as the lexical index keeps
MAX_CHARS = 256  # of a query that is read

Phrase: TypeAlias = tuple[str, ...]  # stems


class NamedPhrase(NamedTuple):
    """A phrase of a query that names values, in words that mean the same in every process."""

    phrase: Phrase
    values: tuple[tuple[str, tuple[str, ...]], ...]  # attributes, and values of each
    in_category: bool  # a category has a step of this name


NamedQuery: TypeAlias = tuple[tuple[NamedPhrase, ...], int]  # the phrases, and how many words the query has


@dataclass(frozen=True, slots=True, eq=False)
class _Named:
    """A phrase of a query, with the values by attribute, and (category keys,) whether a path has a step of this name."""

    phrase: Phrase
    values: tuple[tuple[AttributeColumn, frozenset[int]], ...]
    in_category: Bools | None


class NamedValues:
    """The names of the values that are kinds: of attributes with one value a product that an eighth of the products state, and of
    categories. Values of products that were appended are read too. One thread computes at a time."""

    def __init__(self, masks: FilterMasks, analyzer: Analyzer) -> None:
        self._masks, self._analyzer = masks, analyzer
        self._columns = [
            column
            for column in masks.attributes.values()
            if column.type is AttributeType.KEYWORD
            and column.by_product is not None
            and column.num_values <= MAX_VALUES
        ]
        self._values: dict[Phrase, dict[int, set[int]]] = defaultdict(
            lambda: defaultdict(set)
        )  # by place of the column
        self._steps: dict[Phrase, list[int]] = defaultdict(list)  # keys of categories
        self._num_read = [0] * len(self._columns)
        self._has_category = np.zeros(0, np.bool_)  # by key
        self._num_keys = 0
        self._version = -1  # of the catalogue
        self._num_grown = 0  # how often names came: what was read of a query before may be otherwise
        # Queries as the values of a whole catalogue let them be read, where these are of a shard.
        self.given: Mapping[str, NamedQuery] = {}
        self._read = functools.lru_cache(MAX_KEPT)(lambda text, _num_grown: self._named(text))
        self._take_in()

    def mismatch(self, text: str, rows: Ints) -> Floats | None:
        """Returns (rows,) the share of the query's words that name a value in whose place a product states another; None if no word names
        one."""
        self._take_in()
        if (given := self.given.get(text)) is not None:
            named, num_words = tuple(map(self._of_given, given[0])), given[1]
        else:
            named, num_words = self._read(text[:MAX_CHARS], self._num_grown)
        if not named:
            return None
        share = np.zeros(len(rows), np.float32)
        for phrase in named:
            share += np.float32(len(phrase.phrase) / num_words) * self._states_another(phrase, rows)
        return share

    def read(self, text: str) -> NamedQuery:
        """Returns what a query names, for `given` elsewhere."""
        self._take_in()
        found, num_words = self._read(text[:MAX_CHARS], self._num_grown)

        def in_words(one: _Named) -> NamedPhrase:
            values = tuple(
                (column.name, tuple(str(column.value(number)) for number in numbers)) for column, numbers in one.values
            )
            return NamedPhrase(one.phrase, values, one.in_category is not None)

        return tuple(map(in_words, found)), num_words

    def _of_given(self, given: NamedPhrase) -> _Named:
        columns = {column.name: column for column in self._columns}
        values = tuple(
            (column, frozenset(number for text in texts if (number := column.find(text)) is not None))
            for name, texts in given.values
            if (column := columns.get(name)) is not None
        )
        in_category = self._with_step(given.phrase) if given.in_category else None
        return _Named(given.phrase, values, in_category)

    def _states_another(self, named: _Named, rows: Ints) -> Bools:
        has, states = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        for column, numbers in named.values:
            codes = column.by_product
            assert codes is not None  # noqa: S101 - only such columns are read
            frozen = rows < len(codes)
            of_frozen = codes.take(rows[frozen])
            states[frozen] |= of_frozen > 0
            for number in numbers:
                has[frozen] |= of_frozen == number + 1
            if not frozen.all():
                appended = np.flatnonzero(~frozen)
                for place, value in column.values_of(rows[appended]):
                    states[appended[place]] = True
                    has[appended[place]] |= value in numbers
        if named.in_category is not None:
            codes = self._masks.category_codes[rows]
            has |= named.in_category[codes]
            states |= self._has_category[codes]
        return states & ~has

    def _take_in(self) -> None:
        """Reads the values that came since."""
        if self._version == self._masks.version:
            return
        self._version = self._masks.version
        keys = self._masks.category_keys
        num_values = [column.num_values for column in self._columns]
        if num_values == self._num_read and len(keys) == self._num_keys:
            return
        self._num_grown += 1
        for place, column in enumerate(self._columns):
            for number in range(self._num_read[place], column.num_values):
                if phrase := self._phrase(str(column.value(number))):
                    self._values[phrase][place].add(number)
        self._num_read = num_values
        for code in range(self._num_keys, len(keys)):
            for step in {step for path in keys[code] for step in path.split(PATH_SEPARATOR)}:
                if phrase := self._phrase(step):
                    self._steps[phrase].append(code)
        if self._num_keys < len(keys):
            self._has_category = np.array([any(paths) for paths in keys], np.bool_)
        self._num_keys = len(keys)

    def _phrase(self, name: str) -> Phrase:
        """Returns the stems of a name; nothing for one that is long, or has a word without a stem of its own."""
        words = self._analyzer.words(name)
        if not 0 < len(words) <= MAX_PHRASE_WORDS:
            return ()
        stems = tuple(self._analyzer.word(word).term for word in words)
        return stems if all(stems) else ()

    def _named(self, text: str) -> tuple[tuple[_Named, ...], int]:
        """Returns the phrases of a query that name values, and how many words it has."""
        stems = [self._analyzer.word(word).term for word in self._analyzer.words(text)]
        named: list[_Named] = []
        at = 0
        while at < len(stems):
            for length in range(min(MAX_PHRASE_WORDS, len(stems) - at), 0, -1):
                phrase = tuple(stems[at : at + length])
                if phrase in self._values or phrase in self._steps:
                    named.append(self._of(phrase))
                    at += length
                    break
            else:
                at += 1
        return tuple(named), len(stems)

    def _of(self, phrase: Phrase) -> _Named:
        values = tuple(
            (self._columns[place], frozenset(numbers)) for place, numbers in self._values.get(phrase, {}).items()
        )
        return _Named(phrase, values, self._with_step(phrase) if phrase in self._steps else None)

    def _with_step(self, phrase: Phrase) -> Bools:
        """Returns (category keys,) True for those with a step of this name."""
        in_category = np.zeros(self._num_keys, np.bool_)
        in_category[self._steps.get(phrase, [])] = True
        return in_category
