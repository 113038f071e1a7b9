"""How adjectives agree with nouns in the languages of the storefronts.

A language guesses the form of a noun from the ending of its first word; `languages/*.toml` state the form where the ending misleads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

NounForm = Literal["m", "f", "n", "mp", "fp"]  # genders; "p" is the plural


@dataclass(frozen=True, slots=True)
class Inflection:
    """The rules of a language."""

    ending: Callable[[str], NounForm]  # the form of a noun by its first word
    agree: Callable[[str, NounForm], str]  # an adjective of one word in the form of its noun


def _masculine(_: str) -> NounForm:
    return "m"


def _unchanged(adjective: str, _: NounForm) -> str:
    return adjective


def _french_ending(first_word: str) -> NounForm:
    return "mp" if first_word[-1] in "sx" and first_word not in ("tapis", "bas") else "m"


_FRENCH_FEMININE = {
    "noir": "noire",
    "blanc": "blanche",
    "gris": "grise",
    "vert": "verte",
    "bleu": "bleue",
    "violet": "violette",
}


def _french_agree(adjective: str, form: NounForm) -> str:
    if form.startswith("f"):
        adjective = _FRENCH_FEMININE.get(adjective, adjective)
    return adjective + "s" if form.endswith("p") and adjective[-1] not in "sx" else adjective


def _iberian_ending(first_word: str) -> NounForm:
    is_feminine, is_plural = first_word.rstrip("s")[-1] == "a", first_word.endswith("s")
    if is_plural:
        return "fp" if is_feminine else "mp"
    return "f" if is_feminine else "m"


def _spanish_agree(adjective: str, form: NounForm) -> str:
    if form.startswith("f") and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    if form.endswith("p"):
        adjective = adjective.replace("ón", "on") + ("s" if adjective[-1] in "aeo" else "es")
    return adjective


def _portuguese_agree(adjective: str, form: NounForm) -> str:
    if form.startswith("f") and adjective.endswith("o"):
        adjective = adjective[:-1] + "a"
    if not form.endswith("p"):
        return adjective
    return {"azul": "azuis", "marrom": "marrons"}.get(adjective, adjective + "s")


def _italian_ending(first_word: str) -> NounForm:
    endings: dict[str, NounForm] = {"a": "f", "i": "mp", "e": "fp"}
    return endings.get(first_word[-1], "m")


def _italian_agree(adjective: str, form: NounForm) -> str:
    stem, last = adjective[:-1], adjective[-1]
    if last == "e":
        return stem + "i" if form.endswith("p") else adjective
    if last == "o":
        plural = stem if stem.endswith("i") else stem + "i"  # grigio, grigi
        hard = stem + "h" if stem[-1] in "cg" else stem  # bianco, bianche; giallo, gialle
        if adjective == "bianco":
            plural = "bianchi"
        return {"m": adjective, "f": stem + "a", "mp": plural, "fp": hard + "e"}[form]
    return adjective


def _polish_ending(first_word: str) -> NounForm:
    """Returns "mp" for the plural and for the neuter, whose adjectives have the same ending."""
    endings: dict[str, NounForm] = {"a": "f", "y": "mp", "i": "mp", "e": "mp", "o": "mp"}
    return endings.get(first_word[-1], "m")


def _polish_agree(adjective: str, form: NounForm) -> str:
    if adjective[-1] not in "yi":
        return adjective
    stem = adjective[:-1] if adjective[-1] == "y" or adjective.endswith("ki") else adjective
    if form == "f":
        return stem + "a"
    if form == "m":
        return adjective
    return adjective + "e" if adjective[-1] == "i" else stem + "e"


def _swedish_ending(first_word: str) -> NounForm:
    return "mp" if first_word.endswith(("or", "ar", "er")) else "m"


def _swedish_agree(adjective: str, form: NounForm) -> str:
    if form != "mp":
        return adjective
    return adjective + "a" if adjective[-1] not in "aåe" else adjective


def _ukrainian_ending(first_word: str) -> NounForm:
    endings: dict[str, NounForm] = {"а": "f", "я": "f", "и": "mp", "і": "mp", "ї": "mp", "о": "n", "е": "n"}  # noqa: RUF001 - Ukrainian letters
    return endings.get(first_word[-1], "m")


def _ukrainian_agree(adjective: str, form: NounForm) -> str:
    if not adjective.endswith(("ий", "ій")) or form == "m":
        return adjective
    endings = {"f": ("а", "я"), "n": ("е", "є")}  # noqa: RUF001 - Ukrainian letters
    hard, soft = endings.get(form, ("і", "і"))  # noqa: RUF001 - Ukrainian letters
    return adjective[:-2] + (soft if adjective.endswith("синій") else hard)


UNINFLECTED = Inflection(_masculine, _unchanged)

# Languages that are not listed are UNINFLECTED.
INFLECTIONS: Mapping[str, Inflection] = {
    "fr": Inflection(_french_ending, _french_agree),
    "es": Inflection(_iberian_ending, _spanish_agree),
    "pt": Inflection(_iberian_ending, _portuguese_agree),
    "it": Inflection(_italian_ending, _italian_agree),
    "pl": Inflection(_polish_ending, _polish_agree),
    "sv": Inflection(_swedish_ending, _swedish_agree),
    "uk": Inflection(_ukrainian_ending, _ukrainian_agree),
}
