"""How common marks are in each category: what a taste, or a word of a query, is held against.

A shopper who clicked twenty sofas, a tenth of which are of some brand, would have clicked two of it without liking it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints
from models.ranking.taste import Marks, category_mark

MAX_CATEGORIES = 1_024  # the largest; in others nothing is usual
_LEAST_SHARE = 0.01  # of a category: of 20 products that were engaged with, 0.2 have what is rarer


@dataclass(frozen=True, slots=True, eq=False)
class BaselineShares:
    """Of the marks that are common in some category. Categories themselves are held against their department, the first step of their path:
    in its own each has all products."""

    categories: Marks  # (categories,) ascending
    places: Ints  # (common,) ascending, in the vocabulary of the catalogue, from 1
    shares: Floats  # (categories, common) of the category's products that have the mark

    @classmethod
    def from_products(
        cls,
        categories: list[str],
        codes: npt.NDArray[np.integer],
        marks: npt.NDArray[np.integer],
        places: npt.NDArray[np.integer],
    ) -> BaselineShares:
        """Of products with `categories[codes]` (products,) and `marks` (products, columns), places in a vocabulary from 1, 0 for none;
        `places` (categories,) are those of the categories."""
        sizes = np.bincount(codes, minlength=len(categories))
        kept = np.sort(np.argsort(-sizes, kind="stable")[:MAX_CATEGORIES])
        number = np.full(len(categories), -1)
        number[kept] = np.arange(len(kept))
        category, held = np.repeat(number[codes], marks.shape[1]), marks.ravel().astype(np.int64)
        counted = (held > 0) & (category >= 0)
        span = 1 + max(int(held.max(initial=0)), int(places.max(initial=0)))
        pairs, counts = np.unique(category[counted] * span + held[counted], return_counts=True)
        category, held = pairs // span, pairs % span
        shares = counts / np.maximum(sizes[kept], 1)[category]
        common = np.union1d(held[shares >= _LEAST_SHARE], places[kept])
        is_common = np.isin(held, common)
        table = np.zeros((len(kept), len(common)), np.float32)
        table[category[is_common], np.searchsorted(common, held[is_common])] = shares[is_common]
        departments = np.unique([name.split(">", 1)[0].strip() for name in categories], return_inverse=True)[1]
        totals = np.bincount(departments, sizes)
        for row, at in enumerate(kept):
            siblings = kept[departments[kept] == departments[at]]
            table[row, np.searchsorted(common, places[siblings])] = sizes[siblings] / max(totals[departments[at]], 1)
        named = np.array([category_mark(categories[at]) for at in kept], np.uint64)
        order = np.argsort(named)
        return cls(named[order], common.astype(np.int64), table[order])

    def expected(self, marks: Marks, weights: Floats) -> Floats:
        """(common,) of so much that was engaged with, how much would have each mark by chance. Of `marks` the categories count."""
        at = np.searchsorted(self.categories, marks)
        known = np.flatnonzero(self.categories.take(at, mode="clip") == marks) if len(self.categories) else at[:0]
        return weights[known] @ self.shares[at[known]]
