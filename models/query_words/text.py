"""Queries as the readers of this package compare them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from models.query_words.parts import Part

_TOKEN = re.compile(r"[^\W_]+(?:[-.+/&][^\W_]+)*")
DETERMINERS = frozenset(
    "a an the any my your ein eine einen der die das un une una el la le les il l d de het een".split()  # noqa: SIM905
)
_BARRIER = re.compile(r"[,;:|()\[\]!?]|\s[-\u2013\u2014]\s")


@dataclass(frozen=True, slots=True)
class Token:
    word: str  # folded
    start: int
    end: int
    after_barrier: bool  # punctuation separates it from the token before


def folded(query: str) -> str:
    """Returns the query in lower case and with compatible characters, such as full-width ones, as the usual ones. Of the same length, so
    that places in it are places in the query."""
    if query.isascii():
        return query.lower()
    return "".join(one if len(one := unicodedata.normalize("NFKC", c).lower()) == 1 else c for c in query)


def tokens(text: str) -> list[Token]:
    """Returns the words of a folded text. "t-shirt" and "usb-c" are one each."""
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        between = text[found[-1].end : match.start()] if found else ""
        found.append(Token(match.group(), match.start(), match.end(), _BARRIER.search(between) is not None))
    return found


def any_of(phrases: Iterable[str]) -> str:
    """Returns a pattern of any of the phrases, the longest first; of an empty set, one that matches nothing. Phrases of letters with
    blanks do not match inside a word, but next to a digit: "50eur"."""
    return "|".join(map(_phrase, sorted(phrases, key=len, reverse=True))) or r"(?!)"


def _phrase(phrase: str) -> str:
    pattern = r"\s+".join(map(re.escape, phrase.split()))
    if phrase[0] >= "\u0250":  # scripts without blanks
        return pattern
    start = r"(?<![^\W\d_])" if phrase[0].isalnum() else ""
    return start + pattern + (r"(?![^\W\d_])" if phrase[-1].isalpha() else "")


def overlaps(start: int, end: int, parts: Iterable[Part]) -> bool:
    return any(part.start < end and start < part.end for part in parts)


def blanked(text: str, parts: Iterable[Part], by: str) -> str:
    """Returns the text with one character in place of each of the parts' characters."""
    for part in parts:
        text = text[: part.start] + by * (part.end - part.start) + text[part.end :]
    return text
