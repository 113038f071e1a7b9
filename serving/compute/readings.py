"""The readings of one query: where a word that nothing knows may be several words, each of these queries is searched.

Which of them take part is decided by what the catalogue holds, and their products take turns: no reading can crowd out another, whatever
the scores of its products, which are comparable within one reading only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from serving.compute.retrieval import Candidates

# A reading takes part if one of its first products holds so much of its words, compared with the best such share of all readings: what
# nobody sells is not mixed into what is sold. Chosen, not tuned.
FITTING_SHARE = 0.75
FIRST = 10  # products of a reading that are looked at


def fitting(found: Sequence[Candidates]) -> list[int]:
    """Returns the numbers of the readings that take part; the first alone where no product holds a word of any."""
    shares = [max(candidates.coverages[:FIRST], default=0.0) for candidates in found]
    best = max(shares)
    return [number for number, share in enumerate(shares) if share >= FITTING_SHARE * best] if best > 0 else [0]


def merged(found: Sequence[Candidates], k: int) -> Candidates:
    """Returns the best `k` of several readings: those that take part in turn give their next product that is not there yet. Where pages are
    cut from searches of several depths, the first are the same in each."""
    numbers = fitting(found)
    starts = list(itertools.accumulate((len(candidates.rows) for candidates in found), initial=0))
    left = {number: iter(range(starts[number], starts[number + 1])) for number in numbers}
    together = Candidates.concatenate(found)
    seen: set[int] = set()
    places: list[int] = []
    while left and len(places) < k:
        for number in list(left):
            place = next((place for place in left[number] if together.rows[place] not in seen), None)
            if place is None:
                del left[number]
            else:
                seen.add(together.rows[place])
                places.append(place)
    return together.take(places[:k])


def in_turns(places: Iterable[int], readings: Sequence[int]) -> list[int]:
    """Returns the places, which come best first, so that the readings take turns; the order within each stays. `readings` has the reading
    of each place; empty where there is but one."""
    if not readings:
        return list(places)
    nth: dict[int, int] = {}
    keyed = []
    for place in places:
        reading = readings[place]
        nth[reading] = nth.get(reading, -1) + 1
        keyed.append((nth[reading], reading, place))
    return [place for _, _, place in sorted(keyed)]
