"""The locales of the simulated store: the language of each, what its dialect calls things, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from models.sample_store.locales.dutch import DUTCH, DUTCH_DIALECTS
from models.sample_store.locales.english import COMMONWEALTH_DIALECTS, COMMONWEALTH_ENGLISH, ENGLISH, ENGLISH_DIALECTS
from models.sample_store.locales.french import FRENCH, FRENCH_DIALECTS
from models.sample_store.locales.german import GERMAN, GERMAN_DIALECTS, SWISS_DIALECTS, SWISS_GERMAN
from models.sample_store.locales.italian import ITALIAN, ITALIAN_DIALECTS
from models.sample_store.locales.japanese import JAPANESE, JAPANESE_DIALECTS
from models.sample_store.locales.language import Language, Noun, Nouns
from models.sample_store.locales.polish import POLISH, POLISH_DIALECTS
from models.sample_store.locales.portuguese import (
    EUROPEAN_DIALECTS,
    EUROPEAN_PORTUGUESE,
    PORTUGUESE,
    PORTUGUESE_DIALECTS,
)
from models.sample_store.locales.spanish import SPANISH, SPANISH_DIALECTS
from models.sample_store.locales.swedish import SWEDISH, SWEDISH_DIALECTS
from models.sample_store.locales.turkish import TURKISH, TURKISH_DIALECTS
from models.sample_store.locales.ukrainian import UKRAINIAN, UKRAINIAN_DIALECTS
from models.sample_store.product_types import PRODUCT_TYPES

MAIN_LOCALE = "en-US"  # that of the shopping log, models.sample_store.shopping.LOCALE

_LANGUAGES: tuple[tuple[Language, Mapping[str, Nouns]], ...] = (
    (ENGLISH, ENGLISH_DIALECTS),
    (COMMONWEALTH_ENGLISH, COMMONWEALTH_DIALECTS),
    (GERMAN, GERMAN_DIALECTS),
    (SWISS_GERMAN, SWISS_DIALECTS),
    (FRENCH, FRENCH_DIALECTS),
    (SPANISH, SPANISH_DIALECTS),
    (ITALIAN, ITALIAN_DIALECTS),
    (PORTUGUESE, PORTUGUESE_DIALECTS),
    (EUROPEAN_PORTUGUESE, EUROPEAN_DIALECTS),
    (DUTCH, DUTCH_DIALECTS),
    (POLISH, POLISH_DIALECTS),
    (SWEDISH, SWEDISH_DIALECTS),
    (TURKISH, TURKISH_DIALECTS),
    (UKRAINIAN, UKRAINIAN_DIALECTS),
    (JAPANESE, JAPANESE_DIALECTS),
)

# Relative numbers of searches of all storefronts but the main one: two rich locales, some middle, many poor.
_SHARES = {
    "en-GB": 2600,
    "de-DE": 2300,
    "fr-FR": 900,
    "es-ES": 700,
    "it-IT": 600,
    "ja-JP": 600,
    "en-CA": 400,
    "es-MX": 400,
    "pt-BR": 300,
    "nl-NL": 200,
    "en-IN": 150,
    "pl-PL": 120,
}
_POOR_SHARE = 30  # of a locale that is not named above


@dataclass(frozen=True, slots=True)
class Locale:
    """How one country's shoppers call the product types."""

    name: str  # BCP 47, "de-AT"
    language: Language
    nouns: tuple[tuple[Noun, ...], ...]  # of each of PRODUCT_TYPES, the commonest first
    share: int  # relative number of searches when all storefronts are simulated; 0 for the main locale


@cache
def all_locales() -> Mapping[str, Locale]:
    """All locales by name."""
    return {
        name: Locale(
            name,
            language,
            _nouns(name, language, dialect),
            0 if name == MAIN_LOCALE else _SHARES.get(name, _POOR_SHARE),
        )
        for language, dialects in _LANGUAGES
        for name, dialect in dialects.items()
    }


def locale_named(name: str) -> Locale:
    """The locale of a name. Raises ValueError for a name that the store does not know, with those it knows."""
    known = all_locales()
    if name not in known:
        raise ValueError(f"the simulated store has no locale {name!r}; it has {', '.join(known)}")
    return known[name]


def _nouns(locale: str, language: Language, dialect: Nouns) -> tuple[tuple[Noun, ...], ...]:
    """The nouns of each type: the dialect's where it has some, else the language's without what the dialect gave to others."""
    type_names = [kind.name for kind in PRODUCT_TYPES]
    for name in (*language.nouns, *dialect):
        if name not in type_names:
            raise ValueError(f"{locale}: there is no product type {name!r}")
    taken = {noun.text for listed in dialect.values() for noun in listed}
    return tuple(
        dialect[name] if name in dialect else tuple(noun for noun in language.nouns[name] if noun.text not in taken)
        for name in type_names
    )
