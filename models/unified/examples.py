"""The training examples of the log, and its held-out searches."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from models.arrays import Bools, Codes, Ints
from models.events.errors import LogError
from models.events.kinds import CLICK, IMPRESSION, PURCHASE
from models.unified.shopping_log import UNKNOWN, ShoppingLog


@dataclass(frozen=True, slots=True)
class Examples:
    """One row for each (search, product), with the strongest event between them.

    `searched_ms` is the time of the search: the history must end strictly before it, so that a click cannot reveal its own purchase.
    """

    query: Codes
    locale: Codes
    shopper: Codes
    product: Codes
    kind: npt.NDArray[np.int8]
    searched_ms: Ints
    search: Codes  # numbers in the log

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: Ints) -> Examples:
        """Returns these examples."""
        return Examples(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def from_log(cls, log: ShoppingLog, until_ms: int, impressions_per_positive: float, seed: int) -> Examples:
        """Takes the events before `until_ms`, and a sample of the products that were shown but not clicked.

        Raises LogError if there are fewer than two positives.
        """
        events = np.flatnonzero((log.time_ms < until_ms) & (log.query > 0) & (log.product != UNKNOWN))
        pair = log.search[events].astype(np.int64) * log.num_products + log.product[events]
        order = np.lexsort((log.kind[events], pair))
        is_last = np.append(np.diff(pair[order]) != 0, True) if len(order) else np.zeros(0, np.bool_)
        strongest = np.sort(events[order[is_last]])
        positive = strongest[log.kind[strongest] >= CLICK]
        if len(positive) < 2:
            raise LogError(
                f"the log has {len(positive)} clicks, carts and purchases after a search for a product of the catalogue "
                "in the training window; 2 are the least to learn from"
            )
        skipped = strongest[log.kind[strongest] == IMPRESSION]
        count = min(int(len(positive) * impressions_per_positive), len(skipped))
        sample = np.random.default_rng([seed, 0x69]).choice(skipped, count, replace=False)
        rows = np.sort(np.concatenate([positive, sample]))
        return cls(
            query=log.query[rows],
            locale=log.locale[rows],
            shopper=log.shopper[rows],
            product=log.product[rows],
            kind=log.kind[rows],
            searched_ms=log.searched_ms[rows],
            search=log.search[rows],
        )


@dataclass(frozen=True, slots=True)
class HeldOutSearches:
    """Later searches that led to purchases, for evaluation."""

    search: Ints  # (searches,) numbers in the log
    query: Codes
    locale: Codes
    shopper: Codes
    is_anonymous: Bools
    searched_ms: Ints
    bought_search: Ints  # (purchases,) rows of this table
    bought_product: Codes  # (purchases,)

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def from_log(cls, log: ShoppingLog, from_ms: int, most: int | None = None, seed: int = 0) -> HeldOutSearches:
        """Takes the searches at `from_ms` or later that led to a purchase; `most` draws that many of them."""
        bought = (log.kind == PURCHASE) & (log.query > 0) & (log.product != UNKNOWN) & (log.searched_ms >= from_ms)
        events = np.flatnonzero(bought)
        if most is not None:
            searches = np.unique(log.search[events])
            kept = np.random.default_rng([seed, 0x68]).permutation(searches)[:most]
            events = events[np.isin(log.search[events], kept)]
        search, first, row = np.unique(log.search[events], return_index=True, return_inverse=True)
        at = events[first]
        pairs = np.unique(np.stack([row, log.product[events]]), axis=1)
        return cls(
            search=search.astype(np.int64),
            query=log.query[at],
            locale=log.locale[at],
            shopper=log.shopper[at],
            is_anonymous=log.is_anonymous[at],
            searched_ms=log.searched_ms[at],
            bought_search=pairs[0].astype(np.int64),
            bought_product=pairs[1].astype(np.int32),
        )
