"""The scripts of a catalogue: a query in another one says nothing to an encoder that never met it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

from models.products.language_words import language_of

MIN_SHARE = 0.001  # of the catalogue's words must be of a script: a few foreign names teach an encoder nothing

# The names that Unicode gives the letters of languages that are not written in Latin ones.
_OF_LANGUAGES = {
    "ar": ("ARABIC",),
    "bg": ("CYRILLIC",),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "fa": ("ARABIC",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ka": ("GEORGIAN",),
    "kk": ("CYRILLIC",),
    "ko": ("HANGUL", "CJK"),
    "mk": ("CYRILLIC",),
    "mr": ("DEVANAGARI",),
    "ru": ("CYRILLIC",),
    "sr": ("CYRILLIC", "LATIN"),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "ur": ("ARABIC",),
    "zh": ("CJK",),
}
DIGITS = "DIGITS"


class KnownScripts:
    """The scripts of a catalogue's words and of its locales' languages. Digits are known to every catalogue."""

    def __init__(self, counts: Mapping[str, int], locales: Iterable[str]) -> None:
        """`counts` says how many products hold each word."""
        of_words: Counter[str] = Counter()
        for word, count in counts.items():
            of_words[_script(word[0])] += count
        least = MIN_SHARE * of_words.total()
        spoken = (script for locale in locales for script in _OF_LANGUAGES.get(language_of(locale), ("LATIN",)))
        self._known = frozenset(
            {DIGITS, *spoken, *(script for script, count in of_words.items() if count >= least)}
        ) - {""}

    def knows(self, text: str) -> bool:
        """Says whether a letter or digit of the text is of a known script. One without any is not known."""
        if text.isascii() and "LATIN" in self._known:
            return any(map(str.isalnum, text))
        return any(_script(char) in self._known for char in unicodedata.normalize("NFKC", text))


@lru_cache(maxsize=65_536)
def _script(char: str) -> str:
    """Returns the script of a letter, DIGITS, or "" of other characters."""
    if char.isdigit():
        return DIGITS
    return unicodedata.name(char, "").partition(" ")[0] if char.isalpha() else ""
