"""A language of the storefronts: its words for product types and attributes, and how they stand together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from models.sample_store.locales.inflection import Inflection, NounForm

QueryField = Literal["colour", "material", "audience", "size", "brand", "price"]  # what a query can add to its noun


@dataclass(frozen=True, slots=True)
class Noun:
    """The words for a product type."""

    text: str
    form: NounForm | Literal[""] = ""  # "": the ending of the first word tells, or nothing agrees with the noun


Nouns = Mapping[str, tuple[Noun, ...]]  # type name -> nouns, the most common first
WordLists = Mapping[str, tuple[str, ...]]  # seller's word -> shoppers' words


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language. Words are in lower case; nobody searches for a colour without a word."""

    code: str  # BCP 47, "de"
    nouns: Nouns
    colours: WordLists
    materials: WordLists
    audiences: WordLists
    price_words: tuple[tuple[str, ...], ...]  # of each price band, as Words.price
    inch: str  # follows a number
    before_noun: frozenset[str]  # the QueryFields that mostly stand before the noun
    plain_letters: Mapping[int, str]  # str.translate table of letters that hasty shoppers type plainly
    invariable: frozenset[str]  # adjectives that never agree
    inflection: Inflection

    def form_of(self, noun: Noun) -> NounForm:
        """Returns the form with which adjectives agree."""
        return noun.form or self.inflection.ending(noun.text.split(" ")[0])

    def agree(self, adjective: str, form: NounForm) -> str:
        """Returns a colour, price word or audience in the form of its noun."""
        if adjective in self.invariable or " " in adjective:
            return adjective
        return self.inflection.agree(adjective, form)


@dataclass(frozen=True, slots=True, kw_only=True)
class Locale:
    """A country's variety of a language: what its shoppers call the product types, and how many they are."""

    name: str  # BCP 47, "de-AT"
    language: Language  # with the spellings and colours of the locale
    nouns: tuple[tuple[Noun, ...], ...]  # of each of load_product_types(), the most common first
    share: int  # relative number of searches when all storefronts are simulated; 0 for the main locale
