"""What goes to one shard of the retriever and what comes back.

A shard knows its own products alone, by rows of its own. What a query means depends on all products (how specific a word is, which values
have a name, how many products an identifier has), so a query comes read. What is the best of all shards is decided where their parts come
together (`shard_merge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools, Codes, Doubles, Floats, Ints
from models.lexical.lexical_index import LexicalQuery
from models.products.identifiers import IdentifierMatch
from serving.compute.filter_masks import Column
from serving.compute.named_values import NamedQuery
from serving.compute.pool import LEVELS, Pool
from serving.compute.retrieval import ScoreItem, SearchItem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadText:
    """A text as the whole catalogue reads it; None where it is not asked for that."""

    words: LexicalQuery | None = None
    named: NamedQuery | None = None
    identifiers: tuple[IdentifierMatch, ...] | None = None  # with the rows of the shard
    identifier_keys: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardItem:
    """An item in the rows of a shard. A search takes `leg_depth` products of each leg, and scores the best `num_scored` of
    them, level by level (`serving.compute.pool.LEVELS`) of a shard."""

    item: SearchItem | ScoreItem
    texts: Mapping[str, ReadText]
    leg_depth: int = 0
    num_scored: int = 0
    levels: tuple[int, ...] = LEVELS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FacetPart:
    """How many of a shard's products have each value of a field. Values that the catalogue was built with have one number everywhere."""

    numbers: Codes  # (values,) of those that a product has
    counts: Ints  # (values,)
    arrived: tuple[tuple[str | float, int], ...]  # later values
    num_products: int  # that were counted over

    @classmethod
    def of(cls, column: Column, counts: Ints, num_products: int) -> FacetPart:
        present = np.flatnonzero(counts)
        frozen = present[: int(np.searchsorted(present, column.num_frozen))]
        arrived = tuple((column.value(number), int(counts[number])) for number in present[len(frozen) :].tolist())
        return cls(numbers=frozen.astype(np.int32), counts=counts[frozen], arrived=arrived, num_products=num_products)

    def add_to(self, counts: Ints, column: Column) -> None:
        """Adds the counts to those of all values (values,) of a whole catalogue's column."""
        counts[self.numbers] += self.counts
        for value, count in self.arrived:
            number = column.number(value)
            if number is not None and number < len(counts):
                counts[number] += count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardFacet:
    """A facet's counts over all products that pass or match; or, with the filter on its field left out, what each reading of the query
    finds, of which the best are counted. Neither where the best of the search itself are."""

    counts: FacetPart | None = None
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ordered:
    """Products in the order of a value, or the first of each group: as many as the answer may need. `num_products` pass or match.

    `is_unfit` says which state another value than the query names, where no product of the shard does better."""

    rows: Ints  # (products,)
    keys: Doubles  # (products,) what orders them, ascending, equals by row
    readings: Ints  # (products,) numbers of the readings that they match
    num_products: int
    is_unfit: Bools | None = None  # (products,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardScores:
    """The student's chances (scored, 3) of a shard's best, each for the reading that found it, and what it read (scored, features)."""

    readings: Ints
    rows: Ints
    chances: Floats
    features: Floats | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardFound:
    """What one shard found for one search."""

    num_matching: int  # products that pass the filter
    pools: tuple[
        Pool, ...
    ] = ()  # of each reading of the query; where a value orders, the first of those with their evidence
    values: tuple[Doubles, ...] = ()  # of each pool, (products,) what orders them where a value does
    ordered: Ordered | None = None
    facets: tuple[ShardFacet, ...] = ()
    scores: ShardScores | None = None
    sequence: int = 0
