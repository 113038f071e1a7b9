"""The tokens that the text block reads, one for each word of a product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.arrays import Codes
from models.unified.words import Ragged, WordBook

PAD, START = 0, 1
_FIRST_WORD = 2
_HASHED_SHARE = 8  # one row in 8 is for words outside the vocabulary


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Frequent words have a token of their own; the others share hashed tokens."""

    words: tuple[str, ...]
    size: int

    @classmethod
    def from_counts(cls, counts: Counter[str], size: int) -> Vocabulary:
        """Takes the most frequent words, in alphabetical order where they are equally frequent."""
        room = size - _FIRST_WORD - size // _HASHED_SHARE
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return cls(tuple(word for word, _ in ranked[:room]), size)

    def token_of(self, hashed: Callable[[str], int]) -> Callable[[str], int]:
        """Returns a function from words to tokens; `hashed` maps a word to any number of 0 or more."""
        known = {word: _FIRST_WORD + at for at, word in enumerate(self.words)}
        first = self.size - self.size // _HASHED_SHARE
        return lambda word: known.get(word) or first + hashed(word) % (self.size - first)


def text_tokens(texts: Ragged, book: WordBook, vocabulary: Vocabulary, length: int) -> Codes:
    """Maps texts of word numbers to tokens (texts, length), cut or filled up with PAD."""
    token_of = vocabulary.token_of(book.hashing.bucket)
    by_number = np.zeros(len(book), np.int32)
    for word, number in book.items():
        by_number[number] = token_of(word)
    rows = np.repeat(np.arange(len(texts)), texts.lengths)
    places = np.arange(len(texts.values)) - np.repeat(texts.offsets[:-1], texts.lengths)
    tokens = np.full((len(texts), length), PAD, np.int32)
    tokens[rows[places < length], places[places < length]] = by_number[texts.values[places < length]]
    return tokens
