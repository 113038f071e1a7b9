"""Mends a shopper's typing errors, and says where it is not sure: "samsnug" becomes "samsung", "nokora" may be nokira or nikora.

An encoder breaks a misspelt name into subwords without meaning. A word that the catalogue, the query's language or the encoder knows is
never mended. An unknown one is mended if one known word explains it far better than any other: by its frequency in the catalogue or the
language, and by the number and kind of errors (a noisy channel: Kernighan, Church and Gale, 1990). Otherwise the query stays, and what else
it may mean is given as alternatives, of which a search also searches the likeliest. The rarest words of a language's list may be typing
errors too: for one of them a word of the catalogue that is one error away, and likelier, is an alternative.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rapidfuzz.distance import OSA
from rapidfuzz.process import extract

from models.products.changes import AddedProducts, ChangedOffers, Prepared, RemovedProducts
from models.products.language_words import (
    LanguageWords,
    Shape,
    add_by_shape,
    language_words,
    loaded_words,
    words_by_shape,
)
from models.products.product import Product

WORDS_FILE = "words.json"
MIN_LETTERS = 5  # shorter words have too many neighbours
LONG_WORD = 7  # letters from which two errors are mended instead of one
MIN_PRODUCTS = 3  # a word of fewer may be a typing error itself, unless it names a brand or a category
MAX_WORDS = 500_000  # words of the catalogue that are stored, the most frequent
MAX_CANDIDATES = 50_000  # words of the catalogue that are compared with an unknown one
MAX_ALTERNATIVES = 3  # readings of a query besides the one that is searched
RARE_ZIPF = (
    2.2  # rarer words of a language's list may be typing errors: "runing" has 1.96, "matress" 1.72, "addidas" 1.41
)
MIN_PART = 4  # letters of each half of a compound
PART_ZIPF = 3.5  # frequency of each half: rarer words would make compounds of typing errors

ERROR_COST = 3.0  # an error makes a reading a thousand times less likely
SLIP_COST = 2.5  # what fingers do: a letter left out, doubled or swapped, a neighbouring key
ACCENT_COST = 0.5  # many leave out the accents
ODD_COST = (
    4.5  # a letter that is neither near the right one on the keyboard nor sounds like it: seldom an error, often a name
)
LETTER_GAIN = 0.2  # of each letter past MIN_LETTERS, up to five: long words are seldom near another by chance
FIRST_LETTER_COST = 0.5  # the first letter is seldom wrong
CATALOGUE_GAIN = 0.7  # shoppers search for what is sold five times as often as text speaks of it
CLEAR_MARGIN = 1.0  # the best reading is ten times likelier than the next,
RIVAL_MARGIN = 2.0  # or a hundred times, where the catalogue has both and they are equally near
MIN_SCORE = 0.5  # a reading below is no reading: two errors must lead to a frequent word
CERTAIN_SCORE = 1.2
SMOOTHING = 100_000  # words: in a small catalogue a word of few products is no frequent word

_WORD = re.compile(r"[^\W\d_]+")
_CHUNK = re.compile(r"\S+")
_NOT_WORDS = re.compile(r"[\d@_]|://|www\.", re.IGNORECASE)  # in a model number, an address or a tag
# Scripts without blanks between words: a run of their letters is a sentence.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_ALIKE = frozenset(
    pair for pairs in ("sz", "ck", "cs", "kq", "vw", "fv", "gj", "mn", "bp", "dt") for pair in (pairs, pairs[::-1])
)
_VOWELS = frozenset("aeiouy")
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = frozenset(pair for row in _KEY_ROWS for a, b in itertools.pairwise(row) for pair in (a + b, b + a))


@dataclass(frozen=True, slots=True)
class Correction:
    """A word of the query that nothing knows, and what it was read as. `certain` says whether it was searched as that."""

    word: str  # as written
    start: int  # of the word in the query as typed
    end: int
    into: tuple[str, ...]  # one if certain, otherwise what it may be, likeliest first
    certain: bool


@dataclass(frozen=True, slots=True)
class Mending:
    """A query with its certain corrections, and the other queries that it may mean, likeliest first."""

    query: str
    corrections: tuple[Correction, ...] = ()
    alternatives: tuple[str, ...] = ()
    readings: tuple[tuple[str, ...], ...] = ()  # of each alternative: what every correction's word is read as


@dataclass(frozen=True, slots=True)
class _Reading:
    word: str
    score: float  # logarithm to base 10 of its likelihood, up to a constant
    distance: int
    is_odd: bool  # explained by an error that is seldom made
    is_rival: bool = False  # of the word as typed, which is a rare word of the language


class Speller:
    """The words of a catalogue, each with the number of products that contain it, and a vocabulary of correct words. All in lower case."""

    def __init__(self, counts: Mapping[str, int], vocabulary: Iterable[str] = (), *, names: Iterable[str] = ()) -> None:
        """`names` are the words of brands and categories, which are trusted even if few products have them."""
        self._counts = dict(counts)
        self._names = set(names) & self._counts.keys()
        self._correct_words = {*self._counts, *vocabulary}
        self._total = sum(self._counts.values()) + SMOOTHING
        trusted = (word for word in counts if self._is_candidate(word))
        common = sorted(trusted, key=lambda word: (-counts[word], word))
        self._candidates = words_by_shape(common[:MAX_CANDIDATES])
        self._new = Prepared(_product_words)
        self.version = 0  # raised by each change of products: what was read before may be otherwise now
        # What was read in former versions leaves the cache as what is used least.
        self._readings = lru_cache(maxsize=20_000)(lambda word, language, _version: self._find_readings(word, language))

    @classmethod
    def build(cls, products: Iterable[Product]) -> Speller:
        """Counts the words of titles, brands, categories and attributes, once for each product."""
        counts: Counter[str] = Counter()
        names: set[str] = set()
        for product in products:
            named = _names(product)
            names |= named
            counts.update(named | _other_words(product))
            if len(counts) > 4 * MAX_WORDS:  # bounds the memory of long descriptions
                counts = Counter({word: count for word, count in counts.items() if count > 1 or word in names})
        # Ties by the alphabet: the order of a set changes from process to process, and with it the version of the bundle.
        ordered = sorted(counts.items(), key=lambda item: (item[0] not in names, -item[1], item[0]))[:MAX_WORDS]
        return cls(dict(sorted(ordered, key=lambda item: (-item[1], item[0]))), names=names)

    def save(self, folder: Path) -> None:
        """Writes the catalogue's words, not the vocabulary."""
        content = {"counts": self._counts, "names": sorted(self._names)}
        (folder / WORDS_FILE).write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, vocabulary: Iterable[str] = ()) -> Speller:
        """Reads what `save` wrote, and the bare counts that it wrote before it knew names. Raises ValueError for anything else."""
        content = json.loads((folder / WORDS_FILE).read_text(encoding="utf-8"))
        names: object = []
        if isinstance(content, dict) and isinstance(content.get("counts"), dict):
            content, names = content["counts"], content.get("names")
        if not isinstance(content, dict) or not all(isinstance(count, int) for count in content.values()):
            raise ValueError("it does not hold words and their counts")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("its names are not a list of words")
        return cls(content, vocabulary, names=names)

    def prepare(self, added: AddedProducts) -> None:
        """Reads the words of products before they are appended. Searches may run meanwhile."""
        self._new.prepare(added)

    def append(self, added: AddedProducts) -> None:
        """Counts the words of further products: they are known at once. A word becomes what another may be read as when MIN_PRODUCTS have
        it, or one names a brand or a category so."""
        for named, words in self._new.take(added):
            self._total += len(words)
            for word in words:
                count = self._counts[word] = self._counts.get(word, 0) + 1
                was_trusted = count > MIN_PRODUCTS or word in self._names
                self._correct_words.add(word)
                if word in named:
                    self._names.add(word)
                if not was_trusted and self._is_candidate(word):
                    add_by_shape(self._candidates, word)
        self.version += 1

    def remove(self, removed: RemovedProducts) -> None:
        """Does nothing: words stay known, and counted, until the words are counted anew. A word of the catalogue stays a word."""

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: no word changes."""

    def _is_candidate(self, word: str) -> bool:
        trusted = self._counts.get(word, 0) >= MIN_PRODUCTS or word in self._names
        return trusted and len(word) >= MIN_LETTERS - 1

    def may_need_mending(self, query: str, language: str) -> bool:
        """Returns whether a query may contain an unknown word. Cheap; `mend` may take milliseconds, and reads the words of a language that
        it meets for the first time."""
        for chunk in query.casefold().split():
            if len(chunk) < MIN_LETTERS or chunk in self._correct_words:
                continue
            words = loaded_words(language)
            for match in _mendable(chunk, ()):
                word = match.group()
                if word not in self._correct_words and (words is None or words.zipf(word) < RARE_ZIPF):
                    return True
        return False

    def mend(self, query: str, language: str, spared: Sequence[tuple[int, int]] = ()) -> Mending:
        """Returns the query with its unknown words read as known ones. Everything else stays as it is.

        `language` is that of the query, "" if it is unknown. `spared` are places (start, end) that must stay, as those of the identifiers
        that the query was found to hold.
        """
        corrections = []
        for match in _mendable(query, spared):
            readings = self._readings(match.group().casefold(), language, self.version)
            if readings:
                certain = _is_certain(readings, self._counts)
                into = tuple(reading.word for reading in readings[: 1 if certain else MAX_ALTERNATIVES])
                corrections.append(Correction(match.group(), match.start(), match.end(), into, certain))
        if not corrections:
            return Mending(query)
        unsure = [correction for correction in corrections if not correction.certain]
        base = {c: c.into[0] if c.certain else c.word for c in corrections}
        # All unsure words at their likeliest, then one after the other at its next.
        readings_of_query = [{**base, **{c: c.into[0] for c in unsure}}] if unsure else []
        for rank in range(1, MAX_ALTERNATIVES):
            readings_of_query += [{**readings_of_query[0], c: c.into[rank]} for c in unsure if len(c.into) > rank]
        alternatives = {_replaced(query, reading): tuple(reading.values()) for reading in readings_of_query}
        kept = tuple(alternatives)[:MAX_ALTERNATIVES]
        return Mending(
            _replaced(query, base), tuple(corrections), kept, tuple(alternatives[alternative] for alternative in kept)
        )

    @property
    def counts(self) -> Mapping[str, int]:
        """How many products hold each word of the catalogue, in lower case."""
        return self._counts

    @property
    def names(self) -> frozenset[str]:
        """The words of brands and categories."""
        return frozenset(self._names)

    def count(self, word: str) -> int:
        """Returns how many products contain a word in lower case."""
        return self._counts.get(word, 0)

    def _familiarity(self, word: str, words: LanguageWords) -> float:
        """Returns the frequency in the language of a word in lower case or a form of it; infinite if catalogue or vocabulary have one, or,
        in a language that writes compounds as one word, both halves are known. 0: nothing knows it."""
        forms = (word, *_forms(word, words.endings))
        if not self._correct_words.isdisjoint(forms) or self._is_compound(word, words):
            return math.inf
        return max(map(words.zipf, forms))

    def _is_compound(self, word: str, words: LanguageWords) -> bool:
        if not words.links:
            return False
        for at in range(MIN_PART, len(word) - MIN_PART + 1):
            if not self._is_part(word[at:], words):
                continue
            left = word[:at]
            links = [link for link in words.links if left.endswith(link)]
            if any(self._is_part(left.removesuffix(link), words) for link in links):
                return True
        return False

    def _is_part(self, word: str, words: LanguageWords) -> bool:
        return len(word) >= MIN_PART and (self._counts.get(word, 0) >= MIN_PRODUCTS or words.zipf(word) >= PART_ZIPF)

    def _find_readings(self, word: str, language: str) -> tuple[_Reading, ...]:
        """Returns what an unknown word may be, likeliest first; nothing for a known word, and for one that is near nothing. A rare word
        of the language may be one of the catalogue with one error, if that is likelier."""
        words = language_words(language)
        familiarity = self._familiarity(word, words)
        if familiarity >= RARE_ZIPF:
            return ()
        is_rare = familiarity > 0
        gain = LETTER_GAIN * min(len(word) - MIN_LETTERS, 5)
        found: dict[str, _Reading] = {}
        for by_shape in (self._candidates,) if is_rare else (self._candidates, words.frequent):
            for other, distance in _near(word, by_shape):
                if is_rare and distance > 1:
                    continue
                cost = _error_cost(word, other, distance)
                score = self._frequency(other, words) + gain - cost
                if score >= max(MIN_SCORE, familiarity):
                    is_odd = distance == 1 and cost >= ODD_COST
                    found[other] = _Reading(other, score, distance, is_odd, is_rare)
        ordered = sorted(found.values(), key=lambda reading: (-reading.score, reading.word))
        # What is far less likely than the best is no alternative.
        return tuple(reading for reading in ordered if ordered[0].score - reading.score < RIVAL_MARGIN)

    def _frequency(self, word: str, words: LanguageWords) -> float:
        """Returns the logarithm of the occurrences in 10^9 words, of the catalogue or the language, whichever has more."""
        count = self._counts.get(word, 0)
        return max(words.zipf(word), 9 + math.log10(count / self._total) + CATALOGUE_GAIN if count else 0.0)


def vocabulary_words(tokenizer_file: Path) -> set[str]:
    """Returns the whole words of a tokenizer's vocabulary, in lower case.

    In WordPiece these are the tokens that continue no word, in SentencePiece and BPE those that start one.
    """
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer_file)).get_vocab()
    word_starts = [token[1:] for token in vocabulary if token[0] in "▁Ġ" and len(token) > 1]
    return {token.casefold() for token in (word_starts or vocabulary) if token.isalpha()}


def _is_certain(readings: Sequence[_Reading], counts: Mapping[str, int]) -> bool:
    best = readings[0]
    if best.is_odd or best.is_rival or best.score < CERTAIN_SCORE:
        return False
    for rival in readings[1:]:
        is_equal = rival.distance <= best.distance and best.word in counts and rival.word in counts
        if best.score - rival.score < (RIVAL_MARGIN if is_equal else CLEAR_MARGIN):
            return False
    return True


def _near(word: str, by_shape: Mapping[Shape, Sequence[str]]) -> Iterator[tuple[str, int]]:
    """Yields the words at a distance of one error, or, of a long word and with the same first letter, two."""
    shapes: list[tuple[Shape, int]] = [(length, 1) for length in range(len(word) - 1, len(word) + 2)]
    if len(word) >= LONG_WORD:
        shapes += [((word[0], length), 2) for length in range(len(word) - 2, len(word) + 3)]
    for shape, most in shapes:
        near = extract(word, by_shape.get(shape, ()), scorer=OSA.distance, score_cutoff=most, limit=None)
        yield from ((other, int(distance)) for other, distance, _ in near)


def _error_cost(word: str, meant: str, distance: int) -> float:
    """Returns the logarithm to base 10 of how unlikely it is that `meant` was typed as `word`."""
    if distance > 1:
        return ERROR_COST * distance
    return _cost_of_one(word, meant) + FIRST_LETTER_COST * (word[0] != meant[0])


def _cost_of_one(word: str, meant: str) -> float:
    if len(word) < len(meant):
        return SLIP_COST
    at = next((i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), len(meant))
    if len(word) > len(meant):
        beside = {word[at] + other for other in word[max(0, at - 1) : at] + word[at + 1 : at + 2]}
        return SLIP_COST if word[at] * 2 in beside or beside & _NEIGHBOURS else ODD_COST
    if word[at + 1 :] != meant[at + 1 :]:  # two letters are swapped
        return SLIP_COST
    typed, right = _without_accent(word[at]), _without_accent(meant[at])
    if typed == right:
        return ACCENT_COST
    if typed + right in _NEIGHBOURS:
        return SLIP_COST
    return ERROR_COST if typed + right in _ALIKE or {typed, right} <= _VOWELS else ODD_COST


def _without_accent(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0]


def _forms(word: str, endings: Sequence[str]) -> Iterator[str]:
    for ending in endings:
        stem = word.removesuffix(ending)
        # "headphoness" is no plural.
        if MIN_PART <= len(stem) < len(word) and stem[-1] != ending[0]:
            yield stem
        if word[-1] != ending[0]:
            yield word + ending


def _mendable(query: str, spared: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """Yields the words of a query that may be mended: no short ones, and none of model numbers and addresses."""
    for chunk in _CHUNK.finditer(query):
        if _NOT_WORDS.search(chunk.group()):
            continue
        for match in _WORD.finditer(query, chunk.start(), chunk.end()):
            is_spared = any(start < match.end() and match.start() < end for start, end in spared)
            if len(match.group()) >= MIN_LETTERS and not is_spared and not _UNSPACED.search(match.group()):
                yield match


def _replaced(query: str, words: Mapping[Correction, str]) -> str:
    parts, at = [], 0
    for correction, word in words.items():
        parts += [query[at : correction.start], word]
        at = correction.end
    return "".join((*parts, query[at:]))


def _names(product: Product) -> set[str]:
    return set(_words(f"{product.brand} {product.category}"))


def _product_words(added: AddedProducts) -> list[tuple[set[str], set[str]]]:
    """Returns the words of each product's brand and category, and all its words."""
    named = [_names(product) for product in added.products]
    return [(names, names | _other_words(product)) for names, product in zip(named, added.products, strict=True)]


def _other_words(product: Product) -> set[str]:
    return set(_words(f"{product.title} {' '.join(product.attributes.values())}"))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]
