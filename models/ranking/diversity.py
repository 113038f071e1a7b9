"""Keeps one brand from taking the first page: a re-ordering of what the ranker ordered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.arrays import Ints

NO_GROUP = -1  # of what has no brand: it is never too many


def diversify(groups: npt.NDArray[np.integer], max_each: int, among: int) -> Ints:
    """The order (n,), as places in the ranking, in which of the first `among` no group has more than `max_each`.

    `groups` (n,) are the brands (or shops) of ranked candidates, best first, NO_GROUP for none. Who comes too often waits, and what
    is next moves up; otherwise the order stays. Where too few others are left to fill the first `among`, those who waited fill it in
    their order, so that nothing is lost. Raises ValueError unless both limits are 1 or more.
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
