"""The postings of a catalogue: counted in blocks of products, weighed, and merged by term."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints, UInt64s
from models.lexical.analysis import Analyzer
from models.lexical.compounds import split_compound
from models.lexical.field_texts import FIELDS, FieldTexts

MAX_PRODUCTS = 1 << 29
MAX_WORDS = 65_535  # of a field; further ones make it no longer
FULL_WEIGHT = 65_535  # the step of a stored weight is its inverse
DESCRIPTION = FIELDS.index("description")
ROW_SHIFT, TERM_SHIFT = np.uint64(3), np.uint64(32)
_FILES = {
    "hashes": ("term_hashes.npy", np.uint64),
    "offsets": ("term_offsets.npy", np.int64),
    "rows": ("posting_rows.npy", np.uint32),
    "weights": ("posting_weights.npy", np.uint16),
    "fields": ("posting_fields.npy", np.uint8),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a term counts in each field, how far long fields count less, and how soon repetition saturates.

    The defaults were chosen among 26 settings on 1,600 known items (queries derived from titles) of two real electronics catalogues and 62
    judged queries of one of them. Neighbours differ little: MRR@10 .672 to .681 and .718 to .731, NDCG@10 .71 to .74.
    """

    k1: float = 1.2
    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "identifiers": 2.0, "title": 6.0, "brand": 1.5, "category": 2.0, "attributes": 0.6, "description": 0.3,
        },
    )  # fmt: skip
    lengths: Mapping[str, float] = field(  # b: 0 ignores the length of a field, 1 divides by it
        default_factory=lambda: {
            "identifiers": 0.0, "title": 0.5, "brand": 0.0, "category": 0.5, "attributes": 0.75, "description": 0.75,
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Postings:
    """The arrays of an index; see `lexical_index`."""

    hashes: UInt64s
    offsets: Ints
    rows: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.uint16]
    fields: npt.NDArray[np.uint8]

    def save(self, folder: Path) -> None:
        for name, (file, _) in _FILES.items():
            np.save(folder / file, getattr(self, name))

    @classmethod
    def load(cls, folder: Path, num_products: int) -> Postings:
        """Maps the arrays. Raises ValueError for arrays that do not fit each other or the number of products."""
        arrays = {}
        for name, (file, dtype) in _FILES.items():
            loaded = np.load(folder / file, mmap_mode="r")
            if loaded.dtype != dtype or loaded.ndim != 1:
                raise ValueError(
                    f"{file} holds {loaded.dtype} of shape {loaded.shape}, expected {np.dtype(dtype)} in one dimension"
                )
            arrays[name] = np.asarray(loaded)  # slices of a memmap cost ten times those of an array
        postings = cls(**arrays)
        offsets, rows = postings.offsets, postings.rows
        if len(offsets) != len(postings.hashes) + 1 or offsets[0] != 0 or (np.diff(offsets) < 1).any():
            raise ValueError(f"{len(offsets)} offsets do not fit {len(postings.hashes)} terms")
        if not len(rows) == len(postings.weights) == len(postings.fields) == offsets[-1]:
            raise ValueError(
                f"there are {len(rows)} rows, {len(postings.weights)} weights and {len(postings.fields)} fields, "
                f"the offsets say {offsets[-1]}"
            )
        if len(rows) and rows.max() >= num_products:
            raise ValueError(f"rows go to {rows.max()}, there are {num_products} products")
        return postings


def term_hash(term: str) -> int:
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class Block:
    """Occurrences in consecutive products, ascending: the key is the term, the row and the field."""

    keys: UInt64s
    counts: npt.NDArray[np.uint8]


class PostingsBuilder:
    """Counts the terms of products that are added in order of row."""

    def __init__(self, analyzer: Analyzer, num_products: int) -> None:
        if num_products > MAX_PRODUCTS:
            raise ValueError(f"an index holds at most {MAX_PRODUCTS} products, not {num_products}")
        self._analyzer = analyzer
        self._term_ids = TermIds(analyzer)
        self._prose_ids = ProseIds(self._term_ids)
        self._lengths = np.zeros((num_products, len(FIELDS)), np.uint16)  # words
        self._blocks: list[Block] = []

    def add(self, texts: FieldTexts) -> None:
        """Adds the next products."""
        words_of = self._analyzer.words
        keys: list[UInt64s] = []
        for number, (holders, cells) in enumerate(texts.cells.values()):
            terms_of = (self._prose_ids if number == DESCRIPTION else self._term_ids).__getitem__
            ids, numbers, lengths = array("I"), array("q"), array("q")
            for text in cells:
                words = words_of(text)
                before = len(ids)
                ids.extend(chain.from_iterable(map(terms_of, words)))
                numbers.append(len(ids) - before)
                lengths.append(len(words))
            total = np.bincount(holders - texts.start, np.frombuffer(lengths, np.int64), texts.stop - texts.start)
            self._lengths[texts.start : texts.stop, number] = np.minimum(total, MAX_WORDS)
            if not ids:
                continue
            rows = np.repeat(holders.astype(np.uint64), np.frombuffer(numbers, np.int64))
            terms = np.frombuffer(ids, np.uint32).astype(np.uint64)
            keys.append(terms << TERM_SHIFT | rows << ROW_SHIFT | np.uint64(number))
        if keys:
            self._blocks.append(counted(np.sort(np.concatenate(keys))))

    def mean_lengths(self) -> tuple[float, ...]:
        """Returns the mean number of words of each field, over the products that have the field; 1 for a field that none has."""
        filled = np.maximum(1, (self._lengths > 0).sum(axis=0))
        return tuple(float(max(1.0, length)) for length in self._lengths.sum(axis=0, dtype=np.float64) / filled)

    def finish(self, parameters: Parameters, lengths: Sequence[float]) -> Postings:
        """Returns the postings, weighed with mean lengths (fields,)."""
        if self._analyzer.splits_compounds:
            self._blocks = self._split_compounds()
        terms = list(self._term_ids.ids)
        hashes = np.fromiter(map(term_hash, terms), np.uint64, len(terms))
        order = np.argsort(hashes)
        counts = self._counts()
        offsets = np.concatenate(([0], np.cumsum(counts[order])))
        cursors = np.empty(len(terms), np.int64)
        cursors[order] = offsets[:-1]
        rows = np.empty(offsets[-1], np.uint32)
        weights = np.empty(offsets[-1], np.uint16)
        fields = np.empty(offsets[-1], np.uint8)
        scale = field_scales(parameters, self._lengths, lengths)
        for block in self._blocks:
            pairs, weight, bits = weighed(block, scale, parameters.k1)
            term = (pairs >> (TERM_SHIFT - ROW_SHIFT)).astype(np.int64)
            starts = np.flatnonzero(np.diff(term, prepend=-1))
            number = np.diff(np.append(starts, len(term)))
            at = np.repeat(cursors[term[starts]] - starts, number) + np.arange(len(term))
            cursors[term[starts]] += number
            rows[at] = (pairs & np.uint64(MAX_PRODUCTS - 1)).astype(np.uint32)
            weights[at] = weight
            fields[at] = bits
        return Postings(hashes[order], offsets, rows, weights, fields)

    def _counts(self) -> Ints:
        """Returns the number of products of each term, (terms,)."""
        counts = np.zeros(len(self._term_ids.ids), np.int64)
        for block in self._blocks:
            pairs = block.keys >> ROW_SHIFT
            first = np.diff(pairs, prepend=pairs[:1] + np.uint64(1)) != 0
            counts += np.bincount((pairs[first] >> (TERM_SHIFT - ROW_SHIFT)).astype(np.int64), minlength=len(counts))
        return counts

    def _split_compounds(self) -> list[Block]:
        """Returns the blocks with the parts of compounds as further occurrences."""
        ids, analyzer, counts = self._term_ids.ids, self._analyzer, self._counts()

        def count(term: str) -> int:
            number = ids.get(term)
            return 0 if number is None else int(counts[number])

        parts = {
            ids[term]: split
            for word in self._term_ids.plain_words
            if (term := analyzer.stem(word)) in ids
            and (split := split_compound(word, analyzer.language, analyzer.stem, count))
        }
        if not parts:
            return self._blocks
        numbers = np.zeros(len(ids) + 1, np.int64)
        numbers[[term + 1 for term in parts]] = [len(split) for split in parts.values()]
        starts = np.cumsum(numbers)
        flat = np.array([ids[part] for term in sorted(parts) for part in parts[term]], np.uint64)
        return [_with_parts(block, starts, flat) for block in self._blocks]


class TermIds(dict[str, tuple[int, ...]]):
    """Numbers the terms in order of appearance: word -> the terms that it stands for.

    `split` gives the terms of a compound's parts, which its word then stands for too. Without it the words that may be compounds are
    collected, to be split when all terms are counted.
    """

    def __init__(self, analyzer: Analyzer, split: Callable[[str], tuple[str, ...]] | None = None) -> None:
        self.analyzer = analyzer
        self.ids: dict[str, int] = {}
        self.plain_words: list[str] = []  # those that may be compounds
        self._split = split

    def __missing__(self, word: str) -> tuple[int, ...]:
        analyzed = self.analyzer.word(word)
        terms = list(
            dict.fromkeys(
                (analyzed.term, *analyzed.parts, *analyzed.letters)
                if analyzed.term
                else (*analyzed.parts, *analyzed.letters)
            )
        )
        if not analyzed.parts and word.isalpha():
            if self._split:
                terms += self._split(word)
            else:
                self.plain_words.append(word)
        numbers = self[word] = tuple(self.ids.setdefault(term, len(self.ids)) for term in terms)
        return numbers


class ProseIds(dict[str, tuple[int, ...]]):
    """The terms of words in long texts: stop words have none, which saves a quarter of the postings."""

    def __init__(self, term_ids: TermIds) -> None:
        self._term_ids = term_ids

    def __missing__(self, word: str) -> tuple[int, ...]:
        numbers = self[word] = () if self._term_ids.analyzer.is_stop_word(word) else self._term_ids[word]
        return numbers


def counted(keys: UInt64s) -> Block:
    """Counts equal keys of a sorted array, up to 255."""
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    counts = np.diff(np.append(starts, len(keys)))
    return Block(keys[starts], np.minimum(counts, 255).astype(np.uint8))


def field_scales(parameters: Parameters, lengths: npt.NDArray[np.uint16], means: Sequence[float]) -> Floats:
    """Returns what one occurrence counts in each field of products that have `lengths` (products, fields) words."""
    weights = np.array([parameters.weights[name] for name in FIELDS], np.float32)
    b = np.array([parameters.lengths[name] for name in FIELDS], np.float32)
    return np.asarray(weights / (1 - b + b * lengths / np.array(means, np.float32)), np.float32)


def weighed(block: Block, scale: Floats, k1: float) -> tuple[UInt64s, npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Returns term and row as one number, the saturated frequency in steps and the fields, all (postings,)."""
    pairs = block.keys >> ROW_SHIFT
    rows = (pairs & np.uint64(MAX_PRODUCTS - 1)).astype(np.int64)
    field_of = (block.keys & np.uint64(7)).astype(np.int64)
    frequencies = scale[rows, field_of] * block.counts
    starts = np.flatnonzero(np.diff(pairs, prepend=pairs[:1] + np.uint64(1)))
    summed = np.add.reduceat(frequencies, starts, dtype=np.float64)
    bits = np.bitwise_or.reduceat((1 << field_of).astype(np.uint8), starts)
    steps = np.maximum(1, np.rint(summed / (k1 + summed) * FULL_WEIGHT)).astype(np.uint16)
    return pairs[starts], steps, bits


def _with_parts(block: Block, starts: Ints, flat: UInt64s) -> Block:
    """Adds the parts of compounds. Those of term t are flat[starts[t]:starts[t + 1]]."""
    terms = (block.keys >> TERM_SHIFT).astype(np.int64)
    numbers = starts[terms + 1] - starts[terms]
    compounds = np.flatnonzero(numbers)
    if not len(compounds):
        return block
    number = numbers[compounds]
    first = np.cumsum(number) - number
    at = np.repeat(starts[terms[compounds]] - first, number) + np.arange(number.sum())
    where = np.repeat(block.keys[compounds] & np.uint64(0xFFFFFFFF), number)
    keys = np.concatenate([block.keys, flat[at] << TERM_SHIFT | where])
    counts = np.concatenate([block.counts, np.repeat(block.counts[compounds], number)])
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order].astype(np.int64)
    begin = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    return Block(keys[begin], np.minimum(np.add.reduceat(counts, begin), 255).astype(np.uint8))
