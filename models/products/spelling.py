"""Corrects a shopper's typing errors with the catalogue's own words: "samsnug" becomes "samsung" in a shop that sells samsung.

An encoder breaks a misspelt name into subwords without meaning. A word is corrected only if neither the catalogue nor the encoder's
vocabulary has it, and that vocabulary holds the common words of its languages whole. So a real word is never replaced by a product's name.
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
LONG_WORD = 7  # letters from which two errors are corrected instead of one
MIN_PRODUCTS = 3  # a word of fewer may be a typing error itself
MAX_WORDS = 500_000  # words of the catalogue that are stored, the most frequent
MAX_CANDIDATES = 50_000  # words that are compared with an unknown one: 2.4 ms

_WORD = re.compile(r"[^\W\d_]+")


class Speller:
    """Words of a catalogue with the number of products that contain them, and a vocabulary of correct words. Both in lower case."""

    def __init__(self, counts: Mapping[str, int], vocabulary: Iterable[str] = ()) -> None:
        self._counts = dict(counts)
        self._correct_words = {*self._counts, *vocabulary}
        common = sorted(
            (w for w, n in counts.items() if n >= MIN_PRODUCTS and len(w) >= MIN_LETTERS), key=lambda w: -counts[w]
        )
        self._candidates = common[:MAX_CANDIDATES]
        self.correct_word = lru_cache(maxsize=20_000)(self._correct_word)

    @classmethod
    def build(cls, products: Iterable[Product]) -> Speller:
        counts: Counter[str] = Counter()
        for product in products:
            counts.update(set(_words(f"{product.title} {product.brand} {product.category}")))
        # Ties by the alphabet: the order of a set changes from process to process, and with it the version of the bundle.
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(dict(ordered[:MAX_WORDS]))

    def save(self, folder: Path) -> None:
        """Writes the catalogue's words, not the vocabulary."""
        (folder / WORDS_FILE).write_text(json.dumps(self._counts, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, vocabulary: Iterable[str] = ()) -> Speller:
        return cls(json.loads((folder / WORDS_FILE).read_text(encoding="utf-8")), vocabulary)

    def needs_correction(self, query: str) -> bool:
        """Returns whether a query contains an unknown word. Cheap; `correct` may take milliseconds."""
        return any(len(word) >= MIN_LETTERS and word not in self._correct_words for word in _words(query))

    def correct(self, query: str) -> str:
        """Returns the query with each unknown word replaced by a near one, if there is one. Everything else stays as it is."""
        return _WORD.sub(lambda match: self.correct_word(match.group().casefold()) or match.group(), query)

    def _correct_word(self, word: str) -> str:
        """Returns the nearest candidate, the most frequent among equals; "" if the word is correct or nothing is near."""
        if len(word) < MIN_LETTERS or word in self._correct_words:
            return ""
        max_distance = 2 if len(word) >= LONG_WORD else 1
        near = extract(word, self._candidates, scorer=OSA.distance, score_cutoff=max_distance, limit=None)
        # The first letter is seldom wrong: a candidate with another first letter must be otherwise the same.
        plausible = [
            (distance, -self._counts[other], other)
            for other, distance, _ in near
            if distance == 1 or other[0] == word[0]
        ]
        return min(plausible)[2] if plausible else ""


def vocabulary_words(tokenizer_file: Path) -> set[str]:
    """Returns the whole words of a tokenizer's vocabulary, in lower case.

    In WordPiece these are the tokens that continue no word, in SentencePiece and BPE those that start one.
    """
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer_file)).get_vocab()
    word_starts = [token[1:] for token in vocabulary if token[0] in "▁Ġ" and len(token) > 1]
    return {token.casefold() for token in (word_starts or vocabulary) if token.isalpha()}


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
