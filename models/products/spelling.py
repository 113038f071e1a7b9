"""Mends a shopper's typing errors with the catalogue's own words: "samsnug" becomes "samsung" where samsung is sold.

An encoder breaks a misspelt name into pieces that mean nothing. A word is mended only if nobody knows it: neither the catalogue nor the
encoder's vocabulary, which holds the usual words of its languages whole. So a real word is never replaced by a product's name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from models.products.product import Product

WORDS_FILE = "words.json"
MIN_LETTERS = 5  # shorter words have too many neighbours
LONG_WORD = 7  # letters from which two errors are mended instead of one
MIN_PRODUCTS = 3  # a word of fewer may be a typing error itself
MAX_WORDS = 500_000  # known words that are kept, the most frequent
MAX_CANDIDATES = 50_000  # words that are compared with an unknown one: 2.4 ms

_WORD = re.compile(r"[^\W\d_]+")


class Speller:
    """Words of a catalogue with the number of products that hold them, and words that need no mending."""

    def __init__(self, counts: Mapping[str, int], usual: Iterable[str] = ()) -> None:
        self._counts = dict(counts)
        self._known = {*self._counts, *usual}
        common = sorted(
            (w for w, n in counts.items() if n >= MIN_PRODUCTS and len(w) >= MIN_LETTERS), key=lambda w: -counts[w]
        )
        self._candidates = common[:MAX_CANDIDATES]
        self.mend_word = lru_cache(maxsize=20_000)(self._mend_word)

    @classmethod
    def build(cls, products: Iterable[Product]) -> Speller:
        counts: Counter[str] = Counter()
        for product in products:
            counts.update(set(_words(f"{product.title} {product.brand} {product.category}")))
        return cls(dict(counts.most_common(MAX_WORDS)))

    def save(self, folder: Path) -> None:
        (folder / WORDS_FILE).write_text(json.dumps(self._counts, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, usual: Iterable[str] = ()) -> Speller:
        return cls(json.loads((folder / WORDS_FILE).read_text(encoding="utf-8")), usual)

    def needs_mending(self, query: str) -> bool:
        """Whether a query holds a word that nobody knows. Cheap; `mend` may take milliseconds."""
        return any(len(word) >= MIN_LETTERS and word not in self._known for word in _words(query))

    def mend(self, query: str) -> str:
        """The query with its unknown words replaced by near ones, if there are; everything else stays as it is."""
        return _WORD.sub(lambda found: self.mend_word(found.group().casefold()) or found.group(), query)

    def _mend_word(self, word: str) -> str:
        """The nearest known word, the most frequent among equals; "" when the word is known or nothing is near."""
        if len(word) < MIN_LETTERS or word in self._known:
            return ""
        allowed = 2 if len(word) >= LONG_WORD else 1
        near = extract(word, self._candidates, scorer=OSA.distance, score_cutoff=allowed, limit=None)
        # The first letter is seldom wrong; a word that differs there must be otherwise the same.
        good = [
            (distance, -self._counts[other], other)
            for other, distance, _ in near
            if distance == 1 or other[0] == word[0]
        ]
        return min(good)[2] if good else ""


def usual_words(tokenizer_file: Path) -> set[str]:
    """The whole words of a tokenizer's vocabulary: WordPiece's that are no continuation, SentencePiece's and BPE's that start one."""
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer_file)).get_vocab()
    marked = [token[1:] for token in vocabulary if token[0] in "▁Ġ" and len(token) > 1]
    return {token.casefold() for token in (marked or vocabulary) if token.isalpha()}


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
