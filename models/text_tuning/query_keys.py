"""Which queries are the same: as typed but for case and marks, and nearly, but for order, plural and blanks."""

from __future__ import annotations

from collections.abc import Iterable

from models.unified.words import words_of

_MOST_WORDS = 64
_SHORTEST_PLURAL = 4  # letters; "gas" and "bus" are no plurals


def plain_key(query: str) -> str:
    """The words of a query in lower case, without accents, marks and repetitions; "" where it has none."""
    return " ".join(words_of(query, _MOST_WORDS))


def loose_key(text: str) -> str:
    """What near-duplicates share: the words' singulars, whatever their order. "Sofas, velvet" and "velvet sofa" are one."""
    return " ".join(sorted({_singular(word) for word in words_of(text, _MOST_WORDS)}))


class LeakGuard:
    """Knows the queries that must not be trained on, and their near-duplicates: other case, marks, accents, order of words, plural,
    blanks ("t shirts", "T-Shirt", "tshirt"). Words that are spelt otherwise, typing errors among them, are other queries."""

    def __init__(self, excluded: Iterable[str]) -> None:
        self._keys = {key for query in excluded for key in _keys(query)}

    def __contains__(self, query: str) -> bool:
        return any(key in self._keys for key in _keys(query))


def _keys(query: str) -> tuple[str, ...]:
    words = words_of(query, _MOST_WORDS)
    # The joined key has a mark that no word has: "red" and "sofa" joined is no word "redsofa" of a sorted key.
    return (loose_key(query), "+" + _singular("".join(words))) if words else ()


def _singular(word: str) -> str:
    """The same for an English word and its regular plural; no word of its own ("glof" for gloves). Other languages keep most of
    theirs: what is wrongly held to be a plural costs at most a training query."""
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
