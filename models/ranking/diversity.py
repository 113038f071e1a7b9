"""Keeps one brand from filling the first page: re-orders the ranked candidates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.arrays import Ints

NO_GROUP = -1  # of a product without a brand; such products are not limited


def diversify(groups: npt.NDArray[np.integer], max_each: int, among: int) -> Ints:
    """Returns an order (n,), as places in the ranking, in which no group has more than `max_each` of the first `among` places.

    `groups` (n,) are the brands (or shops) of the ranked candidates, best first, NO_GROUP for none. A candidate above the limit is
    deferred and the next ones move up; otherwise the order stays. If too few other candidates are left to fill the first `among`
    places, the deferred ones fill them in their order. Raises ValueError unless both limits are 1 or more.
    """
    if max_each < 1 or among < 1:
        raise ValueError(f"max_each and among must be 1 or more, not {max_each} and {among}")
    groups = np.asarray(groups)
    first: list[int] = []
    taken: dict[int, int] = {}
    for place, group in enumerate(groups.tolist()):
        if len(first) == among:
            break
        count = taken.get(group, 0)
        if group == NO_GROUP or count < max_each:
            taken[group] = count + 1
            first.append(place)
    rest = np.setdiff1d(np.arange(len(groups)), np.array(first, np.int64), assume_unique=True)
    return np.concatenate([np.array(first, np.int64), rest])
