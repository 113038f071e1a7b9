"""The verb that reads the locales of the storefronts from `data/languages/`, a file for each language.

A noun is written as its words, and after "/" its form where the ending of its first word misleads: "robe/f", "baskets/fp". A locale has the
nouns of its language, and its own for some types. A noun that a locale gives to a type is taken from all other types there: in Britain
pants are underwear only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import cast, get_args

from models.sample_store.data_file import DataTable, read_data_file
from models.sample_store.locales.english import american_english
from models.sample_store.locales.inflection import INFLECTIONS, UNINFLECTED, NounForm
from models.sample_store.locales.language import Language, Locale, Noun, Nouns, QueryField
from models.sample_store.product_types import load_product_types
from models.sample_store.words import NUM_PRICE_BANDS, load_words, sellers

MAIN_LOCALE = "en-US"  # of the catalogue and the shopping log

LANGUAGE_FILES = (
    "english",
    "german",
    "french",
    "spanish",
    "italian",
    "portuguese",
    "dutch",
    "polish",
    "swedish",
    "turkish",
    "ukrainian",
    "japanese",
)

_MAX_SHARE = 1_000_000


@cache
def all_locales() -> Mapping[str, Locale]:
    """Reads all locales by name, once in a process. Raises DataFileError if a file is wrong."""
    files = (read_data_file(f"languages/{name}.toml") for name in LANGUAGE_FILES)
    return {locale.name: locale for file in files for locale in read_language_file(file)}


def locale_named(name: str) -> Locale:
    """Returns the locale of a name. Raises ValueError with all names for a name that the store does not have."""
    locales = all_locales()
    if name not in locales:
        raise ValueError(f"the simulated store has no locale {name!r}; it has {', '.join(locales)}")
    return locales[name]


def read_language_file(file: DataTable) -> list[Locale]:
    """Reads the locales of a language."""
    language = _read_language(file)
    tables = file.table("locales")
    own_nouns: dict[str, Nouns] = {}
    locales = []
    for name in tables:
        table = tables.table(name)
        like = table.text("nouns_of", allowed=own_nouns, default="")
        own_nouns[name] = {
            **(own_nouns[like] if like else {}),
            **_read_nouns(table.table("nouns", is_optional=True)),
        }
        share = table.integer("share", 0, _MAX_SHARE)
        variety = _read_variety(table, language)
        table.end()
        locales.append(Locale(name=name, language=variety, nouns=_nouns_by_type(variety, own_nouns[name]), share=share))
    file.end()
    return locales


def _read_language(file: DataTable) -> Language:
    code, inch = file.text("code"), file.text("inch")
    before_noun = frozenset(
        cast(tuple[QueryField, ...], file.texts("before_noun", allowed=get_args(QueryField), can_be_empty=True))
    )
    if code == "en":
        return american_english(inch=inch, before_noun=before_noun)
    words = load_words()
    nouns = file.table("nouns")
    language = Language(
        code=code,
        nouns=_read_nouns(nouns),
        colours=file.table("colours").all_texts(names=sellers(words.colours)),
        materials=file.table("materials").all_texts(names=sellers(words.materials)),
        audiences=file.table("audiences").all_texts(names=sellers(words.audiences)),
        price_words=file.text_lists("price_words", NUM_PRICE_BANDS),
        inch=inch,
        before_noun=before_noun,
        plain_letters=_read_letters(file.table("plain_letters", is_optional=True)),
        invariable=frozenset(file.texts("invariable", is_optional=True)),
        inflection=INFLECTIONS.get(code, UNINFLECTED),
    )
    for kind in load_product_types():
        if kind.name not in language.nouns:
            nouns.fail(kind.name, "is missing")
    return language


def _read_variety(table: DataTable, language: Language) -> Language:
    """Returns the language with the spellings and colours of a locale."""
    letters = _read_letters(table.table("replaced_letters", is_optional=True))
    avoided = table.texts("avoided_spellings", is_optional=True)
    colours = table.table("colours", is_optional=True).all_texts(names=sellers(load_words().colours))
    if not (letters or avoided or colours):
        return language
    nouns = {
        kind: tuple(replace(noun, text=noun.text.translate(letters)) for noun in listed)
        for kind, listed in language.nouns.items()
    }
    spelt = {
        colour: tuple(word.translate(letters) for word in listed if not any(part in word for part in avoided))
        for colour, listed in language.colours.items()
    }
    return replace(language, nouns=nouns, colours={**spelt, **colours})


def _nouns_by_type(language: Language, own: Nouns) -> tuple[tuple[Noun, ...], ...]:
    """Returns the nouns of each type: the locale's own if there are any, else the language's without those of other types."""
    taken = {noun.text for nouns in own.values() for noun in nouns}
    return tuple(
        own[kind.name]
        if kind.name in own
        else tuple(noun for noun in language.nouns[kind.name] if noun.text not in taken)
        for kind in load_product_types()
    )


def _read_nouns(table: DataTable) -> dict[str, tuple[Noun, ...]]:
    types = [kind.name for kind in load_product_types()]
    return {
        name: tuple(_read_noun(table, name, item) for item in listed)
        for name, listed in table.all_texts(names=types).items()
    }


def _read_noun(table: DataTable, name: str, item: str) -> Noun:
    text, slash, form = item.partition("/")
    if not text or (slash and form not in get_args(NounForm)):
        table.fail(name, f"has {item!r}, which must be a noun, or a noun with one of /{', /'.join(get_args(NounForm))}")
    return Noun(text, cast(NounForm, form)) if slash else Noun(text)


def _read_letters(table: DataTable) -> dict[int, str]:
    """Reads a table for str.translate: a letter = one or more letters."""
    letters = {}
    for letter in table:
        if len(letter) != 1:
            table.fail(letter, "must be one letter")
        letters[ord(letter)] = table.text(letter)
    return letters
