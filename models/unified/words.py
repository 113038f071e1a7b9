"""Hashes texts: a text is a bag of words, a word is its own bucket and those of its character n-grams.

Words are embedded before texts, so that a batch looks up each n-gram once for each distinct word, not once for each occurrence. A
*field token* ("brand=halden", "price=3") stands for a whole value: it contains "=", so that no text yields it, and it has no n-grams.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Codes, Ints

_WORD = re.compile(r"[^\W_]+")
_MAX_WORD_CHARS = 32  # a longer word is cut, which bounds its cost
_GOLDEN = 0x9E3779B1
MOST_LOCALE_WORD_BITS = 16  # of the table of words by locale: 27 locales of 2,000 words each


def words_of(text: str, limit: int) -> list[str]:
    """Returns the first `limit` distinct words, in lower case and without accents."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    distinct = dict.fromkeys(word[:_MAX_WORD_CHARS] for word in _WORD.findall(text.casefold()))
    return list(distinct)[:limit]


def field_token(name: str, value: object) -> str:
    """Returns the token of a whole value: "brand=halden" for ("brand", "Halden"); "" for an empty value."""
    text = str(value).strip().casefold()
    return f"{name}={text}" if text else ""


def locale_tokens(words: Iterable[str], locale: str) -> list[str]:
    """Returns a field token for each word of a query in a locale."""
    return [field_token(locale, word) for word in words]


def category_tokens(category: str) -> list[str]:
    """Returns one field token for every step of a path, each with the steps above it."""
    steps = [step.strip() for step in category.split(">") if step.strip()]
    return [field_token("category", ">".join(steps[: depth + 1])) for depth in range(len(steps))]


@dataclass(frozen=True, slots=True)
class WordHashing:
    """Hashes a word to buckets of a table with 2**bits rows."""

    bits: int = 16
    ngram: int = 4  # characters, the word's ends included

    def __post_init__(self) -> None:
        if not 4 <= self.bits <= 28:
            raise ValueError(f"bits must be 4 to 28, not {self.bits}")
        if not 2 <= self.ngram <= 8:
            raise ValueError(f"ngram must be 2 to 8 characters, not {self.ngram}")

    def bucket(self, token: str) -> int:
        """Returns the upper bits of the CRC-32 after a multiplication that mixes all of its bits into them."""
        return (zlib.crc32(token.encode()) * _GOLDEN & 0xFFFFFFFF) >> (32 - self.bits)

    def buckets(self, word: str) -> list[int]:
        """Returns the word's own bucket, then those of its n-grams."""
        own = [self.bucket(word)]
        if "=" in word:
            return own
        ends = f"<{word}>"
        size = self.ngram
        return own + [self.bucket("#" + ends[at : at + size]) for at in range(max(1, len(ends) - size + 1))]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of integers with different lengths: row i is values[offsets[i]:offsets[i + 1]]."""

    values: Codes
    offsets: Ints  # (rows + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    def row(self, at: int) -> Codes:
        return self.values[self.offsets[at] : self.offsets[at + 1]]

    def take(self, rows: npt.NDArray[np.integer]) -> Ragged:
        """Returns the rows with these numbers, in their order."""
        starts = self.offsets[rows]
        lengths = self.offsets[np.asarray(rows) + 1] - starts
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        at = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[at], offsets)

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        lengths = [0]
        values: list[int] = []
        for row in rows:
            values.extend(row)
            lengths.append(len(row))
        return cls(np.array(values, np.int32), np.cumsum(lengths, dtype=np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        lengths = np.concatenate([part.lengths for part in parts])
        values = np.concatenate([part.values for part in parts])
        return cls(values, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))


class WordBook:
    """Numbers the distinct words in order of appearance, and keeps their buckets."""

    def __init__(self, hashing: WordHashing) -> None:
        self.hashing = hashing
        self._numbers: dict[str, int] = {}
        self._buckets: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._buckets)

    def number(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._buckets)
            self._buckets.append(self.hashing.buckets(word))
        return number

    def numbers(self, words: Iterable[str]) -> list[int]:
        """Returns the numbers of the words that are not empty."""
        return [self.number(word) for word in words if word]

    def items(self) -> Iterable[tuple[str, int]]:
        """Yields words and their numbers."""
        return self._numbers.items()

    def buckets(self) -> Ragged:
        """Returns the buckets of every word (words, 1 + n-grams), its own first."""
        return Ragged.from_rows(self._buckets)


@dataclass(frozen=True, slots=True)
class WordBatch:
    """Texts for the tower: their distinct words as buckets, and each text as positions of these words."""

    own: Ints  # (words,) the words' own buckets
    ngrams: Ints  # buckets of all n-grams, word after word
    ngram_offsets: Ints  # (words,) the first n-gram of each word
    texts: Ints  # positions among `words`, text after text
    text_offsets: Ints  # (texts,) the first word of each text


def word_batch(texts: Sequence[Ragged], buckets: Ragged) -> WordBatch:
    """Combines several groups of texts into one batch, in order. Texts may be empty."""
    every = Ragged.concatenate(texts)
    present = np.zeros(len(buckets), np.bool_)
    present[every.values] = True
    distinct = np.flatnonzero(present)
    position = np.cumsum(present) - 1
    chosen = buckets.take(distinct)
    starts = chosen.offsets[:-1]
    keep = np.ones(len(chosen.values), np.bool_)
    keep[starts] = False
    return WordBatch(
        own=chosen.values[starts].astype(np.int64),
        ngrams=chosen.values[keep].astype(np.int64),
        ngram_offsets=starts - np.arange(len(starts)),
        texts=position[every.values],
        text_offsets=every.offsets[:-1],
    )
