"""A language of the simulated store: its words for product types and attributes, and the notation they are written in.

Nouns stand one product type a line, the commonest first; a mark after a noun states what its ending does not tell:

    dress = robe/f
    trainers = baskets/fp; chaussures de sport/fp

"m", "f" and "n" are genders, "p" the plural; without a mark `Language.ending` guesses from the first word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.sample_store.vocabulary import names

NounForm = str  # "m", "f", "n", "mp" or "fp"


@dataclass(frozen=True, slots=True)
class Noun:
    """A word, or words, for a product type."""

    text: str
    form: NounForm = ""  # "" where its language has nothing to agree with, or where the ending tells


Nouns = Mapping[str, tuple[Noun, ...]]  # type name -> nouns, the commonest first


def _masculine(_: str) -> NounForm:
    return "m"


def _unchanged(adjective: str, _: NounForm) -> str:
    return adjective


@dataclass(frozen=True, slots=True)
class Language:
    """What a language says. Words are in lower case; a colour without a word is one that nobody asks for there."""

    code: str  # BCP 47, "de"
    nouns: Nouns
    colours: Mapping[str, tuple[str, ...]]  # seller's word -> shoppers' words
    materials: Mapping[str, tuple[str, ...]]
    audiences: Mapping[str, tuple[str, ...]]
    prices: tuple[tuple[str, ...], ...]  # as vocabulary.PRICE_WORDS
    inch: str  # follows a number
    before: frozenset[
        str
    ]  # what mostly stands before the noun: "colour", "material", "audience", "size", "brand", "price"
    plain: Mapping[
        int, str
    ]  # str.translate table of letters that hasty shoppers type plainly; empty where there are none
    ending: Callable[[str], NounForm] = _masculine  # form of a noun without a mark, from its first word
    agree: Callable[[str, NounForm], str] = _unchanged  # colour or price word in the form of its noun


def read_nouns(notation: str) -> dict[str, tuple[Noun, ...]]:
    """Reads the notation of this module. Raises ValueError for a type that is named twice or has no noun."""
    read: dict[str, tuple[Noun, ...]] = {}
    for line in notation.strip().splitlines():
        if not line.strip():
            continue
        name, _, listed = (part.strip() for part in line.partition("="))
        if name in read:
            raise ValueError(f"{name!r} is named twice")
        read[name] = tuple(_noun(item) for item in names(listed))
        if not read[name]:
            raise ValueError(f"{name!r} has no noun")
    return read


def read_words(notation: str) -> dict[str, tuple[str, ...]]:
    """Reads "Navy = dunkelblau | marine; Red = rot": the seller's word, and the language's words for it."""
    pairs = (item.partition("=") for item in notation.split(";"))
    return {" ".join(seller.split()): names(said, "|") for seller, _, said in pairs}


def plain_letters(accented: str, plain: str, **spelt: str) -> dict[int, str]:
    """A table for `Language.plain`: letters beside their plain ones, and letters that are spelt with two, as ä = ae."""
    return {**{ord(a): b for a, b in zip(accented, plain, strict=True)}, **{ord(a): b for a, b in spelt.items()}}


def _noun(item: str) -> Noun:
    text, _, form = item.partition("/")
    return Noun(text.strip(), form.strip())
