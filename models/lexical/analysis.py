"""From a text of the catalogue or a query to the terms that the lexical index knows. Both go the same way, so that they meet.

    "Kids' 12-inch Lederhandschuhe, WI-FI" -> folded -> words -> one main term and the terms of its parts for each word

Folding: HTML, invisible characters, trademark signs, width, case and, where a language counts them as no letters of their own, accents go.
Words: a word keeps its inner hyphens and slashes ("HX-4210/00"), a number its unit ("12 in" is "12in"), and text without spaces between
its words (Chinese, Japanese, Korean, Thai) becomes pairs of characters. Stems are Snowball's (Porter, 2001).
"""

from __future__ import annotations

import html
import re
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import Stemmer  # type: ignore[import-not-found]

from models.lexical.languages import COMPOUNDING, DECIMAL_COMMA, LETTERS, STEMMERS, STOP_WORDS, TWINS, UNITS

STEMMER_VERSION = ".".join(Stemmer.version().split(".")[:2])  # another may stem otherwise
MAX_WORD_CHARS = 64  # of a longer word the rest is cut
_ONLY_CLOSE = frozenset('akp"')  # units that are something else after a blank: "2 a"
PART_WEIGHT = 0.3  # what a part counts beside its word, and a word beside its parts

_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]{0,2000}|!--.{0,2000}?--)>", re.DOTALL)
_SIGNS = str.maketrans({**dict.fromkeys("™®©℠", " "), **dict.fromkeys("″”“„‟", '"'), **dict.fromkeys("’‘ʼ′`´", "'")})
_DASHES = {ord(dash): "-" for dash in "‐‑‒–—―−⁃﹘﹣"}
# Soft hyphen, joiners, directions; vowel points of Arabic and Hebrew, which shoppers do not type.
_INVISIBLE = dict.fromkeys(
    [
        *(0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF),
        *(0x640, *range(0x64B, 0x660), 0x670, *range(0x591, 0x5C8)),
    ]
)


def _ranges(chars: list[int]) -> str:
    """Returns characters as the inside of a regular expression's class."""
    ranges: list[list[int]] = []
    for char in chars:
        if ranges and ranges[-1][1] == char - 1:
            ranges[-1][1] = char
        else:
            ranges.append([char, char])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


_MARKS = _ranges([char for char in range(0x300, 0xFE30) if unicodedata.category(chr(char)) in ("Mn", "Mc")])
_UNSPACED = (  # scripts without spaces between words, and Hangul, whose words carry particles
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u1000-\u102a\u103f\u1780-\u17b3"
    "\u3005\u3006\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_ASCII_RUN = "[a-z0-9]+"
_LETTER_RUN = r"[^\W_]+"
_MARKED_RUN = rf"(?:[^\W_{_UNSPACED}][{_MARKS}]*)+"
_NEEDS_MARKED_RUN = re.compile(f"[{_UNSPACED}{_MARKS}]")
_NUMBER = r"\d+(?:[.,]\d+){0,4}"
_CLUSTER = re.compile(rf"[{_UNSPACED}][{_MARKS}]*")
_CONNECTORS = re.compile(r"[-./'&+]")
_PIECE = re.compile(r"\d+|\D+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text. A product that holds `term` also holds all `parts`; "" where the parts alone stand for the word.

    "HX-4210" is hx4210 with the parts hx and 4210; "noise-cancelling" is noisecancel, but stands for its parts: `is_sum`.
    """

    term: str
    parts: tuple[str, ...] = ()
    is_sum: bool = False
    letters: tuple[str, ...] = ()  # of text without spaces: what a query of one letter finds


class Analyzer:
    """The analysis of one language, which is that of `locale`: "de", "de-AT"; of another language than Snowball's, words are not stemmed.
    Threads may share it."""

    def __init__(self, locale: str) -> None:
        self.language = language = locale.replace("_", "-").split("-")[0].lower()
        self.splits_compounds = language in COMPOUNDING
        self._stems_of = STEMMERS.get(language, "")
        self._local = threading.local()  # a stemmer serves one thread
        self._stop_words = frozenset(STOP_WORDS.get(language, "").split())
        self._accents = _accents(language)
        self._turkish = language in ("tr", "az")
        self._thousands = "." if language in DECIMAL_COMMA else ","
        self._units = {variant: unit for unit, variants in UNITS.items() for variant in variants.split()}
        close = sorted(self._units, key=len, reverse=True)
        spaced = [unit for unit in close if unit not in _ONLY_CLOSE and (unit != "in" or language == "en")]
        unit = "(?:{}|[ -](?:{}))".format(*("|".join(map(re.escape, units)) for units in (close, spaced)))
        self._measure = re.compile(rf"({_NUMBER})[ -]?(\D+)")
        self._ascii_words, self._letter_words, self._marked_words = (
            re.compile(
                rf"\b{_NUMBER}(?:{unit}(?![^\W_])|(?![^\W_]|[-/'&+][^\W_]|[.,]\d))|{run}(?:[-./'&+]{run}){{0,7}}{unspaced}"
            )
            for run, unspaced in (
                (_ASCII_RUN, ""),
                (_LETTER_RUN, ""),
                (_MARKED_RUN, rf"|(?:[{_UNSPACED}][{_MARKS}]*)+"),
            )
        )
        self.word = lru_cache(maxsize=50_000)(self._word)

    def words(self, text: str) -> list[str]:
        """Returns the words of a text in their order, folded but not stemmed: what `word` takes."""
        text = self.fold(text)
        if text.isascii():
            return self._ascii_words.findall(text)
        words = self._marked_words if _NEEDS_MARKED_RUN.search(text) else self._letter_words
        return words.findall(text)

    def is_stop_word(self, word: str) -> bool:
        """Whether a word of `words` carries no meaning of its own."""
        return word in self._stop_words

    def fold(self, text: str) -> str:
        """Returns a text without HTML, invisible characters and trademark signs, in one width and case. Accents stay for the stemmer."""
        if "<" in text or "&" in text:
            text = html.unescape(_TAG.sub(" ", text))
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_INVISIBLE).translate(_DASHES)
        if self._turkish:
            text = text.replace("I", "ı").replace("İ", "i")
        return text.casefold()

    def stem(self, word: str) -> str:
        """Returns the term of a folded word without punctuation."""
        word = word[:MAX_WORD_CHARS]
        if self._stems_of and word.isalpha():
            try:
                stemmer = self._local.stemmer
            except AttributeError:
                stemmer = self._local.stemmer = Stemmer.Stemmer(self._stems_of)
            word = stemmer.stemWord(word) or word
        return word if word.isascii() else self._without_accents(word)

    def _without_accents(self, word: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).translate(self._accents))

    def _word(self, word: str) -> Word:
        if _CLUSTER.match(word):
            clusters = _CLUSTER.findall(word[:MAX_WORD_CHARS])
            pairs = _pairs(clusters)
            whole = clusters[0] if len(clusters) == 1 else pairs[0] if len(pairs) == 1 else ""
            return Word(whole, () if whole else pairs, is_sum=True, letters=tuple(dict.fromkeys(clusters)))
        if (measure := self._measure.fullmatch(word)) and measure[2] in self._units:
            number = self._number(measure[1])
            return Word(number + self._units[measure[2]], (number,))
        if word[0].isdigit() and re.fullmatch(_NUMBER, word):
            return Word(self._number(word)[:MAX_WORD_CHARS])
        runs = [run for run in _CONNECTORS.split(word) if run]
        if "'" in word:
            runs = self._without_clitics(word)
        if len(runs) == 1 and not (any(map(str.isdigit, runs[0])) and not runs[0].isdigit()):
            return Word(self.stem(runs[0]))
        parts = [self.stem(piece) for run in runs for piece in self._pieces(run)]
        whole = self._without_accents("".join(runs)[:MAX_WORD_CHARS])
        return Word(whole, tuple(dict.fromkeys(part for part in parts if part != whole)), is_sum=whole.isalpha())

    def _without_clitics(self, word: str) -> list[str]:
        """Splits at connectors, without the English "'s" and without what Romance languages elide before an apostrophe."""
        runs = _CONNECTORS.split(re.sub(r"'s\b", "", word))
        if self.language in ("fr", "it", "ca", "ga"):
            runs = _CONNECTORS.split(re.sub(r"\b(?:[a-z]|qu|dell|nell|all|sull|dall|un|quell)'", "", word))
        return [run for run in runs if run] or [word.replace("'", "")]

    def _pieces(self, run: str) -> Iterator[str]:
        """Splits "30x40cm" into 30, x, 40cm, and 40."""
        pieces = _PIECE.findall(run)
        for piece, following in pairwise([*pieces, ""]):
            if piece.isdigit() and following in self._units:
                yield piece + self._units[following]
            yield piece

    def _number(self, number: str) -> str:
        """Returns a number with a decimal point and without marks between thousands."""
        thousands = self._thousands
        number = re.sub(rf"(?<=\d)\{thousands}(?=\d{{3}}(?:\D|$))", "", number)
        return number.replace(",", ".")


def _pairs(clusters: list[str]) -> tuple[str, ...]:
    """Returns the pairs of neighbouring characters; nothing for one character."""
    return tuple(dict.fromkeys(first + second for first, second in pairwise(clusters)))


@lru_cache
def _accents(language: str) -> dict[int, str]:
    """Returns what replaces each accented letter of Latin, Greek, Cyrillic and Arabic. The letters of the language stay."""
    kept = LETTERS.get(language, "")
    accents: dict[int, str] = {}
    for char in map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x2000), *range(0x370, 0x400))):
        base = unicodedata.normalize("NFD", char)[0]
        if char not in kept and base != char:
            accents[ord(char)] = base
    accents.update({ord(char): base for char, base in zip("øđłıħŧ", "odliht", strict=True) if char not in kept})
    accents.update(
        {ord(char): base for char, base in (("æ", "ae"), ("œ", "oe"), ("þ", "th"), ("ð", "d")) if char not in kept}
    )
    accents[ord("ё")] = "е"
    accents.update({ord(char): base for char, base in zip("أإآى", "اااي", strict=True)})
    accents.update({ord(char): twin for char, twin in TWINS.get(language, {}).items()})
    return accents
