"""Exact look-up of what shoppers paste: model numbers, SKUs, GTINs, product ids and whole titles.

A vector blurs "HX-4210" and "HX-4120"; an exact look-up does not. Identifiers are compared without punctuation, blanks and case, in the
compatibility form of Unicode (NFKC): "HX-4210", "hx 4210" and full-width letters are one. What points to a product:

- its id, and each value of its identifier columns, whatever they are: by the whole query, or with a digit in it by part of a query;
- words of at least `MIN_LENGTH` characters with a digit in its id, title or identifier columns. "X1234/Y1234" is also two of them, and a
  short prefix in capitals belongs to the number behind it: "HX 4210";
- a GTIN in any of its lengths: 12, 13 or 14 digits, and without leading zeros;
- its title, by the whole query.

A bare number among other words ("velvet sofa 1000") is no identifier unless it is as long as a GTIN, and a measure ("500 GB") is none. The
fewer products an identifier has, the more it raises them.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Doubles, Ints
from models.products.changes import AddedProducts, ChangedOffers, Prepared, RemovedProducts
from models.products.measures import is_measure
from models.products.product import Product
from models.products.removed_rows import RemovedRows

MIN_LENGTH = 4
MAX_PRODUCTS = 256  # an identifier of more products is a size or a year, not a model
MAX_KEPT = 4_096  # queries whose identifiers are kept
MAX_KEPT_CHARS = 64  # longer queries seldom recur
FULL_BOOST = 0.6  # ranks a product above any that is only similar: cosines of short queries seldom exceed 0.8
OWN_BOOST = 0.3  # more for a product whose own identifier it is than for one that only names it, as an accessory does
SPECIFIC = 16  # an identifier of at most this many products gets the full boost
MIN_GTIN, MAX_GTIN = 8, 14  # digits
MAX_JOINED = 5  # neighbouring words that are read as one identifier
MAX_PREFIX = 3  # letters before the blank in "HX 4210"
MAX_WHOLE = 64  # characters of a query that is one identifier
MAX_KEYS = 200  # that a query is looked up by: a query of 512 characters may hold 250 words

# What begins a key that is not a word with a digit. Punctuation is not part of any identifier, so these are different from all words.
_OWN, _TITLE, _GTIN = "@", "=", "#"

_DASHES = "\u058a\u05be\u1806\u2010-\u2015\u2212\u2e3a\u2e3b\u2e40\u301c\u3030\ufe31\ufe32\ufe58\ufe63\uff0d"
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u2060-\u2064\ufeff"
_WORD = re.compile(rf"[^\W_](?:[\w./+\-\uff0e\uff0f\uff0b{_DASHES}{_INVISIBLE}]*[^\W_])?")
_SLASH = re.compile("[/+\uff0f\uff0b]")
_PIECE = re.compile("[^/+\uff0f\uff0b]+")
_DIGIT = re.compile(r"\d")
_PUNCTUATION = re.compile(r"[\W_]+")
_VALUES = re.compile(r"[|;,\n]")  # between the identifiers of one cell


@dataclass(frozen=True, slots=True, eq=False)
class IdentifierMatch:
    """One identifier of a query, and the products that have it."""

    identifier: str  # as written in the query
    start: int  # of its place in the query
    end: int
    rows: Ints  # (products,) ascending
    boosts: Doubles  # (products,) to be added to the products' scores


class _Word(NamedTuple):  # cheaper to make than a frozen dataclass
    plain: str  # without punctuation, in lower case
    start: int
    end: int
    joins: bool  # may belong to the same identifier as the word before
    has_digit: bool
    is_number: bool


class _Key(NamedTuple):
    key: str
    start: int
    end: int


def product_keys(product: Product, identifiers: Sequence[str] = ()) -> set[str]:
    """Returns what a product is looked up by. `identifiers` are the attributes that hold identifiers."""
    cells = [product.attributes.get(name, "") for name in identifiers]
    own = [product.id, *(value for cell in cells for value in {cell, *_VALUES.split(cell)})]
    keys = {_TITLE + _plain(product.title)}
    for value in own:
        if plain := _plain(value):
            keys.add(_OWN + plain)
            keys.update(_gtin(plain))
            if _is_identifier(plain):
                keys.add(plain)
    for text in (*own, product.title):
        keys.update(_word_keys(text))
    return keys


def _word_keys(text: str) -> Iterator[str]:
    """Yields the identifiers that a text contains."""
    if not _DIGIT.search(text):
        return
    words = list(_words(text))
    for word in words:
        if _is_identifier(word.plain):
            yield word.plain
            yield from _gtin(word.plain)
    has_cases = text != text.upper()
    for before, word in itertools.pairwise(words):
        prefix = text[before.start : before.end]
        if word.joins and word.has_digit and has_cases and prefix.isupper() and len(before.plain) <= MAX_PREFIX:
            joined = before.plain + word.plain
            if len(joined) > MIN_LENGTH and not before.has_digit and not is_measure(word.plain):
                yield joined
    yield from (_plain(match.group()) for match in _WORD.finditer(text) if _SLASH.search(match.group()))


def _query_keys(query: str) -> list[_Key]:
    """Returns what a query is looked up by: its title, itself as an identifier, and its words with a digit, alone and joined."""
    whole = _plain(query)
    if not whole:
        return []
    start = len(query) - len(query.lstrip())
    end = len(query.rstrip())
    keys = [_Key(_TITLE + whole, start, end)]
    if len(whole) <= MAX_WHOLE:
        keys += [_Key(key, start, end) for key in (_OWN + whole, *_gtin(whole, min_digits=1))]
    if not _DIGIT.search(whole):
        return keys
    if len(whole) <= MAX_WHOLE and _is_identifier(whole):
        keys.append(_Key(whole, start, end))
    words = list(_words(query))
    for first in range(len(words)):
        keys += _joined_keys(words[first : first + MAX_JOINED])
    return list(dict.fromkeys(keys))[:MAX_KEYS]


def _joined_keys(words: Sequence[_Word]) -> Iterator[_Key]:
    """Yields the identifiers that begin with the first of the words: it alone, and joined with those after it."""
    plain, has_digit, is_number, is_code = "", False, True, True
    for count, word in enumerate(words):
        is_code = is_code and (word.has_digit or len(word.plain) <= MAX_PREFIX)
        # Three words or more are an identifier if none is an ordinary word.
        if (count and not word.joins) or (count > 1 and not is_code):
            return
        plain = plain + word.plain
        has_digit, is_number = has_digit or word.has_digit, is_number and word.is_number
        if has_digit and len(plain) >= (MIN_GTIN if is_number else MIN_LENGTH) and not is_measure(plain):
            yield _Key(plain, words[0].start, word.end)
            if is_number:
                yield from (_Key(key, words[0].start, word.end) for key in _gtin(plain))


def _is_identifier(plain: str) -> bool:
    return len(plain) >= MIN_LENGTH and bool(_DIGIT.search(plain)) and not is_measure(plain)


class IdentifierIndex:
    """Sorted hashes of identifiers and the row of a product for each, as two mapped arrays; those of appended products are in memory."""

    def __init__(self, hashes: npt.NDArray[np.uint64], rows: Ints, identifiers: Sequence[str] = ()) -> None:
        """`identifiers` are the attributes that hold identifiers."""
        self.version = 0  # raised by each change of products: what was found before may be otherwise now
        self._hashes = hashes
        self._rows = rows
        self._identifiers = tuple(identifiers)
        self._added: dict[int, array[int]] = {}  # hash -> rows, ascending
        self._new = Prepared(self._read)
        self._removed = RemovedRows()
        # By query, where this is the index of a shard: how specific an identifier is, is counted over all products.
        self.given: Mapping[str, Sequence[IdentifierMatch]] = {}
        self.given_keys: Mapping[str, set[str]] = {}
        # Several steps of a search look for the same. What was found in former versions leaves the cache as what is used least.
        self._matches = lru_cache(MAX_KEPT)(lambda query, _version: self._find(query))

    @classmethod
    def build(cls, products: Iterable[Product], identifiers: Sequence[str] = ()) -> IdentifierIndex:
        """Indexes products in order of row. `identifiers` are the attributes that hold identifiers, such as "gtin" and "mpn"."""
        hashes, rows = array("Q"), array("q")  # 16 bytes an identifier, where lists take about 80
        for row, product in enumerate(products):
            for key in product_keys(product, identifiers):
                hashes.append(_hash(key))
                rows.append(row)
        hash_array = np.frombuffer(hashes, np.uint64)
        row_array = np.frombuffer(rows, np.int64)
        order = np.lexsort((row_array, hash_array))
        return cls(hash_array[order], row_array[order], identifiers)

    def save(self, folder: Path) -> None:
        """Writes the arrays. Raises ValueError for an index that has changed: it is built anew."""
        if self.version:
            raise ValueError("the index has changed since it was built; build it of the products as they are now")
        np.save(folder / "identifier_hashes.npy", self._hashes)
        np.save(folder / "identifier_rows.npy", self._rows)

    @classmethod
    def load(cls, folder: Path, num_products: int, identifiers: Sequence[str] = ()) -> IdentifierIndex:
        """Maps the arrays; `identifiers` are the attributes that the index was built with. Raises ValueError for arrays that do not fit
        each other or the number of products."""
        hashes = np.load(folder / "identifier_hashes.npy", mmap_mode="r")
        rows = np.load(folder / "identifier_rows.npy", mmap_mode="r")
        if hashes.dtype != np.uint64 or hashes.ndim != 1 or rows.dtype != np.int64 or rows.shape != hashes.shape:
            raise ValueError(
                f"hashes are {hashes.dtype} of shape {hashes.shape}, rows {rows.dtype} of {rows.shape}; "
                "expected as many uint64 as int64"
            )
        if len(rows) and not (rows.min() >= 0 and rows.max() < num_products):
            raise ValueError(f"rows go from {rows.min()} to {rows.max()}, there are {num_products} products")
        # A plain view: the type of the mapped array makes every look-up slower.
        return cls(hashes.view(np.ndarray), rows.view(np.ndarray), identifiers)

    def prepare(self, added: AddedProducts) -> None:
        """Reads the identifiers of products before they are appended. Searches may run meanwhile."""
        self._new.prepare(added)

    def _read(self, added: AddedProducts) -> list[list[int]]:
        return [[_hash(key) for key in product_keys(product, self._identifiers)] for product in added.products]

    def append(self, added: AddedProducts) -> None:
        """Indexes further products."""
        for row, hashes in enumerate(self._new.take(added), added.start):
            for hashed in hashes:
                rows = self._added.get(hashed)
                if rows is None:
                    self._added[hashed] = array("q", (row,))
                else:
                    rows.append(row)
        self.version += 1

    def remove(self, removed: RemovedProducts) -> None:
        """Finds products no longer."""
        self._removed.add(removed.rows)
        self.version += 1

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: no identifier changes."""

    def find(self, query: str) -> list[IdentifierMatch]:
        """Returns the identifiers of a query that at most MAX_PRODUCTS products have, most specific first.

        Of identifiers that overlap the longest counts: "HX 4210 B" is not also "HX 4210". A title counts beside the identifiers in it.
        """
        if (given := self.given.get(query)) is not None:
            return list(given)
        return list(self._matches(query, self.version) if len(query) <= MAX_KEPT_CHARS else self._find(query))

    def _find(self, query: str) -> tuple[IdentifierMatch, ...]:
        titles: dict[tuple[int, int], Ints] = {}
        own: dict[tuple[int, int], Ints] = {}
        any_kind: dict[tuple[int, int], Ints] = {}
        found = list(self._look_up(_query_keys(query)))
        # An identifier of a product is also a word of it, so only the words that were found may be.
        found += self._look_up([_Key(_OWN + key.key, key.start, key.end) for key, _ in found if key.key[0].isalnum()])
        for key, rows in found:
            place = key.start, key.end
            if key.key[0] == _TITLE:
                titles[place] = rows
                continue
            any_kind[place] = np.union1d(any_kind[place], rows) if place in any_kind else rows
            if key.key[0] in (_OWN, _GTIN):
                own[place] = np.union1d(own[place], rows) if place in own else rows
        matches = [_match(query, place, rows) for place, rows in titles.items() if len(rows) <= MAX_PRODUCTS]
        taken: list[tuple[int, int]] = []
        for place in sorted(any_kind, key=lambda place: place[0] - place[1]):
            rows = any_kind[place]
            if len(rows) <= MAX_PRODUCTS and not any(a < place[1] and place[0] < b for a, b in taken):
                if not _SLASH.search(query[slice(*place)]):  # "X1234/Y1234" is also both of them
                    taken.append(place)
                matches.append(_match(query, place, rows, own.get(place)))
        return tuple(sorted(matches, key=lambda match: (len(match.rows), match.start)))

    def specific_keys(self, query: str) -> set[str]:
        """Returns the keys of a query that at most MAX_PRODUCTS products have, or none, to be compared with `product_keys` of others."""
        if (given := self.given_keys.get(query)) is not None:
            return given
        keys = _query_keys(query)
        frequent = {key.key for key, rows in self._look_up(keys) if len(rows) > MAX_PRODUCTS}
        return {key.key for key in keys} - frequent

    def _look_up(self, keys: Sequence[_Key]) -> Iterator[tuple[_Key, Ints]]:
        """Yields those of the keys that living products have, with their rows."""
        if not keys:
            return
        hashes = [_hash(key.key) for key in keys]
        wanted = np.array(hashes, np.uint64)
        firsts = self._hashes.searchsorted(wanted)
        found = np.zeros(len(keys), np.bool_)
        if len(self._hashes):
            found = self._hashes.take(firsts, mode="clip") == wanted
        if self._added:
            found |= np.fromiter((hashed in self._added for hashed in hashes), np.bool_, len(keys))
        for at in np.flatnonzero(found).tolist():
            last = int(self._hashes.searchsorted(wanted[at], "right"))
            rows = np.asarray(self._rows[firsts[at] : last])
            added = self._added.get(hashes[at])
            if added:  # a copy: an array that lends its memory cannot grow
                rows = np.concatenate([rows, np.frombuffer(added.tobytes(), np.int64)])
            rows = self._removed.living(rows)
            if len(rows):
                yield keys[at], rows


def _match(query: str, place: tuple[int, int], rows: Ints, own: Ints | None = None) -> IdentifierMatch:
    boosts = np.full(len(rows), FULL_BOOST * min(1.0, SPECIFIC / len(rows)))
    if own is not None and len(own) < len(rows):
        boosts[np.searchsorted(rows, own)] += OWN_BOOST * min(1.0, SPECIFIC / len(own))
    start, end = place
    return IdentifierMatch(query[start:end], start, end, rows, boosts)


def _words(text: str) -> Iterator[_Word]:
    """Yields the words of a text. One whose parts are all identifiers, as "X1234/Y1234", is several."""
    for match in _WORD.finditer(text):
        if _SLASH.search(match.group()):
            pieces = _PIECE.finditer(text, match.start(), match.end())
            parts = [_word(_plain(piece.group()), piece.start(), piece.end(), False) for piece in pieces]
            identifying = [part for part in parts if _is_identifier(part.plain)]
            if len(identifying) < len(parts):
                yield _word(_plain(match.group()), match.start(), match.end(), True)
            yield from (part for part in identifying if not part.is_number)
        else:
            yield _word(_plain(match.group()), match.start(), match.end(), True)


def _word(plain: str, start: int, end: int, joins: bool) -> _Word:
    return _Word(plain, start, end, joins, bool(_DIGIT.search(plain)), plain.isdigit())


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _PUNCTUATION.sub("", text).casefold()


def _gtin(plain: str, min_digits: int = MIN_GTIN - 1) -> tuple[str, ...]:
    """Returns the key of a number as a GTIN, without the zeros before it that its forms differ in."""
    if not (plain.isascii() and plain.isdigit() and min_digits <= len(plain) <= MAX_GTIN):
        return ()
    significant = plain.lstrip("0")
    return (_GTIN + significant,) if len(significant) >= MIN_LENGTH else ()


def _hash(plain: str) -> int:
    return int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
