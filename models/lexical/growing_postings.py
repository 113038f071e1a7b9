"""Postings that products are added to and removed from while they are searched: those of the built index stay mapped as they are, and each
term that a change touches has its newer postings beside them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.lexical.analysis import Analyzer
from models.lexical.compounds import split_compound
from models.lexical.field_texts import FIELDS
from models.lexical.postings import (
    DESCRIPTION,
    MAX_PRODUCTS,
    MAX_WORDS,
    ROW_SHIFT,
    TERM_SHIFT,
    Parameters,
    Postings,
    ProseIds,
    TermIds,
    counted,
    field_scales,
    term_hash,
    weighed,
)


class TermPart(NamedTuple):
    """Postings of one term, ascending by row."""

    rows: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.uint16]
    fields: npt.NDArray[np.uint8]


class _Term:
    """What changes did to a term."""

    __slots__ = ("base", "fields", "removed", "rows", "weights")

    def __init__(self, base: tuple[int, int]) -> None:
        self.base = base  # its first posting in the built index, and the one after the last
        self.removed = 0  # products, of either part
        self.rows = array("I")
        self.weights = array("H")
        self.fields = array("B")

    def add(self, row: int, weight: int, fields: int) -> None:
        """Adds a posting of the next row. Rows come last: a reader in another thread takes as many of the others as there are rows."""
        self.weights.append(weight)
        self.fields.append(fields)
        self.rows.append(row)

    def added(self) -> TermPart:
        """Returns a copy: an array that lends its memory cannot grow."""
        rows = np.frombuffer(self.rows.tobytes(), np.uint32)
        weights = np.frombuffer(self.weights.tobytes(), np.uint16)
        fields = np.frombuffer(self.fields.tobytes(), np.uint8)
        return TermPart(rows, weights[: len(rows)], fields[: len(rows)])

    @property
    def count(self) -> int:
        """The number of living products that hold the term."""
        start, stop = self.base
        return stop - start + len(self.rows) - self.removed


NewPostings = list[tuple[_Term, int, int, int]]  # term, row, weight and fields, ascending by term and row


class GrowingPostings:
    """The postings of an index. One thread changes them."""

    def __init__(self, base: Postings, analyzer: Analyzer, parameters: Parameters, lengths: Sequence[float]) -> None:
        self.base = base
        self._hashes, self._offsets = base.hashes, base.offsets
        self._rows, self._weights, self._fields = base.rows, base.weights, base.fields
        self._analyzer = analyzer
        self._parameters = parameters
        self._lengths = tuple(lengths)  # mean words of each field, those of the built index
        self._term_ids = TermIds(analyzer, self._split if analyzer.splits_compounds else None)
        self._prose_ids = ProseIds(self._term_ids)
        self._terms: list[_Term] = []  # by the number that `_term_ids` gives
        self._by_hash: dict[int, _Term] = {}

    def parts(self, hashed: int) -> Iterator[TermPart]:
        """Yields the postings of a term: of the built index, and those added since, whose rows are higher. Removed products have theirs."""
        start, stop = self._span(hashed)
        if stop > start:
            yield TermPart(self._rows[start:stop], self._weights[start:stop], self._fields[start:stop])
        term = self._by_hash.get(hashed)
        if term is not None and term.rows:
            yield term.added()

    def count(self, term: str) -> int:
        """Returns the number of living products that hold a term."""
        number = self._term_ids.ids.get(term)
        if number is not None and number < len(self._terms):  # another thread may have numbered it and not be done
            return self._terms[number].count
        start, stop = self._span(term_hash(term))
        return stop - start

    def read(self, start: int, texts: Sequence[Sequence[Sequence[str]]]) -> NewPostings:
        """Returns the postings of products of the rows `start`, `start + 1`, ..., to be added; `texts` are those of each product by field,
        in the order of FIELDS. Searches may run meanwhile. Raises ValueError for more products than postings can hold."""
        if start + len(texts) > MAX_PRODUCTS:
            raise ValueError(f"an index holds at most {MAX_PRODUCTS} products, not {start + len(texts)}")
        ids, numbers, lengths = array("I"), array("q"), array("H")  # of each product and field
        words_of = self._analyzer.words
        for product in texts:
            for field, cells in enumerate(product):
                terms_of = (self._prose_ids if field == DESCRIPTION else self._term_ids).__getitem__
                before, length = len(ids), 0
                for cell in cells:
                    words = words_of(cell) if cell else ()
                    ids.extend(chain.from_iterable(map(terms_of, words)))
                    length += len(words)
                numbers.append(len(ids) - before)
                lengths.append(min(length, MAX_WORDS))
        self._meet_new_terms()
        if not ids:
            return []
        places = np.arange(len(texts), dtype=np.uint64)[:, None] << ROW_SHIFT | np.arange(len(FIELDS), dtype=np.uint64)
        keys = np.frombuffer(ids, np.uint32).astype(np.uint64) << TERM_SHIFT
        keys |= np.repeat(places.ravel(), np.frombuffer(numbers, np.int64))
        keys.sort()
        scale = field_scales(self._parameters, np.frombuffer(lengths, np.uint16).reshape(places.shape), self._lengths)
        pairs, weights, fields = weighed(counted(keys), scale, self._parameters.k1)
        terms = pairs >> (TERM_SHIFT - ROW_SHIFT)
        rows = (pairs & np.uint64(MAX_PRODUCTS - 1)) + np.uint64(start)
        held = map(self._terms.__getitem__, terms.tolist())
        return list(zip(held, rows.tolist(), weights.tolist(), fields.tolist(), strict=True))

    @staticmethod
    def add(new: NewPostings) -> None:
        """Adds postings, whose rows must follow the last."""
        for term, row, weight, bits in new:
            term.add(row, weight, bits)

    def remove(self, row: int, texts: Sequence[Sequence[str]]) -> None:
        """Counts a product no longer; its postings stay. `texts` are those that it was added or built with."""
        words_of = self._analyzer.words
        numbers: set[int] = set()
        for field, cells in enumerate(texts):
            terms_of = (self._prose_ids if field == DESCRIPTION else self._term_ids).__getitem__
            for cell in cells:
                numbers.update(chain.from_iterable(map(terms_of, words_of(cell))))
        self._meet_new_terms()
        may_differ = self._analyzer.splits_compounds  # one may have been split otherwise when the index was built
        for term in map(self._terms.__getitem__, numbers):
            term.removed += not may_differ or self._holds(term, row)

    def _holds(self, term: _Term, row: int) -> bool:
        start, stop = term.base
        if stop > start and row <= self._rows[stop - 1]:
            at = start + int(self._rows[start:stop].searchsorted(np.uint32(row)))
            return bool(self._rows[at] == row)
        at = bisect_left(term.rows, row)
        return at < len(term.rows) and term.rows[at] == row

    def _meet_new_terms(self) -> None:
        ids = self._term_ids.ids
        new = list(islice(reversed(ids), len(ids) - len(self._terms)))  # the last: a walk from the first would pass all
        for term in reversed(new):
            hashed = term_hash(term)
            met = self._by_hash[hashed] = _Term(self._span(hashed))
            self._terms.append(met)

    def _split(self, word: str) -> tuple[str, ...]:
        """Returns the parts of a compound by the counts of the moment at which its word is met first."""
        return split_compound(word, self._analyzer.language, self._analyzer.stem, self.count)

    def _span(self, hashed: int) -> tuple[int, int]:
        at = int(self._hashes.searchsorted(np.uint64(hashed)))
        if at == len(self._hashes) or self._hashes[at] != hashed:
            return 0, 0
        return int(self._offsets[at]), int(self._offsets[at + 1])
