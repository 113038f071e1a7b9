"""Splits queries of any script into tokens, and hashes tokens to rows of a table.

`models.unified.words` is for English-like text: it drops every combining mark, which turns the Japanese "が" into "か" and splits Hindi
and Thai words at their vowel signs. Here marks stay with their letters.

There are four kinds of tokens, distinguished by characters that no word contains:

    "trainers"          a word: its own bucket and those of its character n-grams
    "運動", "靴"         1 to 3 characters of a run without spaces: own bucket
    "running shoes"     two words in a row: own bucket
    "en-GB=trainers"    the word in this locale or language: own bucket, in the block of the locale's rows
"""

from __future__ import annotations

import re
import sys
import unicodedata
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

MAX_CHARS = 512  # a longer query is cut, which bounds its cost
_MAX_WORD_CHARS = 32
_MAX_WORDS = 24
_MAX_RUN_PIECES = 3  # characters; Japanese and Chinese words mostly have 1 to 3
_GOLDEN = 0x9E3779B1
_LATIN_MARKS = re.compile("[\u0300-\u036f]+")  # accents of Latin, Greek and Cyrillic letters
# Scripts written without spaces: Thai, Lao, Myanmar, Khmer; kana, Chinese characters and their extensions.
_UNSEGMENTED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_RUN = re.compile(f"[{_UNSEGMENTED}]+")
# Emoji, each a word; modifiers of skin colour say nothing about a product.
_SYMBOLS = "\u2600-\u27bf\u2b00-\u2bff\U0001f300-\U0001f3fa\U0001f400-\U0001faff"
_IS_SILENT = re.compile(f"[{_UNSEGMENTED}\ufe00-\ufe0f]")  # variation selectors, which begin no word of their own


def normalise(query: str) -> str:
    """Returns the normal form of a query: NFKC, case-folded, with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def fold_accents(word: str) -> str:
    """Drops the accents of Latin, Greek and Cyrillic letters, which shoppers often omit; other scripts keep their marks."""
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _LATIN_MARKS.sub("", unicodedata.normalize("NFD", word)))


def tokens_of(query: str, *, pairs: bool = True) -> list[str]:
    """Returns the distinct tokens of a query, in order; a few hundred at most, whatever its length."""
    text = normalise(query[:MAX_CHARS])
    words: list[str] = []
    others: list[str] = []
    for piece in _pieces().findall(text)[:_MAX_WORDS]:
        if _RUN.match(piece):
            run = piece[:_MAX_WORD_CHARS]
            sizes = range(1, _MAX_RUN_PIECES + 1)
            others += [run[at : at + size] for size in sizes for at in range(len(run) - size + 1)]
        else:
            words.append(piece[:_MAX_WORD_CHARS])
    if pairs:
        others += [f"{first} {second}" for first, second in pairwise(words)]
    return list(dict.fromkeys(words + others))


@cache
def _pieces() -> re.Pattern[str]:
    """Matches runs without spaces, words with their marks, and emoji. Python's \\w has letters and digits, but no marks."""
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges("M") if not _IS_SILENT.match(chr(first)))
    return re.compile(f"[{_UNSEGMENTED}]+|[{_SYMBOLS}]|(?:(?![{_UNSEGMENTED}])[^\\W_]|[{marks}])+")


def _ranges(category: str) -> list[tuple[int, int]]:
    """Returns the first and last character of every run whose Unicode category starts with `category`."""
    found: list[tuple[int, int]] = []
    for code in range(min(sys.maxunicode, 0x1FFFF)):
        if unicodedata.category(chr(code))[0] == category:
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return found


def language_of(locale: str) -> str:
    """Returns the language of a BCP 47 tag: "en" of "en-GB"."""
    return locale.split("-", maxsplit=1)[0].lower()


@dataclass(frozen=True, slots=True)
class LocaleRows:
    """The block of the table with a locale's words: 2**bits rows from `first` on."""

    first: int
    bits: int


@dataclass(frozen=True, slots=True)
class QueryHashing:
    """Hashes a token to rows of a table with 2**bits rows."""

    bits: int = 16
    ngrams: tuple[int, ...] = (3, 4)  # characters, the word's ends included
    pairs: bool = True  # two consecutive words are a token as well

    def __post_init__(self) -> None:
        if not 4 <= self.bits <= 26:
            raise ValueError(f"bits must be 4 to 26, not {self.bits}")
        if not self.ngrams or not all(1 <= size <= 8 for size in self.ngrams):
            raise ValueError(f"ngrams must be 1 to 8 characters each, not {self.ngrams}")

    def tokens(self, query: str) -> list[str]:
        return tokens_of(query, pairs=self.pairs)

    def buckets(self, token: str) -> list[int]:
        """Returns the rows of a token without a locale: its own, then those of its n-grams."""
        own = [bucket(token, self.bits)]
        if " " in token or _RUN.match(token):
            return own
        ends = f"<{fold_accents(token)}>"
        return own + [
            bucket("#" + ends[at : at + size], self.bits) for size in self.ngrams for at in range(len(ends) - size + 1)
        ]


def bucket(token: str, bits: int) -> int:
    """Returns the upper bits of the CRC-32 after a multiplication that mixes all of its bits into them."""
    return (zlib.crc32(token.encode("utf-8", "surrogatepass")) * _GOLDEN & 0xFFFFFFFF) >> (32 - bits)


def locale_row(name: str, token: str, rows: LocaleRows) -> int:
    """Returns the row of a token in the locale or language `name`; the token "" is the locale itself."""
    return rows.first + bucket(f"{name}={token}", rows.bits)
