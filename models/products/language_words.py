"""The words of a language and how frequent they are, from the package `wordfreq` (Speer, 2022), whose lists it reads without a network."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from models.arrays import Ints

CANDIDATE_ZIPF = 3.0  # a word of at least this frequency is what a shopper may have meant: 29,000 words in English

# The endings of common inflections. A word that differs from a known one by an ending is a form of it.
_ENDINGS: dict[str, tuple[str, ...]] = {
    "en": ("s", "es", "ed", "ing"),
    "de": ("e", "n", "s", "en", "er", "es", "em", "ern"),
    "nl": ("s", "e", "en", "je", "jes"),
    "fr": ("s", "e", "x", "es"),
    "es": ("s", "es"),
    "pt": ("s", "es"),
    "it": ("i", "e"),
    "sv": ("ar", "or", "er", "en", "et", "s"),
    "nb": ("er", "en", "et", "e", "s"),
    "da": ("er", "en", "et", "e", "s"),
}
# The letters that join the two words of a compound, in languages that write compounds as one word.
_LINKS: dict[str, tuple[str, ...]] = {
    "de": ("", "s", "n", "en", "es", "er", "e"),
    "nl": ("", "s", "e", "en"),
    "sv": ("", "s"),
    "nb": ("", "s", "e"),
    "da": ("", "s", "e"),
    "fi": ("",),
}
_SAME_WORDS = {"no": "nb", "nn": "nb", "hr": "sh", "bs": "sh", "sr": "sh", "tl": "fil"}


def language_of(locale: str) -> str:
    """Returns the language of a BCP 47 tag in lower case: "de" of "de-AT"; "" of an empty tag."""
    return locale.replace("_", "-").partition("-")[0].casefold()


Shape = int | tuple[str, int]


def words_by_shape(words: Iterable[str]) -> dict[Shape, list[str]]:
    """Returns the words of each length, and of each first letter and length."""
    by_shape: dict[Shape, list[str]] = {}
    for word in words:
        add_by_shape(by_shape, word)
    return by_shape


def add_by_shape(by_shape: dict[Shape, list[str]], word: str) -> None:
    """Adds a word to those that `words_by_shape` returned."""
    by_shape.setdefault(len(word), []).append(word)
    by_shape.setdefault((word[0], len(word)), []).append(word)


class LanguageWords:
    """The words of one language. A word takes 12 bytes, where a dictionary would take 110."""

    def __init__(self, language: str, words: Sequence[str], zipfs: Sequence[float]) -> None:
        """`zipfs` (words,) are the logarithms to base 10 of the occurrences in 10^9 words; 3 is one in a million."""
        self.language = language
        # The hash of a string differs from process to process, and these are kept in one.
        hashes = np.fromiter(map(hash, words), np.int64, len(words))
        order = np.argsort(hashes)
        self._hashes: Ints = hashes[order]
        self._zipfs: npt.NDArray[np.float32] = np.asarray(zipfs, np.float32)[order]
        self.frequent = words_by_shape(
            word for word, zipf in zip(words, zipfs, strict=True) if zipf >= CANDIDATE_ZIPF and word.isalpha()
        )
        self.endings = _ENDINGS.get(language, ())
        self.links = _LINKS.get(language, ())

    def zipf(self, word: str) -> float:
        """Returns the frequency of a word in lower case, 0 for one that the language does not have."""
        key = hash(word)
        at = int(self._hashes.searchsorted(key))
        return float(self._zipfs[at]) if at < len(self._hashes) and self._hashes[at] == key else 0.0


_loaded: dict[str, LanguageWords] = {}
_loading = threading.Lock()


def loaded_words(language: str) -> LanguageWords | None:
    """Returns the words of a language if `language_words` has read them in this process."""
    return _loaded.get(language)


def language_words(language: str) -> LanguageWords:
    """Returns the words of a language, without any for one that has no list. The first call of a process reads them: 0.3 s in English."""
    with _loading:
        if language not in _loaded:
            _loaded[language] = _read(language)
        return _loaded[language]


def _read(language: str) -> LanguageWords:
    from wordfreq import available_languages, read_cBpack

    path = available_languages("best").get(_SAME_WORDS.get(language, language))
    words: list[str] = []
    zipfs: list[float] = []
    # The words with a frequency of 10^(-n / 100) stand in the list with the number n.
    for centibels, bucket in enumerate(read_cBpack(path) if path else ()):
        words += bucket
        zipfs += [9 - centibels / 100] * len(bucket)
    return LanguageWords(_SAME_WORDS.get(language, language), words, zipfs)
