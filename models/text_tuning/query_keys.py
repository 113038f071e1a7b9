"""Keys of equal queries (up to case and punctuation) and of near-duplicates (also up to order, plural and spaces)."""

from __future__ import annotations

from collections.abc import Iterable

from models.unified.words import words_of

_MOST_WORDS = 64
_SHORTEST_PLURAL = 4  # letters; "gas" and "bus" are no plurals


def plain_key(query: str) -> str:
    """Returns the distinct words of a query in lower case, without accents and punctuation; "" if it has none."""
    return " ".join(words_of(query, _MOST_WORDS))


def loose_key(text: str) -> str:
    """Returns the sorted singulars of the words, which near-duplicates share: "Sofas, velvet" and "velvet sofa" have one key."""
    return " ".join(sorted({_singular(word) for word in words_of(text, _MOST_WORDS)}))


class LeakGuard:
    """The queries that must not be trained on, with their near-duplicates.

    Near-duplicates differ in case, punctuation, accents, order of words, plural or spaces ("t shirts", "T-Shirt", "tshirt"). Other
    spellings, including typing errors, are other queries.
    """

    def __init__(self, excluded: Iterable[str]) -> None:
        self._keys = {key for query in excluded for key in _keys(query)}

    def __contains__(self, query: str) -> bool:
        return any(key in self._keys for key in _keys(query))


def _keys(query: str) -> tuple[str, ...]:
    words = words_of(query, _MOST_WORDS)
    # The key without spaces starts with "+", which no word contains: it must not equal the sorted key of a word "redsofa".
    return (loose_key(query), "+" + _singular("".join(words))) if words else ()


def _singular(word: str) -> str:
    """Returns the same stem for an English word and its regular plural; it need not be a word ("glof" for gloves).

    Words of other languages mostly stay; one that is wrongly taken for a plural costs at most a training query.
    """
    if len(word) < _SHORTEST_PLURAL:
        return word
    if word.endswith(("xes", "zes", "ches", "shes", "sses")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith(("ie", "y")):  # cookie, cookies; candy, candies
        return word.removesuffix("ie").removesuffix("y") + "i"
    if word.endswith(("fe", "ve")):  # knife, knives; shelf, shelves
        return word[:-2] + "f"
    return word
