"""A judged set: queries, product texts and relevance judgements of pairs, with the evaluation protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from models.arrays import Bools, Codes, Doubles, Ints
from models.errors import InputError
from models.evaluation.buckets import Bucket
from models.evaluation.metrics import Relevance


class JudgedSetError(InputError):
    """A judged set cannot be read or is invalid; the message names the file or field and the expected content."""


class Pool(StrEnum):
    """The products that are ranked for a query."""

    CATALOGUE = "catalogue"  # all products; unjudged ones are irrelevant
    JUDGED = "judged"  # only the products judged for the query


@dataclass(frozen=True, slots=True)
class Protocol:
    """How judgements become metrics."""

    gains: Mapping[str, float]  # label -> gain in NDCG; 0: irrelevant
    relevant: tuple[str, ...]  # labels that count as relevant in Recall, MRR, MAP, AUC and AP
    pool: Pool
    ndcg_at: int | None = 10  # None: the whole ranking
    mrr_at: int | None = None
    ks: tuple[int, ...] = (10, 100)  # of Recall
    split: str = "all"  # which part of the data
    text: str = ""  # the product fields that are encoded
    source: str = ""  # origin of the data and its protocol

    def __post_init__(self) -> None:
        unknown = [label for label in self.relevant if not self.gains.get(label, 0.0) > 0]
        if unknown or not self.relevant:
            raise ValueError(
                f"relevant labels {', '.join(unknown) or 'none'} need a gain above 0 in {dict(self.gains)}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.gains)

    def describe(self) -> str:
        """Returns the protocol as a sentence for the report."""
        gains = ", ".join(f"{label} {gain:g}" for label, gain in self.gains.items())
        ndcg = f"NDCG@{self.ndcg_at}" if self.ndcg_at else "NDCG of the whole ranking"
        return (
            f"{ndcg} with gains {gains}; relevant in Recall, MRR, MAP, AUC and AP: {', '.join(self.relevant)}; ranked: the {self.pool}'s "
            f"products; split: {self.split}; product text: {self.text or 'as given'}. {self.source}"
        ).rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class JudgedSet:
    """Judgements ordered by query, then product, each pair once. Build it with `JudgedSet.from_judgements`."""

    name: str
    protocol: Protocol
    queries: Sequence[str]
    products: Sequence[str]  # product texts
    query_rows: Ints  # (judgements,) ascending
    product_rows: Ints  # (judgements,)
    labels: Codes  # (judgements,) positions in protocol.labels
    query_buckets: Mapping[str, Bucket] = field(default_factory=dict)  # each (queries,)
    product_buckets: Mapping[str, Bucket] = field(default_factory=dict)  # each (products,)
    is_simulated: bool = False
    num_repeated: int = 0  # duplicate judgements of a pair left out; the highest gain was kept

    def __post_init__(self) -> None:
        if not len(self.queries) or not len(self.products) or not len(self.labels):
            raise JudgedSetError(
                f"{self.name}: {len(self.queries):,} queries, {len(self.products):,} products and {len(self.labels):,} judgements; "
                "at least one of each is needed"
            )
        for name, rows, size in (
            ("query", self.query_rows, len(self.queries)),
            ("product", self.product_rows, len(self.products)),
        ):
            if len(rows) != len(self.labels) or rows.min() < 0 or rows.max() >= size:
                raise JudgedSetError(f"{self.name}: judgements must name {name} rows 0 to {size - 1:,}")

    @classmethod
    def from_judgements(
        cls,
        name: str,
        protocol: Protocol,
        queries: Sequence[str],
        products: Sequence[str],
        judgements: tuple[Ints, Ints, Codes],
        *,
        query_buckets: Mapping[str, Bucket] | None = None,
        product_buckets: Mapping[str, Bucket] | None = None,
        is_simulated: bool = False,
    ) -> JudgedSet:
        """Builds a judged set from query rows, product rows and labels (positions in protocol.labels), in any order.

        If a pair has several judgements, keeps the one with the highest gain.
        """
        query_rows, product_rows, labels = judgements
        gains = np.array(list(protocol.gains.values()))[labels]
        order = np.lexsort((-gains, product_rows, query_rows))
        query_rows, product_rows, labels = query_rows[order], product_rows[order], labels[order]
        is_first = np.ones(len(labels), np.bool_)
        is_first[1:] = (np.diff(query_rows) != 0) | (np.diff(product_rows) != 0)
        return cls(
            name,
            protocol,
            queries,
            products,
            query_rows[is_first].astype(np.int64),
            product_rows[is_first].astype(np.int64),
            labels[is_first].astype(np.int32),
            query_buckets or {},
            product_buckets or {},
            is_simulated,
            int(np.count_nonzero(~is_first)),
        )

    @property
    def gains(self) -> Doubles:
        """The gain of each judgement (judgements,)."""
        return np.array(list(self.protocol.gains.values()), np.float64)[self.labels]

    @property
    def is_relevant(self) -> Bools:
        """Whether each judgement counts as relevant (judgements,)."""
        by_label = np.array([label in self.protocol.relevant for label in self.protocol.labels])
        return np.asarray(by_label[self.labels], np.bool_)

    def relevant(self, keep: Bools | None = None) -> Relevance:
        """Returns the relevant products, each of grade 1, for Recall, MRR and MAP; only of the judgements `keep`, if given."""
        rows = np.flatnonzero(self.is_relevant if keep is None else self.is_relevant & keep)
        return Relevance(self.query_rows[rows], self.product_rows[rows], np.ones(len(rows)), len(self.queries))

    def graded(self, keep: Bools | None = None) -> Relevance:
        """Returns the products with a gain, for NDCG; only of the judgements `keep`, if given."""
        gains = self.gains
        rows = np.flatnonzero((gains > 0) if keep is None else (gains > 0) & keep)
        return Relevance(self.query_rows[rows], self.product_rows[rows], gains[rows], len(self.queries))
