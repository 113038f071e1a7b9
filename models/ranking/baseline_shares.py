"""How common each attribute is within each category: the baseline of every lift.

Example: a shopper clicked twenty sofas, and a tenth of all sofas are of one brand. Two clicks on that brand are chance, not taste.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import Floats, Ints, UInt64s
from models.ranking.taste import category_key

MAX_CATEGORIES = 1_024  # the largest ones; other categories have no baseline
_LEAST_SHARE = 0.01  # of a category; of 20 engaged products, 0.2 have a rarer attribute


@dataclass(frozen=True, slots=True, eq=False)
class BaselineShares:
    """Shares of the attributes that are common in some category.

    The baseline of a category itself is its share of its department, the first step of its path: within the category every product has it.
    """

    categories: UInt64s  # (categories,) keys, ascending
    ids: Ints  # (common,) ascending attribute ids in the catalogue's vocabulary, from 1
    shares: Floats  # (categories, common) share of the category's products that have the attribute

    @classmethod
    def from_products(
        cls,
        categories: list[str],
        codes: npt.NDArray[np.integer],
        attribute_ids: npt.NDArray[np.integer],
        category_ids: npt.NDArray[np.integer],
    ) -> BaselineShares:
        """Counts the attributes of products.

        Product i is in `categories[codes[i]]` and has `attribute_ids[i]` (products, columns): ids in a vocabulary from 1, 0 for none.
        `category_ids` (categories,) are the vocabulary ids of the categories.
        """
        sizes = np.bincount(codes, minlength=len(categories))
        kept = np.sort(np.argsort(-sizes, kind="stable")[:MAX_CATEGORIES])
        number = np.full(len(categories), -1)
        number[kept] = np.arange(len(kept))
        category, held = np.repeat(number[codes], attribute_ids.shape[1]), attribute_ids.ravel().astype(np.int64)
        counted = (held > 0) & (category >= 0)
        span = 1 + max(int(held.max(initial=0)), int(category_ids.max(initial=0)))
        pairs, counts = np.unique(category[counted] * span + held[counted], return_counts=True)
        category, held = pairs // span, pairs % span
        shares = counts / np.maximum(sizes[kept], 1)[category]
        common = np.union1d(held[shares >= _LEAST_SHARE], category_ids[kept])
        is_common = np.isin(held, common)
        table = np.zeros((len(kept), len(common)), np.float32)
        table[category[is_common], np.searchsorted(common, held[is_common])] = shares[is_common]
        departments = np.unique([name.split(">", 1)[0].strip() for name in categories], return_inverse=True)[1]
        totals = np.bincount(departments, sizes)
        for row, at in enumerate(kept):
            siblings = kept[departments[kept] == departments[at]]
            share = sizes[siblings] / max(totals[departments[at]], 1)
            table[row, np.searchsorted(common, category_ids[siblings])] = share
        keys = np.array([category_key(categories[at]) for at in kept], np.uint64)
        order = np.argsort(keys)
        return cls(keys[order], common.astype(np.int64), table[order])

    def expected(self, keys: UInt64s, weights: Floats) -> Floats:
        """Returns (common,) the weight that each attribute would have by chance, given the weights of the categories among `keys`."""
        at = np.searchsorted(self.categories, keys)
        known = np.flatnonzero(self.categories.take(at, mode="clip") == keys) if len(self.categories) else at[:0]
        return weights[known] @ self.shares[at[known]]
