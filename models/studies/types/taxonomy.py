"""A real product taxonomy in many locales as labelled queries: 10,595 categories, each with a name in 31 locales (Shopify, MIT licence).

Nobody typed these queries: they are *derived* from the names. A type is a category id, the same in every locale. The data is not part of
Aisle; name its folder.

The training data of each category and locale are its name and one variation: the name with an attribute value before or after it ("Oak
Bookcases"), with the name of the parent category ("Shelving Bookcases"), or with a word missing, if it has three words or more.
The test queries are:

    "a word missing"    names of at least two words of three letters, without one random word; in Japanese, Chinese and Thai, which have no
                        spaces, names of at least four letters without their first or last third
    "a letter missing"  names of one word in the other languages, without one letter that is neither the first nor the last

A string that is training data in a locale is no test query there; it may be training data in other locales, for example names that two
languages share. Attribute values are drawn from all values of the locale, so they do not reveal the type, just as "M" or "Red" do not.
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
_LOOSE_ENDS = " &/,.;:-\u2013\u2014+()[]"  # what remains around a removed word
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
    names: Mapping[str, Sequence[str]]  # locale -> (categories,) last step of the path
    parents: Mapping[str, Sequence[str]]  # locale -> (categories,) previous step, "" at the top
    values: Mapping[str, Sequence[str]]  # locale -> distinct short attribute values

    @property
    def locales(self) -> tuple[str, ...]:
        return tuple(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class TaxonomyQueries:
    """Training and test queries; both number all categories and locales alike."""

    train: TypeExamples  # one row per string and locale, labelled with every category that it was derived from
    test: TypeExamples  # labelled with the category that the string was derived from
    forms: tuple[Form, ...]  # of each test row
    fits: Ragged  # of each test row: all categories whose name is the string, or the string with one more word


def read_taxonomy(folder: Path, locales: Sequence[str] | None = None) -> Taxonomy:
    """Reads both files, for all locales or only for `locales`. Raises TaxonomyError."""
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
        {locale: sorted(distinct) for locale, distinct in values.items()},
    )


def read_taxonomy_paths(folder: Path, languages: Collection[str], of: str = "en") -> list[tuple[str, tuple[str, ...]]]:
    """Reads a dictionary: category names in all locales of these languages, each with the steps of its path in the locale `of`.

    Raises TaxonomyError.
    """
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
    """Derives training queries, and up to `max_tests` random test queries per locale. The same seed gives the same queries."""
    train, test = _Rows(), _Rows()
    forms: list[Form] = []
    fits: list[list[int]] = []
    for number, locale in enumerate(taxonomy.locales):
        names = [normalise(name) for name in taxonomy.names[locale]]
        shortened = [_shortened(name, locale) for name in names]
        candidates = _test_candidates(names, shortened, locale, seed)
        reserved = {text for text, _, _ in candidates}
        training = _training_strings(taxonomy, locale, names, shortened, reserved, seed)
        for text, labels in training.items():
            train.add(text, number, sorted(labels))
        allowed = [candidate for candidate in candidates if candidate[0] not in training]
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
    """Returns the name without each of its words; empty if it has fewer than two."""
    if language_of(locale) in _NO_SPACES and " " not in name:
        third = max(2, round(len(name) / 3))
        if len(name) < _MIN_RUN:
            return []
        while (
            third < len(name) - 1 and unicodedata.category(name[third])[0] == "M"
        ):  # Thai vowels and tones stay with their letter
            third += 1
        return [name[third:], name[:-third]]
    words = [match.span() for match in _WORD.finditer(name) if len(match.group()) >= _MIN_WORD]
    if len(words) < 2:
        return []
    cut = (f"{name[:start].rstrip(_LOOSE_ENDS)} {name[end:].lstrip(_LOOSE_ENDS)}" for start, end in words)
    return [text.strip(_LOOSE_ENDS) for text in cut]


def _test_candidates(
    names: Sequence[str], shortened: Sequence[list[str]], locale: str, seed: int
) -> list[tuple[str, int, Form]]:
    """Returns one query per category, if one can be derived: (text, category, form)."""
    draws = Draws(zlib.crc32(f"asked {locale} {seed}".encode()))
    has_spaces = language_of(locale) not in _NO_SPACES
    candidates = []
    for category, (name, shorter) in enumerate(zip(names, shortened, strict=True)):
        if shorter:
            candidates.append((draws.pick(shorter), category, Form.WORD_MISSING))
        elif has_spaces and len(name) > _MIN_WORD and " " not in name:
            at = 1 + draws.below(len(name) - 2)
            candidates.append((name[:at] + name[at + 1 :], category, Form.LETTER_MISSING))
    return candidates


def _training_strings(
    taxonomy: Taxonomy,
    locale: str,
    names: Sequence[str],
    shortened: Sequence[list[str]],
    reserved: set[str],
    seed: int,
) -> dict[str, set[int]]:
    """Returns string -> categories: every name, and one variation of it that is not reserved for the test."""
    draws = Draws(zlib.crc32(f"learned {locale} {seed}".encode()))
    values = taxonomy.values[locale]
    training: dict[str, set[int]] = defaultdict(set)
    for category, name in enumerate(names):
        training[name].add(category)
        other = [f"{normalise(taxonomy.parents[locale][category])} {name}".strip()]
        if values:
            value = draws.pick(values)
            other.append(draws.pick((f"{value} {name}", f"{name} {value}")))
        if len(shortened[category]) >= 3:
            other.append(draws.pick(shortened[category]))
        text = draws.pick(other)
        if text not in reserved:
            training[text].add(category)
    return training


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
