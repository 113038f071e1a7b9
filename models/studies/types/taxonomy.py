"""A real product taxonomy in many locales as labelled queries: 10,595 categories, each with a name in 31 locales (Shopify, MIT).

Nobody asked these queries: they are *derived* of the names. A type is a category id, the same in every locale. The data is not part of
Aisle; say where it is.

Of each category and locale what is learned from is its name, and one of: the name with a value of an attribute before or behind it
("Oak Bookcases"), the name of the category above with it ("Shelving Bookcases"), or the name with a word missing where it has three or
more.
What is asked:

    "a word missing"    of names of at least two words of three letters, one word, drawn, is left out; of names of at least four letters in
                        Japanese, Chinese and Thai, which put no spaces, the first or the last third
    "a letter missing"  of names of one word in the other languages, one letter that is neither the first nor the last

No string that is learned from in a locale is asked in it; in other locales it may be learned, as names that are the same in two languages.
Attributes' values are drawn from all of the locale's, so they say nothing of the type, as "M" or "Red" say nothing.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.draws import Draws
from models.errors import InputError
from models.query_types.examples import TypeExamples
from models.query_types.tokens import language_of, normalise
from models.unified.words import Ragged

CATEGORIES, VALUES = "taxonomy_categories.parquet", "taxonomy_attribute_values.parquet"

_NO_SPACES = ("ja", "th", "zh")
_WORD = re.compile(r"[^\W\d_]+")
_LOOSE_ENDS = " &/,.;:-\u2013\u2014+()[]"  # what a word leaves behind when it goes
_MIN_WORD, _MIN_RUN = 3, 4  # letters
_MAX_VALUE_WORDS = 2


class TaxonomyError(InputError):
    """The folder does not hold the taxonomy; the message says what is missing."""


class Form(StrEnum):
    WORD_MISSING = "a word missing"
    LETTER_MISSING = "a letter missing"


@dataclass(frozen=True, slots=True, eq=False)
class Taxonomy:
    """Category names by locale."""

    ids: tuple[str, ...]
    names: Mapping[str, Sequence[str]]  # locale -> (categories,) the last step of the path
    parents: Mapping[str, Sequence[str]]  # locale -> (categories,) the step above, "" at the top
    values: Mapping[str, Sequence[str]]  # locale -> distinct short values of attributes

    @property
    def locales(self) -> tuple[str, ...]:
        return tuple(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class TaxonomyQueries:
    """What is learned from and what is asked; both number all categories and locales alike."""

    train: TypeExamples  # a row for each string of a locale, labelled with every category that it was derived of
    test: TypeExamples  # labelled with the one category that the string was derived of
    forms: tuple[Form, ...]  # of each test row
    fits: Ragged  # of each test row: all categories of which the string is the name, as it is or with one word missing


def read_taxonomy(folder: Path, locales: Sequence[str] | None = None) -> Taxonomy:
    """Reads both files. `locales` keeps those alone. Raises TaxonomyError."""
    rows = _columns(folder / CATEGORIES, ("category_id", "locale", "path"))
    steps: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for category, locale, path in zip(*rows, strict=True):
        steps[locale][category] = [step.strip() for step in path.split(" > ")]
    chosen = sorted(steps) if locales is None else list(locales)
    unknown = sorted(set(chosen) - set(steps))
    if unknown or not chosen:
        raise TaxonomyError(f"{CATEGORIES} has no locale {', '.join(unknown) or 'at all'}; it has {', '.join(steps)}")
    ids = tuple(sorted(set.intersection(*(set(steps[locale]) for locale in chosen))))
    values: dict[str, set[str]] = {locale: set() for locale in chosen}
    for locale, value in zip(*_columns(folder / VALUES, ("locale", "value")), strict=True):
        if locale in values and len(value.split()) <= _MAX_VALUE_WORDS and not re.search(r"[\d()]", value):
            values[locale].add(normalise(value))
    return Taxonomy(
        ids,
        {locale: [steps[locale][one][-1] for one in ids] for locale in chosen},
        {locale: [steps[locale][one][-2] if len(steps[locale][one]) > 1 else "" for one in ids] for locale in chosen},
        {locale: sorted(found) for locale, found in values.items()},
    )


def read_taxonomy_paths(folder: Path, languages: Collection[str], of: str = "en") -> list[tuple[str, tuple[str, ...]]]:
    """A dictionary: names in all locales of these languages, each with the category's path, by step, in the locale `of`. Raises
    TaxonomyError."""
    rows = list(zip(*_columns(folder / CATEGORIES, ("category_id", "locale", "path")), strict=True))
    paths = {category: tuple(path.split(" > ")) for category, locale, path in rows if locale == of}
    if not paths:
        raise TaxonomyError(f"{CATEGORIES} has no locale {of}")
    return [
        (path.rsplit(" > ", maxsplit=1)[-1], paths[category])
        for category, locale, path in rows
        if language_of(locale) in languages and category in paths
    ]


def derive_taxonomy_queries(taxonomy: Taxonomy, *, max_tests: int = 1000, seed: int = 0) -> TaxonomyQueries:
    """`max_tests` of each locale are asked, drawn among those that can be. The same seed gives the same queries."""
    train, test = _Rows(), _Rows()
    forms: list[Form] = []
    fits: list[list[int]] = []
    for number, locale in enumerate(taxonomy.locales):
        names = [normalise(name) for name in taxonomy.names[locale]]
        shortened = [_shortened(name, locale) for name in names]
        asked = _asked(names, shortened, locale, seed)
        reserved = {text for text, _, _ in asked}
        learned = _learned(taxonomy, locale, names, shortened, reserved, seed)
        for text, labels in learned.items():
            train.add(text, number, sorted(labels))
        allowed = [one for one in asked if one[0] not in learned]
        rng = np.random.default_rng([seed, zlib.crc32(locale.encode())])
        fitting = _fitting(names, shortened)
        for at in sorted(rng.permutation(len(allowed))[:max_tests].tolist()):
            text, category, form = allowed[at]
            test.add(text, number, [category])
            forms.append(form)
            fits.append(sorted(fitting.get(text, set()) | {category}))
    return TaxonomyQueries(train.examples(taxonomy), test.examples(taxonomy), tuple(forms), Ragged.from_rows(fits))


class _Rows:
    def __init__(self) -> None:
        self.queries: list[str] = []
        self.locale: list[int] = []
        self.labels: list[list[int]] = []

    def add(self, query: str, locale: int, labels: list[int]) -> None:
        self.queries.append(query)
        self.locale.append(locale)
        self.labels.append(labels)

    def examples(self, taxonomy: Taxonomy) -> TypeExamples:
        weight = np.ones(len(self.queries), np.float32)
        locale = np.array(self.locale, np.int32)
        return TypeExamples(self.queries, locale, Ragged.from_rows(self.labels), weight, taxonomy.ids, taxonomy.locales)


def _shortened(name: str, locale: str) -> list[str]:
    """The name with each of its words missing; none where there are not two."""
    if language_of(locale) in _NO_SPACES and " " not in name:
        third = max(2, round(len(name) / 3))
        if len(name) < _MIN_RUN:
            return []
        while (
            third < len(name) - 1 and unicodedata.category(name[third])[0] == "M"
        ):  # Thai vowels and tones stay with their letter
            third += 1
        return [name[third:], name[:-third]]
    words = [found.span() for found in _WORD.finditer(name) if len(found.group()) >= _MIN_WORD]
    if len(words) < 2:
        return []
    cut = (f"{name[:start].rstrip(_LOOSE_ENDS)} {name[end:].lstrip(_LOOSE_ENDS)}" for start, end in words)
    return [text.strip(_LOOSE_ENDS) for text in cut]


def _asked(names: Sequence[str], shortened: Sequence[list[str]], locale: str, seed: int) -> list[tuple[str, int, Form]]:
    """One query of each category that has one: (text, category, form)."""
    draws = Draws(zlib.crc32(f"asked {locale} {seed}".encode()))
    has_spaces = language_of(locale) not in _NO_SPACES
    found = []
    for category, (name, shorter) in enumerate(zip(names, shortened, strict=True)):
        if shorter:
            found.append((draws.pick(shorter), category, Form.WORD_MISSING))
        elif has_spaces and len(name) > _MIN_WORD and " " not in name:
            at = 1 + draws.below(len(name) - 2)
            found.append((name[:at] + name[at + 1 :], category, Form.LETTER_MISSING))
    return found


def _learned(
    taxonomy: Taxonomy,
    locale: str,
    names: Sequence[str],
    shortened: Sequence[list[str]],
    reserved: set[str],
    seed: int,
) -> dict[str, set[int]]:
    """String -> categories: every name, and one other form of each that is not reserved for asking."""
    draws = Draws(zlib.crc32(f"learned {locale} {seed}".encode()))
    values = taxonomy.values[locale]
    learned: dict[str, set[int]] = defaultdict(set)
    for category, name in enumerate(names):
        learned[name].add(category)
        other = [f"{normalise(taxonomy.parents[locale][category])} {name}".strip()]
        if values:
            value = draws.pick(values)
            other.append(draws.pick((f"{value} {name}", f"{name} {value}")))
        if len(shortened[category]) >= 3:
            other.append(draws.pick(shortened[category]))
        text = draws.pick(other)
        if text not in reserved:
            learned[text].add(category)
    return learned


def _fitting(names: Sequence[str], shortened: Sequence[list[str]]) -> dict[str, set[int]]:
    fitting: dict[str, set[int]] = defaultdict(set)
    for category, (name, shorter) in enumerate(zip(names, shortened, strict=True)):
        for text in (name, *shorter):
            fitting[text].add(category)
    return fitting


def _columns(path: Path, names: Sequence[str]) -> list[list[str]]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TaxonomyError(f"{path.name} cannot be read as Parquet: {error}") from None
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise TaxonomyError(f"{path.name}: the columns {', '.join(missing)} are missing")
    return [table[name].to_pylist() for name in names]
