"""The vectors of words on NumPy alone: the table of tokens that the towers share, and a cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import Floats
from models.unified.words import WordHashing

_MAX_CACHED_WORDS = 50_000  # 0.7 kB each


class WordVectors:
    """Embeds texts as `models.unified.towers.TokenTable` does. Safe to call from several threads: the entries of its cache are the same
    whichever thread computes them."""

    def __init__(self, tokens: Floats, hashing: WordHashing) -> None:
        self.tokens = tokens  # (2**bits, token_dim)
        self.hashing = hashing
        self._words: dict[str, Floats] = {}

    def bags(self, texts: Sequence[Sequence[str]]) -> Floats:
        """Returns (texts, token_dim) the means of the words; 0 for a text without words."""
        bags = np.zeros((len(texts), self.tokens.shape[1]), np.float32)
        lengths = np.array([len(text) for text in texts], np.int64)
        if not lengths.sum():
            return bags
        words = np.stack([self._word(word) for text in texts for word in text])
        filled = lengths > 0
        starts = (np.cumsum(lengths) - lengths)[filled]
        bags[filled] = np.add.reduceat(words, starts, axis=0) / lengths[filled, None]
        return bags

    def _word(self, word: str) -> Floats:
        vector = self._words.get(word)
        if vector is None:
            own, *ngrams = self.hashing.buckets(word)
            vector = self.tokens[own]
            if ngrams:
                vector = vector + self.tokens[ngrams].mean(axis=0)
            if len(self._words) < _MAX_CACHED_WORDS:
                self._words[word] = vector
        return vector
