"""Collects the words and the attribute keys of products, one product after the other, as arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain

import numpy as np
import numpy.typing as npt

from models.arrays import UInt64s
from models.ranking.taste import NO_KEY, attribute_key, brand_key, category_key, name_hash, type_key
from models.unified.history import LONGEST_TERM_CHARS, MAX_ATTRIBUTES, short_attributes
from models.unified.words import words_of

# Columns of attributes: the category as a type, the brand, the category, the price band, and other attributes.
TYPE_AT, BRAND_AT, CATEGORY_AT, PRICE_AT, OTHERS_AT = 0, 1, 2, 3, slice(-MAX_ATTRIBUTES, None)
NUM_ATTRIBUTES = 4 + MAX_ATTRIBUTES
MAX_TITLE_WORDS = 24
MAX_WORDS = 96  # of the other fields together
MAX_KEPT = 50_000
_STEP = 8  # words are stored in steps of this many

Text = tuple[str, str, str, dict[str, str]]  # title, brand, category, and the attributes that are not empty


class ProductWords:
    """Words and attribute keys of the products added so far. Several may share `hashes`."""

    def __init__(self, hashes: TextHashes | None = None) -> None:
        hashes = hashes or TextHashes()
        self._words_of, self._key_of = hashes.words_of, hashes.key_of
        self._words, self._lengths = array("I"), array("q")  # for each product those of the title, then the others
        self._keys = array("Q")  # NUM_ATTRIBUTES for each product

    def extend(self, products: Iterable[Text]) -> None:
        words_of, words, lengths, keys, key_of = (
            self._words_of,
            self._words,
            self._lengths,
            self._keys,
            self._key_of,
        )
        for title, brand, category, attributes in products:
            in_title = words_of[title][:MAX_TITLE_WORDS]
            in_values = [words_of[value] for value in attributes.values()]
            others = dict.fromkeys(chain(words_of[brand], words_of[category], *in_values))
            if len(others) > MAX_WORDS:
                others = dict.fromkeys(list(others)[:MAX_WORDS])
            for word in in_title:
                others.pop(word, None)
            words.extend(in_title)
            words.extend(others)
            lengths.extend((len(in_title), len(others)))
            other_keys = [key_of[attribute] for attribute in short_attributes(attributes)]
            keys.extend((type_key(category), brand_key(brand), category_key(category), NO_KEY))
            keys.extend(other_keys)
            keys.extend((NO_KEY,) * (MAX_ATTRIBUTES - len(other_keys)))

    def keys(self) -> UInt64s:
        """Returns attribute keys (products, NUM_ATTRIBUTES); the price column is NO_KEY."""
        return np.frombuffer(self._keys, np.uint64).reshape(-1, NUM_ATTRIBUTES).copy()

    def lengths(self) -> npt.NDArray[np.uint8]:
        """Returns (products, 2) the number of steps of the title and of the other fields."""
        words = np.frombuffer(self._lengths, np.int64).reshape(-1, 2)
        return (-(-words // _STEP)).astype(np.uint8)

    def steps(self) -> npt.NDArray[np.uint32]:
        """Returns word hashes (steps, 8), product after product, the title before the other fields; 0 fills up."""
        lengths = np.frombuffer(self._lengths, np.int64)
        ends = _STEP * np.cumsum(-(-lengths // _STEP))
        steps = np.zeros((int(ends[-1]) // _STEP if len(ends) else 0, _STEP), np.uint32)
        shift = ends - _STEP * -(-lengths // _STEP) - np.cumsum(lengths) + lengths
        steps.ravel()[np.arange(len(self._words)) + np.repeat(shift, lengths)] = np.frombuffer(self._words, np.uint32)
        return steps


class TextHashes:
    """The hashes of texts that recur."""

    def __init__(self) -> None:
        self.words_of, self.key_of = _WordsOf(), _AttributeKeys()

    def bound(self) -> None:
        """Forgets everything once it holds more than MAX_KEPT texts or words."""
        if max(len(self.words_of), len(self.words_of.hashes), len(self.key_of)) > MAX_KEPT:
            for known in (self.words_of, self.words_of.hashes, self.key_of):
                known.clear()


class _Hashes(dict[str, int]):
    """Maps a word to its hash."""

    def __missing__(self, word: str) -> int:
        made = self[word] = name_hash(word)
        return made


class _AttributeKeys(dict[str, int]):
    """Maps an attribute to its key."""

    def __missing__(self, attribute: str) -> int:
        made = self[attribute] = attribute_key(attribute)
        return made


class _WordsOf(dict[str, tuple[int, ...]]):
    """Maps a text to the hashes of its words. Only short texts are kept, since they recur."""

    def __init__(self) -> None:
        self.hashes = _Hashes()

    def __missing__(self, text: str) -> tuple[int, ...]:
        made = tuple(map(self.hashes.__getitem__, words_of(text, MAX_WORDS)))
        if len(text) <= 2 * LONGEST_TERM_CHARS:
            self[text] = made
        return made
