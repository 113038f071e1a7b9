"""BM25F over the fields of a catalogue, with exact masks, in memory-mapped arrays by row.

The posting of a term and a product holds what the product's fields give together (Robertson and Zaragoza, 2009, section 3.6), so that a
search adds one number for each posting: there is no loop over fields, and no score that depends on how the index was built. The same
catalogue always gives the same bytes.

An index grows while it serves: the postings of appended products are in memory (`growing_postings`), weighed with the mean lengths of the
built index, so that no score of another product moves but by how many products hold a term. The files never change.

    term_hashes.npy    (terms,) ascending 64-bit hashes of the terms
    term_offsets.npy   (terms + 1,) the first posting of each term
    posting_rows.npy   (postings,) products, ascending within a term
    posting_weights.npy (postings,) the saturated frequency, 0 to 1, in steps of 1/65,535
    posting_fields.npy (postings,) the fields that hold the term, one bit for each of FIELDS
    lexical.json       language, fields, parameters, mean lengths, the field of each attribute
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Floats, Ints, Progress, UInt64s, silent
from models.errors import InputError
from models.lexical.analysis import PART_WEIGHT, STEMMER_VERSION, Analyzer, Word
from models.lexical.compounds import split_compound
from models.lexical.field_texts import FIELDS, attribute_fields, field_texts, product_texts
from models.lexical.growing_postings import GrowingPostings, NewPostings, TermPart
from models.lexical.postings import Parameters, Postings, PostingsBuilder, term_hash
from models.products.changes import AddedProducts, ChangedOffers, Prepared, RemovedProducts
from models.products.product_table import ProductTable
from models.products.removed_rows import RemovedRows

FORMAT_VERSION = 2
FACTS_FILE = "lexical.json"
MAX_QUERY_WORDS = 64  # distinct words of a query that are searched
MAX_QUERY_CHARS = 512
MAX_KEPT = 4_096  # queries whose words are kept, a few kB each
MAX_KEPT_CHARS = 64  # longer queries seldom recur
_STEP = np.float32(1 / 65_535)
_NAMING = np.uint8(~(1 << FIELDS.index("description")) & 0xFF)  # bits of the fields that say what a product is
_BLOCK = 32  # products whose best score bounds the k-th best


class LexicalError(InputError):
    """A lexical index cannot be read. The message states what it holds and what was expected."""


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """A query as terms with weights. It may be searched in every index of the same language, as that of newer products is."""

    words: tuple[str, ...]  # what is searched: stop words are left out, unless there are only stop words
    hashes: UInt64s  # (terms,)
    weights: Floats  # (terms,) inverse document frequency, times the weight of a part
    word_weights: Floats  # (words,) sums to 1: the more specific a word, the more its absence matters
    wholes: Floats  # (words, terms) 1 where a term is the word
    parts: Floats  # (words, terms) the share of the word that a term is

    @property
    def score_scale(self) -> float:
        """What no score of the query exceeds; 1 for a query without words."""
        return float(self.weights.sum()) or 1.0


@dataclass(frozen=True, slots=True)
class LexicalHits:
    """The best products of a query, best first; of equal ones the first row first."""

    rows: Ints  # (hits,)
    scores: Floats  # (hits,) above 0


@dataclass(frozen=True, slots=True)
class LexicalMatch:
    """How given products match a query."""

    scores: Floats  # (rows,) what a search gives these products; 0 for one that shares no word with the query
    coverage: Floats  # (rows,) the share of the query's words that a product holds in any field, words weighed by how specific they are
    named: Floats  # (rows,) the same without the description, whose prose also names what a product goes with


class LexicalIndex:
    """Finds products by words. Threads may share it: a search keeps its scores in memory of its own thread."""

    def __init__(
        self,
        analyzer: Analyzer,
        postings: Postings,
        num_products: int,
        lengths: Sequence[float],
        *,
        attributes: Mapping[str, str],
        parameters: Parameters,
    ) -> None:
        self.analyzer = analyzer
        self.num_products = num_products  # rows, those of removed products too
        self.lengths = tuple(lengths)  # mean words of each field
        self.attributes = dict(attributes)  # the field of each
        self.version = 0  # raised by each change of products: what was read from the index before may be otherwise now
        # Queries as the index of a whole catalogue reads them, where this one is of a shard: how specific a word is, and whether it is a
        # compound, is counted over all products.
        self.given: Mapping[str, LexicalQuery] = {}
        self._parameters = parameters
        self._postings = GrowingPostings(postings, analyzer, parameters, self.lengths)
        self._new = Prepared(self._read)
        self._removed = RemovedRows()
        self._local = threading.local()
        # Queries recur. Their weights are those of one version; what former ones had leaves the cache as what is used least.
        self._queries = functools.lru_cache(MAX_KEPT)(lambda text, _version: self._read_query(text))

    @classmethod
    def build(
        cls,
        table: ProductTable,
        locale: str,
        *,
        parameters: Parameters | None = None,
        lengths: Sequence[float] | None = None,
        attributes: Mapping[str, str] | None = None,
        progress: Progress = silent,
    ) -> LexicalIndex:
        """Indexes the products in the language of `locale`. With the `lengths` and `attributes` of an older index no posting of a product
        moves; by default both are those of the table."""
        analyzer = Analyzer(locale)
        parameters = parameters or Parameters()
        builder = PostingsBuilder(analyzer, len(table))
        fields = attribute_fields(table, attributes)
        for texts in field_texts(table, fields):
            progress("words", texts.start, len(table))
            builder.add(texts)
        # Rounded as they are stored, so that products weigh the same whether they are built in or added later.
        means = tuple(round(length, 6) for length in lengths or builder.mean_lengths())
        postings = builder.finish(parameters, means)
        return cls(analyzer, postings, len(table), means, attributes=fields, parameters=parameters)

    def save(self, folder: Path) -> None:
        """Writes the index into a folder, which is created. Raises ValueError for one that has changed: it is built anew."""
        if self.version:
            raise ValueError("the index has changed since it was built; build it of the products as they are now")
        folder.mkdir(parents=True, exist_ok=True)
        self._postings.base.save(folder)
        facts = {
            "format_version": FORMAT_VERSION,
            "language": self.analyzer.language,
            "stemmer": STEMMER_VERSION,
            "fields": FIELDS,
            "products": self.num_products,
            "parameters": dataclasses.asdict(self._parameters),
            "lengths": self.lengths,
            "attributes": self.attributes,
        }
        (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, num_products: int) -> LexicalIndex:
        """Maps the index of `num_products` products. Raises LexicalError for another number, format, field or stemmer, and for arrays that
        do not fit each other."""
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        expected: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "stemmer": STEMMER_VERSION,
            "fields": list(FIELDS),
            "products": num_products,
        }
        for name, value in expected.items():
            if facts[name] != value:
                raise LexicalError(
                    f"{FACTS_FILE}: {name} is {facts[name]!r}, expected {value!r}; build the bundle again"
                )
        postings = Postings.load(folder, num_products)
        return cls(
            Analyzer(facts["language"]),
            postings,
            num_products,
            facts["lengths"],
            attributes=facts["attributes"],
            parameters=Parameters(**facts["parameters"]),
        )

    def prepare(self, added: AddedProducts) -> None:
        """Reads the words of products before they are appended. Searches may run meanwhile."""
        self._new.prepare(added)

    def _read(self, added: AddedProducts) -> NewPostings:
        return self._postings.read(added.start, [product_texts(product, self.attributes) for product in added.products])

    def append(self, added: AddedProducts) -> None:
        """Indexes further products. Raises ValueError for rows that do not follow the last."""
        if added.start != self.num_products:
            raise ValueError(f"the next row is {self.num_products}, not {added.start}")
        self._postings.add(self._new.take(added))
        self.num_products += len(added.products)
        self.version += 1

    def remove(self, removed: RemovedProducts) -> None:
        """Counts products no longer. Their postings stay: searches are masked."""
        for row, product in zip(removed.rows.tolist(), removed.products, strict=True):
            self._postings.remove(row, product_texts(product, self.attributes))
        self._removed.add(removed.rows)
        self.version += 1

    def change_offers(self, changed: ChangedOffers) -> None:
        """Does nothing: no text changes."""

    def query(self, text: str) -> LexicalQuery:
        """Returns the query, cut to MAX_QUERY_CHARS characters and MAX_QUERY_WORDS distinct words. Stop words are left out unless there is
        nothing else."""
        if (given := self.given.get(text)) is not None:
            return given
        return self._queries(text, self.version) if len(text) <= MAX_KEPT_CHARS else self._read_query(text)

    def _read_query(self, text: str) -> LexicalQuery:
        words = list(dict.fromkeys(self.analyzer.words(text[:MAX_QUERY_CHARS])))[:MAX_QUERY_WORDS]
        words = [word for word in words if not self.analyzer.is_stop_word(word)] or words
        return _QueryTerms(self, words).query()

    def search(self, query: LexicalQuery, k: int, mask: Bools | None = None) -> LexicalHits:
        """Returns the `k` best products that share a term with the query and that `mask` (products,) admits: all, if it is None, also those
        that were removed."""
        parts = [
            (part, weight)
            for hashed, weight in zip(query.hashes.tolist(), query.weights * _STEP, strict=True)
            for part in self._postings.parts(hashed)
        ]
        if not parts or k < 1:
            return LexicalHits(np.empty(0, np.int64), np.empty(0, np.float32))
        scores = self._scratch()
        try:
            for part, weight in parts:
                np.add.at(scores, part.rows.astype(np.int64), part.weights * weight)
            if mask is not None:
                scores[: self.num_products] *= mask
            return _best(scores, k)
        finally:
            scores.fill(0)

    def match(self, query: LexicalQuery, rows: npt.NDArray[np.integer]) -> LexicalMatch:
        """Returns the scores of given products, and the share of the query's words that each holds."""
        if not len(query.hashes) or not len(rows):
            zeros = np.zeros(len(rows), np.float32)
            return LexicalMatch(zeros, zeros, zeros)
        weights = np.zeros((len(query.hashes), len(rows)), np.float32)
        fields = np.zeros((len(query.hashes), len(rows)), np.uint8)
        wanted = rows.astype(np.uint32)
        for at, hashed in enumerate(query.hashes.tolist()):
            for part in self._postings.parts(hashed):
                _add_matches(part, wanted, weights[at], fields[at])
        held = np.concatenate([fields > 0, fields & _NAMING > 0], axis=1, dtype=np.float32)  # (terms, 2 * rows)
        words = np.maximum(np.minimum(query.wholes @ held, 1), query.parts @ held)
        coverage, named = (query.word_weights @ words).astype(np.float32).reshape(2, len(rows))
        scores = ((query.weights * _STEP) @ weights).astype(np.float32)
        return LexicalMatch(scores, coverage, named)

    def holding(self, text: str) -> Ints:
        """Returns the rows of the living products that hold all words of a text, ascending; of a compound that no product has, all parts.
        Nothing for a text without words."""
        query = self.query(text)
        holders: Ints | None = None
        for at in range(len(query.words)):
            whole = self._rows_of_any(query.hashes[query.wholes[at] > 0])
            parts = [self._rows_of_any(query.hashes[[term]]) for term in np.flatnonzero(query.parts[at]).tolist()]
            together = functools.reduce(np.intersect1d, parts) if parts else whole
            rows = np.union1d(whole, together)
            holders = rows if holders is None else np.intersect1d(holders, rows)
        return np.zeros(0, np.int64) if holders is None else self._removed.living(holders)

    def naming(self, query: LexicalQuery) -> Ints:
        """Returns the rows, ascending, of all products that hold every word of the query in a field that says what they are: not in the
        description alone. Those of removed products are among them. Nothing for a query without words."""
        if not query.words:
            return np.zeros(0, np.int64)
        holds_all = np.ones(self.num_products, np.bool_)
        for at in range(len(query.words)):
            holds = np.zeros(self.num_products, np.bool_)
            for term in np.flatnonzero(query.wholes[at]).tolist():
                holds |= self._named_by(query.hashes[term])
            parts = [self._named_by(query.hashes[term]) for term in np.flatnonzero(query.parts[at]).tolist()]
            holds_all &= holds | np.logical_and.reduce(parts) if parts else holds
        return np.flatnonzero(holds_all)

    def _named_by(self, hashed: np.uint64) -> Bools:
        """Returns (products,) True for those that hold a term in a field that says what they are."""
        named = np.zeros(self.num_products, np.bool_)
        for part in self._postings.parts(int(hashed)):
            named[part.rows[part.fields & _NAMING > 0]] = True
        return named

    def _rows_of_any(self, hashes: UInt64s) -> Ints:
        parts = [part for hashed in hashes.tolist() for part in self._postings.parts(hashed)]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)], dtype=np.int64))

    def count(self, term: str) -> int:
        """Returns the number of living products that hold a term."""
        return self._postings.count(term)

    def inverse_frequency(self, count: int) -> float:
        """Returns the weight of a term that `count` products hold (Robertson and Spärck Jones, never negative)."""
        living = self.num_products - self._removed.count
        return math.log(1 + (living - count + 0.5) / (count + 0.5))

    def _scratch(self) -> Floats:
        """Returns this thread's zeros, at least one for each product, up to a multiple of _BLOCK."""
        scores: Floats | None = getattr(self._local, "scores", None)
        if scores is None or len(scores) < self.num_products:
            room = self.num_products // 8 if self.version else 0  # for products to come
            scores = self._local.scores = np.zeros(-(-(self.num_products + room) // _BLOCK) * _BLOCK, np.float32)
        return scores


class _QueryTerms:
    """Collects the terms of a query's words."""

    def __init__(self, index: LexicalIndex, words: Sequence[str]) -> None:
        self._index, self._words = index, words
        self._weights: dict[str, float] = {}
        self._wholes: list[tuple[int, str]] = []  # word, term
        self._parts: list[tuple[int, str, float]] = []
        self._word_weights: list[float] = []

    def query(self) -> LexicalQuery:
        for at, word in enumerate(self._words):
            self._add(at, self._split(word))
        self._add_joined()
        terms = {term: at for at, term in enumerate(self._weights)}
        wholes = np.zeros((len(self._words), len(terms)), np.float32)
        parts = np.zeros_like(wholes)
        for at, term in self._wholes:
            wholes[at, terms[term]] = 1
        for at, term, share in self._parts:
            parts[at, terms[term]] += share
        word_weights = np.array(self._word_weights, np.float32)
        return LexicalQuery(
            tuple(self._words),
            np.array([term_hash(term) for term in terms], np.uint64),
            np.array(list(self._weights.values()), np.float32),
            word_weights / max(1e-9, word_weights.sum()),
            wholes,
            parts,
        )

    def _split(self, word: str) -> Word:
        """Returns the word with the parts of a compound: in a language that writes them as one, and of a word that no product has."""
        index, analyzer = self._index, self._index.analyzer
        analyzed = analyzer.word(word)
        if analyzed.parts or not word.isalpha() or not (analyzer.splits_compounds or not index.count(analyzed.term)):
            return analyzed
        parts = split_compound(word, analyzer.language, analyzer.stem, index.count)
        return dataclasses.replace(analyzed, parts=tuple(dict.fromkeys(parts)))

    def _add(self, at: int, word: Word) -> None:
        index = self._index
        count = index.count(word.term) if word.term else 0
        stands_for_parts = word.is_sum or not count
        if word.term:
            self._wholes.append((at, word.term))
            self._weigh(word.term, PART_WEIGHT if word.is_sum and word.parts else 1.0)
        for part in word.parts:
            self._parts.append((at, part, 1 / len(word.parts)))
            self._weigh(part, 1.0 if stands_for_parts else PART_WEIGHT)
        rarest = min((number for part in word.parts if (number := index.count(part))), default=0)
        self._word_weights.append(index.inverse_frequency(count or rarest))

    def _add_joined(self) -> None:
        """Adds "wifi" for "wi fi", and "hx4210" for "hx 4210", where a product has it. It counts no more than its two words together."""
        index = self._index
        for at, (first, second) in enumerate(pairwise(self._words)):
            if not (first + second).isalnum() or (first[-1].isdigit() and second[0].isdigit()):
                continue
            joined = index.analyzer.word(first + second).term
            if joined and joined not in self._weights and (count := index.count(joined)):
                both = self._word_weights[at] + self._word_weights[at + 1]
                self._weights[joined] = min(index.inverse_frequency(count), both)
                self._wholes += [(at, joined), (at + 1, joined)]

    def _weigh(self, term: str, weight: float) -> None:
        weight *= self._index.inverse_frequency(self._index.count(term))
        self._weights[term] = max(weight, self._weights.get(term, 0.0))


def _add_matches(
    part: TermPart, wanted: npt.NDArray[np.uint32], weights: Floats, fields: npt.NDArray[np.uint8]
) -> None:
    """Adds the weights and fields of the postings of the `wanted` rows (rows,)."""
    places = np.searchsorted(part.rows, wanted)
    places[places == len(part.rows)] = 0
    there = part.rows[places] == wanted
    weights += part.weights[places] * there
    fields += part.fields[places] * there


def _best(scores: Floats, k: int) -> LexicalHits:
    """Returns the `k` best of scores above 0. The best of each block of products bounds the k-th best, so that few products are sorted."""
    blocks = scores.reshape(_BLOCK, -1)  # the products at, at + stride, ... form a block
    best = blocks.max(axis=0)
    columns = np.flatnonzero(best)
    if len(columns) > k:
        bound = np.partition(best[columns], len(columns) - k)[len(columns) - k]
        columns = columns[best[columns] >= bound]
    else:
        bound = np.float32(0)
    inside = blocks[:, columns]
    lines, at = np.nonzero((inside >= bound) & (inside > 0))
    rows = lines * blocks.shape[1] + columns[at]
    found = inside[lines, at]
    order = np.lexsort((rows, -found))[:k]
    return LexicalHits(rows[order], found[order])
