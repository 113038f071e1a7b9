"""The products that the legs of one search found, with the evidence of every leg, and which of them are its candidates.

A pool may be made in parts: those of the shards of a catalogue together say what one search of the whole catalogue would say, since a
product's evidence depends on nothing but the product, and its rank in a leg on what the leg orders by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Doubles, Floats, Ints
from serving.compute.retrieval import Candidates

# A search for the best k takes as many products of each leg as the next of these. Which candidates there are depends on that depth, so the
# places up to a level stay where a search of that level puts them: pages follow each other.
LEVELS = (200, 800, 3200, 12_800)
# The legs behind those of vectors, from the end.
CLICKED, LEXICAL, NAMED = -3, -2, -1


class Leg(NamedTuple):
    """What one leg found, best first."""

    positions: Ints  # (products,) where they are in the pool
    keys: npt.NDArray[np.floating]  # (products,) what orders them: the greatest first, equals by row
    depth: int = 0  # products that it takes at most; 0 for all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """The products of all legs. Boosts are None where nothing can have one."""

    rows: Ints  # (products,)
    scores: Doubles  # (products,) in the index
    totals: Doubles  # (products,) with all boosts
    legs: tuple[Leg, ...]
    identifier_boosts: Doubles | None
    type_boosts: Doubles | None
    click_boosts: Floats | None
    lexical_boosts: Floats  # (products,)
    coverages: Floats  # (products,)
    evidence: Floats  # (products, 2) the `word_evidence`
    matched: dict[int, list[str]]  # by row, the identifiers behind a boost
    holds_words: bool  # a product within the filter holds a word of the query, found by words or by an identifier; or words are not known
    feature_boosts: Floats | None = (
        None  # (products, weights) what each static feature adds, where that is known already
    )

    def ranks(self, leg: int) -> Ints:
        """Returns (products,) the rank of each product in a leg, from 1; 0 where the leg did not find it."""
        positions = self.legs[leg].positions
        ranks = np.zeros(len(self.rows), np.int64)
        ranks[positions] = np.arange(1, len(positions) + 1)
        return ranks

    def best(self, k: int, levels: Sequence[int] = LEVELS) -> Ints:
        """Returns the positions of the k best, best first, equals by row; level by level, see LEVELS."""
        places = np.full(len(self.rows), levels[-1])  # the best of each in a leg, from 0
        for leg in self.legs:
            places[leg.positions] = np.minimum(places[leg.positions], np.arange(len(leg.positions)))
        order = np.lexsort((self.rows, -self.totals))
        chosen = np.zeros(len(order), np.bool_)
        best: list[Ints] = []
        for level in levels:
            added = order[~chosen[order] & (places[order] < level)][: min(k, level) - int(chosen.sum())]
            chosen[added] = True
            best.append(added)
            if k <= level:
                break
        return np.concatenate(best)

    def candidates(
        self, best: Ints, similarities: list[float], feature_boosts: list[tuple[float, ...]], *, is_ranked: bool = True
    ) -> Candidates:
        """Returns the products at the positions `best`, in that order. No leg has ranked them unless `is_ranked`."""
        rows = self.rows[best].tolist()
        zeros = [0] * len(rows)
        return Candidates(
            rows=rows,
            scores=self.totals[best].tolist(),
            similarities=similarities,
            identifier_boosts=_listed(self.identifier_boosts, best),
            type_boosts=_listed(self.type_boosts, best),
            feature_boosts=feature_boosts,
            lexical_boosts=self.lexical_boosts[best].tolist(),
            coverages=self.coverages[best].tolist(),
            words=self.evidence[best],
            click_boosts=_listed(self.click_boosts, best),
            vector_ranks=self.ranks(0)[best].tolist() if is_ranked else zeros,
            lexical_ranks=self.ranks(LEXICAL)[best].tolist() if is_ranked else zeros,
            click_ranks=self.ranks(CLICKED)[best].tolist() if is_ranked and self.click_boosts is not None else zeros,
            matched={row: self.matched[row] for row in rows if row in self.matched} if self.matched else {},
            holds_words=self.holds_words or bool(self.matched) or bool(self.evidence.any()),
        )

    def split_scores(self, best: Ints) -> tuple[list[float], list[tuple[float, ...]]]:
        """Returns the similarities of products and what each static feature adds, where the pool knows the latter."""
        added, scores = self.feature_boosts, self.scores[best]
        if added is None or not added.shape[1]:
            return scores.tolist(), [()] * len(best)
        return (scores.astype(np.float32) - added[best].sum(axis=1)).tolist(), list(map(tuple, added[best].tolist()))

    def within(self, kept: Bools) -> Pool:
        """Returns the pool without the products that are not `kept` (products,)."""
        if kept.all():
            return self
        new_position = np.cumsum(kept) - 1
        rows = set(self.rows[kept].tolist())

        def leg_of(leg: Leg) -> Leg:
            inside = kept[leg.positions]
            return Leg(new_position[leg.positions[inside]], leg.keys[inside], leg.depth)

        return Pool(
            rows=self.rows[kept],
            scores=self.scores[kept],
            totals=self.totals[kept],
            legs=tuple(map(leg_of, self.legs)),
            identifier_boosts=None if self.identifier_boosts is None else self.identifier_boosts[kept],
            type_boosts=None if self.type_boosts is None else self.type_boosts[kept],
            click_boosts=None if self.click_boosts is None else self.click_boosts[kept],
            lexical_boosts=self.lexical_boosts[kept],
            coverages=self.coverages[kept],
            evidence=self.evidence[kept],
            matched={row: names for row, names in self.matched.items() if row in rows},
            holds_words=self.holds_words,
            feature_boosts=None if self.feature_boosts is None else self.feature_boosts[kept],
        )

    @classmethod
    def united(cls, parts: Sequence[Pool], depth: int = 0) -> Pool:
        """Returns the pool of a search of all products to a `depth`, from those of searches of some of them each. No product is in two."""
        rows = np.concatenate([part.rows for part in parts])
        starts = np.cumsum([0, *(len(part.rows) for part in parts[:-1])])
        legs = []
        for of_parts in zip(*(part.legs for part in parts), strict=True):
            positions = np.concatenate([leg.positions + start for leg, start in zip(of_parts, starts, strict=True)])
            keys = np.concatenate([leg.keys for leg in of_parts])
            order = np.lexsort((rows[positions], -keys))
            is_cut = any(leg.depth for leg in of_parts)
            order = order[:depth] if is_cut else order
            legs.append(Leg(positions[order], keys[order], depth if is_cut else 0))
        found = np.zeros(len(rows), np.bool_)
        for leg in legs:
            found[leg.positions] = True
        sizes = [len(part.rows) for part in parts]
        return cls(
            rows=rows,
            scores=np.concatenate([part.scores for part in parts]),
            totals=np.concatenate([part.totals for part in parts]),
            legs=tuple(legs),
            identifier_boosts=_joined([part.identifier_boosts for part in parts], sizes),
            type_boosts=_joined([part.type_boosts for part in parts], sizes),
            click_boosts=_joined([part.click_boosts for part in parts], sizes),
            lexical_boosts=np.concatenate([part.lexical_boosts for part in parts]),
            coverages=np.concatenate([part.coverages for part in parts]),
            evidence=np.concatenate([part.evidence for part in parts]),
            matched={row: names for part in parts for row, names in part.matched.items()},
            holds_words=any(part.holds_words for part in parts),
            feature_boosts=_joined([part.feature_boosts for part in parts], sizes),
        ).within(found)


def depth_for(k: int) -> int:
    """Returns how many products a search for the best k takes of each leg."""
    return next((level for level in LEVELS if k <= level), LEVELS[-1])


def share_of(count: int, shards: int) -> int:
    """Returns how many of the best `count` products one of some shards holds at most, but for one search in hundreds: products are in
    shards by chance, so three standard deviations above the mean."""
    mean = count / shards
    return min(count, math.ceil(mean + 3 * math.sqrt(mean * (1 - 1 / shards))))


def _listed(values: Doubles | Floats | None, best: Ints) -> list[float]:
    """Returns the values of the best; zeros, which cost less, where there was nothing that they could come of."""
    return [0.0] * len(best) if values is None else values[best].tolist()


def _joined(parts: Sequence[npt.NDArray[Any] | None], sizes: Sequence[int]) -> npt.NDArray[Any] | None:
    there = next((part for part in parts if part is not None), None)
    if there is None:
        return None
    empty = [np.zeros((size, *there.shape[1:]), there.dtype) for size in sizes]
    return np.concatenate([none if part is None else part for part, none in zip(parts, empty, strict=True)])
